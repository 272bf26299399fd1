"""What was already done to scores: a softmax, a log-softmax, a sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featviz_core.techniques.output_check.result import Applied

_FEW = 64  # numbers in (0, 1) that come about by chance


def applied_to(scores: NDArray[np.floating[Any]], operation: str) -> tuple[Applied, bool]:
    """What was done to rows of scores `(N, C)`, and whether that is proven.

    A softmax is proven by rows that all sum to 1 (the exponentials of a log-softmax do), unless there is only one
    row, again and again; or by the graph, whose last `operation` it is. Numbers in (0, 1) alone prove no sigmoid.
    """
    named: Applied | None = _NAMED.get(operation)
    finite = scores[np.isfinite(scores).all(axis=1)].astype(np.float64)
    if not finite.size:
        return (named, True) if named else ("", False)
    rounding = max(1e-5, 10 * float(np.finfo(scores.dtype).eps))
    several = len(np.unique(finite, axis=0)) > 1
    inside = bool((finite >= 0).all() and (finite <= 1).all())
    if finite.shape[1] > 1 and inside and _one(finite.sum(axis=1), rounding):
        return "softmax", several or named == "softmax"
    if finite.shape[1] > 1 and bool((finite <= 0).all()) and _one(np.exp(finite).sum(axis=1), rounding):
        return "log_softmax", several or named == "log_softmax"
    if inside and named == "sigmoid":
        return "sigmoid", True
    open_interval = inside and bool((finite > 0).all() and (finite < 1).all())
    return ("sigmoid", False) if open_interval and several and finite.size >= _FEW else ("", False)


_NAMED: dict[str, Applied] = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}


def _one(sums: NDArray[np.float64], rounding: float) -> bool:
    return bool((np.abs(sums - 1) <= rounding).all())
