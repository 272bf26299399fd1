"""What a model's layers are: one pass without numbers that lists every call of every module.

The pass runs on a copy without storage ("meta" tensors), so it costs milliseconds and no memory; models that need
real numbers to choose their path are run for real on a batch of two.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.borrowing import CANNOT_COPY, meta_view, untouched
from featviz_core.errors import DeviceError, LayerError, ModelError
from featviz_core.layouts import Layout, LayoutTracker, first_tensor

# Two pictures, so that an axis that grows with the batch can be told from one that happens to be 1.
BATCH = 2
# What shape-only tensors raise where code asks for a number, mixes them with real ones or looks up their device.
_NEEDS_NUMBERS = (*CANNOT_COPY, AssertionError, LookupError)

_KINDS: tuple[tuple[str, tuple[type[nn.Module], ...]], ...] = (
    ("convolution", (nn.modules.conv._ConvNd,)),
    ("linear", (nn.Linear,)),
    (
        "normalisation",
        (
            nn.modules.batchnorm._NormBase,
            nn.LayerNorm,
            nn.RMSNorm,
            nn.GroupNorm,
            nn.LocalResponseNorm,
        ),
    ),
    ("attention", (nn.MultiheadAttention,)),
    (
        "pooling",
        (
            nn.modules.pooling._MaxPoolNd,
            nn.modules.pooling._AvgPoolNd,
            nn.modules.pooling._AdaptiveAvgPoolNd,
            nn.modules.pooling._AdaptiveMaxPoolNd,
        ),
    ),
    ("dropout", (nn.modules.dropout._DropoutNd,)),
)


def kind_of(module: nn.Module) -> str:
    """The family a module belongs to: convolution, linear, normalisation, attention, pooling, dropout, activation,
    block (it contains others) or other."""
    for kind, types in _KINDS:
        if isinstance(module, types):
            return kind
    name = type(module).__name__
    if "Attention" in name or "Attn" in name:
        return "attention"
    if next(module.children(), None) is not None:
        return "block"
    return "activation" if type(module).__module__ == "torch.nn.modules.activation" else "other"


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of one module: where it stands, what it is, and what it gives for one picture.

    `address` is what every technique accepts as `layer`: the module's dotted name, with `#2` for the second of
    several calls; the bare name stands for the last call. `order` counts calls in the order in which they finish,
    and is -1 for a module that is never called; such a module has no `shape` and cannot be looked at.
    """

    name: str
    call: int
    calls: int
    type: str
    kind: str
    parameters: int
    shape: tuple[int, ...] | None
    layout: Layout | None
    batched: bool
    order: int

    @property
    def address(self) -> str:
        """The module's dotted name, with its call where it is not the last."""
        return self.name if self.call == self.calls else f"{self.name}#{self.call}"

    @property
    def depth(self) -> int:
        """How many modules it lies inside; the model itself has depth 0."""
        return self.name.count(".") + 1 if self.name else 0

    @property
    def viewable(self) -> bool:
        """Whether its output can be laid out as channel maps."""
        return self.layout is not None


@dataclass(frozen=True, slots=True)
class Trace:
    """All layers of a model for one input size, in the order of the model's definition."""

    layers: tuple[Layer, ...]

    def find(self, address: str) -> Layer:
        """The layer at `address`.

        Raises `LayerError` when there is none (naming the nearest) or when it is never called.
        """
        name, call = split_address(address)
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            raise no_such_layer(name, [layer.name for layer in self.layers])
        if found[0].order < 0:
            raise LayerError(
                f"Layer '{name}' is never called, so it has no output.",
                why="Its parent uses its parameters directly, or only in training.",
                do="Choose the module around it.",
            )
        wanted = found[0].calls if call is None else call
        if not 1 <= wanted <= found[0].calls:
            raise LayerError(f"Layer '{name}' is called {found[0].calls} times; there is no call {wanted}.")
        return found[wanted - 1]


