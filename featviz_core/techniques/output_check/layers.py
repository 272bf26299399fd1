"""What happens on the way: every call of every layer, and the first one that is to blame."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from featviz_core.borrowing import borrowed
from featviz_core.capture import placed
from featviz_core.techniques.output_check.asking import Asked
from featviz_core.techniques.output_check.result import Step

Summary = TypeVar("Summary")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: what a summary says of the tensors it was given and of those it gave."""

    layer: str
    type: str
    given: Any
    gave: Any


def watch(asked: Asked, images: Tensor, summarise: Callable[[list[Tensor]], Any]) -> list[Call]:
    """Every call of every layer during one pass over `images` in eval mode, in the order in which they finish."""
    seen: list[tuple[str, str, Any, Any]] = []
    open_calls: list[Any] = []

    def enter(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        open_calls.append(summarise(_floats((inputs, named))))

    def leave(module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append((names[module], type(module).__name__, open_calls.pop(), summarise(_floats(output))))

    with borrowed(asked.model) as module, torch.no_grad():
        names = {inner: name for name, inner in module.named_modules()}
        for inner in names:
            inner.register_forward_pre_hook(enter, with_kwargs=True)
            inner.register_forward_hook(leave)
        asked.run(module, placed(images, module))
    calls, count = Counter(name for name, *_ in seen), Counter[str]()
    found: list[Call] = []
    for name, kind, given, gave in seen:
        count[name] += 1
        found.append(Call(name if count[name] == calls[name] else f"{name}#{count[name]}", kind, given, gave))
    return found


def _floats(values: Any) -> list[Tensor]:
    return [leaf.detach() for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def steps(asked: Asked, images: Tensor) -> tuple[Step, ...]:
    """Where do NaN and infinity appear? One step for every call of a layer."""
    return tuple(
        Step(
            layer=call.layer,
            type=call.type,
            input_finite=sum(call.given[:2]) == 0,
            output_finite=sum(call.gave[:2]) == 0,
            nan=int(call.gave[0]),
            inf=int(call.gave[1]),
            largest=call.gave[2],
        )
        for call in watch(asked, images, _health)
    )


def _health(tensors: list[Tensor]) -> tuple[int, int, float]:
    """How many NaN, how many infinities, and the largest finite absolute value."""
    nan, inf, largest = 0, 0, 0.0
    for tensor in tensors:
        top = float(tensor.abs().amax()) if tensor.numel() else 0.0
        if not math.isfinite(top):  # most tensors are finite, and then the largest value says all
            nan += int(tensor.isnan().sum())
            inf += int(tensor.isinf().sum())
            top = float(tensor.nan_to_num(0, 0, 0).abs().amax())
        largest = max(largest, top)
    return nan, inf, largest


def first_random_layer(asked: Asked, images: Tensor) -> str:
    """Where do two passes over the same pictures begin to differ? A layer's address, or the layer before which."""
    one, other = (watch(asked, images, _digest) for _ in range(2))
    pairs = list(zip(one, other, strict=False))
    return blame(pairs, lambda pair: _differ(pair[0].given, pair[1].given), lambda p: _differ(p[0].gave, p[1].gave))


def first_not_finite(found: Sequence[Step]) -> str:
    """Where do NaN and infinity begin? A layer's address, or the layer before which."""
    return blame(found, lambda step: not step.input_finite, lambda step: not step.output_finite)


def blame(calls: Sequence[Any], bad_input: Callable[[Any], bool], bad_output: Callable[[Any], bool]) -> str:
    """The first call that makes something bad of something good, in words; "" where nothing bad comes out.

    What a module does between its layers shows as a layer that is given something bad by a module around it that is
    given something good; then the layer and the module are both named.
    """
    first = next((call for call in calls if bad_output(call)), None)
    if first is None:
        return ""
    if not bad_input(first):
        return step_name(first)
    around = next((call for call in calls if bad_output(call) and not bad_input(call)), None)
    return f"before {step_name(first)}" + (f", in {step_name(around)}" if around is not None else "")


def step_name(call: Any) -> str:
    """A call, a step or a pair of them as a person names it: `layer1.0.relu (ReLU)`."""
    first = call[0] if isinstance(call, tuple) else call
    return f"{first.layer or 'the model itself'} ({first.type})"


def _digest(tensors: list[Tensor]) -> list[float]:
    return [float(tensor.double().sum()) for tensor in tensors]


def _differ(one: list[float], other: list[float]) -> bool:
    return len(one) != len(other) or any(a != b for a, b in zip(one, other, strict=True) if a == a or b == b)


def not_finite_state(asked: Asked, images: Tensor) -> tuple[str, ...]:
    """Which parameters, buffers or pictures hold NaN or infinity? Their names; pictures as `picture 3`."""
    with borrowed(asked.model) as module:
        state = [*module.named_parameters(), *module.named_buffers()]
        found = [name for name, tensor in state if tensor.is_floating_point() and not _finite(tensor)]
    return (*found, *(f"picture {index}" for index, image in enumerate(images) if not _finite(image)))


def _finite(tensor: Tensor) -> bool:
    # A sum is finite when all is, but for sums that overflow: those are looked at closely.
    return bool(tensor.detach().sum().isfinite()) or bool(tensor.detach().isfinite().all())
