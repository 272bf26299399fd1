"""The curves of runs as lines that a chart can draw at once, however many values a run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.runs.run import Run

Floats = NDArray[np.float64]

AXES = ("step", "epoch", "time")
SPLITS = {"train": "training", "validation": "validation", "train_eval": "training, evaluated", "test": "test", "": ""}
_FEW = 60  # values of a curve, such as one an epoch, that are not smoothed: its mean would lag behind
_COLUMNS = ("x", "value", "run", "split", "tag", "kind")


@dataclass(frozen=True, slots=True)
class View:
    """How curves are looked at.

    `axis`: one of `AXES`, time in seconds since the run's first value; `smoothing` in [0, 1): the weight of the past;
    `window`: the part of the axis that is seen, None for all; `log_x`, `log_y`: logarithmic scales, which have no
    place for what is not above zero; `pixels`: the width of the chart.
    """

    axis: str = "step"
    smoothing: float = 0.0
    window: tuple[float, float] | None = None
    log_x: bool = False
    log_y: bool = False
    pixels: int = 600


def smoothed(values: Floats, weight: float) -> Floats:
    """The exponential mean of `values` so far, without its pull towards zero at the start, as TensorBoard shows it.

    sₙ = Σ wⁿ⁻ⁱ·vᵢ / Σ wⁿ⁻ⁱ over the values up to n that are numbers; `weight` w in [0, 1).
    """
    if weight <= 0:
        return values
    finite = pd.Series(np.where(np.isfinite(values), values, np.nan))
    return finite.ewm(alpha=1 - weight, adjust=True, ignore_na=True).mean().to_numpy(np.float64)


def thinned(x: Floats, y: Floats, buckets: int) -> NDArray[np.intp]:
    """The places of the smallest and the largest `y` in each of `buckets` even parts of `x` (rising, as `y` finite).

    So a line through them looks on `buckets` pixels as one through all of them: no spike is lost.
    """
    if len(x) <= 2 * buckets:
        return np.arange(len(x))
    part = np.floor((x - x[0]) / ((x[-1] - x[0]) or 1.0) * buckets).astype(np.int64)
    starts = np.flatnonzero(np.diff(part, prepend=part[0] - 1))
    counts = np.diff(starts, append=len(x))
    kept = [np.array([0, len(x) - 1], np.intp)]
    for extreme in (np.minimum, np.maximum):
        same = np.flatnonzero(y == np.repeat(extreme.reduceat(y, starts), counts))
        kept.append(same[np.unique(part[same], return_index=True)[1]])
    return np.unique(np.concatenate(kept))


def positions(run: Run, tag: str, axis: str) -> Floats:
    """Where the values of a tag stand on an axis; NaN where that is not known."""
    series = run.scalars[tag]
    if axis == "time":
        first = min(
            (float(np.nanmin(one.wall_times)) for one in run.scalars.values() if _known(one.wall_times)), default=0
        )
        return np.asarray(series.wall_times - first, np.float64)
    steps = series.steps.astype(np.float64)
    if axis == "step":
        return steps
    marks, epochs = _epochs(run)
    if not len(marks):
        return np.full(len(steps), np.nan)
    # The first epoch begins at the first step; after the last mark, epochs go on at the pace of the last one.
    pace = (epochs[-1] - epochs[-2]) / (marks[-1] - marks[-2]) if len(marks) > 1 else epochs[-1] / max(marks[-1], 1.0)
    beyond = np.maximum(steps - marks[-1], 0) * pace
    within = np.interp(steps, np.r_[min(0.0, marks[0] - 1), marks], np.r_[0.0, epochs])
    return np.asarray(within + beyond, np.float64)


def axes_of(runs: Sequence[Run]) -> list[str]:
    """Those of `AXES` that every one of `runs` can be drawn over."""
    timed = all(any(_known(one.wall_times) for one in run.scalars.values()) for run in runs)
    return ["step", *(["epoch"] if all(len(_epochs(run)[0]) for run in runs) else []), *(["time"] if timed else [])]


def _known(times: Floats) -> bool:
    return bool(np.isfinite(times).any())


def _epochs(run: Run) -> tuple[Floats, Floats]:
    """The steps at which epochs ended, rising, and which; from the log, else from its validations."""
    said = run.tags("epoch")
    if said:
        series = run.scalars[said[0]]
        marks, epochs = series.steps.astype(np.float64), series.values
    else:
        rows = [run.scalars[tag] for metric in ("loss", "accuracy") for tag in run.tags(metric, "validation")[:1]]
        marks = np.unique(rows[0].steps).astype(np.float64) if rows else np.zeros(0)
        epochs = np.arange(1.0, len(marks) + 1)
    order = np.argsort(marks, kind="stable")
    marks, epochs = marks[order], epochs[order]
    rising = np.r_[np.diff(marks) > 0, True][: len(marks)]
    return marks[rising], np.maximum.accumulate(epochs[rising]) if len(marks) else epochs


def lines(runs: Sequence[Run], metric: str, view: View) -> pd.DataFrame:
    """The curves of "loss", "accuracy" or "lr": `x value run split tag kind`, at most four points a pixel each.

    `kind` is "raw" for what was logged, "smooth" where `view` smooths, and "lost" for places without a number, whose
    `value` is NaN.
    """
    parts = [part for run in runs for tag, split in tags_of(run, metric) for part in _drawn(run, tag, split, view)]
    if not parts:
        return pd.DataFrame(columns=list(_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def tags_of(run: Run, metric: str) -> list[tuple[str, str]]:
    """The tags of a run that are drawn for a metric, with what they are of: the one with most values for each split,
    all rates."""
    if metric == "lr":
        return [(tag, tag.removeprefix("lr").strip("/") or "rate") for tag in run.tags("lr")]
    found = [(run.tags(metric, split), name) for split, name in SPLITS.items()]
    return [(tags[0], name) for tags, name in found if tags]


def _drawn(run: Run, tag: str, split: str, view: View) -> list[pd.DataFrame]:
    x, values = positions(run, tag, view.axis), run.scalars[tag].values
    order = np.argsort(x, kind="stable")
    x, values = x[order], values[order]
    smooth = smoothed(values, view.smoothing if len(values) > _FEW else 0)
    seen = np.isfinite(x) & ((x > 0) | (not view.log_x))
    if view.window is not None:
        seen &= (x >= view.window[0]) & (x <= view.window[1])
    lost = np.unique(np.round(x[seen & ~np.isfinite(values)], 6))
    kinds = {"raw": values} | ({"smooth": smooth} if view.smoothing > 0 else {})
    frames = []
    for kind, y in kinds.items():
        good = seen & np.isfinite(values) & ((y > 0) | (not view.log_y))
        at, shown = x[good], y[good]
        kept = thinned(np.log10(at) if view.log_x else at, shown, view.pixels) if len(at) else np.zeros(0, np.intp)
        frames.append(pd.DataFrame({"x": at[kept], "value": shown[kept], "kind": kind}))
    few = lost[:: max(1, len(lost) // view.pixels)]
    frames.append(pd.DataFrame({"x": few, "value": np.nan, "kind": "lost"}))
    return [frame.assign(run=run.name, split=split, tag=tag)[list(_COLUMNS)] for frame in frames if len(frame)]


@dataclass(frozen=True, slots=True)
class Best:
    """The best moment of a run by a metric: `value` of the curve `tag` at `step`, and its place `x` on the axis."""

    run: str
    split: str
    tag: str
    step: int
    x: float
    value: float


def best_of(run: Run, metric: str, axis: str = "step") -> Best | None:
    """The lowest loss or highest accuracy, in validation where there is one; None for a rate and for no number."""
    choices = {split: tag for tag, split in tags_of(run, metric)} if metric != "lr" else {}
    for split in ("validation", "training"):
        tag = choices.get(split)
        if tag is None:
            continue
        values = run.scalars[tag].values
        if not np.isfinite(values).any():
            continue
        worst = np.inf if metric == "loss" else -np.inf
        known = np.where(np.isfinite(values), values, worst)
        place = int(known.argmin() if metric == "loss" else known.argmax())
        x = float(positions(run, tag, axis)[place])
        return Best(run.name, split, tag, int(run.scalars[tag].steps[place]), x, float(values[place]))
    return None


def at_steps(run: Run, tag: str, steps: tuple[int, int], axis: str) -> tuple[float, float] | None:
    """Where a piece of a curve, between two steps, lies on an axis; None where that is not known."""
    if tag not in run.scalars:
        return None
    known, x = run.scalars[tag].steps, positions(run, tag, axis)
    order = np.argsort(known, kind="stable")
    found = np.interp(np.asarray(steps, np.float64), known[order], x[order])
    return (float(found[0]), float(found[1])) if np.isfinite(found).all() else None
