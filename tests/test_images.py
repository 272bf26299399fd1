"""Pictures against references that Pillow has no part in: files written byte by byte, colours by formula."""

from __future__ import annotations

import hashlib
import io
import resource
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from featviz_core import images
from featviz_core.errors import ImageError
from featviz_core.images import picture_from_image, read_picture
from featviz_core.pixels import BACKGROUND, MAX_SIDE
from tests.fuzz import images as fuzz

HEIGHT, WIDTH = 16, 24
RAMP = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
RGB = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
ALPHA = np.ascontiguousarray(RAMP[::-1, ::-1])
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(read_picture(data).image)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(rows: np.ndarray, depth: int, color: int, *extra: bytes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """A PNG of `rows (height, bytes)`, unfiltered; `color` is 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    head = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + chunk(b"IDAT", zlib.compress(body)) + END


END = chunk(b"IEND", b"")


def tiff(values: np.ndarray | bytes, bits: tuple[int, ...], photometric: int, order: str = "<", **more: int) -> bytes:
    """An uncompressed TIFF with one strip; `more` are tags as `t<number>=value`."""
    body = values if isinstance(values, bytes) else values.tobytes()
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: 1, 262: photometric, 273: 8, 277: len(bits), 278: HEIGHT}
    tags |= {279: len(body)} | {int(key[1:]): value for key, value in more.items()}
    at = 8 + len(body) + len(body) % 2
    heap_at = at + 2 + 12 * len(tags) + 4
    entries, heap = b"", b""
    for tag, value in sorted(tags.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        letter, kind = ("H", 3) if tag == 258 else ("I", 4)
        raw = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(raw) > 4:
            heap, raw = heap + raw, struct.pack(f"{order}I", heap_at + len(heap))
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + body.ljust(at - 8, b"\0") + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + heap


# What the pixels should be, by formula


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, float)[..., None], 3, axis=-1)


def on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = np.asarray(alpha, float)[..., None] / 255
    return colors * share + np.array(BACKGROUND, float) * (1 - share)


def from_cmyk(cmyk: np.ndarray) -> np.ndarray:
    values = cmyk.astype(float)
    return (255 - values[..., :3]) * (255 - values[..., 3:]) / 255


def from_ycbcr(ycbcr: np.ndarray) -> np.ndarray:
    y, cb, cr = np.moveaxis(ycbcr.astype(float), -1, 0) - np.array([0, 128, 128]).reshape(3, 1, 1)
    return np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1).clip(0, 255)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D50) to sRGB: Lindbloom's formulas, Bradford adaptation."""
    lightness, a, b = np.moveaxis(lab.astype(float), -1, 0)
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.96422, 1.0, 0.82521]
    to_linear = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.033454],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = (xyz @ np.array(to_linear).T).clip(0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def cmyk_jpeg(values: tuple[int, int, int, int], *, ycck: bool) -> bytes:
    """A flat Adobe JPEG of four components, stored inverted as Adobe does (Pillow inverts while saving)."""
    data = saved(Image.new("CMYK", (WIDTH, HEIGHT), values), "JPEG", quality=100)
    at = data.index(b"Adobe") + 11  # the marker's last byte tells how the components are meant
    return data[:at] + bytes([2]) + data[at + 1 :] if ycck else data


BITS = (RAMP > 100).astype(np.uint8)
LAB = np.stack([RAMP // 4 + 80, RAMP // 16, RAMP[::-1] // 16], axis=-1)  # L of 0 to 255, a and b of 0 to 15
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
PLTE = chunk(b"PLTE", PALETTE.tobytes())
CMYK = np.dstack([RGB, RAMP // 3])
FLOATS = (RAMP / 255).astype(np.float32)
WIDE = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], axis=-1)
PREMULTIPLIED = np.dstack([np.rint(RGB * (ALPHA[..., None] / 255)), ALPHA]).astype(np.uint8)
TWELVE = DEEP >> 4
PACKED = np.stack([TWELVE[:, ::2] >> 4, (TWELVE[:, ::2] & 15) << 4 | TWELVE[:, 1::2] >> 8, TWELVE[:, 1::2]], axis=-1)

# name: (file, expected pixels, largest error, words of a note that must be there)
MODES: dict[str, tuple[bytes, np.ndarray, float, str]] = {
    "png 1-bit": (png(np.packbits(BITS, axis=1), 1, 0), grey(BITS * 255), 0, "Grey"),
    "png grey": (png(RAMP, 8, 0), grey(RAMP), 0, "Grey"),
    "png grey + alpha": (png(np.dstack([RAMP, ALPHA]), 8, 4), on_white(grey(RAMP), ALPHA), 1, "on white"),
    "png grey with a transparent value": (
        png(RAMP, 8, 0, chunk(b"tRNS", struct.pack(">H", int(RAMP[0, 5])))),
        on_white(grey(RAMP), np.where(RAMP[0, 5] != RAMP, 255, 0)),
        0,
        "on white",
    ),
    "png palette": (png(RAMP, 8, 3, PLTE), PALETTE[RAMP], 0, ""),
    "png palette + alpha": (
        png(RAMP, 8, 3, PLTE, chunk(b"tRNS", bytes(range(255, -1, -1)))),
        on_white(PALETTE[RAMP], 255 - RAMP),
        1,
        "on white",
    ),
    "png rgb": (png(RGB, 8, 2), RGB, 0, ""),
    "png rgb with a transparent colour": (
        png(RGB, 8, 2, chunk(b"tRNS", struct.pack(">3H", *RGB[3, 4].tolist()))),
        on_white(RGB, 255 * (np.abs(RGB - RGB[3, 4]).max(axis=-1) > 0)),
        0,
        "on white",
    ),
    "png rgba": (png(np.dstack([RGB, ALPHA]), 8, 6), on_white(RGB, ALPHA), 1, "on white"),
    "png rgba, all opaque": (png(np.dstack([RGB, ALPHA * 0 + 255]), 8, 6), RGB, 0, ""),
    "png 16-bit grey": (png(DEEP.astype(">u2"), 16, 0), grey(DEEP / 257), 0.5, "16-bit"),
    "png 16-bit rgb": (png(WIDE.astype(">u2"), 16, 2), WIDE / 257, 1, "16-bit"),
    "png 16-bit grey + alpha": (
        png(np.dstack([DEEP, DEEP[::-1]]).astype(">u2"), 16, 4),
        on_white(grey(DEEP / 257), DEEP[::-1] / 257),
        2,
        "16-bit",
    ),
    "tiff 1-bit, white is zero": (tiff(np.packbits(BITS, axis=1), (1,), 0), grey(255 - BITS * 255), 0, "Grey"),
    "tiff 12-bit": (tiff(PACKED.astype(np.uint8), (12,), 1), grey(TWELVE * (255 / 4095)), 0.5, "12-bit"),
    "tiff 16-bit, little-endian": (tiff(DEEP.astype("<u2"), (16,), 1), grey(DEEP / 257), 0.5, "16-bit"),
    "tiff 16-bit, big-endian": (tiff(DEEP.astype(">u2"), (16,), 1, ">"), grey(DEEP / 257), 0.5, "16-bit"),
    "tiff 16-bit, white is zero": (tiff(DEEP.astype("<u2"), (16,), 0), grey(255 - DEEP / 257), 0.5, "16-bit"),
    "tiff 16-bit rgb": (tiff(WIDE.astype("<u2"), (16, 16, 16), 2), WIDE / 257, 1, "16-bit"),
    "tiff 16-bit signed": (
        tiff((DEEP.astype(int) - 32768).astype("<i2"), (16,), 1, t339=2),
        grey(DEEP / 257),
        0.6,
        "from -32768 to 32767 were stretched",
    ),
    "tiff 32-bit": (tiff(DEEP.astype("<u4"), (32,), 1), grey(DEEP / 257), 0.6, "from 0 to 65535"),
    "tiff 32-bit of small values": (tiff(RAMP.astype("<u4"), (32,), 1), grey(RAMP), 0, "Grey"),
    "tiff float of 0 to 1": (tiff(FLOATS, (32,), 1, t339=3), grey(RAMP), 0, "from 0 to 1"),
    "tiff float of 0 to 255": (tiff(FLOATS * 255, (32,), 1, t339=3), grey(RAMP), 0, "Grey"),
    "tiff float of any range": (tiff(FLOATS * 9e5 - 4e5, (32,), 1, t339=3), grey(RAMP), 0.6, "stretched"),
    "tiff cmyk": (tiff(CMYK, (8,) * 4, 5), from_cmyk(CMYK), 2, "CMYK"),
    "tiff lab": (tiff(LAB, (8, 8, 8), 8), from_lab(LAB / [2.55, 1, 1]), 2, "LAB"),
    "tiff ycbcr": (tiff(np.clip(RGB, 90, 160), (8, 8, 8), 6, t530=1), from_ycbcr(np.clip(RGB, 90, 160)), 2, "YCbCr"),
    "tiff premultiplied": (tiff(PREMULTIPLIED, (8,) * 4, 2, t338=1), on_white(RGB, ALPHA), 2, "on white"),
    "jpeg grey": (saved(Image.fromarray(RAMP), "JPEG", quality=100), grey(RAMP), 3, "Grey"),
    "jpeg rgb": (saved(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0), RGB, 4, ""),
    "jpeg cmyk": (
        cmyk_jpeg((30, 200, 90, 40), ycck=False),
        np.broadcast_to(from_cmyk(np.array([[[30, 200, 90, 40]]])), RGB.shape),
        3,
        "CMYK",
    ),
    "jpeg ycck": (  # the file holds 255 - y, 255 - cb, 255 - cr; what they encode is inverted again
        cmyk_jpeg((100, 140, 110, 40), ycck=True),
        np.broadcast_to((255 - from_ycbcr(255 - np.array([[[100, 140, 110]]]))) * (255 - 40) / 255, RGB.shape),
        3,
        "CMYK",
    ),
    "bmp": (saved(Image.fromarray(RGB), "BMP"), RGB, 0, ""),
    "gif": (saved(Image.fromarray(RAMP), "GIF"), grey(RAMP), 0, "Grey"),
    "webp": (
        saved(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True),
        on_white(RGB, ALPHA),
        1,
        "on",
    ),
    "avif": (saved(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4"), RGB, 4, ""),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_against_its_formula(name):
    data, expected, error, note = MODES[name]
    picture = read_picture(data, name=name)
    assert picture.image.mode == "RGB"
    assert np.abs(np.asarray(picture.image, float) - expected).max() <= error
    assert note in " ".join(picture.notes)
    assert all(line.endswith(".") for line in picture.notes)


def test_sixteen_bits_keep_their_256_levels():
    assert len(np.unique(pixels(png(DEEP.astype(">u2"), 16, 0)))) == 256
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(png(DEEP.astype(">u2"), 16, 0))).convert("RGB")))) <= 3


def test_dark_16_bit_pictures_are_explained():
    picture = read_picture(png((DEEP >> 4).astype(">u2"), 16, 0))
    assert "0 to 4095 of 65535" in " ".join(picture.notes)


def test_numbers_that_are_none_are_black_and_do_not_count():
    values = FLOATS.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    picture = read_picture(tiff(values, (32,), 1, t339=3))
    assert np.asarray(picture.image)[0, :3].max() == 0
    assert np.abs(np.asarray(picture.image)[1:] - grey(RAMP)[1:]).max() == 0
    assert "not finite" in " ".join(picture.notes)
    assert pixels(tiff(values * np.nan, (32,), 1, t339=3)).max() == 0


@pytest.mark.parametrize("scale", [1e-38, 1.0, 3.4e38])
def test_floats_of_any_size_are_stretched_without_overflow(scale):
    values = (FLOATS * 2 - 1) * np.float32(scale)
    assert np.abs(pixels(tiff(values, (32,), 1, t339=3)) - grey(RAMP)).max() <= 1


# Orientation, frames, size

TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    best = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    picture = read_picture(saved(Image.fromarray(RGB), kind, exif=exif, **best.get(kind, {})))
    difference = np.asarray(picture.image).astype(int) - TURNS[orientation](RGB)
    assert np.abs(difference).mean() < 3
    assert ("Turned upright by its EXIF orientation." in picture.notes) == (orientation != 1)
    assert picture_from_image(picture.image).image == picture.image


def test_damaged_exif_costs_nothing_but_the_orientation():
    plain = saved(Image.fromarray(RGB), "PNG")
    at = plain.index(b"IDAT") - 4
    damaged = plain[:at] + chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff junk") + plain[at:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(pixels(damaged), RGB)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF", "MPO"])
