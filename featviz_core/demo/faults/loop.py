"""Mistakes in the optimiser and in the loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from featviz_core.demo.faults.registry import fault, optimizer_like
from featviz_core.demo.networks import head, trunk
from featviz_core.experiment import Experiment, evaluate, train_step

_UNTRAINED = ("plain", "cnn", "residual", "vit")
_NORMALISED = ("cnn", "residual")


def _set(experiment: Experiment, **settings: Any) -> Experiment:
    """Other settings, in the groups that have such."""
    for group in experiment.optimizer.param_groups:
        group.update({name: value for name, value in settings.items() if name in group})
    return experiment


def _stepping(experiment: Experiment, *order: str) -> Experiment:
    """A training step whose parts come in this order, after the loss was reckoned."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        loss: Tensor = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
        parts: dict[str, Callable[[], object]] = {
            "zero_grad": experiment.optimizer.zero_grad,
            "backward": loss.backward,
            "clip": partial(nn.utils.clip_grad_norm_, experiment.model.parameters(), 1e-4),
            "step": experiment.optimizer.step,
        }
        for part in order:
            parts[part]()
        return loss

    return replace(experiment, train_step=step)


# Learning rate and other settings


@fault("The learning rate is far too high.", "optimizer.learning_rate")
def learning_rate_too_high(experiment: Experiment) -> Experiment:
    """A hundred times too much."""
    for group in experiment.optimizer.param_groups:
        group["lr"] *= 100
    return experiment


@fault("The learning rate is far too low.", "optimizer.learning_rate")
def learning_rate_too_low(experiment: Experiment) -> Experiment:
    """A thousandth."""
    for group in experiment.optimizer.param_groups:
        group["lr"] /= 1000
    return experiment


@fault("The learning rate is zero.", "optimizer.learning_rate")
def learning_rate_zero(experiment: Experiment) -> Experiment:
    """A schedule's first value, or an integer division."""
    return _set(experiment, lr=0.0)


@fault("Weight decay is far too strong.", "optimizer.learning_rate")
def weight_decay_too_strong(experiment: Experiment) -> Experiment:
    """Every step takes back what was learned."""
    rate = max(group["lr"] for group in experiment.optimizer.param_groups)
    decoupled = isinstance(experiment.optimizer, torch.optim.AdamW)
    return _set(experiment, weight_decay=0.2 / rate if decoupled else 2.0)


@fault("Momentum is so high that steps never end.", "optimizer.learning_rate")
def momentum_too_high(experiment: Experiment) -> Experiment:
    """0.9999, and the first of Adam's betas."""
    return _set(experiment, momentum=0.9999, betas=(0.9999, 0.9999))


@fault("The optimiser goes uphill.", "optimizer.learning_rate")
def uphill(experiment: Experiment) -> Experiment:
    """`maximize=True`."""
    return _set(experiment, maximize=True)


# Gradients


@fault("Gradients of old steps are never cleared.", "optimizer.gradients")
def no_zero_grad(experiment: Experiment) -> Experiment:
    """A training step without `optimizer.zero_grad()`."""
    return _stepping(experiment, "backward", "step")


@fault("Gradients are cleared between backward and the step.", "optimizer.gradients")
def cleared_too_late(experiment: Experiment) -> Experiment:
    """The step finds nothing."""
    return _stepping(experiment, "backward", "zero_grad", "step")


@fault("The step comes before backward.", "optimizer.gradients")
def step_before_backward(experiment: Experiment) -> Experiment:
    """Gradients are cleared before anybody used them."""
    return _stepping(experiment, "zero_grad", "step", "backward")


@fault("Gradients are clipped to next to nothing.", "optimizer.gradients")
def clipped_to_nothing(experiment: Experiment) -> Experiment:
    """A norm of 0.0001."""
    return _stepping(experiment, "zero_grad", "backward", "clip", "step")


# Updates


@fault("The optimiser holds the head only.", "optimizer.updates", networks=_UNTRAINED)
def only_head_in_optimizer(experiment: Experiment) -> Experiment:
    """The rest of the network gets gradients but never moves."""
    return _holding(experiment, head(experiment.model).parameters())


