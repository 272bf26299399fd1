"""How Shapes is painted: outlines, textures, colours. Planes are float32 in [0, 1], pictures `(3, H, W)`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from featviz_core.demo.outlines import Outline, Points

Plane: TypeAlias = npt.NDArray[np.float32]
Box: TypeAlias = tuple[slice, slice]

SIZE = 128
WHOLE: Box = (slice(0, SIZE), slice(0, SIZE))
_FINE = 4  # coverage is counted on a grid four times as fine, which antialiases edges to 1/16


@dataclass(frozen=True, slots=True)
class Layer:
    """One painted thing: `coverage (h, w)` and `colour (3, h, w)` at `box` of the picture; objects have a number."""

    coverage: Plane
    colour: Plane
    box: Box
    object_index: int | None = None


def place(outline: Outline, centre: Points, radius: float, angle: float, aspect: float = 1.0) -> Outline:
    """Stretch, turn and move an outline from its own units to pixels; `angle` is in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = radius * np.array([[cos, sin], [-sin, cos]]) * [[np.sqrt(aspect)], [1 / np.sqrt(aspect)]]
    return tuple(points @ matrix + centre for points in outline)


def coverage(outline: Outline) -> tuple[Plane, Box]:
    """Which part of each pixel does an outline in pixels cover? `(h, w)` in [0, 1], and where that lies."""
    low = np.clip(np.floor(outline[0].min(axis=0)) - 1, 0, SIZE - 1).astype(int)
    high = np.clip(np.ceil(outline[0].max(axis=0)) + 1, low + 1, SIZE).astype(int)
    (width, height), (x, y) = (high - low).tolist(), low.tolist()
    image = Image.new("L", (width * _FINE, height * _FINE))
    pen = ImageDraw.Draw(image)
    for number, points in enumerate(outline):
        pen.polygon(((points - low) * _FINE).ravel().tolist(), fill=0 if number else 255)
    share = np.asarray(image.reduce(_FINE), dtype=np.float32) * np.float32(1 / 255)
    return share, (slice(y, y + height), slice(x, x + width))


def compose(background: Plane, layers: Iterable[Layer]) -> Plane:
    """Lay layers over a copy of a background `(3, H, W)`, the last one on top."""
    picture = background.copy()
    for layer in layers:
        view = picture[:, *layer.box]
        view += layer.coverage * (layer.colour - view)
    return picture


def oklch(lightness: float, chroma: float, hue: float) -> Plane:
    """The sRGB colour `(3,)` in [0, 1] of an OKLCH colour (Ottosson 2020: even steps look even); `hue` in radians."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.array(
        [0.3963377774 * a + 0.2158037573 * b, -0.1055613458 * a - 0.0638541728 * b, -0.0894841775 * a - 1.291485548 * b]
    )
    linear = _CONES_TO_RGB @ (lightness + cone) ** 3
    return np.clip(np.abs(linear) ** (1 / 2.2) * np.sign(linear), 0, 1).astype(np.float32)


_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ]
)


@cache
def grid() -> tuple[Plane, Plane]:
    """The coordinates x `(1, W)` and y `(H, 1)` of pixel centres, from -1 to 1."""
    line = ((np.arange(SIZE, dtype=np.float32) + 0.5) * 2 / SIZE - 1).astype(np.float32)
    return line[None, :], line[:, None]


@cache
def _smooth(cells: int) -> Plane:
    """The matrix `(SIZE, cells + 1)` that interpolates a coarse grid with smoothstep."""
    place_ = np.linspace(0, cells, SIZE, endpoint=False)
    left = place_.astype(int)
    share = place_ - left
    share = share * share * (3 - 2 * share)
    matrix = np.zeros((SIZE, cells + 1), dtype=np.float32)
    matrix[np.arange(SIZE), left] = 1 - share
    matrix[np.arange(SIZE), left + 1] = share
    return matrix


def clouds(rng: np.random.Generator, cells: tuple[int, ...]) -> Plane:
    """Value noise `(H, W)` in about [-1, 1]: an octave for each number of cells, each half as strong as the last."""
    total = np.zeros((SIZE, SIZE), dtype=np.float32)
    for octave, count in enumerate(cells):
        coarse = rng.random((count + 1, count + 1), dtype=np.float32) * 2 - 1
        total += (_smooth(count) @ coarse @ _smooth(count).T) * np.float32(0.5**octave)
    return total


def _rotated(angle: float, box: Box) -> tuple[Plane, Plane]:
    x, y = grid()
    x, y = x[:, box[1]], y[box[0]]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def texture(rng: np.random.Generator, warp: Plane, box: Box) -> Plane:
    """A random pattern `(h, w)` in [-1, 1] at `box`, bent by the noise `warp (H, W)`: stripes, checks and so on."""
    kind = rng.integers(6)
    angle, frequency, phase = rng.uniform(0, np.pi), np.float32(rng.uniform(8, 26)), np.float32(rng.uniform(0, 6.28))
    bend, sharp = np.float32(rng.uniform(0, 1.2)), np.float32(rng.uniform(1, 5))
    if kind == 5:
        return np.clip(clouds(rng, (6, 12, 24))[box], -1, 1)
    u, v = _rotated(angle, box)
    warp = warp[box]
    first = np.sin(u * frequency + (phase + bend * warp))
    if kind == 0:  # stripes
        wave = first
    elif kind == 1:  # checks
        wave = first * np.sin(v * frequency + bend * warp)
    elif kind == 2:  # dots
        wave = first * np.sin(v * frequency) * 2 - 1
    elif kind == 3:  # waves
        wave = np.sin(u * frequency + 2 * np.sin(v * (frequency / 3) + phase))
    else:  # marble
        wave = np.sin(u * (frequency / 2) + 4 * warp)
    bounded: Plane = np.clip(wave * sharp, -1, 1)
    return bounded


def gradient(rng: np.random.Generator, box: Box) -> Plane:
    """A linear ramp `(h, w)` over the picture in [0, 1] in a random direction, at `box`."""
    along, _ = _rotated(rng.uniform(0, 2 * np.pi), box)
    ramp: Plane = np.clip(along * np.float32(0.4) + np.float32(0.5), 0, 1)
    return ramp
