"""Numbers to pictures: colour maps, heat maps over a photo, mosaics of channels.

NumPy and Pillow only. Wrong arguments raise `ValueError`: they are the caller's mistake, not the user's.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Box = tuple[int, int, int, int]

NOT_FINITE = (255, 0, 255)
"""The colour of NaN and infinity (magenta), which no colour map contains."""

# Each eight hex digits are one anchor: position in the table, red, green, blue. Linear interpolation between them
# stays within 2/255 of matplotlib's tables of the same names, at a tenth of their size.
_ANCHORS = {
    "viridis": "00440154 1d482979 3a3e4c8a 7723888e 931fa287 a62fb47c bc56c667 d898d83e efd5e21a f7eae51a fffde725",
    "magma": "00000004 0f090720 26251255 343d0f71 4559157e 69912b81 8bc83e73 9fe55064 b1f66c5c c2fc8c63 dcfebd82 "
    "fffcfdbf",
    "cividis": "0000224e 15003170 18053371 201a386f 373a486c 6e6d6f72 8a868379 bcb8aa6e e1dfca57 f7f8df3c fcfee434 "
    "fffee838",
    "gray": "00000000 ffffffff",
    "coolwarm": "003b4cc0 1d5e7de7 3984a7fc 53a7c5fe 6ecad8ef 82dfdbd9 9af2cab5 b3f7ac8e cfec7f63 eccf453c f8be242e "
    "ffb40426",
}

COLOR_MAPS: tuple[str, ...] = tuple(_ANCHORS)
"""The colour maps, all readable with any colour vision. `coolwarm` is for signed values with zero in the middle."""


def _table(anchors: str) -> NDArray[np.uint8]:
    points = np.array([list(bytes.fromhex(point)) for point in anchors.split()])
    steps = np.arange(256)
    channels = [np.rint(np.interp(steps, points[:, 0], points[:, channel])) for channel in (1, 2, 3)]
    table = np.stack(channels, axis=1).astype(np.uint8)
    table.flags.writeable = False  # one table serves every thread
    return table


_TABLES = {name: _table(anchors) for name, anchors in _ANCHORS.items()}


def color_table(color_map: str) -> NDArray[np.uint8]:
    """Which colour stands for which value? `(256, 3)` RGB, lowest value first, read-only.

    Raises `ValueError` when `color_map` is not in `COLOR_MAPS`.
    """
    if color_map not in _TABLES:
        raise ValueError(f"Expected a colour map of {', '.join(COLOR_MAPS)}, got {color_map!r}.")
    return _TABLES[color_map]


def _floats(values: ArrayLike) -> NDArray[np.floating[Any]]:
    array = np.asarray(values)
    floats: NDArray[np.floating[Any]] = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    return floats


def _steps(values: NDArray[np.floating[Any]], low: ArrayLike, high: ArrayLike) -> NDArray[np.uint8]:
    """Place `values` on the 256 steps of a colour table; `low` and `high` broadcast against them."""
    edge = np.finfo(values.dtype).max
    lower, upper = (np.clip(np.asarray(bound, np.float64), -edge, edge).astype(values.dtype) for bound in (low, high))
    if not np.all(lower <= upper):
        raise ValueError(f"Expected low <= high, got low={low!r} and high={high!r}.")
    # Halves, because high - low overflows for the largest floats.
    span = upper / 2 - lower / 2
    with np.errstate(over="ignore", invalid="ignore"):
        share = values / 2 - lower / 2
        share = np.divide(share, span, out=np.zeros_like(share), where=span > 0)
    share[~np.isfinite(values)] = 0
    return (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def colorize(values: ArrayLike, *, low: ArrayLike, high: ArrayLike, color_map: str = "viridis") -> NDArray[np.uint8]:
    """How do these numbers look? `values (..., H, W)` to RGB `(..., H, W, 3)`, 0 to 255.

    `low` and `high` get the first and the last colour and broadcast against `values`; what lies outside is
    clipped. With `low == high` everything gets the first colour. NaN and infinity are drawn in `NOT_FINITE`.
    Raises `ValueError` for an unknown colour map and for `low > high`.
    """
    array = _floats(values)
    colors = color_table(color_map)[_steps(array, low, high)]
    colors[~np.isfinite(array)] = NOT_FINITE
    return colors


Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]


def _bounds(values: NDArray[np.floating[Any]], axes: tuple[int, ...], low: float | None, high: float | None) -> Bounds:
    """The range of the finite values over `axes`, zeros where none is finite, with given bounds in their place.

    A single given bound beyond all values pushes the other one along: `low=0` on a negative map is no mistake.
    """
    finite = np.isfinite(values)
    smallest = np.min(values, axis=axes, where=finite, initial=np.inf).astype(np.float64)
    largest = np.max(values, axis=axes, where=finite, initial=-np.inf).astype(np.float64)
    none = smallest > largest
    lower = np.where(none, 0.0, smallest) if low is None else np.full_like(smallest, low)
    upper = np.where(none, 0.0, largest) if high is None else np.full_like(largest, high)
    if low is None:
        lower = np.minimum(lower, upper)
    elif high is None:
        upper = np.maximum(lower, upper)
    return lower, upper


def _resize_axis(values: NDArray[np.floating[Any]], length: int, axis: int) -> NDArray[np.floating[Any]]:
    before = values.shape[axis]
    if length == before:
        return values
    centers = np.clip((np.arange(length) + 0.5) * before / length - 0.5, 0, before - 1)
    first = centers.astype(np.intp)
    second = np.minimum(first + 1, before - 1)
    shape = [1] * values.ndim
    shape[axis] = length
    weight = (centers - first).astype(values.dtype).reshape(shape)
    with np.errstate(invalid="ignore", over="ignore"):
        mixed: NDArray[np.floating[Any]] = values.take(first, axis) * (1 - weight) + values.take(second, axis) * weight
    return mixed


def resize_map(values: ArrayLike, size: tuple[int, int]) -> NDArray[np.floating[Any]]:
    """What does a small map `(..., h, w)` say at every pixel of a picture of `size` (height, width)?

    Bilinear with `align_corners=False` and without antialiasing, as `torch.nn.functional.interpolate`.
    """
    array = _floats(values)
    if array.ndim < 2 or 0 in array.shape[-2:] or min(size) < 1:
        raise ValueError(f"Expected a map (..., h, w) and a size of at least 1×1, got {array.shape} and {size}.")
    return _resize_axis(_resize_axis(array, size[0], array.ndim - 2), size[1], array.ndim - 1)


def overlay(
    image: Image.Image | NDArray[np.uint8],
    heat: ArrayLike,
    *,
    opacity: float = 0.5,
    color_map: str = "viridis",
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """Where in the picture does the map light up? RGB of the picture's size.

    `image` is a picture or `(H, W, 3)` of 0 to 255, `heat (h, w)` is resized to it, `opacity` is the share of the
    colours, 0 to 1. `low` and `high` default to the range of the finite values of `heat`.
    Raises `ValueError` for an opacity outside [0, 1], a heat map that is not `(h, w)`, or an unknown colour map.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected an opacity of 0 to 1, got {opacity}.")
    array = _floats(heat)
    if array.ndim != 2:
        raise ValueError(f"Expected a heat map (h, w), got {array.shape}.")
    below = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    lower, upper = _bounds(array, (0, 1), low, high)
    colors = colorize(resize_map(array, (below.height, below.width)), low=lower, high=upper, color_map=color_map)
    return Image.blend(below, Image.fromarray(colors), opacity)


