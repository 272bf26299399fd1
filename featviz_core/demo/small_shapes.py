"""Small Shapes: the eight classes once more, 32 × 32 pixels and without clutter, so that training takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featviz_core.demo.outlines import SHAPES
from featviz_core.demo.painting import SIZE, coverage, place
from featviz_core.demo.shapes import CLASS_NAMES, SPLITS, Split

SIDE = 32
_OUTLINES = tuple(SHAPES.values())
_TURN = 0.35  # radians to either side


class DrawnPictures(Dataset[tuple[Tensor, int]]):
    """Drawn pictures `(image (3, 32, 32), label)`, the image being what `transform` makes of floats in [0, 1]."""

    def __init__(
        self,
        drawn: tuple[Tensor, tuple[int, ...]],
        classes: Sequence[str],
        transform: Callable[[Tensor], Tensor],
    ) -> None:
        self.images, self.labels = drawn
        self.classes, self.transform = list(classes), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class SmallShapes(DrawnPictures):
    """`count` pictures of a split. Eight neighbouring pictures hold each class once."""

    def __init__(self, split: Split, count: int, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__(pictures(split, count), CLASS_NAMES, transform)


@lru_cache(maxsize=4)
def pictures(split: Split, count: int) -> tuple[Tensor, tuple[int, ...]]:
    """The first `count` pictures `(count, 3, 32, 32)` in [0, 1] of a split and their labels; drawn once a process."""
    labels = tuple(index % len(_OUTLINES) for index in range(count))
    drawn = [_draw(np.random.default_rng([SPLITS.index(split), index]), label) for index, label in enumerate(labels)]
    return torch.stack(drawn), labels


def _draw(rng: np.random.Generator, label: int) -> Tensor:
    centre = SIZE / 2 + rng.uniform(-14, 14, 2)
    outline = place(_OUTLINES[label], centre, rng.uniform(26, 38), rng.uniform(-_TURN, _TURN), rng.uniform(0.85, 1.18))
    covered, box = coverage(outline)
    whole = np.zeros((SIZE, SIZE), np.float32)
    whole[box] = covered
    ground = rng.uniform(0.05, 0.95, 3)
    # At least as far from the ground as a third of the cube's side, in every colour.
    colour = (ground + rng.uniform(0.33, 0.67, 3)) % 1
    shape = whole.reshape(SIDE, SIZE // SIDE, SIDE, SIZE // SIDE).mean((1, 3))
    picture = ground[:, None, None] + shape * (colour - ground)[:, None, None]
    return torch.from_numpy((picture + rng.normal(0, 0.03, (3, SIDE, SIDE))).clip(0, 1).astype(np.float32))
