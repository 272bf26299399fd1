"""Bytes to a checked picture: eight-bit RGB, upright, opaque, of bounded size, with a note for each thing done.

NumPy and Pillow only, so that menus and pickers can show pictures before torch is loaded. Nothing here changes
a setting of Pillow's, so any number of threads may read pictures at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from featviz_core.errors import ImageError

EXTENSIONS: tuple[str, ...] = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "avif")
"""File name endings of the formats that can be read, for file pickers. What counts is what is in the file."""

MAX_PIXELS = 40_000_000
"""Largest picture that is decoded, in pixels: 120 MB as RGB."""

MAX_BYTES = 128 * 2**20
"""Largest file that is looked at: an uncompressed picture of `MAX_PIXELS` fits."""

MAX_SIDE = 4096
"""Longest side kept, in pixels: photos of 12 megapixels stay as they are, larger ones are reduced."""

BACKGROUND = (255, 255, 255)
"""What transparent parts are shown on: white."""

# Called one by one rather than through Image.open(formats=...), which warns of a large picture before it can be
# refused here, and forgets which reader failed and why. Nothing outside this list is ever tried.
_READERS = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_FORMATS = "PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF"
_SAVE_AS = "Open it in a picture program and save it as PNG or JPEG."

_OTHER_KINDS = (
    (4, b"ftyp", "a HEIC photo or a video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cjP", "a JPEG 2000 picture"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (128, b"DICM", "a DICOM picture"),
    (0, b"<", "text such as SVG or HTML"),
)

_MAX_SCAN_PIXELS = 32 * MAX_PIXELS
_ORIENTATION = 274
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is safe to use: `image` is 8-bit RGB in memory, at most `MAX_SIDE` pixels on a side.

    `sha256` is of the file's bytes (of the pixels where there was no file), as hexadecimal digits. `notes` says
    in plain sentences what was done to the picture on the way. Pictures are shared: do not draw on `image`.
    """

    image: Image.Image = field(compare=False)
    name: str
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """How large is it? (width, height) in pixels."""
        return self.image.size

    def png(self) -> bytes:
        """Which bytes show this picture anywhere? A PNG file."""
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def read_picture(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> Picture:
    """Which picture is in these bytes? PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF, told by content, not by `name`.

    The size is checked against `max_pixels` before anything is decoded.
    Raises `ImageError` for everything that is no picture, is damaged, cut off or too large.
    """
    if not data:
        raise ImageError(f"{name} is empty.", why="The file has 0 bytes.", do="Choose another file, or copy it again.")
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"{name} is too large a file.",
            why=f"It has {len(data) / 2**20:.0f} MB; at most {MAX_BYTES / 2**20:.0f} MB are read.",
            do="Make the picture smaller, or save it as JPEG.",
        )
    kind = _kind(data, name)
    notes = _frame_notes(data, kind)
    with _as_image_error(name, data, kind):
        opened = _READERS[kind](io.BytesIO(data), "")
        _check_size(opened.size, name, max_pixels)
        _check_scans(data, opened, name)
        image = _decode(opened, notes)
    return Picture(image, name, hashlib.sha256(data).hexdigest(), tuple(notes))


