"""What stands where in a picture of Shapes: background, clutter, objects and what hides them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featviz_core.demo.outlines import CLUTTER, SHAPES, Outline, Points, reach
from featviz_core.demo.painting import SIZE, WHOLE, Layer, Plane, clouds, coverage, gradient, oklch, place, texture

_TURN = 2 * np.pi
_OUTLINES = tuple(SHAPES.values())


@dataclass(frozen=True, slots=True)
class ShapesConfig:
    """How hard Shapes is. Fixed before any localisation was scored, and never tuned to flatter a technique."""

    two_objects: float = 0.1  # share of pictures with a second object of another class
    radius: tuple[float, float] = (14.0, 26.0)  # of the circle of equal area, in pixels of 128
    radius_of_two: tuple[float, float] = (15.0, 19.0)  # of the first of two: both have to fit in
    second_area: tuple[float, float] = (0.4, 0.65)  # of the second object, relative to the first
    aspect: tuple[float, float] = (0.88, 1.14)
    clutter: tuple[int, int] = (3, 7)  # pieces behind the objects, inclusive
    clutter_radius: tuple[float, float] = (7.0, 20.0)
    occluder: float = 0.4  # share of pictures with a piece of clutter in front of the first object
    most_hidden: float = 0.25  # of the first object; a piece that would hide more is left away
    lightness_gap: tuple[float, float] = (0.17, 0.4)  # between background and object, in OKLCH
    texture: tuple[float, float] = (0.2, 0.8)  # how far the background's pattern goes towards its second colour
    noise: tuple[float, float] = (0.01, 0.06)  # half the width of uniform pixel noise


CONFIG = ShapesConfig()


@dataclass(frozen=True, slots=True)
class Scene:
    """All that makes a picture: `background (3, H, W)`, layers from back to front, and `noise (3, H, W)` added last."""

    background: Plane
    layers: tuple[Layer, ...]
    noise: Plane
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Palette:
    """One hue and lightness that everything in a picture is tuned to."""

    hue: float
    lightness: float

    def near(self, rng: np.random.Generator) -> Plane:
        """A calm colour of the background."""
        lightness = self.lightness + rng.uniform(-0.09, 0.09)
        return oklch(lightness, rng.uniform(0.04, 0.12), self.hue + rng.uniform(-0.8, 0.8))

    def accent(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Lightness, chroma and hue that stand out from the background, as objects do and some clutter does too."""
        away = -1 if rng.random() < (self.lightness - 0.35) / 0.5 else 1
        lightness = self.lightness + away * rng.uniform(*CONFIG.lightness_gap)
        hue = self.hue + rng.uniform(0.15, 0.85) * _TURN
        return float(np.clip(lightness, 0.12, 0.97)), rng.uniform(0.09, 0.2), hue


def scene(rng: np.random.Generator, label: int) -> Scene:
    """Everything in the picture of an object of class `label`, drawn from `rng`."""
    palette = _Palette(rng.uniform(0, _TURN), rng.uniform(0.4, 0.88))
    warp = clouds(rng, (3, 6, 12))
    background = _background(rng, palette, warp)
    layers = [_piece(rng, palette) for _ in range(rng.integers(*CONFIG.clutter, endpoint=True))]
    two = rng.random() < CONFIG.two_objects
    labels, placed = (
        _two_objects(rng, label) if two else ((label,), [_somewhere(rng, label, rng.uniform(*CONFIG.radius))])
    )
    layers += [_object(rng, palette, warp, outline, number) for number, outline in enumerate(placed)]
    if rng.random() < CONFIG.occluder:
        layers += _occluder(rng, palette, placed[0], layers[-len(placed)])
    half = np.float32(rng.uniform(*CONFIG.noise))
    raw = np.frombuffer(rng.bytes(3 * SIZE * SIZE), dtype=np.uint8).reshape(3, SIZE, SIZE)
    return Scene(background, tuple(layers), raw * (half / 127.5) - half, labels)


def _background(rng: np.random.Generator, palette: _Palette, warp: Plane) -> Plane:
    """A gradient of two colours, a pattern of a third, and soft light and shade."""
    first, second, third = (palette.near(rng)[:, None, None] for _ in range(3))
    ramp = gradient(rng, WHOLE) + np.float32(0.15) * warp
    picture = first + (second - first) * ramp
    strength = np.float32(rng.uniform(*CONFIG.texture) / 2)
    pattern = strength * (texture(rng, warp, WHOLE) + 1)
    picture += pattern * (third - picture)
    picture += np.float32(rng.uniform(0.02, 0.07)) * warp
    return picture