def no_such_layer(name: str, names: Iterable[str]) -> LayerError:
    """The error for a name that is none of `names`, with the nearest ones."""
    near = difflib.get_close_matches(name, [known for known in names if known], n=3, cutoff=0.3)
    hint = f"The nearest names are {', '.join(near)}." if near else "See `layers()` for all names."
    return LayerError(f"The model has no layer '{name}'.", do=hint)


def split_address(address: str) -> tuple[str, int | None]:
    """`"layer1.0.relu#1"` -> `("layer1.0.relu", 1)`; the call is None where the address names none."""
    name, mark, call = address.rpartition("#")
    return (name, int(call)) if mark and call.isdecimal() else (address, None)


def trace(module: nn.Module, shape: tuple[int, ...]) -> Trace:
    """The layers of `module` for pictures of `shape` (C, H, W), in eval mode.

    Raises `ModelError` when the model cannot run on such pictures.
    """
    try:
        pictures = torch.empty(BATCH, *shape, device="meta", dtype=first_parameter(module).dtype)
        return _run(meta_view(module).eval(), pictures)
    except _NEEDS_NUMBERS:
        weight = first_parameter(module)
        with untouched(module), explained(module, shape):
            return _run(module, torch.zeros(BATCH, *shape, device=weight.device, dtype=weight.dtype))


def first_parameter(module: nn.Module) -> Tensor:
    """A tensor on the module's device with the module's number type."""
    return next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))


@contextmanager
def explained(module: nn.Module, shape: tuple[int, ...]) -> Iterator[None]:
    """Turn what a model raises on pictures of `shape` (C, H, W) into a `ModelError` or `DeviceError` that says so."""
    name = type(module).__name__
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"The device ran out of memory while {name} looked at pictures of shape {tuple(shape)}.",
            do="Use fewer or smaller pictures, or choose the CPU.",
        ) from error
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise ModelError(
            f"{name} cannot look at pictures of shape {tuple(shape)}.",
            why=f"It raised: {(str(error) or type(error).__name__).splitlines()[0].rstrip('.')}.",
            do="Check the number of channels and the picture's size.",
        ) from error


def _run(module: nn.Module, pictures: Tensor) -> Trace:
    names = {id(m): name for name, m in module.named_modules()}
    tracker = LayoutTracker(len(pictures))
    calls: defaultdict[str, list[Layer]] = defaultdict(list)
    finished = Counter[str]()

    def see(m: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name, order = names[id(m)], finished.total()
        finished[name] += 1
        layout, tensor = tracker.see(m, inputs, output), first_tensor(output)
        batched = layout is not None or (tensor is not None and tensor.shape[:1] == (len(pictures),))
        shape = None if tensor is None else _for_one(tensor.shape, layout, batched)
        calls[name].append(_layer(m, name, finished[name], shape, layout, batched, order))

    for m in module.modules():
        m.register_forward_hook(see)
    with torch.no_grad():
        module(pictures)
    layers: list[Layer] = []
    for name, m in module.named_modules():
        never = _layer(m, name, 1, None, None, False, -1)
        layers += [replace(layer, calls=finished[name]) for layer in calls[name]] or [never]
    return Trace(tuple(layers))


def _for_one(shape: torch.Size, layout: Layout | None, batched: bool) -> tuple[int, ...]:
    if not batched:
        return tuple(shape)
    batch_dim = layout.batch_dim if layout else 0
    return tuple(1 if dim == batch_dim else size for dim, size in enumerate(shape))


def _layer(
    module: nn.Module,
    name: str,
    call: int,
    shape: tuple[int, ...] | None,
    layout: Layout | None,
    batched: bool,
    order: int,
) -> Layer:
    parameters = sum(p.numel() for p in module.parameters())
    kind = kind_of(module)
    return Layer(name, call, call, type(module).__name__, kind, parameters, shape, layout, batched, order)
