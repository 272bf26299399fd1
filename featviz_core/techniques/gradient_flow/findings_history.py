"""What a few training steps say: who is left out, who moves too little or too much."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.ledger import LedgerRow
from featviz_core.techniques.gradient_flow.findings import some, worst_first
from featviz_core.techniques.gradient_flow.history_result import GradientHistory

_NAMED = 8
_OLD = 1e-3  # of the new gradient's norm; without zero_grad it is of the order of 1
_SOME = 1e-5  # of the largest gradient's norm: less is nothing
# Medians of ‖Δw‖/‖w‖ over the steps: of 30 healthy set-ups (5 networks, 3 optimisers, 2 data sets), a single matrix of
# 20 was at 4.5e-5 and the head of a fine-tuned network at .15; of 15 with a rate that is too low, most matrices were
# below 1e-4.
_TOO_SMALL, _SMALL, _LARGE = 1e-5, 1e-4, 0.2
_FEW_SMALL = 0.1  # of the matrices: gates that stay where they are
_SETTLED_IN = 16  # steps from which on the first ones, which are larger, do not decide the median
_WILD, _REPLACED = 0.4, 1.0  # of a single step; healthy ones have up to .36, rates that are too high 3.3 and more
HEALTHY_UPDATES = "2e-4 to 0.15"


def about_history(history: GradientHistory) -> tuple[Finding, ...]:
    """What to look at, the worst first, that of the first batch included; a single "ok" where there is nothing."""
    found = [finding for finding in history.first.findings if finding.severity != "ok"]
    found += [*_not_finite(history), *_left_out(history), *_not_cleared(history)]
    # Where nothing comes back, nothing moves: that is said already.
    found += [] if any(finding.severity == "fail" for finding in history.first.findings) else _updates(history)
    return worst_first(found) or (_healthy(history),)


def _layers(rows: list[LedgerRow]) -> list[str]:
    return list(dict.fromkeys(row.layer for row in rows))[:_NAMED]


def _not_finite(history: GradientHistory) -> Iterator[Finding]:
    if any(finding.code == "gradient.not_finite" for finding in history.first.findings):
        return
    odd = np.isinf(history.gradient_norms)
    steps = np.flatnonzero(odd.any(axis=1))
    if not steps.size:
        return
    step = int(steps[0])
    names = [history.parameters[place] for place in np.flatnonzero(odd[step])]
    yield Finding(
        "gradient.not_finite",
        "fail",
        f"Gradients are not numbers any more from step {step} on",
        f"The loss is {history.losses[step]:.4g} there; NaN or infinity is in {some(names)}.",
        where=names[-1].rpartition(".")[0],
        evidence={"step": step, "parameters": len(names), "healthy": "none"},
        remedy="Training blew up before: lower the learning rate, clip the gradient's norm, and look at the steps "
        "before this one.",
    )


def _left_out(history: GradientHistory) -> Iterator[Finding]:
    """Parameters that learn in theory and stay where they are."""
    learning = [row for row in history.ledger if row.in_model and row.requires_grad]
    missing = [row for row in learning if not row.in_optimizer]
    strangers = [row for row in history.ledger if not row.in_model]
    if not history.optimizer_steps:
        yield Finding(
            "gradient.not_updated",
            "fail",
            "The optimiser never steps",
            f"In {history.steps} batches the loop never called the experiment's `optimizer.step()`.",
            where="optimizer",
            evidence={"optimiser steps": 0, "batches": history.steps},
            remedy="Call `experiment.optimizer.step()` after `backward()`.",
        )
    elif missing:
        yield Finding(
            "gradient.not_updated",
            "fail",
            "The optimiser does not hold all that should learn",
            f"{some(row.parameter for row in missing)} want gradients, and nobody uses them."
            + (f" It holds {len(strangers)} tensors of another model instead." if strangers else ""),
            where=missing[0].layer or missing[0].parameter,
            evidence={
                "parameters that never move": len(missing),
                "of": len(learning),
                "tensors that are not the model's": len(strangers),
                "layers": _layers(missing),
            },
            remedy="Make the optimiser after the model is complete: `Optimizer(model.parameters(), lr=...)`; freeze "
            "what is not meant to learn by `requires_grad_(False)`.",
        )
    else:
        yield from _still(history, learning)
    twice = [row for row in learning if row.in_optimizer > 1]
    if twice:
        yield Finding(
            "gradient.updated_twice",
            "fail",
            "The optimiser holds parameters more than once",
            f"Each step moves {some(row.parameter for row in twice)} again.",
            where=twice[0].layer,
            evidence={"parameters": len(twice), "layers": _layers(twice)},
            remedy="Name every parameter in one group only.",
        )


def _still(history: GradientHistory, learning: list[LedgerRow]) -> Iterator[Finding]:
    """Those that are held, get a gradient worth the name, and are the same afterwards."""
    norms = np.where(np.isfinite(history.gradient_norms), history.gradient_norms, 0.0)
    largest = dict(zip(history.parameters, norms.max(axis=0).tolist(), strict=True))
    enough = _SOME * max(largest.values(), default=0.0)
    still = [row for row in learning if not row.moved and row.learning_rate > 0 and largest[row.parameter] > enough]
    if still:
        yield Finding(
            "gradient.not_updated",
            "fail",
            "Parameters that get a gradient and do not move",
            f"{some(row.parameter for row in still)} are the same after {history.optimizer_steps} steps.",
            where=still[0].layer,
            evidence={"parameters": len(still), "of": len(learning), "layers": _layers(still)},
            remedy="The update may be too small for the number type, or something puts the old values back.",
        )
    idle = [row for row in learning if row.learning_rate == 0]
    if idle:
        yield Finding(
            "gradient.not_updated",
            "warn",
            "A learning rate of 0",
            f"The optimiser holds {some(row.parameter for row in idle)} with a learning rate of 0.",
            where=idle[0].layer,
            evidence={"parameters": len(idle), "of": len(learning), "layers": _layers(idle)},
            remedy="Give their group a learning rate, or freeze them by `requires_grad_(False)`.",
        )


def _not_cleared(history: GradientHistory) -> Iterator[Finding]:
    # Only what the optimiser holds: its `zero_grad` cannot clear the others.
    old = [row for row in history.ledger if row.in_model and row.in_optimizer and row.leftover > _OLD]
    if old:
        worst = max(old, key=lambda row: row.leftover)
        yield Finding(
            "gradient.not_cleared",
            "fail",
            "Old gradients are added to new ones",
            f"When new gradients came in, those of earlier steps were still there in {len(old)} parameters: every step "
            "goes along the sum of all gradients so far.",
            where=worst.layer,
            evidence={"old gradient relative to new": worst.leftover, "healthy": "0", "layers": _layers(old)},
            remedy="Call `optimizer.zero_grad()` once for every `optimizer.step()`, before `backward()`.",
        )


def _updates(history: GradientHistory) -> Iterator[Finding]:
    """How much of itself each matrix changes in a step."""
    held = {row.parameter for row in history.ledger if row.in_optimizer and row.moved}
    names = [name for name in history.matrices if name in held]
    typical = {name: ratio for name, ratio in history.update_ratio(names).items() if not math.isnan(ratio)}
    small = {name: ratio for name, ratio in typical.items() if ratio < _SMALL}
    if len(small) > _FEW_SMALL * len(typical) or min(small.values(), default=_SMALL) < _TOO_SMALL:
        name = min(small, key=lambda name: small[name])
        yield Finding(
            "gradient.update_small",
            "fail" if small[name] < _TOO_SMALL else "warn",
            "Weights hardly change",
            f"A step changes `{name}` by {small[name]:.2g} of its size; {len(small)} of {len(typical)} matrices change "
            f"by less than {_SMALL:g}.",
            where=name.rpartition(".")[0],
            evidence={"smallest ‖Δw‖/‖w‖": small[name], "healthy": HEALTHY_UPDATES, "layers": _owners(small)},
            remedy="Raise the learning rate of these parameters, unless a warm-up is just beginning.",
        )
    yield from _large_updates(history, typical)


def _large_updates(history: GradientHistory, typical: dict[str, float]) -> Iterator[Finding]:
    columns = {name: _against_usual(history, name) for name in typical}
    # Large updates make large weights, for which later updates are small: a single step may tell more than the median.
    largest = {name: float(np.nanmax(column)) for name, column in columns.items()}
    lasting = {name for name, column in columns.items() if np.nanmedian(column) > _LARGE}
    lasting = lasting if history.steps >= _SETTLED_IN else set()
    large = {name: largest[name] for name in typical if largest[name] > _WILD or name in lasting}
    if large:
        name = max(large, key=lambda name: large[name])
        yield Finding(
            "gradient.update_large",
            "fail" if large[name] > _REPLACED else "warn",
            "Weights change wildly",
            f"One step changes `{name}` by {large[name]:.3g} times a usual size; {len(large)} of {len(typical)} "
            "matrices change by far more than in healthy training.",
            where=name.rpartition(".")[0],
            evidence={
                "largest ‖Δw‖ against a usual ‖w‖": large[name],
                "healthy first steps": "up to 0.36",
                "healthy": HEALTHY_UPDATES,
                "layers": _owners(large),
            },
            remedy="Lower the learning rate by ten, or warm it up; the learning-rate test shows where it should be.",
        )


def _against_usual(history: GradientHistory, name: str) -> NDArray[np.float64]:
    """‖Δw‖ of each step relative to ‖w‖, or to the usual ‖w‖ where that is more."""
    place = history.parameters.index(name)
    size = history.weight_norms[:, place]
    usual = history.first.parameters[place].usual_norm
    return np.asarray(history.update_ratios[:, place] * size / np.maximum(size, usual))


def _owners(ratios: dict[str, float]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in ratios))[:_NAMED]


def _healthy(history: GradientHistory) -> Finding:
    ratios = [ratio for ratio in history.update_ratio(history.matrices).values() if not math.isnan(ratio)]
    evidence = {"‖Δw‖/‖w‖ from": min(ratios), "to": max(ratios), "healthy": HEALTHY_UPDATES} if ratios else {}
    return Finding(
        "gradient.healthy",
        "ok",
        "Every parameter learns",
        f"All {sum(row.in_model for row in history.ledger)} parameters of the model are held once, get gradients of "
        f"their own in each of {history.steps} steps, and move by a healthy share.",
        evidence=evidence,
    )
