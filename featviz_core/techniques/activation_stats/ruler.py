"""The bins of all histograms: the same for every layer, picture and model, so that any two can be added or compared.

They are even in the logarithm of the size, to both sides of zero: twenty to each power of ten, from a millionth to a
million. What is smaller shares one bin with zero, and both ends are open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_SMALLEST, _LARGEST, _PER_DECADE = -6, 6, 20
_sizes = np.logspace(_SMALLEST, _LARGEST, (_LARGEST - _SMALLEST) * _PER_DECADE + 1)
EDGES: NDArray[np.float64] = np.concatenate([-_sizes[::-1], _sizes])
_COARSE = np.concatenate([-_sizes[::-2], _sizes[::2]])
BINS = len(EDGES) + 1
"""Bin i holds values from `EDGES[i - 1]` up to, not including, `EDGES[i]`; the first and the last are open."""


def count(values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """How many of `values` fall into each bin `(BINS,)`; infinities go to the ends, NaN nowhere."""
    known = values[~np.isnan(values)]
    return np.bincount(np.searchsorted(EDGES, known, side="right"), minlength=BINS).astype(np.int64)


def filled(histogram: NDArray[np.int64]) -> pd.DataFrame:
    """The bins between two edges that hold something: `low`, `high`, `count`."""
    inside = histogram[1:-1]
    some = inside > 0
    return pd.DataFrame({"low": EDGES[:-1][some], "high": EDGES[1:][some], "count": inside[some].astype(float)})


def coarse(histogram: NDArray[np.int64]) -> pd.DataFrame:
    """Half as many bins, the open ends included, as far as they hold something: `low`, `high`, `count`."""
    edges = np.concatenate([[-np.inf], _COARSE, [np.inf]])
    ends = np.searchsorted(EDGES, _COARSE)
    counts = np.add.reduceat(histogram, [0, *(ends + 1)])
    some = counts > 0
    return pd.DataFrame({"low": edges[:-1][some], "high": edges[1:][some], "count": counts[some]})
