"""Arrays that grow at their end while a loader is gone through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIRST = 4096  # rows that are made room for at first


class Rows:
    """Named arrays with a row a picture, in few and large pieces of memory.

    Thousands of small arrays that lie between a pass's large temporary ones would keep the memory of those from being
    given back: 16 KB a picture, for 300 bytes.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, **values: NDArray[Any]) -> None:
        """Append rows, as many to each array; the first call says which arrays there are."""
        end = self._length + len(next(iter(values.values())))
        for name, rows in values.items():
            if name not in self._arrays or end > len(self._arrays[name]):
                larger = np.empty((max(_FIRST, 2 * end), *rows.shape[1:]), rows.dtype)
                larger[: self._length] = self._arrays.get(name, larger)[: self._length]
                self._arrays[name] = larger
            self._arrays[name][self._length : end] = rows
        self._length = end

    def all(self) -> dict[str, NDArray[Any]]:
        """Every array as long as it has become."""
        return {name: array[: self._length] for name, array in self._arrays.items()}
