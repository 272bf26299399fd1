"""The one way into a model: what its layers give and get, gradients towards them, and partial runs.

- `record`: outputs (and inputs) of layers, stopping the forward pass after the last one needed.
- `gradients`: gradients of scalars towards layers' outputs; the part before them stays outside the graph.

Running only what follows a layer is next door, in `rerun`. All work on a borrowed model in eval mode and take layer
addresses as in `trace.Layer.address`. Whatever they hand out is a copy, so in-place modules behind a layer cannot
change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from featviz_core.borrowing import Model, borrowed
from featviz_core.errors import LayerError, ModelError
from featviz_core.layouts import first_tensor
from featviz_core.trace import Layer, Trace, explained, first_parameter, split_address, trace

Pick = Callable[[Layer, Any], Any]


class _Stop(BaseException):
    """Ends a forward pass early; not an `Exception`, so that no model's own handler takes it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a pass over `images` showed, by layer address.

    `outputs` and `inputs` hold detached copies on the model's device; `output` is the model's own answer, or None
    where the pass was stopped before it.
    """

    layers: Mapping[str, Layer]
    outputs: Mapping[str, Any]
    inputs: Mapping[str, tuple[Any, ...]]
    output: Any


@dataclass(frozen=True, slots=True)
class Gradients:
    """Activations and gradients at layers: `gradients[layer][i]` belongs to the i-th scalar and has the shape of
    `activations[layer]`; it is all zero where the scalar does not depend on the layer."""

    layers: Mapping[str, Layer]
    activations: Mapping[str, Tensor]
    gradients: Mapping[str, list[Tensor]]
    output: Any


def layers_of(model: Model, shape: tuple[int, ...]) -> Trace:
    """All layers of `model` for pictures of `shape` (C, H, W); a model that remembers its trace is asked for it."""
    remembered = getattr(model, "trace", None)
    if callable(remembered) and not isinstance(model, nn.Module):
        found: Trace = remembered(shape)
        return found
    with borrowed(model) as module:
        return trace(module, shape)


def record(
    model: Model,
    images: Tensor,
    *,
    layers: Sequence[str],
    with_inputs: bool = False,
    stop_early: bool = True,
    pick: Pick | None = None,
) -> Recording:
    """What do these layers give for `images` (N, C, H, W)?

    With `stop_early` the pass ends once every layer has been seen. `pick(layer, output)` chooses what to keep of an
    output (a thumbnail, a statistic); by default a copy of all of it.

    Raises `LayerError` for a layer that does not exist or is never called, `ModelError` for pictures that the model
    cannot look at.
    """
    found = _find(model, images, layers)
    outputs: dict[str, Any] = {}
    inputs: dict[str, tuple[Any, ...]] = {}
    answer: Any = None

    def see(address: str, given: tuple[Any, ...], output: Any) -> None:
        outputs[address] = pick(found[address], output) if pick else copied(output)
        inputs.update({address: given} if with_inputs else {})
        if stop_early and len(outputs) == len(found):
            raise _Stop

    with borrowed(model) as module, torch.no_grad():
        _watch(module, found, see, with_inputs=with_inputs)
        try:
            with explained(module, images.shape[1:]):
                answer = module(placed(images, module))
        except _Stop:
            pass
        else:
            _all_seen(found, outputs)
    return Recording(found, outputs, inputs, None if answer is None else copied(answer))


def gradients(
    model: Model,
    images: Tensor,
    *,
    layers: Sequence[str],
    scalars: Callable[[Any], Sequence[Tensor]],
) -> Gradients:
    """How do scalars of the model's output change with what these layers give?

    `scalars(output)` picks any number of 0-dimensional tensors (class scores, a loss) from the model's output; one
    forward pass and one backward pass for each serve all layers. `.grad` of the parameters is never touched, and
    everything before the first layer stays outside the graph.

    Raises `LayerError` as `record` does, and for a layer whose output holds no tensor.
    """
    found = _find(model, images, layers)
    activations: dict[str, Tensor] = {}

    def see(address: str, _given: tuple[Any, ...], output: Any) -> Any:
        tensor = first_tensor(output)
        if tensor is None or not tensor.is_floating_point():
            raise LayerError(f"Layer '{address}' gives no tensor of real numbers.", do="Choose another layer.")
        leaf = tensor.clone() if tensor.requires_grad else tensor.detach().clone().requires_grad_()
        activations[address] = leaf
        # Behind the layer goes a copy: an in-place module may not write on what we keep.
        return with_first_tensor(output, leaf.clone())

    with borrowed(model) as module, torch.enable_grad():
        module.requires_grad_(False)
        _watch(module, found, see)
        with explained(module, images.shape[1:]):
            output = module(placed(images, module))
        _all_seen(found, activations)
        wanted = list(scalars(output))
        last = len(wanted) - 1
        with explained(module, images.shape[1:]):
            rows = [_towards(scalar, list(activations.values()), keep=i < last) for i, scalar in enumerate(wanted)]
    return Gradients(
        layers=found,
        activations={address: activation.detach() for address, activation in activations.items()},
        gradients={address: [row[i] for row in rows] for i, address in enumerate(activations)},
        output=copied(output),
    )


def _towards(scalar: Tensor, activations: list[Tensor], *, keep: bool) -> list[Tensor]:
    if not scalar.requires_grad:
        return [torch.zeros_like(activation) for activation in activations]
    found = torch.autograd.grad(scalar, activations, retain_graph=keep, allow_unused=True)
    return [torch.zeros_like(a) if g is None else g for a, g in zip(activations, found, strict=True)]


def _find(model: Model, images: Tensor, addresses: Sequence[str]) -> dict[str, Layer]:
    check_images(images)
    if not addresses:
        raise LayerError("No layer was named.", do="Name at least one layer.")
    steps = layers_of(model, tuple(images.shape[1:]))
    return {address: steps.find(address) for address in addresses}


def check_images(images: Tensor) -> None:
    """Raise `ModelError` for what are not pictures `(N, C, H, W)`."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not len(images):
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ModelError(
            "The pictures have the wrong form.",
            why=f"Expected a float tensor (N, C, H, W) with at least one picture, got {got}.",
            do="Use `preprocess` of the loaded model, or add the batch axis with `images[None]`.",
        )


