"""Short trainings on fresh copies: the experiment as it is, and with one thing changed to see whether that was it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featviz_core.checklist.exhibits import Trial
from featviz_core.checklist.probe import Probe, evidence_on, once, wake
from featviz_core.experiment import Experiment, FewBatches, train_on

Change = Callable[[Experiment], Experiment]

REFERENCE_RATE = 1e-3
_BY_HEART = 32  # pictures of the one batch
_LOOK = 10  # steps between two looks at whether the batch is known
_SURE = 3.0  # standard errors above guessing


@dataclass(frozen=True, slots=True)
class Scores:
    """How a model does on some pictures, in evaluation mode.

    `loss`: cross-entropy where labels are class numbers, else the experiment's own; `accuracy` in [0, 1], NaN where
    there is none; `guessing`: the share of the most frequent class.
    """

    loss: float
    accuracy: float
    guessing: float
    pictures: int

    @property
    def gain(self) -> float:
        """How far from guessing (0) to all right (1)."""
        return (self.accuracy - self.guessing) / max(1 - self.guessing, 1e-9)

    @property
    def certain(self) -> bool:
        """Whether the accuracy is above guessing by more than chance gives."""
        error = math.sqrt(max(self.guessing * (1 - self.guessing), 1e-9) / max(self.pictures, 1))
        return self.accuracy > self.guessing + _SURE * error


@dataclass(frozen=True, slots=True)
class Practice:
    """A short training: the loss of each step as the loop gave it, and the scores afterwards.

    `raised`: what something of the user's raised on the way, empty for nothing; scores are then NaN.
    """

    losses: tuple[float, ...]
    train: Scores
    validation: Scores | None
    raised: str = ""

    @property
    def gain(self) -> float:
        """How much of the training pictures was learned: 0 as by guessing, 1 all; 0 where it broke."""
        gain = self.train.gain
        return gain if math.isfinite(gain) and math.isfinite(self.train.loss) else 0.0


def practice(
    probe: Probe, change: Change | None = None, *, on: Sequence[Any] | None = None, steps: int | None = None
) -> Practice:
    """Train a fresh copy, changed by `change`, on the first training batches again and again, or on the batches `on`,
    for `probe.steps` steps or `steps`."""
    batches = list(probe.batches if on is None else on)
    losses: list[float] = []
    left = probe.steps if steps is None else steps
    experiment = probe.fresh()
    try:
        experiment = experiment if change is None else change(experiment)
        wake(experiment)
        while left > 0 and batches:
            kept = batches[:left]
            losses += train_on(experiment, FewBatches(kept, experiment.train_loader, probe.pictures), scheduler=False)
            left -= len(kept)
        train = scores(experiment, batches)
        validation = scores(experiment, probe.validation) if probe.validation is not None else None
    except Exception as error:  # noqa: BLE001 - user code; whether it matters is for the caller to say
        return Practice(tuple(losses), _NOTHING, None, str(error) or type(error).__name__)
    return Practice(tuple(losses), train, validation)


_NOTHING = Scores(math.nan, math.nan, math.nan, 0)


@torch.no_grad()
def scores(experiment: Experiment, batches: FewBatches | Sequence[Any]) -> Scores:
    """How the experiment's model does on `batches`, in evaluation mode and by FeatViz's own reckoning."""
    experiment.model.eval()
    losses, right, labels, count = 0.0, 0, [], 0
    for images, targets in experiment.pairs(batches):
        logits = experiment.logits(experiment.model(images)).float()
        classes = class_numbers(logits, targets)
        if classes is None:
            losses += float(experiment.loss_fn(logits, targets)) * len(images)
        else:
            known = (classes >= 0) & (classes < logits.shape[1])
            losses += float(functional.cross_entropy(logits[known], classes[known], reduction="sum"))
            right += int((logits.argmax(1) == classes)[known].sum())
            labels.append(classes[known])
        count += len(images)
    if not any(map(len, labels)):
        return Scores(losses / max(count, 1), math.nan, math.nan, count)
    everything = torch.cat(labels)
    guessing = float(everything.bincount().max()) / len(everything)
    return Scores(losses / max(count, 1), right / max(count, 1), guessing, count)


def class_numbers(logits: Tensor, targets: Any) -> Tensor | None:
    """The class of each picture (N,), from class numbers or from one row of shares a picture; None for others."""
    if logits.ndim != 2 or logits.shape[1] < 2 or not isinstance(targets, Tensor):
        return None
    if targets.ndim == 1 and not targets.is_floating_point() and targets.dtype != torch.bool:
        return targets.long()
    return targets.argmax(1) if targets.shape == logits.shape else None


# What is changed


def reference(experiment: Experiment) -> Experiment:
    """The standard loop with AdamW at 1e-3 over all trainable parameters, no schedule."""
    parameters = [parameter for parameter in experiment.model.parameters() if parameter.requires_grad]
    return replace(
        experiment,
        optimizer=torch.optim.AdamW(parameters, lr=REFERENCE_RATE),
        scheduler=None,
        train_step=None,
        train_epoch=None,
    )


def started_anew(experiment: Experiment) -> Experiment:
    """`reference`, and every layer initialised as PyTorch does."""
    for module in experiment.model.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        elif isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()
    return reference(experiment)


def standard_loop(experiment: Experiment) -> Experiment:
    """The standard loop with the experiment's own optimiser."""
    return replace(experiment, train_step=None, train_epoch=None)


