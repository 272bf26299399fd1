"""Watching somebody's own loop: hooks on the parts it goes through, so that nothing has to be assumed.

A `Watch` notes what each parameter goes through (gradient, leftovers of an older one, movement), in which mode the
layers run whose answers depend on it, and where the first number that is none comes from. It changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from featviz_core.experiment import Experiment
from featviz_core.layouts import first_tensor

Phase = Literal["training", "validation"]


@dataclass(slots=True)
class Record:
    """What one parameter went through.

    `held`: how often the optimiser holds it; `rate`: its learning rate there. `called`: its module was run.
    `gradients`, `nonzero`: how many gradients came in, and how many of them were not all zero; `largest`: the largest
    norm among them. `leftover`: the largest
    norm of an old gradient still there when the first one after a step came in, relative to the new one. `since`: the
    norms of what came in since the last step, added up.
    """

    shape: tuple[int, ...]
    trainable: bool
    held: int
    rate: float
    called: bool = False
    gradients: int = 0
    nonzero: int = 0
    largest: float = 0.0
    leftover: float = 0.0
    moved: bool = False
    since: float = 0.0


@dataclass(slots=True)
class Watch:
    """What was seen of a loop.

    `steps`: how often the optimiser stepped; `losses`: what the loop gave for each batch; `modes`: for each phase and
    layer whose answer depends on its mode, how often it ran in training mode and how often not, "" being the model
    itself; `not_finite`: the first layer (and its phase) that gave a NaN or Inf for finite input; `graphs`: validation
    passes that kept a graph; `strangers`: tensors in the optimiser that are not the model's; `norms`: for each step,
    the gradient's norm as it came in since the last one (at most) and as the optimiser found it.
    """

    records: dict[str, Record]
    strangers: int
    losses: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    modes: dict[Phase, dict[str, Counter[bool]]] = field(
        default_factory=lambda: {"training": defaultdict(Counter), "validation": defaultdict(Counter)}
    )
    not_finite: tuple[str, Phase] | None = None
    graphs: int = 0
    norms: list[tuple[float, float]] = field(default_factory=list)
    phase: Phase = "training"

    @property
    def trainable(self) -> dict[str, Record]:
        """The records of parameters that want gradients."""
        return {name: record for name, record in self.records.items() if record.trainable}


def depends_on_mode(module: nn.Module) -> bool:
    """Whether a layer's answer in training differs from that in evaluation."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return bool(module.p > 0)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return bool(module.track_running_stats)
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    return type(module).__name__ in ("StochasticDepth", "DropPath") and getattr(module, "p", 1) != 0


def is_normalization(module: nn.Module) -> bool:
    """Whether a layer is a BatchNorm, which may be frozen on purpose."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


@contextmanager
def watching(experiment: Experiment) -> Iterator[Watch]:
    """Note what the experiment's model and optimiser go through inside the block."""
    watch = Watch(*_inventory(experiment))
    before = {name: parameter.detach().clone() for name, parameter in experiment.model.named_parameters()}
    with ExitStack() as hooks:
        for name, module in experiment.model.named_modules():
            hooks.callback(module.register_forward_pre_hook(_note_mode(watch, name)).remove)
            hooks.callback(module.register_forward_hook(_note_output(watch, name)).remove)
        stale: set[str] = set()
        for name, parameter in experiment.model.named_parameters():
            if parameter.requires_grad:
                note = _note_gradient(watch.records[name], name, parameter, stale)
                hooks.callback(parameter.register_hook(note).remove)  # type: ignore[no-untyped-call]
        held = {name: p for name, p in experiment.model.named_parameters() if watch.records[name].held}
        hooks.callback(experiment.optimizer.register_step_post_hook(_note_step(watch, stale, held)).remove)
        yield watch
    for name, parameter in experiment.model.named_parameters():
        if name in before:
            # Compared as bits: a NaN that stays a NaN has not moved.
            watch.records[name].moved = not torch.equal(before[name].nan_to_num(), parameter.detach().nan_to_num())


def _inventory(experiment: Experiment) -> tuple[dict[str, Record], int]:
    held: Counter[int] = Counter()
    rates: dict[int, float] = {}
    for group in experiment.optimizer.param_groups:
        for parameter in group["params"]:
            held[id(parameter)] += 1
            rates[id(parameter)] = float(group.get("lr", 0.0))
    named = dict(experiment.model.named_parameters())
    records = {
        name: Record(tuple(p.shape), p.requires_grad, held[id(p)], rates.get(id(p), 0.0)) for name, p in named.items()
    }
    of_loss = experiment.loss_fn.parameters() if isinstance(experiment.loss_fn, nn.Module) else ()
    own = {id(parameter) for parameter in (*named.values(), *of_loss)}
    return records, sum(key not in own for key in held)


def _note_mode(watch: Watch, name: str) -> Callable[[nn.Module, Any], None]:
    def note(module: nn.Module, _inputs: Any) -> None:
        for inner in module._parameters:
            if (record := watch.records.get(f"{name}.{inner}".lstrip("."))) is not None:
                record.called = True
        if not name or depends_on_mode(module):
            watch.modes[watch.phase][name][module.training] += 1
        if not name and watch.phase == "validation" and torch.is_grad_enabled():
            watch.graphs += 1

    return note


def _note_output(watch: Watch, name: str) -> Callable[[nn.Module, Any, Any], None]:
    def note(_module: nn.Module, inputs: Any, output: Any) -> None:
        if watch.not_finite is not None or _finite(output):
            return
        if _finite(inputs):
            watch.not_finite = (name, watch.phase)

    return note


def _finite(value: Any) -> bool:
    tensor = first_tensor(value)
    return tensor is None or bool(tensor.detach().isfinite().all())


def _note_gradient(record: Record, name: str, parameter: nn.Parameter, stale: set[str]) -> Callable[[Tensor], None]:
    def note(gradient: Tensor) -> None:
        size = float(gradient.detach().float().norm())
        if name in stale and parameter.grad is not None:
            record.leftover = max(record.leftover, float(parameter.grad.detach().float().norm()) / max(size, 1e-30))
        stale.discard(name)
        record.gradients += 1
        record.nonzero += size != 0
        record.largest = max(record.largest, size)
        record.since += size

    return note


def _note_step(watch: Watch, stale: set[str], held: dict[str, nn.Parameter]) -> Callable[..., None]:
    def note(*_: Any) -> None:
        watch.steps += 1
        found = [float(p.grad.detach().float().norm()) for p in held.values() if p.grad is not None]
        came = [watch.records[name].since for name in held]
        watch.norms.append((math.hypot(*came), math.hypot(*found)))
        for record in watch.records.values():
            record.since = 0.0
        # Whatever gradient is there when the next one comes in was used already.
        stale.update(watch.records)

    return note
