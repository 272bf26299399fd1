"""The diagnosis: every rule, in the order in which a mistake is best looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import pandas as pd

from featviz_core.diagnosis import fit, learning, stability
from featviz_core.diagnosis.curves import Curves, Role, curves_of
from featviz_core.findings import Finding

Rule = Callable[[Curves], Iterator[Finding]]

_ENOUGH = 4  # levels of a loss: fewer are no curve
# Later groups are not asked once an earlier one has found a failure: a run that broke says nothing about its fit.
_GROUPS: tuple[tuple[Rule, ...], ...] = (
    (stability.not_finite,),
    (learning.rate_zero,),
    (stability.diverged, learning.updates),
    (learning.nothing_learned,),
    (
        learning.rate_killed,
        learning.rate_too_low,
        stability.oscillates,
        stability.spikes,
        stability.validation_unsteady,
        fit.modes_differ,
        fit.overfitting,
        fit.loss_floor,
        fit.underfitting,
        fit.validation_better,
        learning.plateau,
        learning.stopped_early,
        learning.speed,
    ),
)
# What the first one explains is not said again by the others.
_EXPLAINS = {
    "curve.rate_killed": {"curve.plateau", "curve.underfitting", "curve.stopped_early"},
    "curve.rate_too_low": {"curve.stopped_early", "curve.underfitting", "curve.plateau", "curve.speed"},
    "curve.underfitting": {"curve.plateau"},
    "curve.loss_floor": {"curve.plateau", "curve.underfitting"},
    "curve.modes_differ": {"curve.overfitting", "curve.validation_unsteady"},
    "curve.validation_unsteady": {"curve.overfitting"},
    "curve.oscillates": {"curve.spikes", "curve.stopped_early"},
    "curve.overfitting": {"curve.stopped_early"},
    "curve.stopped_early": {"curve.speed"},
}
_SEVERITIES = ("fail", "warn", "note", "ok")


def diagnose(frame: pd.DataFrame, roles: Mapping[str, Role]) -> tuple[Finding, ...]:
    """What do the curves of this run say?

    `frame`: a run's tidy table with `step`, `tag` and `value`; `roles`: what its tags stand for, each with a `metric`
    ("loss", "accuracy", "lr") and a `split` ("train", "validation", "train_eval" for training pictures seen in
    evaluation mode). Tags `update/<parameter>` are update sizes ‖Δw‖/‖w‖.

    The findings come worst first. Each `where` is the tag of a curve, and `evidence["steps"]` the first and last step
    of the place on it. A verdict needs more than a value: it has to hold for the last levels of a curve, beyond its
    noise, so that healthy runs stay quiet.
    """
    curves = curves_of(frame, roles)
    loss = curves.loss
    if loss is None and not curves.never_finite:
        return (
            Finding(
                "curve.no_loss",
                "note",
                "There is no loss to judge",
                "None of the run's tags is known as a loss.",
                remedy="Say which tag is the loss of training, and which that of validation.",
            ),
        )
    found: list[Finding] = []
    for group in _GROUPS:
        found += (finding for rule in group for finding in rule(curves))
        if any(finding.severity == "fail" for finding in found):
            break
    found = list(_unexplained(found))
    if loss is not None and len(loss.levels) < _ENOUGH and not found:
        return (_too_short(len(loss.levels)),)
    if not any(finding.severity in ("fail", "warn") for finding in found):
        found.insert(0, _healthy(curves))
    return tuple(sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity)))


def _unexplained(found: Iterable[Finding]) -> Iterator[Finding]:
    found = list(found)
    explained = {code for finding in found for code in _EXPLAINS.get(finding.code, ())}
    return (finding for finding in found if finding.code not in explained)


def _too_short(points: int) -> Finding:
    return Finding(
        "curve.too_short",
        "note",
        "Too few points to judge",
        f"The loss has {points}; a curve needs at least {_ENOUGH}.",
        remedy="Log every step, or wait for more epochs.",
    )


def _healthy(curves: Curves) -> Finding:
    named = {
        "training_loss": curves.train_loss,
        "validation_loss": curves.validation_loss,
        "training_accuracy": curves.eval_accuracy or curves.train_accuracy,
        "validation_accuracy": curves.validation_accuracy,
    }
    numbers = {name: float(f"{curve.end:.3g}") for name, curve in named.items() if curve is not None}
    return Finding("curve.healthy", "ok", "The curves look healthy", "", "", numbers)