def _piece(rng: np.random.Generator, palette: _Palette) -> Layer:
    """A piece of clutter, anywhere."""
    outline = CLUTTER[rng.integers(len(CLUTTER))](rng)
    placed = place(outline, rng.uniform(0, SIZE, 2), rng.uniform(*CONFIG.clutter_radius), rng.uniform(0, _TURN))
    return _flat(rng, palette, placed)


def _flat(rng: np.random.Generator, palette: _Palette, placed: Outline) -> Layer:
    share, box = coverage(placed)
    colour = oklch(*palette.accent(rng)) if rng.random() < 0.6 else palette.near(rng)
    return Layer(share * np.float32(rng.uniform(0.65, 1)), colour[:, None, None], box)


def _somewhere(rng: np.random.Generator, label: int, radius: float) -> Outline:
    """An object of a class, turned at random, at a random place wholly inside the picture."""
    turned = place(_OUTLINES[label], np.zeros(2), radius, rng.uniform(0, _TURN), rng.uniform(*CONFIG.aspect))
    low, high = turned[0].min(axis=0), turned[0].max(axis=0)
    centre = rng.uniform(2 - low, SIZE - 2 - high)
    return tuple(points + centre for points in turned)


def _two_objects(rng: np.random.Generator, label: int) -> tuple[tuple[int, ...], list[Outline]]:
    """The larger and the smaller of two objects of different classes, apart from each other where there is room."""
    other = int((label + rng.integers(1, len(_OUTLINES))) % len(_OUTLINES))
    first = rng.uniform(*CONFIG.radius_of_two)
    second = first * np.sqrt(rng.uniform(*CONFIG.second_area))
    enough = 0.9 * (first * reach(_OUTLINES[label]) + second * reach(_OUTLINES[other]))
    tries = []
    for _ in range(12):
        pair = [_somewhere(rng, label, first), _somewhere(rng, other, second)]
        gap = float(np.hypot(*(_middle(pair[0]) - _middle(pair[1]))))
        tries.append((gap, pair))
        if gap >= enough:
            break
    return (label, other), max(tries, key=lambda item: item[0])[1]


def _middle(placed: Outline) -> Points:
    middle: Points = (placed[0].min(axis=0) + placed[0].max(axis=0)) / 2
    return middle


def _object(rng: np.random.Generator, palette: _Palette, warp: Plane, placed: Outline, number: int) -> Layer:
    """An object in a gradient of two kindred colours, half of the time with a pattern of its own."""
    share, box = coverage(placed)
    lightness, chroma, hue = palette.accent(rng)
    shift = rng.uniform(0.03, 0.1)
    first = oklch(lightness - shift, chroma, hue + rng.uniform(-0.5, 0.5))[:, None, None]
    second = oklch(lightness + shift, chroma, hue + rng.uniform(-0.5, 0.5))[:, None, None]
    colour = first + (second - first) * gradient(rng, box)
    if rng.random() < 0.5:
        colour = colour + np.float32(rng.uniform(0.02, 0.07)) * texture(rng, warp, box)
    return Layer(share, colour, box, number)


def _occluder(rng: np.random.Generator, palette: _Palette, placed: Outline, layer: Layer) -> list[Layer]:
    """A piece of clutter in front of an object, unless it would hide too much of it."""
    points = placed[0]
    middle = _middle(placed)
    size = float(np.hypot(*(points - middle).T).max())
    centre = middle + (points[rng.integers(len(points))] - middle) * rng.uniform(0.2, 0.9)
    outline = CLUTTER[rng.integers(len(CLUTTER))](rng)
    piece = _flat(rng, palette, place(outline, centre, size * rng.uniform(0.5, 1.2), rng.uniform(0, _TURN)))
    hidden = on_picture(piece)[layer.box] * layer.coverage
    return [piece] if hidden.sum() <= CONFIG.most_hidden * layer.coverage.sum() else []


def on_picture(layer: Layer) -> Plane:
    """A layer's coverage on the whole picture `(H, W)`."""
    whole = np.zeros((SIZE, SIZE), dtype=np.float32)
    whole[layer.box] = layer.coverage
    return whole
