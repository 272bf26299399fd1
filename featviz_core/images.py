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

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from featviz_core.errors import ImageError
from featviz_core.pixels import eight_bit_rgb

EXTENSIONS: tuple[str, ...] = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "avif")
"""File name endings of the formats that can be read, for file pickers. What counts is what is in the file."""

MAX_PIXELS = 40_000_000
"""Largest picture that is decoded, in pixels: 120 MB as RGB."""

MAX_BYTES = 128 * 2**20
"""Largest file that is looked at: an uncompressed picture of `MAX_PIXELS` fits."""

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
        image = eight_bit_rgb(opened, notes)
    return Picture(image, name, hashlib.sha256(data).hexdigest(), tuple(notes))


def picture_from_image(image: Image.Image, name: str = "picture") -> Picture:
    """How does this Pillow image look as a checked picture? Any mode; the image itself is left as it is.

    Raises `ImageError` when it is too large, or still lies in a file that cannot be read.
    """
    notes: list[str] = []
    with _as_image_error(name, b"", image.format or "Pillow"):
        _check_size(image.size, name, MAX_PIXELS)
        checked = eight_bit_rgb(image, notes)
    digest = hashlib.sha256(repr(checked.size).encode() + checked.tobytes()).hexdigest()
    return Picture(checked, name, digest, tuple(notes))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Which pixels does this Pillow image show? 8-bit RGB, by the rules of `read_picture`; the image is left as it is.

    Raises `ImageError` when it still lies in a file that cannot be read.
    """
    with _as_image_error("The picture", b"", image.format or "Pillow"):
        return eight_bit_rgb(image, [])


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
