"""Loss: sensible value, falls, has gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from featviz_core.checklist.exhibits import Curves, Trial, measured
from featviz_core.checklist.probe import Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import (
    by_heart,
    class_numbers,
    learned,
    own,
    practice,
    reference,
    standard_loop,
    twin,
)

_SURE_SCORE = 8.0  # of the right class, where all others have 0
_FROM_GUESSING = (
    0.5  # by which the first loss of a fresh head may miss that of guessing; healthy ones miss it by up to .3
)
_GROSS = 1.0
_SUM = 0.05  # relative difference, up to which a loss is the sum of its halves
_MUCH_BETTER = 0.25  # by which the batch's accuracy must be better than on black pictures


def value(probe: Probe) -> Verdict:
    """The loss is one number, smaller for the right answer than for a wrong one, an average over the batch, and at
    first what guessing gives."""
    loss = probe.loss
    if loss.numel() != 1:
        what = f"The loss gives {tuple(loss.shape)} numbers instead of one."
        return Verdict("loss.value", "fail", what, "proven", {}, 'Average it: `reduction="mean"`, or `.mean()`.')
    first = float(loss.detach())
    evidence: dict[str, Any] = {"first loss": first}
    if not math.isfinite(first):
        cause = "data.range" if not probe.pair[0].isfinite().all() else "model.finite"
        return Verdict("loss.value", "not_run", "The first loss is NaN or Inf.", None, evidence, explained_by=cause)
    for check in (_direction, _kind, _batch_size):
        if (verdict := check(probe, evidence)) is not None:
            return verdict
    return _against_guessing(probe, evidence)


def _answers(probe: Probe, shift: int = 0, score: float = _SURE_SCORE) -> Tensor | None:
    """Scores `(N, C)` that are sure of the right class, or of the one `shift` further; None for other targets."""
    logits, targets = probe.logits.detach(), probe.pair[1]
    classes = class_numbers(logits, targets)
    if classes is None or bool((classes < 0).any()) or bool((classes >= logits.shape[1]).any()):
        return None
    return score * functional.one_hot((classes + shift) % logits.shape[1], logits.shape[1]).to(logits)


def _of(probe: Probe, scores: Tensor) -> float:
    """The experiment's loss of these scores, as its model would give them."""
    given = scores.log_softmax(1) if _are_log_probabilities(probe) else scores
    with torch.no_grad():
        return float(probe.experiment.loss_fn(given, probe.pair[1]))


def _are_log_probabilities(probe: Probe) -> bool:
    logits = probe.logits.detach().double()
    return logits.ndim == 2 and bool(((logits.exp().sum(1) - 1).abs() < 1e-3).all())


