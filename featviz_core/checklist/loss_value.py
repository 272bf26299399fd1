"""Whether the loss rewards right answers, equally for all classes and batch sizes, and starts where guessing does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from featviz_core.checklist.exhibits import Trial, measured
from featviz_core.checklist.probe import Probe
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import class_numbers, first_loss_anew, own, practice, twin
from featviz_core.experiment import Experiment

_SURE_SCORE = 8.0  # of the right class, where all others have 0
_FROM_GUESSING = 0.5  # by which the first loss of a fresh head may miss that of guessing; healthy ones miss it by .3
_GROSS = 1.0
_BATCH = 32  # pictures, from which the mean of a batch's losses is taken as it is
_SUM = 0.05  # relative difference, up to which a loss is the sum of its halves


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
    for check in (_direction, _kind, _reward, _ignored, _batch_size):
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


def _reward(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    """A loss that stays high however right the scores are, and low however wrong: they went through softmax twice, or
    the two arguments are swapped."""
    right, targets = _answers(probe, score=1.0), probe.pair[1]
    if right is None or _are_log_probabilities(probe) or (targets.ndim == 2 and bool((targets.sum(1) != 1).any())):
        return None
    # Cross-entropy wants the right score high, other losses the others low as well.
    least = min(_of(probe, score * scores) for score in _SCORES for scores in (right, 2 * right - 1))
    guess = guessing(probe)
    if not math.isfinite(least + guess) or guess <= 0 or least <= _REWARD * guess:
        return None
    # Smoothed labels leave as much, but surer wrong scores cost ever more.
    wrong = _answers(probe, 1, score=1.0)
    if wrong is None or _of(probe, _SCORES[-1] * wrong) > _BOUNDED * _of(probe, _SCORES[-2] * wrong):
        return None
    after = practice(probe, lambda experiment: replace(experiment, loss_fn=functional.cross_entropy))
    helped = after.gain > own(probe).gain + 0.1
    figure = f"share of the training pictures learned after {probe.steps} steps"
    trial = Trial(
        "cross-entropy",
        "F.cross_entropy(scores, labels)",
        figure,
        round(own(probe).gain, 3),
        round(after.gain, 3),
        helped,
    )
    return Verdict(
        "loss.value",
        "fail" if helped else "warn",
        f"The best scores there can be cost {least:.3g}, nearly as much as guessing ({guess:.3g}): the loss hardly "
        "tells right from wrong.",
        "proven",
        evidence | {"loss of the best scores": measured(least, (0, _REWARD * guess)), "guessing": guess},
        "Give the loss scores as they come, without a softmax, and labels second: `loss_fn(logits, targets)`.",
        harmless=not helped,
        trials=(trial,),
        fix="loss = F.cross_entropy(logits, targets)",
    )


_SCORES = (1.0, 2.0, 4.0, 8.0, 16.0)  # of the right class
_REWARD = 0.35  # of what guessing costs: with two classes, softmax twice leaves 0.45
_BOUNDED = 1.05  # times as much for scores twice as sure


def _ignored(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    """Classes whose pictures change nothing: the loss has no gradient at their scores, and one at others'."""
    logits, targets = torch.zeros_like(probe.logits, requires_grad=True), probe.pair[1]
    classes = class_numbers(logits, targets)
    if classes is None or probe.classes is None:
        return None
    loss = probe.experiment.loss_fn(logits, targets)
    if not loss.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(loss, logits, allow_unused=True)
    if gradient is None:
        return None  # told by the loss's gradients
    felt = gradient.abs().sum(1) > 0
    ignored = [c for c in range(probe.classes) if bool((classes == c).any()) and not bool(felt[classes == c].any())]
    if not ignored or not bool(felt.any()):
        return None
    names = probe.experiment.class_names or ()
    called = ", ".join(str(names[c]) if c < len(names) else str(c) for c in ignored)
    return Verdict(
        "loss.value",
        "warn",
        f"The loss ignores the pictures of {called}: nothing is learned from them.",
        "proven",
        evidence | {"ignored classes": ignored},
        "Look at the loss's `ignore_index` and `weight`: an index to ignore is no class, and weights are above zero.",
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

    def averaged(experiment: Experiment) -> Experiment:
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


def guessing(probe: Probe) -> float:
    """What guessing costs: the loss of equal scores."""
    equal = torch.zeros_like(probe.logits.detach())
    if _are_log_probabilities(probe):
        return _of(probe, equal)
    with torch.no_grad():
        return float(probe.experiment.loss_fn(equal, probe.pair[1]))


def far_from_guessing(probe: Probe, first: float) -> bool:
    """Whether a first loss is not what guessing gives."""
    guess = guessing(probe)
    few = max(1.0, math.sqrt(_BATCH / max(1, len(probe.pair[0]))))  # the mean of few pictures misses by more
    return math.isfinite(guess) and not abs(first - guess) <= few * _FROM_GUESSING * max(1.0, abs(guess) / 2.3)


def started_too_large(probe: Probe) -> bool:
    """Whether the first loss is far above guessing by the initial weights: from PyTorch's own it is not."""
    if probe.experiment.pretrained or probe.loss.numel() != 1:
        return False
    first = float(probe.loss.detach())
    if not first > guessing(probe) + _GROSS or not far_from_guessing(probe, first):
        return False
    return not far_from_guessing(probe, first_loss_anew(probe))


def _against_guessing(probe: Probe, evidence: dict[str, Any]) -> Verdict:
    first = float(probe.loss.detach())
    if probe.experiment.pretrained:
        what = "The head is not fresh, so that its first loss may be anything; right answers cost less than wrong ones."
        return Verdict("loss.value", "pass", what, "proven", evidence)
    guess = guessing(probe)
    evidence |= {
        "first loss": measured(first, (guess - _FROM_GUESSING, guess + _FROM_GUESSING)),
        "guessing": guess,
    }
    if not far_from_guessing(probe, first):
        return Verdict("loss.value", "pass", "The first loss is what guessing gives.", "statistical", evidence)
    what = f"The first loss is {first:.3g}, where guessing gives {guess:.3g}."
    do = "Scores are large before anything was learned: look at the pictures' range and the head's initial weights."
    # Far from guessing, and it takes training to come back: a fail only where that costs something.
    harmful = abs(first - guess) > _GROSS and own(probe).gain < 0.7 * twin(probe).gain
    cause = "model.init" if not harmful and started_too_large(probe) else None
    return Verdict("loss.value", "fail" if harmful else "warn", what, "statistical", evidence, do, explained_by=cause)