def picture_from_image(image: Image.Image, name: str = "picture") -> Picture:
    """How does this Pillow image look as a checked picture? Any mode; the image itself is left as it is.

    Raises `ImageError` when it is too large, or still lies in a file that cannot be read.
    """
    notes: list[str] = []
    with _as_image_error(name, b"", image.format or "Pillow"):
        _check_size(image.size, name, MAX_PIXELS)
        checked = _decode(image, notes)
    digest = hashlib.sha256(repr(checked.size).encode() + checked.tobytes()).hexdigest()
    return Picture(checked, name, digest, tuple(notes))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Which pixels does this Pillow image show? 8-bit RGB, by the rules of `read_picture`; the image is left as it is.

    Raises `ImageError` when it still lies in a file that cannot be read.
    """
    with _as_image_error("The picture", b"", image.format or "Pillow"):
        return _decode(image, [])


# What the file is, and what may be wrong with it


def _kind(data: bytes, name: str) -> str:
    for kind in _READERS:
        _, accepts = Image.OPEN[kind]
        answer = accepts is None or accepts(data[:16])
        if isinstance(answer, str):
            raise ImageError(f"{name} is a {kind} picture.", why="Pillow was built without that format.", do=_SAVE_AS)
        if answer:
            return kind
    found = next((text for at, magic, text in _OTHER_KINDS if data[at:].startswith(magic)), "")
    why = f"It is {found}" if found else f"It begins with the bytes {data[:8].hex(' ')}"
    raise ImageError(f"{name} is not a picture that can be read.", why=f"{why}; expected {_FORMATS}.", do=_SAVE_AS)


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels.", why=f"Its size is {width}×{height}.", do="Choose another picture.")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has too many pixels.",
            why=f"It says it is {width}×{height}, {width * height / 1e6:,.1f} megapixels; "
            f"at most {max_pixels / 1e6:g} are decoded.",
            do="Make the picture smaller.",
        )


def _check_scans(data: bytes, opened: ImageFile.ImageFile, name: str) -> None:
    """Refuse a JPEG made of so many passes over its pixels that decoding takes minutes: 65 bytes are enough for one."""
    scans = data.count(b"\xff\xda") if isinstance(opened, JpegImagePlugin.JpegImageFile) else 0
    if scans * opened.width * opened.height > _MAX_SCAN_PIXELS:
        raise ImageError(f"{name} would take too long to decode.", why=f"It has {scans} scans.", do=_SAVE_AS)


def _frame_notes(data: bytes, kind: str) -> list[str]:
    """Say which of many frames is shown. Its own look at the file: damage in later frames must not cost the first."""
    try:
        opened = _READERS[kind](io.BytesIO(data), "")
        if not getattr(opened, "is_animated", False):
            return []
        # Counting walks through all frames of a GIF or TIFF, which may be millions.
        if kind in ("GIF", "TIFF") and len(data) > 2**20:
            return ["Only the first frame is shown."]
        return [f"Only the first of {getattr(opened, 'n_frames', 'many')} frames is shown."]
    except Exception:  # noqa: BLE001 - what is wrong will be said when the picture itself is read
        return []


@contextmanager
def _as_image_error(name: str, data: bytes, kind: str) -> Iterator[None]:
    """Turn what Pillow raises into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        why = "Decoding it would take too much memory."
        raise ImageError(f"{name} is too large.", why=why, do="Make the picture smaller.") from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them into
        said = str(error)[:200] or type(error).__name__
        if _is_cut_off(data, kind, said):
            what, do = f"{name} is cut off: its end is missing.", "Copy or download the file again."
        else:
            what, do = f"{name} is damaged, cut off, or a kind of {kind} that cannot be read.", _SAVE_AS
        raise ImageError(what, why=f"Its first bytes say {kind}, but its decoder says: {said}.", do=do) from error


def _is_cut_off(data: bytes, kind: str, said: str) -> bool:
    def number(start: int, stop: int) -> int:
        return int.from_bytes(data[start:stop], "little" if kind != "TIFF" or data[:1] == b"I" else "big")

    lacks_its_end = {
        "PNG": b"IEND" not in data,
        "JPEG": b"\xff\xd9" not in data,
        "GIF": not data.rstrip(b"\0").endswith(b";"),
        "WEBP": number(4, 8) + 8 > len(data),
        "BMP": number(2, 6) > len(data),
        "TIFF": number(4, 8) >= len(data),
        "AVIF": _box_ends_after(data),
    }
    return "truncated" in said.lower() or lacks_its_end.get(kind, False)


def _box_ends_after(data: bytes) -> bool:
    """Whether the last of the boxes that an AVIF file is made of is longer than what is left of the file."""
    start = 0
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if length < 8:  # 0: to the end of the file; 1: the length is elsewhere, too long for a picture
            return False
        start += length
    return start > len(data)


# From what Pillow opened to 8-bit RGB


