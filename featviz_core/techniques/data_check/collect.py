"""One pass over a loader: everything that later verdicts need, in a few hundred bytes a picture."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from featviz_core.errors import ExperimentError
from featviz_core.techniques.data_check.pictures import Floats, Measured, channels_first, layout_of, measure, thumbnail
from featviz_core.techniques.data_check.reading import MOST_FAILURES, Delivered, Failure, walk
from featviz_core.techniques.data_check.result import BatchSummary
from featviz_core.techniques.data_check.rows import Rows
from featviz_core.techniques.data_check.targets import Targets, read_targets

Unpack = Callable[[Any], tuple[Tensor, Any]]

_MOST_ROWS = 12  # batches in the table, where the caller asks for more than can be read
_KEPT = 512  # pictures whose thumbnail is kept during the pass; of others it is made by reading them again
SIDE, _SAMPLE_SIDE = 64, 128
"""Pixels of a thumbnail at most, and of one for the sample grid."""

SAMPLES = 16
"""Pictures of each split that are kept for the sample grid."""


@dataclass(slots=True)
class Seen:
    """What a pass over one loader left, per picture in the loader's order.

    `pictures`: the numbers of `Measured`, over all pictures. `labels (n,)`: -1 where a batch has no class numbers.
    `indices (n,)`: in the data set, -1 where not known. `kept`: small float pictures by position, in input units.
    """

    name: str
    loader: Any
    pictures: Measured
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    batch_sizes: list[int]
    targets: list[Targets]
    layouts: list[str]
    dtypes: list[str]
    rows: list[BatchSummary]
    failures: list[Failure]
    kept: dict[int, Floats]
    complete: bool
    loading: float
    looking: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dataset(self) -> Any:
        """The loader's data set, or None."""
        return getattr(self.loader, "dataset", None)

    @property
    def total(self) -> int | None:
        """How long the data set says it is."""
        try:
            return len(self.dataset)
        except TypeError:
            return None

    def places(self, positions: NDArray[np.integer[Any]], most: int = 8) -> dict[str, list[int]]:
        """Where to find the first of these pictures: `entries` of the data set, `positions` where those are unknown."""
        first = positions[:most]
        known = bool((self.indices[first] >= 0).all())
        return {"entries": self.indices[first].tolist()} if known else {"positions": first.tolist()}

    @property
    def known(self) -> list[int]:
        """The entries of the data set that were seen, as far as they are known."""
        return [int(index) for index in np.unique(self.indices[self.indices >= 0])]

    @property
    def shuffled(self) -> bool | None:
        """Whether the loader draws in random order, by its sampler."""
        sampler = getattr(self.loader, "sampler", None) if isinstance(self.loader, DataLoader) else None
        sampler = getattr(getattr(self.loader, "batch_sampler", None), "sampler", sampler)
        known = {RandomSampler: True, SequentialSampler: False}
        return known.get(type(sampler))


