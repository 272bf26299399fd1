"""A look inside the training, every so often: gradients, updates and activations.

Nothing is left on the model. Gradients and updates are seen by hooks on the optimiser, for it alone knows when a step
is taken and with what; activations by hooks that are there for all modules, and only while a looked-at pass runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from featviz_core.layouts import first_tensor
from featviz_core.runs import tags

_MOST = 2**16  # values that stand for a tensor

_NO_RATIO = -1.0  # of weights that were all zero


class Budget:
    """What looking may take of the training's time: at most `share`, in [0, 1], of it, and `once`, in seconds."""

    def __init__(self, share: float, once: float) -> None:
        self._share, self._spent, self._start = share, -once, time.perf_counter()

    def allows(self) -> bool:
        """Whether there is time for another look."""
        return self._spent <= self._share * (time.perf_counter() - self._start)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count the time of a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._spent += time.perf_counter() - started


class StepWatch:
    """What the optimiser gets and does: the learning rates at every step, and in a look ‖g‖ and ‖Δw‖/‖w‖.

    `looking`: whether the next step is looked at; `seen`: whether it has been; `samples`: some values of each gradient,
    where `keep` says so.
    """

    def __init__(self, model: nn.Module | None, optimizer: torch.optim.Optimizer, budget: Budget) -> None:
        self._parameters = dict(model.named_parameters()) if model is not None else {}
        self._optimizer, self._budget = optimizer, budget
        self.looking = self.seen = self.keep = False
        self.rates = _rates(optimizer)
        self.samples: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._updates: dict[str, Tensor] = {}
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def take(self) -> dict[str, float]:
        """What was seen of the step by tag, each once."""
        found = {f"{tags.GRADIENT}{name}": norm for name, norm in self._gradients.items()}
        found |= {f"{tags.UPDATE}{name}": ratio for name, ratio in self._updates.items()}
        self._gradients, self._updates, self.samples = {}, {}, {}
        self.looking = self.seen = False
        numbers = torch.stack(list(found.values())).tolist() if found else []
        return {tag: value for tag, value in zip(found, numbers, strict=True) if value != _NO_RATIO}

    def close(self) -> None:
        """Leave the optimiser as it was."""
        for hook in self._hooks:
            hook.remove()

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.rates = _rates(optimizer)
        if self.looking:
            with self._budget.spending(), torch.no_grad():
                scale = getattr(optimizer, "grad_scale", None)  # fused optimisers undo the scaling themselves
                self._note_gradients(1.0 if scale is None else scale)
                self._before = {name: p.detach().clone() for name, p in self._parameters.items() if _has_ratio(p)}

    def _note_gradients(self, scale: Tensor | float) -> None:
        for name, parameter in self._parameters.items():
            if (gradient := parameter.grad) is not None:
                values = gradient.coalesce().values() if gradient.is_sparse else gradient
                self._gradients[name] = _norm(values) / scale
                if self.keep:
                    self.samples[name] = spread(values) / scale

    def _after_step(self, *_: Any) -> None:
        if self._before:
            with self._budget.spending(), torch.no_grad():
                for name, before in self._before.items():
                    change, size = _norm(self._parameters[name].detach() - before), _norm(before)
                    self._updates[name] = torch.where(size == 0, _NO_RATIO, change / size)
                self._before = {}
        self.seen = self.looking


def _has_ratio(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and parameter.ndim >= 2


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor.detach(), dtype=torch.float32)
    return norm


def _rates(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [group.get("lr") for group in optimizer.param_groups]


class ActivationWatch:
    """What each layer gives in one training pass of `model`, and the first pictures that it saw.

    `statistics`: by layer; `outputs`: samples of what it gave, where `keep` says so; `images`: as they went in.
    `compiled`: nothing is seen, for hooks would have the model compiled anew, into another one.
    """

    def __init__(self, model: nn.Module, budget: Budget, *, compiled: bool = False) -> None:
        self._model, self._budget, self._compiled = model, budget, compiled
        self._names = {
            id(part): name or "model" for name, part in model.named_modules() if next(part.children(), None) is None
        }
        self._handles: list[RemovableHandle] = []
        self.keep = False
        self.images: Tensor | None = None
        self.statistics: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def start(self) -> None:
        """Look at the next training pass."""
        if not self._handles and not self._compiled:
            self._handles = [
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave),
            ]

    def take(self) -> dict[str, float]:
        """What was seen by tag, each once."""
        found = {tags.of_activation(name, what): value for name, values in self.statistics.items()
                 for what, value in zip(tags.STATISTICS, values, strict=True)}  # fmt: skip
        self.close()
        numbers = torch.stack(list(found.values())).tolist() if found else []
        self.statistics, self.outputs = {}, {}
        return dict(zip(found, numbers, strict=True))

    def close(self) -> None:
        """Stop looking."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is self._model and self._trains() and self.images is None:
            images = first_tensor(inputs)
            if images is not None and images.ndim == 4 and images.is_floating_point():
                self.images = images.detach()[:4].clone()

    def _leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        name = self._names.get(id(module))
        if name is None or name in self.statistics or not self._trains():
            return
        tensor = first_tensor(output)
        if tensor is None or not tensor.is_floating_point() or not tensor.numel():
            return
        with self._budget.spending(), torch.no_grad():
            values = spread(tensor).float()
            # The mean of all, in which a single NaN shows; the others would cost as much as the layer itself.
            mean, deviation = tensor.detach().mean(dtype=torch.float32), values.std(correction=0)
            zeros = (values == 0).float().mean()
            self.statistics[name] = torch.stack([mean, deviation, zeros])
            if self.keep:
                self.outputs[name] = values.clone()

    def _trains(self) -> bool:
        return self._model.training and torch.is_grad_enabled()


def spread(tensor: Tensor) -> Tensor:
    """At most 65,536 of a tensor's values, evenly spread, and over all of its rows and columns alike."""
    values = tensor.detach().flatten()
    stride = max(1, math.ceil(values.numel() / _MOST))
    while stride > 1 and math.gcd(stride, values.numel()) > 1:  # else it could hit one column again and again
        stride += 1
    return values[::stride]