def _decode(opened: Image.Image, notes: list[str]) -> Image.Image:
    tiff_tags: Any = getattr(opened, "tag_v2", {})
    turned_by_pillow = tiff_tags.get(_ORIENTATION)  # TIFF only, while loading; the tag is gone afterwards
    packed = str(getattr(opened, "tile", ())[:1])
    opened.load()
    if ";16" in packed and not opened.mode.startswith("I"):
        notes.append("16-bit values were scaled to 8 bit.")
    orientation = _exif_orientation(opened)
    image = _eight_bit(opened, tiff_tags, notes)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if orientation in _UPRIGHT or turned_by_pillow in _UPRIGHT:
        notes.append("Turned upright by its EXIF orientation.")
    if max(image.size) > MAX_SIDE:
        width, height = (max(1, round(side * MAX_SIDE / max(image.size))) for side in image.size)
        notes.append(f"Reduced from {image.width}×{image.height} to {width}×{height} pixels.")
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2)
    return _opaque_rgb(image, notes)


def _exif_orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF data says nothing about the picture
        return 1


def _eight_bit(image: Image.Image, tiff_tags: Any, notes: list[str]) -> Image.Image:
    """The picture in `L`, `RGB` or, where something may be transparent, `RGBA`."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(_narrow(np.asarray(image), tiff_tags, notes))
    if image.mode in ("I", "F"):
        return Image.fromarray(_scale(np.asarray(image), notes))
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        notes.append(f"{image.mode} colours were converted to RGB.")
        return _lab_to_rgb(image) if image.mode == "LAB" else image.convert("RGB")
    if image.has_transparency_data:
        return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _narrow(values: NDArray[np.uint16], tiff_tags: Any, notes: list[str]) -> NDArray[np.uint8]:
    """16-bit grey to 8 bit by the full range of the format: a picture's own range would change its exposure."""
    bits = 12 if tiff_tags.get(_BITS_PER_SAMPLE) == (12,) else 16
    notes.append(f"{bits}-bit values were scaled to 8 bit.")
    largest = 2**bits - 1
    levels = np.rint(np.arange(65536).clip(max=largest) * (255 / largest)).astype(np.uint8)
    if tiff_tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow minds for 8 bits only
        levels = 255 - levels
    if largest == 65535 and values.max() < 4096:
        notes.append(f"It uses only the values 0 to {values.max()} of 65535 and therefore looks dark.")
    narrow: NDArray[np.uint8] = levels[values]
    return narrow


def _scale(values: NDArray[np.float32] | NDArray[np.int32], notes: list[str]) -> NDArray[np.uint8]:
    """Numbers of no stated range to 8 bit: by the first usual range that holds them all, else by their own."""
    whole = values.dtype.kind == "i"
    finite = np.isfinite(values)
    if not finite.all():
        notes.append("Pixels that are not finite numbers are shown black.")
    known = values if finite.all() else values[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    usual = (255, 65535) if whole else (1, 255)
    top = next((top for top in usual if low >= 0 and high <= top), None)
    if top is None:
        notes.append(f"Values from {low:g} to {high:g} were stretched to 0 to 255.")
    elif top != 255:
        notes.append(f"Values were scaled from 0 to {top} to 0 to 255.")
    start, stop = (low, high) if top is None else (0, top)
    scaled = np.zeros(values.size, np.uint8)
    # In blocks, because the whole in doubles may take a gigabyte. In halves, because the difference of the largest
    # floats overflows.
    for first in range(0, values.size, 2**20):
        block = slice(first, first + 2**20)
        numbers = np.where(finite.reshape(-1)[block], values.reshape(-1)[block], start).astype(np.float64)
        scaled[block] = np.rint((numbers / 2 - start / 2) * (510 / (stop - start or 1)))
    return scaled.reshape(values.shape)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only for in-place conversion
    del converted.info["icc_profile"]  # made now, with the second in it: equal pictures would compare as different
    return converted


def _opaque_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode == "L":
        notes.append("Grey values were copied to red, green and blue.")
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        notes.append("Transparent parts are shown on white.")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    opaque = image.convert("RGB")
    # An orientation that was followed must not be followed again by whoever reads the picture next.
    opaque.info = {name: value for name, value in opaque.info.items() if name == "icc_profile"}
    return opaque
