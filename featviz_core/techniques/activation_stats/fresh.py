"""The same model before it was trained."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from featviz_core.architectures import build, seeded
from featviz_core.borrowing import Model, borrowed
from featviz_core.errors import ModelError
from featviz_core.techniques.activation_stats.compute import activation_stats
from featviz_core.techniques.activation_stats.result import ActivationStats


def fresh_activation_stats(
    model: Model, batches: Tensor | Iterable[Any], *, layers: Sequence[str] | None = None, training: bool = True
) -> ActivationStats:
    """What would the layers give if the model was freshly initialised?

    As `activation_stats`, in training mode, because a fresh BatchNorm knows no statistics. A model of torchvision's or
    a demo model is made anew as it was; any other by the `reset_parameters` of its modules, from seed 0.
    """
    return activation_stats(_fresh(model), batches, layers=layers, training=training)


def _fresh(model: Model) -> nn.Module:
    with borrowed(model) as module:
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        device = next((tensor.device for tensor in module.parameters()), None)
        made = _built(getattr(model, "name", ""), shapes)
        if made is None:
            made = seeded(lambda: _reset(copy.deepcopy(module)))
    return made.to(device) if device is not None else made


def _built(name: str, shapes: dict[str, Any]) -> nn.Module | None:
    """A model of that name, where there is one of the same structure."""
    try:
        made = seeded(lambda: build(name))
    except ModelError:
        return None
    return made if {key: tensor.shape for key, tensor in made.state_dict().items()} == shapes else None


def _reset(module: nn.Module) -> nn.Module:
    for inner in module.modules():
        reset = getattr(inner, "reset_parameters", None) or getattr(inner, "_reset_parameters", None)
        if callable(reset):
            reset()
    return module