def data_url(image: Image.Image) -> str:
    """How does a web page or a chart show this picture without a file? As a PNG in a `data:` URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """Many maps in one picture, row by row.

    `image` is RGBA with transparent gaps. `tile` is the (width, height) of one map in it, in pixels, `gap` the
    pixels between two. `low` and `high`, each `(count,)`, are the values that got the first and the last colour.
    """

    image: Image.Image
    count: int
    columns: int
    rows: int
    tile: tuple[int, int]
    gap: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def cell(self, index: int) -> Box:
        """Where is map `index`? (left, top, right, bottom) in pixels of `image`, right and bottom exclusive.

        Raises `IndexError` when there is no such map.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"Expected a map of 0 to {self.count - 1}, got {index}.")
        row, column = divmod(index, self.columns)
        width, height = self.tile
        left, top = column * (width + self.gap), row * (height + self.gap)
        return left, top, left + width, top + height


def _pixels(colors: ArrayLike) -> NDArray[np.uint32]:
    """RGB `(..., 3)` as one opaque RGBA number each, which copies four times as fast."""
    rgb = np.asarray(colors, np.uint8)
    opaque = np.full((*rgb.shape[:-1], 1), 255, np.uint8)
    return np.concatenate([rgb, opaque], axis=-1).view(np.uint32)[..., 0]


