"""Two runs side by side: what they reached, how fast, and where they part."""

from __future__ import annotations

import numpy as np
import pandas as pd

from featviz_core.diagnosis import curves_of
from featviz_core.diagnosis.curves import Curve
from featviz_core.findings import Finding
from featviz_core.runs.run import Run
from featviz_core.techniques.training_monitor.lines import best_of, tags_of

_LASTING = 3  # levels in a row in which two curves have to differ
_SIGMA = 3.0


def differences(first: Run, second: Run) -> pd.DataFrame:
    """What did each reach? `quantity first second difference`, those that both have and that differ by most first.

    Rows are the last and the best value of each loss and accuracy, the learning rate's first, highest and last, steps
    and seconds. `difference` is second minus first.
    """
    rows = [_numbers(run) for run in (first, second)]
    both = [name for name in rows[0] if name in rows[1]]
    frame = pd.DataFrame({"quantity": both, "first": [rows[0][n] for n in both], "second": [rows[1][n] for n in both]})
    frame["difference"] = frame["second"] - frame["first"]
    scale = frame[["first", "second"]].abs().max(axis=1).replace(0, 1.0)
    order = (frame["difference"].abs() / scale).sort_values(ascending=False, kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def _numbers(run: Run) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in ("loss", "accuracy"):
        for tag, split in tags_of(run, metric):
            finite = run.scalars[tag].values[np.isfinite(run.scalars[tag].values)]
            if len(finite):
                best = finite.min() if metric == "loss" else finite.max()
                found[f"{split} {metric}, best"] = float(best)
                found[f"{split} {metric}, at the end"] = float(np.median(finite[-max(1, min(20, len(finite) // 20)) :]))
    for tag in run.tags("lr")[:1]:
        values = run.scalars[tag].values
        found |= {"learning rate, first": float(values[0]), "learning rate, highest": float(np.nanmax(values))}
        found["learning rate, last"] = float(values[-1])
    if (best_step := best_of(run, "loss")) is not None:
        found["step of the best loss"] = float(best_step.step)
    found["steps"] = float(max((int(one.steps.max()) for one in run.scalars.values()), default=0))
    times = [one.wall_times[np.isfinite(one.wall_times)] for one in run.scalars.values()]
    known = [one for one in times if len(one)]
    if known:
        found["seconds"] = max(float(one.max()) for one in known) - min(float(one.min()) for one in known)
    return found


def partings(first: Run, second: Run) -> tuple[Finding, ...]:
    """Where do the curves of two runs part? A finding for each curve that both have, the earliest parting first.

    Levels (medians of even parts) at the first run's steps are compared: apart are two curves from the first of three
    levels in a row that differ by more than three standard errors and 2 % of what the first one covered.
    """
    curves = [_by_split(run) for run in (first, second)]
    found = [_parting(name, curves[0][name], curves[1][name]) for name in curves[0] if name in curves[1]]
    return tuple(sorted(found, key=lambda finding: finding.evidence.get("step", np.inf)))


def _by_split(run: Run) -> dict[str, Curve]:
    curves = curves_of(run.frame(), run.roles)
    known = {
        "training loss": curves.train_loss,
        "validation loss": curves.validation_loss,
        "training accuracy": curves.train_accuracy,
        "validation accuracy": curves.validation_accuracy,
        "learning rate": curves.rates,
    }
    return {name: curve for name, curve in known.items() if curve is not None}


def _parting(name: str, first: Curve, second: Curve) -> Finding:
    last = min(first.level_steps[-1], second.level_steps[-1])
    inside = first.level_steps <= last
    steps, one = first.level_steps[inside], first.levels[inside]
    other = np.interp(steps, second.level_steps, second.levels)
    doubt = _SIGMA * float(np.hypot(first.noise, second.noise)) + 0.02 * float(np.ptp(first.levels))
    apart = np.abs(other - one) > doubt + 1e-12
    lasting = min(_LASTING, len(apart))
    runs = np.lib.stride_tricks.sliding_window_view(apart, lasting).all(axis=1) if lasting else np.zeros(0, bool)
    if not runs.any():
        if np.allclose(one, other, rtol=1e-6):
            return Finding("compare.same", "ok", f"The same {name}", "Equal wherever both have values.", first.tag)
        detail = f"They end at {one[-1]:.3g} and {other[-1]:.3g}; noise or too few values may be all there is to it."
        return Finding("compare.close", "note", f"No certain difference in the {name}", detail, first.tag)
    place = int(np.argmax(runs))
    detail = f"From {one[place]:.3g} and {other[place]:.3g} there to {one[-1]:.3g} and {other[-1]:.3g} at the end."
    step = int(steps[place])
    title = f"The {name} parts at step {step:,}" if place else f"The {name} differs from the start"
    return Finding("compare.parts", "note", title, detail, first.tag, {"step": step})