def rate_times(factor: float) -> Change:
    """Another learning rate."""

    def change(experiment: Experiment) -> Experiment:
        for group in experiment.optimizer.param_groups:
            group["lr"] *= factor
        return experiment

    return change


def setting(name: str, value: Any) -> Change:
    """Another setting of the optimiser, where it has one of that name."""

    def change(experiment: Experiment) -> Experiment:
        for group in experiment.optimizer.param_groups:
            if name in group:
                group[name] = value
        return experiment

    return change


# What is known of them


@once
def own(probe: Probe) -> Practice:
    """The experiment as it is."""
    return practice(probe)


@once
def twin(probe: Probe) -> Practice:
    """The same model and data with the reference optimiser and loop."""
    return practice(probe, reference)


@once
def first_loss_anew(probe: Probe) -> float:
    """The first loss with every layer initialised as PyTorch does; NaN where it cannot be had."""
    experiment = started_anew(probe.fresh())
    images, targets = probe.pair
    experiment.model.train()
    with torch.no_grad():
        try:
            return float(experiment.loss_fn(experiment.logits(experiment.model(images)), targets))
        except Exception:  # noqa: BLE001 - user code
            return math.nan


def trails(probe: Probe) -> bool:
    """Whether the experiment learns much less than its twin, which learns something for certain."""
    return twin(probe).gain > 0.25 and twin(probe).train.certain and own(probe).gain < 0.5 * twin(probe).gain


def tried(probe: Probe, name: str, changed: str, after: Practice, *, against: Practice | None = None) -> Trial:
    """A trial told by how much was learned of the training pictures; it helped where half of what lacked is there."""
    before = (against or own(probe)).gain
    goal = max(twin(probe).gain, after.gain if against is not None else 0.0)
    helped = after.gain - before > max(0.15, 0.5 * (goal - before))
    figure = f"share of the training pictures learned after {probe.steps} steps"
    return Trial(name, changed, figure, round(before, 3), round(after.gain, 3), helped)


# One batch by heart


@dataclass(frozen=True, slots=True)
class ByHeart:
    """Learning one batch: the loss of every step, the best accuracy seen (NaN where there is none), and the steps."""

    losses: tuple[float, ...]
    accuracy: float
    steps: int

    @property
    def known(self) -> bool:
        """Whether the batch is known by heart; where there are no classes, the loss has to fall to a tenth."""
        if not math.isnan(self.accuracy):
            return self.accuracy >= 1
        return bool(self.losses) and min(self.losses) < 0.1 * abs(self.losses[0])


def by_heart(probe: Probe, change: Change | None = None, *, blank: bool = False) -> ByHeart:
    """Train on one batch of at most 32 pictures until it is known, for `probe.by_heart` steps at most; with `blank`, on
    pictures that are all zero."""
    experiment = probe.fresh() if change is None else change(probe.fresh())
    wake(experiment)
    batch = _cut(next(iter(probe.batches)), _BY_HEART, probe)
    if blank:
        images, targets = experiment.pair(batch)
        batch, experiment = (torch.zeros_like(images), targets), replace(experiment, unpack=None)
    losses: list[float] = []
    best, steps = math.nan, 0
    while steps < probe.by_heart:
        kept = FewBatches([batch] * _LOOK, experiment.train_loader, _LOOK * _BY_HEART)
        with evidence_on("loss.decreases", "The training loop"):
            losses += train_on(experiment, kept, scheduler=False)
        steps += _LOOK
        seen = max(scores(experiment, [batch]).accuracy, _in_training(experiment, batch))
        best = seen if math.isnan(best) else max(best, seen)
        if ByHeart(tuple(losses), best, steps).known or (losses and not math.isfinite(losses[-1])):
            break
    return ByHeart(tuple(losses), best, steps)


@once
def learned(probe: Probe) -> ByHeart:
    """One batch by heart, as the experiment trains."""
    return by_heart(probe)


def _in_training(experiment: Experiment, batch: Any) -> float:
    """Accuracy in training mode, for networks whose running statistics lag behind; buffers are put back."""
    images, targets = experiment.pair(batch)
    buffers = {name: buffer.clone() for name, buffer in experiment.model.named_buffers()}
    experiment.model.train()
    with torch.no_grad():
        logits = experiment.logits(experiment.model(images))
        for name, buffer in experiment.model.named_buffers():
            buffer.copy_(buffers[name])
    classes = class_numbers(logits, targets)
    return math.nan if classes is None else float((logits.argmax(1) == classes).float().mean())


def _cut(batch: Any, most: int, probe: Probe) -> Any:
    """The first pictures of a batch of any structure."""
    from torch.utils._pytree import tree_map

    count = len(probe.pair[0])
    if count <= most:
        return batch
    return tree_map(
        lambda part: part[:most] if isinstance(part, Tensor) and part.shape[:1] == (count,) else part, batch
    )
