"""From numbers to places on a drawing, with round numbers along the axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from featviz_core.checklist.exhibits import Range

_ROUND = (1, 2, 2.5, 5, 10)
_MOST_POWERS = 6


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` at pixels from `start` to `end`, in their logarithm where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies; what lies outside is put at the edge, and so is infinity."""
        if self.log:
            value = max(value, self.low)  # zero has no logarithm
        share = (self._along(min(max(value, self.low), self.high)) - self._along(self.low)) / self._length
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, about: int = 4) -> list[float]:
        """Round numbers between `low` and `high`."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1, 1 + (last - first) // _MOST_POWERS)]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(round_ * power for round_ in _ROUND if round_ * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _along(self, value: float) -> float:
        return math.log10(value) if self.log else value

    @property
    def _length(self) -> float:
        return self._along(self.high) - self._along(self.low)


def scale(
    values: Iterable[float],
    healthy: Range | None,
    *,
    start: float,
    end: float,
    log: bool = False,
    zero: bool = False,
) -> Scale:
    """A scale that holds the finite `values` and the limits of `healthy`, and zero where wanted.

    `log` is kept to where there is something above zero.
    """
    limits = [limit for limit in healthy or () if limit is not None]
    known = [value for value in (*values, *limits, *([0.0] if zero and not log else [])) if math.isfinite(value)]
    if log and (positive := [value for value in known if value > 0]):
        low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        return Scale(10.0**low, 10.0 ** max(high, low + 1), start, end, log=True)
    low_, high_ = min(known, default=0.0), max(known, default=1.0)
    if high_ - low_ <= 1e-9 * max(abs(low_), abs(high_), 1e-300):
        low_, high_ = low_ - (abs(low_) / 2 or 0.5), high_ + (abs(high_) / 2 or 0.5)
    return Scale(low_, high_, start, end)