def _watch(
    module: nn.Module, found: Mapping[str, Layer], see: Callable[..., Any], *, with_inputs: bool = False
) -> None:
    """Call `see(address, inputs, output)` when a layer has been called as often as its address says; what it
    returns takes the output's place."""
    for address, layer in found.items():
        _watch_one(module.get_submodule(layer.name), address, layer.call, see, with_inputs)


def _watch_one(module: nn.Module, address: str, call: int, see: Callable[..., Any], with_inputs: bool) -> None:
    started, finished, given = 0, 0, ()

    def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal started, given
        started += 1
        if started == call:
            given = copied(inputs)

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal finished
        finished += 1
        return see(address, given, output) if finished == call else None

    if with_inputs:
        module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _all_seen(found: Mapping[str, Layer], seen: Mapping[str, Any]) -> None:
    if missing := [address for address in found if address not in seen]:
        raise LayerError(
            f"Layer '{missing[0]}' was not called for these pictures.",
            why=f"The model calls '{split_address(missing[0])[0]}' for some inputs only.",
            do="Choose the module around it.",
        )


def placed(images: Tensor, module: nn.Module) -> Tensor:
    """A copy of `images`, which the model may write on, on the module's device and in its number type."""
    weight = first_parameter(module)
    return images.detach().to(device=weight.device, dtype=weight.dtype, copy=True)


def copied(output: Any) -> Any:
    """`output` with every tensor in it replaced by a detached copy."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), output)


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """`output` with its first tensor replaced."""
    replaced = False

    def swap(old: Tensor) -> Tensor:
        nonlocal replaced
        first, replaced = not replaced, True
        return tensor if first else old

    return tree_map_only(Tensor, swap, output)
