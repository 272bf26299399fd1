"""Famous mistakes, each to be put into any healthy set-up: what the checklist has to find.

A fault takes an experiment and gives one with the mistake in it. `item` is the item of the checklist that should name
it first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, RandomSampler, Subset

from featviz_core.demo.setups import SETUPS
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, train_step

Change = Callable[[Experiment], Experiment]
_SampleChange = Callable[[Tensor, int, int], tuple[Tensor, int]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake: what it is called, what is wrong in a sentence, and the checklist's item that should name it."""

    name: str
    title: str
    item: str
    apply: Change


FAULTS: dict[str, Fault] = {}


def _fault(title: str, item: str) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        name = change.__name__
        FAULTS[name] = Fault(name, title, item, change)
        return change

    return register


def with_fault(setup: str, fault: str = "") -> Factory:
    """The factory of a healthy set-up, with a mistake in it where one is named.

    Raises `ExperimentError` for an unknown name of either.
    """
    for name, known in ((setup, SETUPS), (fault or next(iter(FAULTS)), FAULTS)):
        if name not in known:
            raise ExperimentError(f"There is no {name!r} in the demo.", do=f"Choose one of {', '.join(known)}.")
    make = SETUPS[setup]
    return (lambda: FAULTS[fault].apply(make())) if fault else make


# Data


class _Changed(Dataset[Any]):
    """A data set whose samples go through `change(image, label, index)`."""

    def __init__(self, data: Any, change: _SampleChange) -> None:
        self._data, self._change = data, change

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self._data[index]
        return self._change(image, label, index)


def _over(loader: Any, data: Dataset[Any]) -> DataLoader[Any]:
    """A loader like `loader` over other data."""
    shuffle = isinstance(loader.sampler, RandomSampler)
    return DataLoader(data, batch_size=loader.batch_size, shuffle=shuffle, drop_last=loader.drop_last)


def _everywhere(experiment: Experiment, change: _SampleChange, *, validation: bool = True) -> Experiment:
    """The experiment with every sample changed, in the clean training data too."""
    train, other = experiment.train_loader, experiment.val_loader
    return replace(
        experiment,
        train_loader=_over(train, _Changed(train.dataset, change)),  # type: ignore[attr-defined]
        clean_train=_Changed(experiment.clean_train, change),
        val_loader=_over(other, _Changed(other.dataset, change)) if validation else other,  # type: ignore[union-attr]
    )


def _raw(experiment: Experiment, image: Tensor) -> Tensor:
    """A normalised picture as it was before, in [0, 1]."""
    assert experiment.normalization is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in experiment.normalization)
    return image * std + mean


@_fault("Pixels from 0 to 255 go into a network that is meant to get normalised ones.", "data.range")
def raw_pixels(experiment: Experiment) -> Experiment:
    """Neither scaled to [0, 1] nor normalised."""
    return _everywhere(experiment, lambda image, label, _: (_raw(experiment, image) * 255, label))


@_fault("Pictures are normalised twice.", "data.range")
def normalized_twice(experiment: Experiment) -> Experiment:
    """A second `Normalize` with the same numbers."""
    assert experiment.normalization is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in experiment.normalization)
    return _everywhere(experiment, lambda image, label, _: ((image - mean) / std, label))


@_fault("Some pictures hold values that are no numbers.", "data.range")
def nan_pictures(experiment: Experiment) -> Experiment:
    """One picture in eight is all NaN."""
    return _everywhere(
        experiment, lambda image, label, index: (image * float("nan") if index % 8 == 3 else image, label)
    )


@_fault("Labels have nothing to do with the pictures.", "data.labels")
def shuffled_labels(experiment: Experiment) -> Experiment:
    """Training labels dealt out anew, as after sorting files and labels apart."""
    count = len(experiment.train_loader.dataset)  # type: ignore[attr-defined]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1)).tolist()
    labels = experiment.clean_train.labels
    return _everywhere(experiment, lambda image, _, index: (image, labels[order[index]]), validation=False)


@_fault("Labels count from 1, so that the last is out of range.", "data.labels")
def labels_from_one(experiment: Experiment) -> Experiment:
    """1..C where the loss expects 0..C-1."""
    return _everywhere(experiment, lambda image, label, _: (image, label + 1))


@_fault("Training pictures are among the validation pictures.", "training.fit")
def validation_leak(experiment: Experiment) -> Experiment:
    """Half of validation was seen in training."""
    other: Any = experiment.val_loader
    half = len(other.dataset) // 2
    mixed: ConcatDataset[Any] = ConcatDataset(
        [Subset(experiment.clean_train, range(half)), Subset(other.dataset, range(half))]
    )
    return replace(experiment, val_loader=_over(other, mixed))


