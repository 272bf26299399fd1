"""Mistakes in the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from featviz_core.demo.faults.registry import fault
from featviz_core.experiment import Experiment


def _of(experiment: Experiment, change: Callable[[Callable[..., Tensor], Tensor, Any], Tensor]) -> Experiment:
    """The experiment with `change(loss_fn, logits, targets)` for its loss."""
    loss_fn = experiment.loss_fn
    return replace(experiment, loss_fn=lambda logits, targets: change(loss_fn, logits, targets))


@fault("The loss is cut off from the network.", "loss.gradients")
def detached_loss(experiment: Experiment) -> Experiment:
    """`.detach()` on the way to the loss, hidden by a `requires_grad_()`."""
    return _of(experiment, lambda loss_fn, logits, targets: loss_fn(logits.detach(), targets).requires_grad_())


@fault("The loss is reckoned from the chosen class, which has no gradient.", "loss.gradients")
def loss_of_the_choice(experiment: Experiment) -> Experiment:
    """The share of wrong answers, as a tensor."""
    return _of(experiment, lambda _, logits, targets: (logits.argmax(1) != targets).float().mean().requires_grad_())


@fault("The sign of the loss is wrong.", "loss.value")
def negative_loss(experiment: Experiment) -> Experiment:
    """Training makes right answers less likely."""
    return _of(experiment, lambda loss_fn, logits, targets: -loss_fn(logits, targets))


@fault("The loss is summed over the batch.", "loss.value")
def summed_loss(experiment: Experiment) -> Experiment:
    """`reduction="sum"`: steps grow with the batch."""
    return replace(experiment, loss_fn=nn.CrossEntropyLoss(reduction="sum"))


@fault("The loss gives one number a picture.", "loss.value")
def loss_not_reduced(experiment: Experiment) -> Experiment:
    """`reduction="none"`, and backward of a vector."""
    return replace(experiment, loss_fn=nn.CrossEntropyLoss(reduction="none"))


@fault("The loss for log-probabilities gets scores.", "loss.value")
def nll_of_scores(experiment: Experiment) -> Experiment:
    """It can be made as low as one likes."""
    return replace(experiment, loss_fn=nn.NLLLoss())


@fault("The loss gets its arguments in the wrong order.", "loss.value")
def swapped_arguments(experiment: Experiment) -> Experiment:
    """One-hot labels where scores belong."""

    def swapped(loss_fn: Callable[..., Tensor], logits: Tensor, targets: Tensor) -> Tensor:
        return loss_fn(functional.one_hot(targets, logits.shape[1]).to(logits), logits.softmax(1))

    return _of(experiment, swapped)


@fault("The loss is divided by the number of all pictures.", "optimizer.learning_rate")
def loss_too_small(experiment: Experiment) -> Experiment:
    """Steps are a thousand times too short, for an optimiser that does not scale them."""
    return _of(experiment, lambda loss_fn, logits, targets: loss_fn(logits, targets) / 1000)


@fault("One class is ignored by the loss.", "loss.value")
def ignored_class(experiment: Experiment) -> Experiment:
    """`ignore_index=0`, where class 0 is no padding."""
    return replace(experiment, loss_fn=nn.CrossEntropyLoss(ignore_index=0))
