"""Single pictures of a loader's data set, read again as the loader would have given them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment_file import short

_TWICE = 6  # entries that are read again to see whether they change, each so many times:
_TIMES = 2


class Entries:
    """Reads entries of `dataset`, or else of the loader's own, one by one, put together by its loader's `collate_fn`
    and taken apart by `unpack`. `count` is 0 where entries cannot be read by their number."""

    def __init__(self, loader: Any, unpack: Callable[[Any], tuple[Tensor, Any]], dataset: Any = None) -> None:
        dataset = getattr(loader, "dataset", None) if dataset is None else dataset
        listed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        readable = isinstance(loader, DataLoader) and listed and not isinstance(dataset, IterableDataset)
        self.dataset: Any = dataset if readable else None
        self.count = len(dataset) if readable else 0
        self._collate = loader.collate_fn if readable and loader.batch_sampler is not None else None
        self._unpack = unpack

    def read(self, index: int) -> tuple[Tensor, Any]:
        """The entry as a batch of one: (images, targets). Raises `ExperimentError` where it cannot be read."""
        try:
            entry = self.dataset[index]
            return self._unpack(entry if self._collate is None else self._collate([entry]))
        except FeatVizError:
            raise
        except Exception as error:
            raise ExperimentError(f"Entry {index} of the data cannot be read: {short(error)}.") from error

    def images(self, index: int) -> Tensor | None:
        """The picture as a batch of one; None where it cannot be had."""
        with suppress(FeatVizError):
            return self.read(index)[0]
        return None

    def random(self, indices: Iterable[int] | None = None) -> bool | None:
        """Whether reading the same entry twice gives two pictures, told by a few of `indices`, or from all over the
        data. None where nothing can be read."""
        places = spread(self.count, _TWICE) if indices is None else [*indices][:_TWICE]
        answers = []
        for index in places if self.dataset is not None else ():
            for _ in range(_TIMES):
                first, second = self.images(index), self.images(index)
                if first is not None and second is not None:
                    answers.append(not _same(first, second))
        return any(answers) if answers else None


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.nan_to_num(), second.nan_to_num())


def spread(count: int, most: int) -> list[int]:
    """Numbers from all over `count`; the step is odd, so that data in repeating order gives all of its classes."""
    step = max(1, count // most) | 1
    return sorted({place * step % count for place in range(min(most, count))})