# Model


@_fault("A bias of -20 before every ReLU: they give zero for every picture.", "model.init")
def dead_relus(experiment: Experiment) -> Experiment:
    """No gradient comes past a ReLU that is always off."""
    with torch.no_grad():
        for module in experiment.model.modules():
            bias = getattr(module, "bias", None)
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm) and isinstance(bias, Tensor):
                bias.fill_(-20)
    return experiment


@_fault("A weight is not a number.", "model.finite")
def nan_weight(experiment: Experiment) -> Experiment:
    """One NaN in the first weight reaches every output."""
    with torch.no_grad():
        next(experiment.model.parameters()).view(-1)[0] = float("nan")
    return experiment


@_fault("Softmax before cross-entropy, which applies its own.", "model.output_shape")
def softmax_first(experiment: Experiment) -> Experiment:
    """The loss cannot fall below 1.27 for eight classes, and its gradient is small."""
    return replace(experiment, model=nn.Sequential(experiment.model, nn.Softmax(dim=1)))


# Loss, optimiser and loop


@_fault("The loss is cut off from the network.", "loss.gradients")
def detached_loss(experiment: Experiment) -> Experiment:
    """`.detach()` on the way to the loss, hidden by a `requires_grad_()`."""
    loss_fn = experiment.loss_fn
    return replace(experiment, loss_fn=lambda logits, targets: loss_fn(logits.detach(), targets).requires_grad_())


@_fault("The learning rate is far too high.", "optimizer.learning_rate")
def learning_rate_too_high(experiment: Experiment) -> Experiment:
    """A hundred times too much."""
    for group in experiment.optimizer.param_groups:
        group["lr"] *= 100
    return experiment


@_fault("Gradients of old steps are never cleared.", "optimizer.gradients")
def no_zero_grad(experiment: Experiment) -> Experiment:
    """A training step without `optimizer.zero_grad()`."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        loss = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        experiment.optimizer.step()
        return loss

    return replace(experiment, train_step=step)


@_fault("The optimiser holds the head only.", "optimizer.updates")
def only_head_in_optimizer(experiment: Experiment) -> Experiment:
    """The rest of the network gets gradients but never moves."""
    head = [module for module in experiment.model.modules() if isinstance(module, nn.Linear)][-1]
    return replace(experiment, optimizer=_optimizer_like(experiment.optimizer, head.parameters()), scheduler=None)


@_fault("The optimiser holds the parameters of a model that was thrown away.", "optimizer.updates")
def stale_optimizer(experiment: Experiment) -> Experiment:
    """The model was made anew after the optimiser."""
    with torch.no_grad():
        old = [parameter.clone().requires_grad_() for parameter in experiment.model.parameters()]
    return replace(experiment, optimizer=_optimizer_like(experiment.optimizer, old), scheduler=None)


@_fault("Nobody calls the optimiser's step.", "optimizer.updates")
def no_optimizer_step(experiment: Experiment) -> Experiment:
    """Gradients are computed and thrown away."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        experiment.optimizer.zero_grad()
        loss = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return replace(experiment, train_step=step)


@_fault("Validation runs in training mode.", "training.curves")
def never_eval_mode(experiment: Experiment) -> Experiment:
    """BatchNorm goes on learning from validation, dropout goes on dropping."""

    def in_training_mode(experiment: Experiment, loader: Iterable[Any]) -> dict[str, float]:
        losses: list[float] = []
        right: list[float] = []
        for images, targets in experiment.pairs(loader):
            logits = experiment.logits(experiment.model(images))
            losses.append(float(experiment.loss_fn(logits, targets).detach()))
            right += (logits.argmax(1) == targets).float().tolist()
        return {"loss": sum(losses) / len(losses), "accuracy": sum(right) / len(right)}

    return replace(experiment, evaluate=in_training_mode)


@_fault("Training runs in evaluation mode.", "training.curves")
def eval_mode_in_training(experiment: Experiment) -> Experiment:
    """A `model.eval()` from a copied validation loop."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        experiment.model.eval()
        return train_step(experiment, images, targets)

    return replace(experiment, train_step=step)


def _optimizer_like(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """An optimiser of the same kind and settings over other parameters."""
    known = inspect.signature(type(optimizer)).parameters
    settings = {name: value for name, value in optimizer.param_groups[-1].items() if name in known and name != "params"}
    return type(optimizer)(list(parameters), **settings)