def test_the_first_of_many_frames_is_shown_and_said_so(kind):
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "lime", "blue")]
    picture = read_picture(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert picture.notes == ("Only the first of 3 frames is shown.",)
    assert np.abs(np.asarray(picture.image).astype(int) - (255, 0, 0)).max() <= 12


def test_damage_in_later_frames_does_not_cost_the_first():
    frames = [Image.fromarray(np.roll(RAMP, 7 * shift)) for shift in range(3)]
    whole = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(pixels(whole[: len(whole) * 2 // 3]), pixels(whole))


def test_very_large_pictures_are_reduced_and_small_ones_left():
    picture = read_picture(saved(Image.new("L", (MAX_SIDE * 2, 100), 77), "PNG"))
    assert picture.size == (MAX_SIDE, 50)
    assert (np.asarray(picture.image) == 77).all()
    assert f"Reduced from {MAX_SIDE * 2}×100 to {MAX_SIDE}×50 pixels." in picture.notes
    assert read_picture(saved(Image.new("L", (MAX_SIDE, 3)), "PNG")).size == (MAX_SIDE, 3)
    assert read_picture(saved(Image.new("L", (1, MAX_SIDE * 3)), "PNG")).size == (1, MAX_SIDE)
    assert read_picture(saved(Image.new("L", (1, 1)), "PNG")).size == (1, 1)


# Refusals


def refusal(data: bytes, **options: int) -> ImageError:
    with pytest.raises(ImageError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said past the error
        read_picture(data, name="it", **options)
    assert caught.value.what
    assert caught.value.why
    assert caught.value.do
    return caught.value


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000, 2**31 - 1])
def test_pixel_bombs_are_refused_by_their_header(side):
    start = time.perf_counter()
    error = refusal(png(RAMP, 1, 0, size=(side, side)))
    assert "too many pixels" in error.what
    assert f"{side}×{side}" in error.why
    assert time.perf_counter() - start < 0.1


def test_the_cap_on_pixels_can_be_lowered():
    assert "0.0001 are decoded" in refusal(png(RAMP, 8, 0), max_pixels=100).why


def test_tiles_larger_than_the_picture_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for compression in (1, 5, 8, 32773):
        tiles = {"t322": 60_000, "t323": 60_000, "t324": 8, "t325": 100, "t259": compression}
        refusal(tiff(b"\x80\x0b\x60\x50" * 25, (8,), 1, **tiles))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_jpeg_of_endless_passes_is_refused():
    data = saved(Image.new("L", (5000, 5000)), "JPEG", progressive=True)
    again = data[data.rindex(b"\xff\xda") : -2] * 1000
    start = time.perf_counter()
    assert "too long" in refusal(data[:-2] + again + data[-2:]).what
    assert time.perf_counter() - start < 0.5


def test_files_beyond_the_byte_cap_are_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    assert "too large a file" in refusal(png(RAMP, 8, 0)).what


def test_an_empty_file_is_called_empty():
    assert "empty" in refusal(b"").what


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0" * 128 + b"DICM", "DICOM"),
        (b"hello", "68 65 6c 6c 6f"),
        (b"P6 2 2 255 ............", "50 36"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "25 21"),
    ],
)
def test_other_files_are_named(data, words):
    error = refusal(data)
    assert "not a picture" in error.what
    assert words in error.why


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_cut_off_files_are_called_so_and_never_half_shown(kind):
    data = saved(Image.fromarray(RGB), kind)
    whole = pixels(data)
    called = []
    for stop in range(20, len(data), max(1, len(data) // 60)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert np.array_equal(pixels(data[:stop]), whole)
            except ImageError as error:
                called.append("cut off" in error.what)
    assert len(called) > 40
    assert all(called)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_what_counts_is_in_the_file_not_in_its_name_or_after_its_end(kind):
    data = saved(Image.fromarray(RGB), kind)
    picture = read_picture(data + b"trailing garbage" * 10, name="photo.xyz")
    assert picture.name == "photo.xyz"
    assert np.array_equal(np.asarray(picture.image), pixels(data))


def test_a_header_that_lies_about_the_size_is_found_out():
    honest = saved(Image.fromarray(RGB), "BMP")
    assert "cut off" in refusal(honest[:22] + struct.pack("<i", HEIGHT * 50) + honest[26:]).what


def test_a_pillow_without_a_format_is_told_from_a_bad_file(monkeypatch):
    monkeypatch.setitem(Image.OPEN, "AVIF", (None, lambda _: "AVIF support not installed"))
    assert "built without" in refusal(saved(Image.fromarray(RGB), "AVIF")).why


def test_bugs_of_ours_stay_visible(monkeypatch):
    monkeypatch.setattr(images, "hashlib", None)
    with pytest.raises(AttributeError):
        read_picture(png(RAMP, 8, 0))


def test_memory_that_runs_out_is_said_plainly(monkeypatch):
    def full(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", full)
    assert "memory" in refusal(saved(Image.fromarray(RGB), "BMP")).why


# Pictures


def test_a_picture_knows_its_file():
    data = png(RGB, 8, 2)
    picture = read_picture(data)
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.png()))), RGB)
    assert picture == read_picture(data)
    assert hash(picture) == hash(read_picture(data))
    assert picture != read_picture(data + b"\0")


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"]
)
def test_pillow_images_of_every_mode(mode):
    image = Image.new(mode, (5, 4))
    before = image.tobytes()
    picture = picture_from_image(image, "webcam")
    assert (picture.image.mode, picture.size, picture.name) == ("RGB", (5, 4), "webcam")
    assert picture.image is not image
    assert image.tobytes() == before
    assert len(picture.sha256) == 64


