"""Loss: falls, has gradients; its value has a module of its own."""

from __future__ import annotations

import math
from typing import Any

from featviz_core.checklist.exhibits import Curves, Trial, measured
from featviz_core.checklist.loss_value import value
from featviz_core.checklist.probe import Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import ByHeart, by_heart, learned, reference, standard_loop

_MUCH_BETTER = 0.25  # by which the batch's accuracy must be better than on black pictures


def decreases(probe: Probe) -> Verdict:
    """The model learns one batch by heart, and not as well from black pictures."""
    _ = probe.watched
    known = learned(probe)
    evidence: dict[str, Any] = {"steps": known.steps, "last loss": known.losses[-1] if known.losses else math.nan}
    evidence |= probe.shortened
    if not math.isnan(known.accuracy):
        evidence["accuracy on the batch"] = measured(round(known.accuracy, 3), (1.0, None))
    shown = Curves("Loss while learning one batch by heart", {"as it is": known.losses}) if known.losses else None
    exhibits = (shown,) if shown is not None else ()
    if known.known or known.accuracy >= _NEARLY:
        return _looks_at_pictures(probe, evidence, exhibits)
    trials, curves = [], {"as it is": known.losses}
    for name, changed, change in _OTHERS:
        if change is standard_loop and not (probe.experiment.train_step or probe.experiment.train_epoch):
            continue
        after = by_heart(probe, change)
        trials.append(Trial(name, changed, "accuracy on the batch", known.accuracy, after.accuracy, after.known))
        curves[name] = after.losses
    drawn = (Curves("Loss while learning one batch by heart", curves),)
    helpers = [trial.name for trial in trials if trial.helped]
    if not helpers and (known.accuracy > _SOME or _fell(known)):
        what = "One batch is learned as far as this network can: the reference optimiser gets no further."
        return Verdict("loss.decreases", "pass", what, "statistical", evidence, trials=tuple(trials), exhibits=drawn)
    what, do = "One batch cannot be learned by heart, with the reference optimiser neither.", _BEFORE
    if helpers:
        what = f"One batch is not learned by heart as you train; with {helpers[-1]} it is."
        do = "Compare your training step and your optimiser's settings with it, line by line."
    return Verdict("loss.decreases", "fail", what, "statistical", evidence, do, trials=tuple(trials), exhibits=drawn)


def _fell(known: ByHeart) -> bool:
    """Whether the loss fell by something, where there is no accuracy to go by."""
    return math.isnan(known.accuracy) and bool(known.losses) and min(known.losses) < _LOWER * known.losses[0]


_LOWER = 0.8
_NEARLY = 0.8  # of the batch: with an optimiser that steps rarely, or much dropout, the last pictures take longer
_SOME = 0.6
_BEFORE = "Something before is broken: data, labels, initialisation, or a network that is much too small."
_OTHERS = (
    ("the reference optimiser and loop", "AdamW, lr=0.001, the standard step", reference),
    ("the standard loop", "the standard step, your optimiser", standard_loop),
)


def _looks_at_pictures(probe: Probe, evidence: dict[str, Any], exhibits: tuple[Any, ...]) -> Verdict:
    known = "known by heart" if learned(probe).known else "nearly known by heart"
    what = f"One batch is {known} after {learned(probe).steps} steps."
    if math.isnan(learned(probe).accuracy):
        return Verdict("loss.decreases", "pass", what, "statistical", evidence, exhibits=exhibits)
    black = by_heart(probe, reference, blank=True)
    evidence["accuracy on black pictures"] = round(black.accuracy, 3)
    if black.accuracy <= 1 - _MUCH_BETTER or len(probe.pair[0]) < 8:
        return Verdict("loss.decreases", "pass", what, "statistical", evidence, exhibits=exhibits)
    what = "The batch is learned as well from black pictures: the label reaches the model some other way."
    do = "Look for labels among the model's inputs, and for layers that mix the pictures of a batch."
    return Verdict("loss.decreases", "fail", what, "statistical", evidence, do, exhibits=exhibits)


def gradients(probe: Probe) -> Verdict:
    """The loss hangs together with the parameters: backward reaches some of them."""
    loss = probe.loss
    trainable = sum(parameter.requires_grad for parameter in probe.experiment.model.parameters())
    if not trainable:
        do = "Set `requires_grad` on what is to be trained; a frozen trunk needs at least a trainable head."
        seen = {"trainable parameters": 0}
        return Verdict("loss.gradients", "fail", "No parameter wants gradients.", "proven", seen, do)
    got = []
    if loss.requires_grad:  # else every loop raises at `backward`
        got = [name for name, record in probe.watched.trainable.items() if record.gradients]
    evidence = {"parameters with a gradient": len(got), "trainable parameters": trainable}
    if got:
        what = "Backward from the loss reaches the parameters."
        return Verdict("loss.gradients", "pass", what, "proven", evidence)
    what = (
        "Backward reaches no parameter" + ("" if loss.requires_grad else ": the loss does not require gradients") + "."
    )
    do = "Look for `.detach()`, `.item()`, `.data`, `torch.tensor(...)`, `no_grad` or argmax between model and loss."
    return Verdict("loss.gradients", "fail", what, "proven", evidence, do)


CHECKS: dict[str, Check] = {"loss.value": value, "loss.decreases": decreases, "loss.gradients": gradients}
