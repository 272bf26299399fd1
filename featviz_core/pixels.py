"""From what Pillow opened, in any of its modes, to eight-bit RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

MAX_SIDE = 4096
"""Longest side kept, in pixels: photos of 12 megapixels stay as they are, larger ones are reduced."""

BACKGROUND = (255, 255, 255)
"""What transparent parts are shown on: white."""

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


def eight_bit_rgb(opened: Image.Image, notes: list[str]) -> Image.Image:
    """What Pillow opened, decoded, upright and opaque, of at most `MAX_SIDE`; what was done goes into `notes`."""
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
