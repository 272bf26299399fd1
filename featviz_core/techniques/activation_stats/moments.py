"""Counts, means and deviations that can be merged exactly, whatever pieces the data came in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""Eight numbers for each of any number of pieces, along the first axis, in the order of `FIELDS`."""

FIELDS = ("count", "mean", "deviation", "low", "high", "zeros", "nan", "inf")
"""`count`: of finite values, which are all that `mean`, `deviation` (Σ(x - mean)²), `low` and `high` are about."""


def merge(rows: Rows) -> Rows:
    """`(8, pieces, ...)` to `(8, ...)`: what one pass over all pieces together would have given.

    Chan, Golub and LeVeque: Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979).
    """
    count, mean, deviation, low, high, *totals = rows
    total = count.sum(0)
    middle = (count * mean).sum(0) / np.maximum(total, 1)
    spread = (deviation + count * np.square(mean - middle)).sum(0)
    return np.stack([total, middle, spread, low.min(0), high.max(0), *(part.sum(0) for part in totals)])


def joined(before: Rows | None, pieces: Rows) -> Rows:
    """What was merged before, `(8, ...)`, with more `pieces` `(8, pieces, ...)`."""
    return merge(pieces if before is None else np.concatenate([before[:, None], pieces], axis=1))


def across_pictures(rows: Rows) -> Rows:
    """Pieces of one value each: the mean of a picture's channel, where it has one."""
    count, mean = np.minimum(rows[0], 1), rows[1]
    none = np.zeros_like(mean)
    return np.stack([count, mean, none, mean, mean, none, none, none])


def standard_deviation(rows: Rows) -> NDArray[np.float64]:
    """As `torch.std`, of merged rows `(8, ...)`; 0 for a single value, NaN for none."""
    count, deviation = rows[0], rows[2]
    return np.where(count > 0, np.sqrt(deviation / np.maximum(count - 1, 1)), np.nan)