def _cross_out(tiles: NDArray[np.uint32], dead: NDArray[np.bool_]) -> None:
    """Draw a neutral grey cross over the dead tiles `(C, H, W)`, dark on light ones and light on dark ones."""
    height, width = tiles.shape[1:]
    down = ((np.arange(height) + 0.5) / height)[:, None]
    across = ((np.arange(width) + 0.5) / width)[None, :]
    thickness = max(0.5 / min(height, width), 0.02)
    cross = (np.abs(down - across) <= thickness) | (np.abs(down + across - 1) <= thickness)
    marked = tiles[dead]
    brightness = np.ascontiguousarray(marked[:, 0, 0])[:, None].view(np.uint8)[:, :3].mean(axis=1)
    dark, light = _pixels([(60, 60, 60), (200, 200, 200)])
    ink = np.where(brightness > 127, dark, light)
    tiles[dead] = np.where(cross, ink[:, None, None], marked)


def mosaic(
    maps: ArrayLike,
    *,
    columns: int | None = None,
    tile: int | None = None,
    gap: int = 1,
    scale: Literal["shared", "channel"] = "shared",
    low: float | None = None,
    high: float | None = None,
    color_map: str = "viridis",
    dead: ArrayLike | None = None,
) -> Mosaic:
    """What does every channel of a layer show? All `maps (C, h, w)` in one picture.

    - `columns`: maps in a row; left out, the picture comes out about square.
    - `tile`: wanted length of a map's longer side, in pixels. Each value is drawn as a square of a whole number of
      pixels, at least one, so a tile is never larger than wanted unless the map itself is.
    - `scale`: "shared" colours all maps by their common range, "channel" each by its own. NaN and infinity do not
      count. `low` and `high` replace a bound of all maps.
    - `dead (C,)`: which maps to cross out.

    Raises `ValueError` for arguments that do not fit.
    """
    array = _floats(maps)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"Expected maps (C, h, w) with at least one value, got {array.shape}.")
    if scale not in ("shared", "channel") or gap < 0 or (columns is not None and columns < 1):
        raise ValueError(f"Expected a known scale, gap >= 0 and columns >= 1, got {scale!r}, {gap} and {columns}.")
    count, height, width = array.shape
    crossed = np.zeros(count, bool) if dead is None else np.asarray(dead, bool)
    if crossed.shape != (count,):
        raise ValueError(f"Expected dead with one mark for each of {count} maps, got {crossed.shape}.")

    lows, highs = (
        np.broadcast_to(bound, count)
        for bound in _bounds(array, (1, 2) if scale == "channel" else (0, 1, 2), low, high)
    )
    pixels = _pixels(color_table(color_map))[_steps(array, lows[:, None, None], highs[:, None, None])]
    pixels[~np.isfinite(array)] = _pixels(NOT_FINITE)
    factor = max(1, (tile or 1) // max(height, width))
    tiles = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    if crossed.any():
        _cross_out(tiles, crossed)
    columns = min(count, columns or max(1, round(math.sqrt(count * height / width))))
    picture = Image.fromarray(_lay_out(tiles, columns, gap))
    size = (width * factor, height * factor)
    return Mosaic(picture, count, columns, -(-count // columns), size, gap, lows, highs)


def _lay_out(tiles: NDArray[np.uint32], columns: int, gap: int) -> NDArray[np.uint8]:
    """Tiles `(C, H, W)` to RGBA `(height, width, 4)`, row by row, with transparent gaps and no outer border."""
    count, height, width = tiles.shape
    rows = -(-count // columns)
    canvas = np.zeros((rows, height + gap, columns, width + gap), np.uint32)
    spots = canvas.transpose(0, 2, 1, 3)[..., :height, :width]  # (rows, columns, H, W)
    full = count // columns
    spots[:full] = tiles[: full * columns].reshape(full, columns, height, width)
    if full < rows:
        spots[full, : count - full * columns] = tiles[full * columns :]
    flat = canvas.reshape(rows * (height + gap), columns * (width + gap))
    trimmed = np.ascontiguousarray(flat[: flat.shape[0] - gap, : flat.shape[1] - gap])
    return trimmed.view(np.uint8).reshape(*trimmed.shape, 4)
