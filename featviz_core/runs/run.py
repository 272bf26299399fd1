"""A training run as it was logged: every value, in one form, whatever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.runs.roles import Role


@dataclass(frozen=True, slots=True, eq=False)
class Scalars:
    """The values of one tag in the order in which they were written.

    `steps (T,)`; `wall_times (T,)` in seconds since 1970, NaN where the log has none; `values (T,)`, NaN and infinity
    as they were written.
    """

    steps: NDArray[np.int64]
    wall_times: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that could not be read: `length` of them from `place` on in `file`, and why (`reason`).

    `before` and `after`: how many records (lines, in text) of the file were read in front of it, and behind it.
    """

    file: str
    place: int
    length: int
    reason: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class LoggedImage:
    """A picture in a log. `wall_time` in seconds since 1970; `width`, `height` in pixels, 0 where not said."""

    step: int
    wall_time: float
    tag: str
    width: int
    height: int
    load: Callable[[], bytes] = field(repr=False)

    @property
    def data(self) -> bytes:
        """The picture's file, most often a PNG, read now. Raises `RunError` where the log is no longer there."""
        return self.load()


@dataclass(frozen=True, slots=True, eq=False)
class LoggedHistogram:
    """A histogram in a log: `counts (B,)` in bins from `low (B,)` to `high (B,)`."""

    step: int
    wall_time: float
    tag: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One training run, all that its log holds.

    `scalars`: by tag; `roles`: what the recognised tags are; `images`, `logged_histograms`: in the order in which they
    were written; `graph`: whether the log holds a model graph; `damage`: what could not be read; `findings`: what to
    know before looking at the curves, the worst first.
    """

    name: str
    scalars: Mapping[str, Scalars]
    roles: Mapping[str, Role]
    images: tuple[LoggedImage, ...] = ()
    logged_histograms: tuple[LoggedHistogram, ...] = ()
    graph: bool = False
    damage: tuple[Damage, ...] = ()
    findings: tuple[Finding, ...] = ()

    def frame(self) -> pd.DataFrame:
        """What was logged? `step wall_time tag value`, tag by tag, each in the order of writing. `wall_time`: in
        seconds since 1970, NaN where unknown."""
        tags, series = list(self.scalars), list(self.scalars.values())
        codes = np.repeat(np.arange(len(tags)), [len(one) for one in series])
        return pd.DataFrame(
            {
                "step": _joined([one.steps for one in series], np.int64),
                "wall_time": _joined([one.wall_times for one in series], np.float64),
                "tag": pd.Categorical.from_codes(codes, pd.Index(tags, dtype=object)),
                "value": _joined([one.values for one in series], np.float64),
            }
        )

    @property
    def histograms(self) -> pd.DataFrame:
        """How were weights, gradients and the like distributed? `step wall_time tag low high count`, one row a bin."""
        logged = self.logged_histograms
        bins = [len(one.counts) for one in logged]
        return pd.DataFrame(
            {
                "step": np.repeat(np.array([one.step for one in logged], np.int64), bins),
                "wall_time": np.repeat(np.array([one.wall_time for one in logged], np.float64), bins),
                "tag": np.repeat(np.array([one.tag for one in logged], object), bins),
                "low": _joined([one.low for one in logged], np.float64),
                "high": _joined([one.high for one in logged], np.float64),
                "count": _joined([one.counts for one in logged], np.float64),
            }
        )

    def tags(self, metric: str, split: str = "") -> list[str]:
        """The tags that play a role, those with the most values first: `run.tags("loss", "validation")`."""
        found = [tag for tag, role in self.roles.items() if role == Role(metric, split) and tag in self.scalars]
        return sorted(found, key=lambda tag: -len(self.scalars[tag]))


def _joined(parts: list[NDArray[np.float64]] | list[NDArray[np.int64]], kind: type) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
