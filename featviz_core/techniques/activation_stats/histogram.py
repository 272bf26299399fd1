"""A histogram of even bins whose range is that of the first values; whatever comes later outside of it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_BINS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """`counts (bins + 2,)`: values below the first of `edges (bins + 1,)`, in each bin, and from the last one on."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]

    def frame(self) -> pd.DataFrame:
        """The bins between the edges: `low`, `high`, `count`."""
        return pd.DataFrame({"low": self.edges[:-1], "high": self.edges[1:], "count": self.counts[1:-1]})


def added(histogram: Histogram | None, values: NDArray[np.floating[Any]]) -> Histogram | None:
    """With more `values`; the first finite ones set the edges, NaN counts nowhere."""
    known = values[~np.isnan(values)]
    if histogram is None:
        finite = known[np.isfinite(known)].astype(np.float64)
        if not finite.size:
            return None
        low, high = float(finite.min()), float(finite.max())
        # The largest value belongs into the last bin, and a single value needs some room.
        room = max((high - low) * 1e-6, abs(high) * 1e-3 if low == high else 0.0, 1e-30)
        histogram = Histogram(np.linspace(low - room, high + room, _BINS + 1), np.zeros(_BINS + 2, np.int64))
    places = np.searchsorted(histogram.edges, known, side="right")
    return Histogram(histogram.edges, histogram.counts + np.bincount(places, minlength=_BINS + 2))