def test_pillow_images_follow_the_same_rules():
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    image.getexif()[274] = 6
    picture = picture_from_image(image)
    expected = np.rot90(on_white(RGB, ALPHA), -1)
    assert np.abs(np.asarray(picture.image) - expected).max() <= 1
    assert len(picture.notes) == 2
    with pytest.raises(ImageError, match="too many pixels"):
        picture_from_image(Image.new("1", (7000, 7000)))
    lazy = Image.open(io.BytesIO(png(RGB, 8, 2)[:-80]))
    with pytest.raises(ImageError, match=r"damaged|cut off"):
        picture_from_image(lazy)
    assert picture_from_image(Image.new("L", (2, 8))).sha256 != picture_from_image(Image.new("L", (8, 2))).sha256


def test_many_threads_read_alike():
    files = [data for data, *_ in MODES.values()]
    alone = [read_picture(data) for data in files]
    wrong: list[int] = []

    def work(start: int) -> None:
        for turn in range(len(files)):
            index = (start + turn) % len(files)
            picture = read_picture(files[index])
            if picture.image != alone[index].image or picture.notes != alone[index].notes:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(5 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_pillow_keeps_its_settings():
    assert Image.MAX_IMAGE_PIXELS == 89478485
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_reading_pictures_needs_no_torch():
    code = "import sys, featviz_core.images; print([m for m in ('torch', 'streamlit') if m in sys.modules])"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"


# Fuzzing


@pytest.mark.filterwarnings("ignore")
def test_thousands_of_damaged_pictures():
    summary = fuzz.run(8000, seed=1)
    assert summary.crashes == []
    assert summary.read > 500
    assert summary.refused.total() > 3000
    assert summary.slowest[0] < 5
    assert summary.memory_growth_mb < 700


SIGNATURES = [data[:16] for data in fuzz.SEEDS] + [b""]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
@example(b"", b"\0")
def test_any_bytes_are_a_picture_or_an_image_error(signature, rest):
    try:
        assert read_picture(signature + rest).image.mode == "RGB"
    except ImageError as error:
        assert error.what
        assert error.why
        assert error.do


def test_damage_can_be_had_again():
    assert [fuzz.damaged(3, index) for index in range(50)] == [fuzz.damaged(3, index) for index in range(50)]
    assert len({fuzz.damaged(3, index) for index in range(200)}) > 190