def _direction(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    right, wrong = _answers(probe), _answers(probe, 1)
    if right is None or wrong is None:
        return None
    good, bad = _of(probe, right), _of(probe, wrong)
    evidence |= {"loss of the right answer": round(good, 4), "loss of a wrong answer": round(bad, 4)}
    if good < bad or not math.isfinite(good + bad):
        return None
    return Verdict(
        "loss.value",
        "fail",
        "The loss is no smaller for the right answer than for a wrong one: training makes the model worse.",
        "proven",
        evidence,
        "Check the sign, and that scores and labels come in the right order: `loss_fn(logits, targets)`.",
        fix="loss = F.cross_entropy(logits, targets)  # not its negative",
    )


def _kind(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    """A loss for log-probabilities that gets scores has no lower end."""
    sure = _answers(probe, score=50.0)
    if sure is None or _are_log_probabilities(probe):
        return None
    least = _of(probe, sure)
    if not math.isfinite(least) or least > -1:
        return None
    return Verdict(
        "loss.value",
        "fail",
        f"The loss has no lower end (a sure right answer costs {least:.3g}): it expects log-probabilities, not scores.",
        "proven",
        evidence | {"loss of a very sure right answer": measured(least, (0, None))},
        "Use cross-entropy, which takes scores, or give the model a `LogSoftmax` at its end.",
        fix="loss_fn = nn.CrossEntropyLoss()  # instead of nn.NLLLoss()",
    )


def _batch_size(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    """A loss that is summed over the batch makes steps that grow with it."""
    logits, targets = probe.logits.detach(), probe.pair[1]
    half = len(logits) // 2
    if half < 2 or not isinstance(targets, Tensor) or len(targets) != len(logits):
        return None
    with torch.no_grad():
        try:
            whole, one, other = (
                float(probe.experiment.loss_fn(logits[part], targets[part]))
                for part in (slice(0, 2 * half), slice(0, half), slice(half, 2 * half))
            )
        except Exception:  # noqa: BLE001 - a loss for this batch size only
            return None
    if not abs(whole - one - other) < _SUM * abs(whole) or abs(whole - (one + other) / 2) < _SUM * abs(whole):
        return None

    def averaged(experiment: Any) -> Any:
        from dataclasses import replace

        loss_fn, count = experiment.loss_fn, len(logits)
        return replace(experiment, loss_fn=lambda scores, labels: loss_fn(scores, labels) / count)

    after = practice(probe, averaged)
    helped = after.gain > own(probe).gain + 0.1
    figure = f"share of the training pictures learned after {probe.steps} steps"
    trial = Trial("averaged", "loss / batch size", figure, round(own(probe).gain, 3), round(after.gain, 3), helped)
    return Verdict(
        "loss.value",
        "fail" if helped else "warn",
        f"The loss is a sum over the batch: with {len(logits)} pictures, steps are {len(logits)} times as long.",
        "proven",
        evidence | {"loss of both halves": [round(one, 4), round(other, 4)]},
        'Average it: `reduction="mean"`. The learning rate then means the same for every batch size.',
        harmless=not helped,
        trials=(trial,),
    )


def _against_guessing(probe: Probe, evidence: dict[str, Any]) -> Verdict:
    first = float(probe.loss.detach())
    if probe.experiment.pretrained:
        what = "The head is not fresh, so that its first loss may be anything; right answers cost less than wrong ones."
        return Verdict("loss.value", "pass", what, "proven", evidence)
    with torch.no_grad():
        guessing = float(probe.experiment.loss_fn(torch.zeros_like(probe.logits), probe.pair[1]))
    if _are_log_probabilities(probe):
        guessing = _of(probe, torch.zeros_like(probe.logits.detach()))
    evidence |= {
        "first loss": measured(first, (guessing - _FROM_GUESSING, guessing + _FROM_GUESSING)),
        "guessing": guessing,
    }
    apart = abs(first - guessing)
    if apart <= _FROM_GUESSING * max(1.0, abs(guessing) / 2.3) or not math.isfinite(guessing):
        return Verdict("loss.value", "pass", "The first loss is what guessing gives.", "statistical", evidence)
    what = f"The first loss is {first:.3g}, where guessing gives {guessing:.3g}."
    do = "Scores are large before anything was learned: look at the pictures' range and the head's initial weights."
    # Far from guessing, and it takes training to come back: a fail only where that costs something.
    harmful = apart > _GROSS and own(probe).gain < 0.7 * twin(probe).gain
    return Verdict("loss.value", "fail" if harmful else "warn", what, "statistical", evidence, do)


def decreases(probe: Probe) -> Verdict:
    """The model learns one batch by heart, and not as well from black pictures."""
    _ = probe.watched
    known = learned(probe)
    evidence: dict[str, Any] = {"steps": known.steps, "last loss": known.losses[-1] if known.losses else math.nan}
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
    if not helpers and known.accuracy > _SOME:
        what = "One batch is learned as far as this network can: the reference optimiser gets no further."
        return Verdict("loss.decreases", "pass", what, "statistical", evidence, trials=tuple(trials), exhibits=drawn)
    what, do = "One batch cannot be learned by heart, with the reference optimiser neither.", _BEFORE
    if helpers:
        what = f"One batch is not learned by heart as you train; with {helpers[-1]} it is."
        do = "Compare your training step and your optimiser's settings with it, line by line."
    return Verdict("loss.decreases", "fail", what, "statistical", evidence, do, trials=tuple(trials), exhibits=drawn)


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
    got = [name for name, record in probe.watched.trainable.items() if record.gradients]
    evidence = {"parameters with a gradient": len(got), "trainable parameters": len(probe.watched.trainable)}
    if not probe.watched.trainable:
        do = "Set `requires_grad` on what is to be trained; a frozen trunk needs at least a trainable head."
        return Verdict("loss.gradients", "fail", "No parameter wants gradients.", "proven", evidence, do)
    if got:
        what = "Backward from the loss reaches the parameters."
        return Verdict("loss.gradients", "pass", what, "proven", evidence)
    what = (
        "Backward reaches no parameter" + ("" if loss.requires_grad else ": the loss does not require gradients") + "."
    )
    do = "Look for `.detach()`, `.item()`, `.data`, `torch.tensor(...)`, `no_grad` or argmax between model and loss."
    return Verdict("loss.gradients", "fail", what, "proven", evidence, do)


CHECKS: dict[str, Check] = {"loss.value": value, "loss.decreases": decreases, "loss.gradients": gradients}
