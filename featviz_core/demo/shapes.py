"""Shapes: the bundled data set. Eight kinds of shapes on cluttered, textured backgrounds, each with its mask.

`draw(split, index)` makes a picture from its numbers alone: order, process, worker and the global random state do not
matter, and nothing is stored. This module needs no torch; `featviz_core.demo.dataset` wraps it for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from featviz_core.demo.marks import mark_area, stamp
from featviz_core.demo.outlines import SHAPES
from featviz_core.demo.painting import SIZE, Plane, compose
from featviz_core.demo.scenes import CONFIG, Scene, ShapesConfig, on_picture, scene
from featviz_core.errors import ImageError

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
CLASS_NAMES: tuple[str, ...] = tuple(SHAPES)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of Shapes, with everything that is known about it.

    `image (128, 128, 3)` uint8; `masks (objects, 128, 128)` bool, the visible pixels of each object, largest first;
    `labels`, the class of each object in the same order.
    """

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    labels: tuple[int, ...]

    @property
    def label(self) -> int:
        """The class that the picture is labelled with: that of its largest object."""
        return self.labels[0]

    @property
    def two_objects(self) -> bool:
        """Whether there are two objects. Such pictures are left out of accuracies."""
        return len(self.labels) == 2


def draw(split: Split, index: int, *, seed: int = 0, mark: bool = False) -> Picture:
    """What does picture number `index` of a split look like, and where are its objects?

    The three splits draw from streams of their own, so they share no picture. Eight neighbouring numbers, from a
    multiple of eight on, hold each class once as the main object. `mark` pastes the Clever Hans mark into a corner.

    Raises `ImageError` for an unknown split or a negative index.
    """
    plan = plan_scene(split, index, seed=seed)
    image = paint(plan)
    labels, masks = _visible_objects(plan)
    if mark:
        image, masks = stamp(image), masks & ~mark_area(SIZE, SIZE)
    return Picture(image, masks, labels)


def plan_scene(split: Split, index: int, *, seed: int = 0) -> Scene:
    """The layers that picture number `index` of a split is painted from. Raises as `draw` does."""
    if split not in SPLITS or index < 0:
        raise ImageError(
            f"There is no picture {index} in the split {split!r} of Shapes.",
            why=f"Expected one of {', '.join(SPLITS)} and an index of 0 or more.",
        )
    stream, block = SPLITS.index(split), index // len(CLASS_NAMES)
    order = np.random.default_rng([seed, stream, 0, block]).permutation(len(CLASS_NAMES))
    return scene(np.random.default_rng([seed, stream, 1, index]), int(order[index % len(CLASS_NAMES)]))


def paint(plan: Scene) -> npt.NDArray[np.uint8]:
    """The picture `(128, 128, 3)` uint8 of a scene."""
    picture: Plane = compose(plan.background, plan.layers) + plan.noise
    levels = np.clip(picture * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def _visible_objects(plan: Scene) -> tuple[tuple[int, ...], npt.NDArray[np.bool_]]:
    """The classes of the objects and the pixels at least half of which they cover, unhidden, largest first."""
    masks = np.zeros((len(plan.labels), SIZE, SIZE), dtype=np.bool_)
    for layer in plan.layers:
        if layer.object_index is None and not masks.any():
            continue  # behind the objects
        solid = on_picture(layer) >= 0.5
        masks &= ~solid
        if layer.object_index is not None:
            masks[layer.object_index] = solid
    order = np.argsort(-masks.sum(axis=(1, 2)), kind="stable")
    return tuple(plan.labels[number] for number in order), masks[order]


__all__ = ["CLASS_NAMES", "CONFIG", "SIZE", "SPLITS", "Picture", "ShapesConfig", "Split", "draw", "paint", "plan_scene"]
