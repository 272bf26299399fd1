"""How long a million logged values take to become charts: `python -m tests.benchmarks.bench_curves`.

Wanted: each click (zoom, smoothing, axis) under half a second, and charts of a size that does not grow with the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from featviz_core.diagnosis import diagnose
from featviz_core.run_charts import colors_of, curves
from featviz_core.runs import Run, Scalars, roles_of
from featviz_core.techniques.training_monitor.lines import View, lines

_VALUES = 1_000_000
_REPEATS = 5


def long_run() -> Run:
    """A million values of each of loss, accuracy and rate, with single spikes."""
    rng, steps = np.random.default_rng(0), np.arange(_VALUES)
    loss = 2 * np.exp(-steps / 2e5) + 0.1 + rng.normal(0, 0.05, _VALUES)
    loss[rng.choice(_VALUES, 20, replace=False)] = 9.0
    values = {"loss/train": loss, "accuracy/train": 1 - np.minimum(loss / 3, 1), "lr": 0.1 * np.exp(-steps / 3e5)}
    scalars = {tag: Scalars(steps, 1.7e9 + steps, one) for tag, one in values.items()}
    return Run("long", scalars, roles_of(scalars))


def fastest(work: Callable[[], Any]) -> tuple[float, Any]:
    """The shortest of some repeats in seconds, and what came of it."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return min(times), found


def main() -> None:
    """Print a row for each view."""
    run = long_run()
    views = {
        "all, smoothed": View(smoothing=0.9),
        "all, over time and logarithmic": View(axis="time", log_x=True, log_y=True),
        "a tenth": View(smoothing=0.9, window=(4e5, 5e5)),
        "a thousandth": View(window=(5e5, 5.01e5)),
    }
    for name, view in views.items():
        took, frames = fastest(lambda view=view: [lines([run], metric, view) for metric in ("loss", "accuracy", "lr")])
        spikes = int((frames[0]["value"] == 9.0).sum())  # neighbours share one
        drawn = [
            curves(frame, title="x", by="split", colors=colors_of(["training", "rate"])).to_json() for frame in frames
        ]
        size = sum(map(len, drawn)) / 1e6
        print(
            f"{name:36} {took:6.3f} s, {sum(map(len, frames)):7,} points, {size:5.2f} MB, {spikes} columns with a spike"
        )
    took, _ = fastest(lambda: diagnose(run.frame(), run.roles))
    print(f"{'diagnosis, once for each run':36} {took:6.3f} s")


if __name__ == "__main__":
    main()