@dataclass(slots=True)
class _Pass:
    name: str
    unpack: Unpack
    rows_wanted: int
    numbers: Rows = field(default_factory=Rows)
    batch_sizes: list[int] = field(default_factory=list)
    targets: list[Targets] = field(default_factory=list)
    layouts: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    rows: list[BatchSummary] = field(default_factory=list)
    kept: dict[int, Floats] = field(default_factory=dict)
    channels: int = 0

    def see(self, delivered: Delivered) -> tuple[Tensor, NDArray[np.int64]]:
        """Take in a batch; its pictures as float32 `(N, C, H, W)`, and their labels."""
        given, answers = self.unpack(delivered.content)
        images, targets = channels_first(given), read_targets(answers, len(given))
        self._check_channels(images, delivered.batch)
        for position in range(len(self.numbers), min(len(self.numbers) + len(images), _KEPT)):
            side = _SAMPLE_SIDE if position < SAMPLES else SIDE
            self.kept[position] = thumbnail(images[position - len(self.numbers)], side)
        found, unknown = measure(images), np.full(len(images), -1)
        labels = unknown if targets.numbers is None else targets.numbers
        indices = delivered.indices if delivered.indices is not None else unknown
        indices = indices if len(indices) == len(images) else unknown
        numbers = {name: getattr(found, name) for name in Measured.__dataclass_fields__}
        self.numbers.add(labels=labels, indices=indices, **numbers)
        self.batch_sizes.append(len(images))
        self.targets.append(replace(targets, numbers=None))
        self.layouts.append(layout_of(given))
        self.dtypes.append(str(given.dtype).removeprefix("torch."))
        if len(self.rows) < self.rows_wanted:
            self.rows.append(self._row(delivered.batch, given, found, targets))
        return images, labels

    def _check_channels(self, images: Tensor, batch: int) -> None:
        self.channels = self.channels or images.shape[1]
        if images.shape[1] != self.channels:
            raise ExperimentError(
                f"The number of channels changes within the {self.name} loader.",
                why=f"Batch {batch} has {images.shape[1]}, the first has {self.channels}.",
                do="Convert every picture to one mode in the data set, such as `.convert('RGB')`.",
            )

    def _row(self, number: int, given: Tensor, found: Measured, targets: Targets) -> BatchSummary:
        mean, std = merged(found.mean, found.std)
        low, high = float(np.min(found.low)), float(np.max(found.high))
        return BatchSummary(
            self.name,
            number,
            tuple(given.shape),
            self.dtypes[-1],
            low,
            high,
            float(mean.mean()),
            float(math.sqrt(np.mean(std**2 + (mean - mean.mean()) ** 2))),
            targets.shape,
            targets.dtype,
            targets.low,
            targets.high,
        )


def collect(
    name: str,
    loader: Iterable[Any],
    unpack: Unpack,
    *,
    num_batches: int | None,
    tell: Callable[[int], object],
    also: Callable[[Tensor, NDArray[np.int64]], object] | None = None,
) -> Seen:
    """Go through `loader` once. `tell(batches)` hears of progress; `also(images, labels)` gets every batch.

    Raises `ExperimentError` where a batch holds no pictures or `unpack` does not fit.
    """
    work = _Pass(name, unpack, min(num_batches or 3, _MOST_ROWS))
    failures: list[Failure] = []
    loading, began = 0.0, time.perf_counter()
    number = 0
    with closing(walk(loader, limit=num_batches)) as batches:
        for number, delivered in enumerate(batches, start=1):
            if isinstance(delivered, Failure):
                failures.append(delivered)
            else:
                loading += delivered.seconds
                with torch.no_grad():
                    images, labels = work.see(delivered)
                    if also is not None:
                        also(images, labels)
            tell(number)
    ended = num_batches is None or number < num_batches or number == _length(loader)
    numbers = work.numbers.all() or _no_numbers()
    return Seen(
        name=name,
        loader=loader,
        labels=numbers.pop("labels"),
        indices=numbers.pop("indices"),
        pictures=Measured(**numbers),
        batch_sizes=work.batch_sizes,
        targets=work.targets,
        layouts=work.layouts,
        dtypes=work.dtypes,
        rows=work.rows,
        failures=failures,
        kept=work.kept,
        complete=ended and len(failures) < MOST_FAILURES,
        loading=loading,
        looking=time.perf_counter() - began - loading,
    )


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def _no_numbers() -> dict[str, NDArray[Any]]:
    """The arrays of a pass that met no picture."""
    nothing = measure(torch.zeros(1, 1, 3, 3))
    numbers = {name: getattr(nothing, name)[:0] for name in Measured.__dataclass_fields__}
    return numbers | {"labels": np.zeros(0, np.int64), "indices": np.zeros(0, np.int64)}


def merged(
    mean: Floats, std: Floats, pixels: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation `(C,)` of all pixels, from those `(n, C)` of each picture and its number of pixels.

    Exact up to rounding (Chan, Golub and LeVeque, 1983); pictures with NaN are left out; NaN without pictures.
    """
    good = np.isfinite(mean).all(1)
    if not good.any():
        nothing = np.full(mean.shape[1], np.nan)
        return nothing, nothing
    weights = (np.ones(len(mean)) if pixels is None else pixels)[good].astype(np.float64)
    weights = (weights / weights.sum())[:, None]
    means, stds = mean[good].astype(np.float64), std[good].astype(np.float64)
    centre = (weights * means).sum(0)
    return centre, np.sqrt((weights * (stds**2 + (means - centre) ** 2)).sum(0))