@fault("The optimiser does not hold the head.", "optimizer.updates")
def head_not_in_optimizer(experiment: Experiment) -> Experiment:
    """A new head, put in after the optimiser was made."""
    return _holding(experiment, trunk(experiment.model))


@fault("The optimiser holds the parameters of a model that was thrown away.", "optimizer.updates")
def stale_optimizer(experiment: Experiment) -> Experiment:
    """The model was made anew after the optimiser."""
    with torch.no_grad():
        old = [parameter.clone().requires_grad_() for parameter in experiment.model.parameters()]
    return _holding(experiment, old)


def _holding(experiment: Experiment, parameters: Iterable[Tensor]) -> Experiment:
    return replace(experiment, optimizer=optimizer_like(experiment.optimizer, parameters), scheduler=None)


@fault("Nobody calls the optimiser's step.", "optimizer.updates")
def no_optimizer_step(experiment: Experiment) -> Experiment:
    """Gradients are computed and thrown away."""
    return _stepping(experiment, "zero_grad", "backward")


# Schedules


@fault("The schedule takes the learning rate to nothing within the first epoch.", "training.convergence")
def schedule_too_fast(experiment: Experiment) -> Experiment:
    """Stepped with every batch where epochs were meant."""
    schedule = lr_scheduler.ExponentialLR(experiment.optimizer, gamma=0.5)
    return replace(experiment, scheduler=schedule, scheduler_step="batch")


@fault("The warm-up is longer than the training.", "training.convergence")
def endless_warm_up(experiment: Experiment) -> Experiment:
    """The rate never gets near what was asked for."""
    schedule = lr_scheduler.LinearLR(experiment.optimizer, start_factor=1e-4, total_iters=10_000)
    return replace(experiment, scheduler=schedule, scheduler_step="epoch")


# Modes and evaluation


@fault("Validation runs in training mode.", "training.curves")
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


@fault("Training runs in evaluation mode.", "training.curves")
def eval_mode_in_training(experiment: Experiment) -> Experiment:
    """A `model.eval()` from a copied validation loop."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        experiment.model.eval()
        return train_step(experiment, images, targets)

    return replace(experiment, train_step=step)


@fault("Training goes on in evaluation mode after the first validation.", "training.curves")
def never_back_in_training_mode(experiment: Experiment) -> Experiment:
    """An epoch's loop that does not call `model.train()`."""

    def epoch(experiment: Experiment, batches: Iterable[Any]) -> None:
        for images, targets in batches:
            train_step(experiment, images, targets)

    return replace(experiment, train_epoch=epoch)


@fault("Validation trains the network.", "training.curves")
def validation_trains(experiment: Experiment) -> Experiment:
    """The same function for both, with the step in it."""

    def step_by_step(experiment: Experiment, loader: Iterable[Any]) -> dict[str, float]:
        experiment.model.eval()
        for images, targets in experiment.pairs(loader):
            train_step(experiment, images, targets)
        return evaluate(experiment, loader)

    return replace(experiment, evaluate=step_by_step)


@fault("Validation looks at training pictures.", "training.curves")
def evaluates_training_pictures(experiment: Experiment) -> Experiment:
    """The wrong loader inside the loop."""
    return replace(experiment, evaluate=lambda experiment, _loader: evaluate(experiment, experiment.train_loader))


@fault("Accuracy compares along the batch, not along the classes.", "training.curves")
def wrong_accuracy(experiment: Experiment) -> Experiment:
    """`argmax(0)`, cut to length."""

    def wrongly(experiment: Experiment, loader: Iterable[Any]) -> dict[str, float]:
        found = evaluate(experiment, loader)
        right, count = 0.0, 0
        with torch.no_grad():
            for images, targets in experiment.pairs(loader):
                choice = experiment.logits(experiment.model(images)).argmax(0)
                right += float((choice == targets[: len(choice)]).sum())
                count += len(choice)
        return found | {"accuracy": right / count}

    return replace(experiment, evaluate=wrongly)


@fault("Running statistics are never updated.", "training.curves", networks=_NORMALISED)
def running_statistics_stay(experiment: Experiment) -> Experiment:
    """BatchNorm with a momentum of zero."""
    for module in experiment.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return experiment
