"""Mistakes in the network and its initial weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.demo.faults.registry import fault, optimizer_like
from featviz_core.demo.networks import head
from featviz_core.experiment import Experiment

_CONVOLUTIONAL = ("plain", "cnn", "residual")
_UNTRAINED = (*_CONVOLUTIONAL, "vit")


class _After(nn.Module):
    """A network whose output goes through `change`."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self._change = model, change

    def forward(self, images: Tensor) -> Tensor:
        return self._change(self.model(images))


def _after(experiment: Experiment, change: Callable[[Tensor], Tensor]) -> Experiment:
    return replace(experiment, model=_After(experiment.model, change))


def _before_head(experiment: Experiment, change: Callable[[Tensor], Tensor]) -> Experiment:
    """What goes into the head goes through `change` first."""
    head(experiment.model).register_forward_pre_hook(lambda _module, args: (change(args[0]),))
    return experiment


@torch.no_grad()
def _weights(experiment: Experiment, change: Callable[[Tensor], object]) -> Experiment:
    """Change the weights of every convolution and linear layer."""
    for module in experiment.model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            change(module.weight)
    return experiment


# Output


@fault("Softmax before cross-entropy, which applies its own.", "model.output_shape")
def softmax_first(experiment: Experiment) -> Experiment:
    """The loss cannot fall below 1.27 for eight classes, and its gradient is small."""
    return replace(experiment, model=nn.Sequential(experiment.model, nn.Softmax(dim=1)))


@fault("Softmax over the batch instead of over the classes.", "model.output_shape")
def softmax_over_batch(experiment: Experiment) -> Experiment:
    """`dim=0`."""
    return replace(experiment, model=nn.Sequential(experiment.model, nn.Softmax(dim=0)))


@fault("A ReLU after the last layer: half of the scores cannot be given.", "model.output_shape")
def relu_last(experiment: Experiment) -> Experiment:
    """One layer of the pattern too many."""
    return replace(experiment, model=nn.Sequential(experiment.model, nn.ReLU()))


@fault("The head has one output too few.", "model.output_shape")
def one_output_too_few(experiment: Experiment) -> Experiment:
    """As counted without the background."""
    last = head(experiment.model)
    with torch.no_grad():
        last.weight = nn.Parameter(last.weight[:-1].clone())
        last.bias = nn.Parameter(last.bias[:-1].clone())
    last.out_features -= 1
    return replace(experiment, optimizer=optimizer_like(experiment.optimizer, experiment.model.parameters()))


@fault("The pictures of a batch are mixed with each other.", "model.output_shape")
def mixed_batch(experiment: Experiment) -> Experiment:
    """A `view` where a `transpose` was meant."""
    return _after(experiment, lambda logits: logits.t().reshape(logits.shape) if logits.ndim == 2 else logits)


@fault("Scores are reckoned from the batch's mean.", "model.output_shape")
def less_the_batch_mean(experiment: Experiment) -> Experiment:
    """A home-made normalisation without running statistics."""
    return _before_head(experiment, lambda features: (features - features.mean(0)) / (features.std(0) + 1e-3))


@fault("Scores come with two dimensions too many.", "model.output_shape")
def not_flattened(experiment: Experiment) -> Experiment:
    """(N, C, 1, 1), as from a convolution."""
    return _after(experiment, lambda logits: logits[:, :, None, None])


# Finite


@fault("A weight is not a number.", "model.finite")
def nan_weight(experiment: Experiment) -> Experiment:
    """One NaN in the first weight reaches every output."""
    with torch.no_grad():
        next(experiment.model.parameters()).view(-1)[0] = float("nan")
    return experiment


@fault("A logarithm of zero in the network.", "model.finite")
def log_of_zero(experiment: Experiment) -> Experiment:
    """Features after a ReLU, without an epsilon."""
    return _before_head(experiment, lambda features: features.relu().log())


@fault("The gradient of a square root at zero is infinite.", "model.finite")
def root_of_zero(experiment: Experiment) -> Experiment:
    """The norm of what is zero: finite forward, NaN backward."""
    return _before_head(experiment, lambda features: features + (features - features).pow(2).sqrt())


# Initialisation


@fault("A bias of -20 before every ReLU: they give zero for every picture.", "model.init", networks=_CONVOLUTIONAL)
def dead_relus(experiment: Experiment) -> Experiment:
    """No gradient comes past a ReLU that is always off."""
    with torch.no_grad():
        for module in experiment.model.modules():
            bias: Any = getattr(module, "bias", None)
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm) and isinstance(bias, Tensor):
                bias.fill_(-20)
    return experiment


@fault("All weights start at zero.", "model.init", networks=_UNTRAINED)
def zero_weights(experiment: Experiment) -> Experiment:
    """Then all units stay alike."""
    return _weights(experiment, lambda weight: weight.zero_())


@fault("All weights of a layer start with the same value.", "model.init", networks=_UNTRAINED)
def equal_weights(experiment: Experiment) -> Experiment:
    """Then all units stay alike."""
    return _weights(experiment, lambda weight: weight.fill_(0.01))


@fault("Weights start a hundred times too small.", "model.init", networks=("plain",))
def tiny_weights(experiment: Experiment) -> Experiment:
    """The signal dies out on its way."""
    return _weights(experiment, lambda weight: weight.mul_(0.01))


@fault("Weights start twenty times too large.", "model.init", networks=("plain", "vit"))
def huge_weights(experiment: Experiment) -> Experiment:
    """The signal explodes on its way."""
    return _weights(experiment, lambda weight: weight.mul_(20))


@fault("Scores are divided by a thousand.", "model.init", networks=_UNTRAINED)
def scores_too_small(experiment: Experiment) -> Experiment:
    """A temperature the wrong way round: no class can be sure."""
    return _after(experiment, lambda logits: logits / 1000)


@fault("The head starts with scores of a hundred.", "loss.value", networks=_UNTRAINED)
def scores_too_large(experiment: Experiment) -> Experiment:
    """The first loss is in the dozens, and its gradient points to single pictures."""
    return _after(experiment, lambda logits: logits * 200)


# Gradients


@fault("The network is cut off before its head: only that one can learn.", "optimizer.gradients", networks=_UNTRAINED)
def detached_trunk(experiment: Experiment) -> Experiment:
    """A `.detach()` left over from looking at features."""
    return _before_head(experiment, torch.Tensor.detach)


@fault("Nothing in the network may be trained.", "loss.gradients")
def all_frozen(experiment: Experiment) -> Experiment:
    """`requires_grad_(False)` meant for the trunk only."""
    experiment.model.requires_grad_(False)
    return experiment
