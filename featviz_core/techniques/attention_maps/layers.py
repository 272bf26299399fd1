"""Which layers attend, and what their attention is for given pictures."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featviz_core.borrowing import CANNOT_COPY, Model, borrowed, meta_view, untouched
from featviz_core.capture import check_images, layers_of, placed
from featviz_core.errors import LayerError, ModelError
from featviz_core.techniques.attention_maps.tokens import TokenLayout, grid_of, prefix_names, windows_of
from featviz_core.techniques.attention_maps.watching import Seen, Watch
from featviz_core.trace import BATCH, Trace, explained, first_parameter, split_address

# What a model raises that shape-only tensors cannot get through, or that cannot be copied.
_NEEDS_NUMBERS = (*CANNOT_COPY, AssertionError, LookupError)


@dataclass(frozen=True, slots=True, eq=False)
class AttentionLayer:
    """One attention of a model. `address` is the dotted name of the module that attends, with `#1` for the first of
    several (the bare name stands for the last); `type` its class."""

    name: str
    call: int
    calls: int
    type: str
    heads: int
    layout: TokenLayout

    @property
    def address(self) -> str:
        """The module's dotted name, with the number of the attention where it is not the last."""
        return self.name if self.call == self.calls else f"{self.name}#{self.call}"


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """What one layer did: `weights (N, heads, queries, keys)`, and, where asked for and known, `value_norms (N, heads,
    places)`: the length of what each token would add to the output, ‖v W_O‖. In windows, places are the grid's."""

    layer: AttentionLayer
    weights: Tensor
    value_norms: Tensor | None


Pick = Callable[[Attended], Any]


class _Enough(BaseException):
    """Ends a forward pass early; not an `Exception`, so that no model's own handler takes it."""


_known: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], tuple[AttentionLayer, ...]]] = weakref.WeakKeyDictionary()
_known_guard = threading.Lock()


def attention_layers(model: Model, shape: tuple[int, ...]) -> tuple[AttentionLayer, ...]:
    """Which layers of `model` attend when it looks at pictures of `shape` (C, H, W)? In the order they run; empty for
    a model without attention.

    Costs one pass without numbers; remembered for a `LoadedModel`. Raises `ModelError` when the model cannot run on
    such pictures.
    """
    shape = tuple(shape)
    if isinstance(model, nn.Module):
        return _find_layers(model, shape)
    with _known_guard:
        remembered = _known.setdefault(model, {})
    if shape not in remembered:
        remembered[shape] = _find_layers(model, shape)
    return remembered[shape]


def _find_layers(model: Model, shape: tuple[int, ...]) -> tuple[AttentionLayer, ...]:
    try:
        steps = layers_of(model, shape)
    except ModelError:  # packed batches cannot be traced, yet attention can be seen; what is really wrong shows below
        steps = Trace(())
    with borrowed(model) as module:
        seen = _look(module, shape)
        calls = {s.name: s.call for s in seen}
        return tuple(_describe(module, s, calls[s.name], steps, shape) for s in seen)


def _look(module: nn.Module, shape: tuple[int, ...]) -> list[Seen]:
    """Every attention in one pass, with shapes only where the model allows it."""
    seen: list[Seen] = []

    def run(runner: nn.Module, pictures: Tensor) -> list[Seen]:
        seen.clear()
        with torch.no_grad(), Watch(runner, lambda s: seen.append(_without_numbers(s))):
            runner(pictures)
        return seen

    try:
        view = meta_view(module)
        with untouched(view):
            return run(view, torch.empty(BATCH, *shape, device="meta"))
    except _NEEDS_NUMBERS:
        weight = first_parameter(module)
        with untouched(module), explained(module, shape):
            return run(module, torch.zeros(BATCH, *shape, device=weight.device, dtype=weight.dtype))


def _without_numbers(seen: Seen) -> Seen:
    return seen._replace(weights=seen.weights.to("meta"))


def _describe(module: nn.Module, seen: Seen, calls: int, steps: Trace, shape: tuple[int, ...]) -> AttentionLayer:
    heads, queries, keys = grouped(seen.weights, BATCH, seen.name).shape[2:]
    groups = grouped(seen.weights, BATCH, seen.name).shape[1]
    layout = _layout(module, seen, (groups, queries, keys), steps, shape)
    kind = type(module.get_submodule(seen.name)).__name__
    return AttentionLayer(seen.name, seen.call, calls, kind, heads, layout)


def _layout(
    module: nn.Module, seen: Seen, sizes: tuple[int, int, int], steps: Trace, shape: tuple[int, ...]
) -> TokenLayout:
    groups, queries, keys = sizes
    found = windows_of(module, seen.name, seen.shape)
    if found is not None and found[0].shape == (groups, keys):
        windows, facts = found
        cell = (shape[1] / facts["grid"][0], shape[2] / facts["grid"][1])
        return TokenLayout(facts["grid"][0] * facts["grid"][1], keys, cell=cell, windows=windows, **facts)
    if groups > 1 and queries == keys:
        apart = np.arange(groups * keys).reshape(groups, keys)
        return TokenLayout(groups * keys, keys, grid=(groups, keys), windows=apart, placed=False)
    tokens = grid_of(keys, _grids_before(steps, seen.name)) if groups == 1 else None
    if tokens is None:
        return TokenLayout(groups * queries, keys, grid=(1, keys), placed=False)
    grid, before = tokens
    return TokenLayout(
        queries, keys, grid=grid, cell=(shape[1] / grid[0], shape[2] / grid[1]), prefix=prefix_names(module, before)
    )


