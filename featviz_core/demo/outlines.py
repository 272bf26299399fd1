"""The outlines that Shapes is drawn with: the eight classes, and the clutter that is none of them.

An outline is a tuple of closed polygons `(points, 2)` in units of the shape: the first is filled, the others are holes.
Class outlines are scaled to the area of a unit circle, so that neither area nor size gives a class away.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.float64]
Outline: TypeAlias = tuple[Points, ...]

_TURN = 2 * np.pi


def _arc(start: float, stop: float, count: int, radius: float = 1.0) -> Points:
    angle = np.linspace(start, stop, count)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _round(count: int, radius: float = 1.0) -> Points:
    """A regular polygon with its first corner pointing up."""
    return _arc(-_TURN / 4, _TURN * 3 / 4, count + 1, radius)[:-1]


def _star() -> Points:
    points = _round(10)
    points[1::2] *= 0.46
    return points


def _cross(arm: float = 0.36) -> Points:
    quarter = np.array([[arm, -1.0], [arm, -arm], [1.0, -arm]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _heart() -> Points:
    t = np.linspace(0, _TURN, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1)


def _crescent(offset: float = 0.5, bite: float = 0.82) -> Points:
    """A unit disc with a disc of radius `bite`, shifted by `offset`, taken out of its right side."""
    x = (1 + offset**2 - bite**2) / (2 * offset)  # where the two circles cross
    outer, inner = np.arccos(x), np.arctan2(np.sqrt(1 - x**2), x - offset)
    back = _arc(_TURN - inner, inner, 24, bite) + np.array([offset, 0.0])
    return np.concatenate([_arc(outer, _TURN - outer, 36), back[1:-1]])


def polygon_area(points: Points) -> float:
    """How large is a simple polygon `(points, 2)`? In squared units, by the shoelace formula, never negative."""
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _unit(*polygons: Points) -> Outline:
    """Centre on the bounding box, and scale to the area of a unit circle."""
    middle = (polygons[0].max(axis=0) + polygons[0].min(axis=0)) / 2
    area = polygon_area(polygons[0]) - sum(polygon_area(hole) for hole in polygons[1:])
    return tuple((points - middle) * np.sqrt(np.pi / area) for points in polygons)


SHAPES: dict[str, Outline] = {
    "circle": _unit(_round(48)),
    "square": _unit(np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])),
    "triangle": _unit(_round(3)),
    "star": _unit(_star()),
    "cross": _unit(_cross()),
    "ring": _unit(_round(48), _round(48, 0.6)),
    "heart": _unit(_heart()),
    "moon": _unit(_crescent()),
}


def reach(outline: Outline) -> float:
    """How far does an outline stretch from its centre, in its own units?"""
    return float(np.hypot(*outline[0].T).max())


def stroke(path: Points, width: float) -> Outline:
    """The ribbon of a given width along an open path `(points, 2)`."""
    along = np.gradient(path, axis=0)
    normal = along[:, ::-1] * [-1.0, 1.0] / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    return (np.concatenate([path + normal * width / 2, (path - normal * width / 2)[::-1]]),)


def line(rng: np.random.Generator) -> Outline:
    """A straight bar."""
    return stroke(np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), rng.uniform(0.1, 0.26))


def squiggle(rng: np.random.Generator) -> Outline:
    """A wavy ribbon of one to two periods."""
    x = np.linspace(-1, 1, 28)
    y = rng.uniform(0.15, 0.3) * np.sin(x * rng.uniform(3, 6) + rng.uniform(0, _TURN))
    return stroke(np.stack([x, y], axis=1), rng.uniform(0.1, 0.2))


def hook(rng: np.random.Generator) -> Outline:
    """An open arc of a quarter to a half turn, too short for a ring and too even for a moon."""
    return stroke(_arc(0, rng.uniform(0.25, 0.5) * _TURN, 24, 0.8), rng.uniform(0.14, 0.26))


def corner(rng: np.random.Generator) -> Outline:
    """A bent bar: one corner of something that is not there."""
    bend, arm = rng.uniform(0.25, 0.42) * _TURN, rng.uniform(0.2, 0.34)
    tip = np.array([np.cos(bend), np.sin(bend)])
    both = tip + np.array([1.0, 0.0])
    inside = arm * both / np.sin(bend)
    points = np.array([[1.0, 0.0], [0.0, 0.0], tip, tip + arm * np.array([tip[1], -tip[0]]), inside, [1.0, arm]])
    return (points - 0.3 * both,)


def blob(rng: np.random.Generator) -> Outline:
    """A lumpy closed curve: random Fourier terms of the second to fifth order on the radius."""
    angle = np.linspace(0, _TURN, 40, endpoint=False)
    order = np.arange(2, 6)
    size, phase = rng.uniform(0.06, 0.2, 4), rng.uniform(0, _TURN, 4)
    radius = 0.75 + (size * np.cos(angle[:, None] * order + phase)).sum(axis=1)
    return (radius[:, None] * _arc(0, _TURN, 41)[:-1] * [1.0, rng.uniform(0.4, 0.75)],)


CLUTTER = (line, squiggle, hook, corner, blob)
