"""Shapes for PyTorch: pictures as a `Dataset`, and many of them at once as arrays."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from featviz_core.demo.shapes import Split, draw

_CHUNK = 250  # pictures a worker draws before it hands them back


class ShapesDataset(Dataset[tuple[torch.Tensor, int]]):
    """`count` pictures of a split, drawn when asked for: `(image, label)`.

    `image (3, 128, 128)` is float32 in [0, 1], then whatever `transform` makes of it. Equal to itself in every worker.
    """

    def __init__(
        self,
        split: Split,
        count: int,
        *,
        seed: int = 0,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.split, self.count, self.seed, self.transform = split, count, seed, transform

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if not 0 <= index < self.count:  # lets `for image, label in dataset` end, as for any sequence
            raise IndexError(index)
        picture = draw(self.split, index, seed=self.seed)
        image = torch.from_numpy(picture.image).permute(2, 0, 1).float() / 255
        return (self.transform(image) if self.transform else image), picture.label


def render(
    split: Split, count: int, *, start: int = 0, single: bool = False, workers: int = 1
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw `count` numbers of a split from `start` on: images `(N, 128, 128, 3)` uint8 and labels `(N,)`.

    `single` leaves out pictures with two objects, so that about a tenth fewer come back.
    """
    starts = range(start, start + count, _CHUNK)
    ranges = [range(first, min(first + _CHUNK, start + count)) for first in starts]
    work = partial(_chunk, split, single)
    if min(workers, len(ranges)) == 1:
        parts = list(map(work, ranges))
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(work, ranges))
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _chunk(split: Split, single: bool, indices: range) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    pictures = [draw(split, index) for index in indices]
    kept = [picture for picture in pictures if not (single and picture.two_objects)]
    return np.stack([picture.image for picture in kept]), np.array([picture.label for picture in kept])