def _grids_before(steps: Trace, name: str) -> list[tuple[int, int]]:
    """The grids that tokens and channel maps had on the way to layer `name`, the latest last."""
    order = max((layer.order for layer in steps.layers if layer.name == name), default=-1)
    grids = []
    for layer in sorted(steps.layers, key=lambda layer: layer.order):
        if layer.layout is None or layer.shape is None or (0 <= order < layer.order):
            continue
        if layer.layout.kind == "channels_first" and len(layer.shape) == 4:
            grids.append((layer.shape[2], layer.shape[3]))
        elif layer.layout.kind == "tokens" and layer.layout.grid[0] > 1:
            grids.append(layer.layout.grid)
    return grids


def grouped(weights: Tensor, batch: int, name: str) -> Tensor:
    """Any attention weights as `(N, groups, heads, Q, K)`; windows are groups."""
    first = weights.shape[0]
    if weights.ndim == 5 and first == batch:
        return weights
    if weights.ndim == 4 and first % batch == 0:
        return weights.reshape(batch, first // batch, *weights.shape[1:])
    if weights.ndim == 3 and first % batch == 0:
        return weights.reshape(batch, 1, first // batch, *weights.shape[1:])
    raise LayerError(
        f"The attention of layer '{name}' cannot be told apart by picture.",
        why=f"Expected (N, heads, queries, keys) for {batch} pictures, got {tuple(weights.shape)}.",
    )


def find(model: Model, images: Tensor, addresses: Sequence[str] | None) -> tuple[AttentionLayer, ...]:
    """The attention layers at `addresses`, in the order they run; all, where it is None. Raises `ModelError` for a
    model without attention, `LayerError` for an address that does not attend."""
    check_images(images)
    known = attention_layers(model, tuple(images.shape[1:]))
    if not known:
        raise ModelError("This model has no attention layers.", do="Look at its class activation maps instead.")
    if addresses is None:
        return known
    by_address = {layer.address: layer for layer in known} | {f"{layer.name}#{layer.call}": layer for layer in known}
    for address in addresses:
        if address not in by_address:
            raise LayerError(
                f"Layer '{split_address(address)[0]}' does not attend.",
                do=f"Choose one of {', '.join(layer.address for layer in known)}.",
            )
    chosen = {by_address[address].address for address in addresses}
    return tuple(layer for layer in known if layer.address in chosen)


def record_attention(
    model: Model, images: Tensor, *, layers: Sequence[str] | None = None, pick: Pick, values: bool = False
) -> dict[str, Any]:
    """What do these layers (all, by default) attend to in `images` (N, C, H, W)? `pick(attended)` of each, by address.

    The pass ends behind the last layer; only what `pick` gives is kept. The model computes what it always does.
    Raises `ModelError` and `LayerError` as `attention_maps` does.
    """
    wanted = {(layer.name, layer.call): layer for layer in find(model, images, layers)}
    picked: dict[str, Any] = {}

    with borrowed(model) as module, torch.no_grad(), explained(module, images.shape[1:]):

        def see(seen: Seen) -> None:
            layer = wanted.get((seen.name, seen.call))
            if layer is not None:
                picked[layer.address] = pick(attended_by(module, layer, seen, len(images)))
                if len(picked) == len(wanted):
                    raise _Enough

        try:
            with Watch(module, see, only={name for name, _ in wanted}, values=values):
                module(placed(images, module))
        except _Enough:
            pass
    if missing := [layer.address for layer in wanted.values() if layer.address not in picked]:
        raise LayerError(f"Layer '{missing[0]}' did not attend for these pictures.", do="Choose another layer.")
    return picked


def attended_by(module: nn.Module, layer: AttentionLayer, seen: Seen, batch: int) -> Attended:
    """What was seen, for `batch` pictures and laid out by picture and place."""
    weights = grouped(seen.weights, batch, layer.address)
    norms = None
    if seen.value is not None and (weights.shape[1] == 1 or layer.layout.windows is not None):
        values = seen.value.reshape(*weights.shape[:3], *seen.value.shape[-2:])
        norms = on_grid(_lengths(module.get_submodule(layer.name), values)[..., None], layer)[..., 0]
    return Attended(layer, on_grid(weights, layer), norms)


def on_grid(grouped: Tensor, layer: AttentionLayer) -> Tensor:
    """`(N, groups, heads, Q, K)` as `(N, heads, queries, K)`, windows stitched to the picture's raster order."""
    flat = grouped.transpose(1, 2).flatten(2, 3)
    windows = layer.layout.windows
    if windows is None:
        return flat
    slots = np.zeros(layer.layout.queries, np.intp)
    places = windows.reshape(-1)
    slots[places[places >= 0]] = np.flatnonzero(places >= 0)
    stitched: Tensor = flat[:, :, torch.from_numpy(slots).to(flat.device)]
    return stitched


def _lengths(module: nn.Module, values: Tensor) -> Tensor:
    """‖v W_O‖ of each token and head, for `values (N, groups, heads, K, e)`; ‖v‖ where W_O is not known."""
    width = values.shape[2] * values.shape[4]
    names = ("out_proj", "proj", "merge", "to_out", "o_proj", "dense")
    found = (getattr(module, name, None) for name in names)
    output = next((m for m in found if isinstance(m, nn.Linear) and m.in_features == width), None)
    if output is None:
        alone: Tensor = torch.linalg.vector_norm(values, dim=-1)
        return alone
    heads = output.weight.reshape(len(output.weight), values.shape[2], -1)  # (E, heads, e)
    products = torch.einsum("ohd,ohe->hde", heads, heads)
    lengths: Tensor = ((values @ products) * values).sum(-1).clamp(min=0).sqrt()
    return lengths
