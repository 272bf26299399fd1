"""Textures: six kinds of pattern, 32 × 32 pixels; a second generated data set, which looks nothing like Shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from featviz_core.demo.shapes import SPLITS, Split
from featviz_core.demo.small_shapes import SIDE, DrawnPictures

_Rows = np.ndarray
_DOWN, _ACROSS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


def _wave(along: _Rows, period: float, phase: float) -> _Rows:
    return 0.5 + 0.5 * np.sin(2 * np.pi * along / period + phase)


def _stripes_down(period: float, phase: float, _rng: np.random.Generator) -> _Rows:
    return _wave(_ACROSS, period, phase)


def _stripes_across(period: float, phase: float, _rng: np.random.Generator) -> _Rows:
    return _wave(_DOWN, period, phase)


def _stripes_aslant(period: float, phase: float, rng: np.random.Generator) -> _Rows:
    side = rng.choice([-1, 1])
    return _wave((_DOWN + side * _ACROSS) * 0.71, period, phase)


def _checks(period: float, phase: float, _rng: np.random.Generator) -> _Rows:
    return np.where((_wave(_DOWN, period, phase) > 0.5) == (_wave(_ACROSS, period, phase) > 0.5), 1.0, 0.0)


def _rings(period: float, phase: float, rng: np.random.Generator) -> _Rows:
    down, across = rng.uniform(10, 22, 2)
    return _wave(np.hypot(_DOWN - down, _ACROSS - across), period, phase)


def _speckles(_period: float, _phase: float, rng: np.random.Generator) -> _Rows:
    return np.kron(rng.uniform(0, 1, (SIDE // 2, SIDE // 2)), np.ones((2, 2)))


TEXTURES: dict[str, Callable[[float, float, np.random.Generator], _Rows]] = {
    "stripes down": _stripes_down,
    "stripes across": _stripes_across,
    "stripes aslant": _stripes_aslant,
    "checks": _checks,
    "rings": _rings,
    "speckles": _speckles,
}
TEXTURE_NAMES = tuple(TEXTURES)


class Textures(DrawnPictures):
    """`count` pictures of a split. Six neighbouring pictures hold each class once."""

    def __init__(self, split: Split, count: int, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__(textures(split, count), TEXTURE_NAMES, transform)


@lru_cache(maxsize=4)
def textures(split: Split, count: int) -> tuple[Tensor, tuple[int, ...]]:
    """The first `count` pictures `(count, 3, 32, 32)` in [0, 1] of a split and their labels; drawn once a process."""
    labels = tuple(index % len(TEXTURES) for index in range(count))
    drawn = [_draw(np.random.default_rng([7, SPLITS.index(split), index]), label) for index, label in enumerate(labels)]
    return torch.stack(drawn), labels


def _draw(rng: np.random.Generator, label: int) -> Tensor:
    pattern = list(TEXTURES.values())[label](rng.uniform(5, 9), rng.uniform(0, 2 * np.pi), rng)
    ground = rng.uniform(0.05, 0.95, 3)
    colour = (ground + rng.uniform(0.33, 0.67, 3)) % 1
    picture = ground[:, None, None] + pattern * (colour - ground)[:, None, None]
    return torch.from_numpy((picture + rng.normal(0, 0.08, (3, SIDE, SIDE))).clip(0, 1).astype(np.float32))
