"""Hooks for one pass: what layers give, and which activation follows each."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from featviz_core.layouts import first_tensor
from featviz_core.trace import Layer, Trace, kind_of

See = Callable[[Layer, Tensor], None]
Follow = Callable[[str, Layer, Tensor], None]

# What hands on a layer's channels one by one, so that an activation behind it is still the layer's.
_TRANSPARENT = ("normalisation", "dropout")


class Watch:
    """One pass through a module, for as long as it is borrowed.

    Calls `see(layer, output)` for each of `layers`, and `follow(address, activation, output)` for the activation that
    one of them feeds, directly or through normalisation and dropout.
    """

    def __init__(self, module: nn.Module, trace: Trace, layers: Mapping[str, Layer], see: See, follow: Follow) -> None:
        self._layers, self._see, self._follow = layers, see, follow
        self._known = {(layer.name, layer.call): layer for layer in trace.layers}
        self._finished = Counter[str]()
        self._fed: dict[str, str | None] = {}
        self._sources: dict[int, tuple[weakref.ref[Tensor], int, str]] = {}
        names = {layer.name for layer in layers.values()}
        for name, inner in module.named_modules():
            kind = kind_of(inner)
            if kind in ("activation", *_TRANSPARENT):
                inner.register_forward_pre_hook(partial(self._enter, name))
            if kind in ("activation", *_TRANSPARENT) or name in names:
                inner.register_forward_hook(partial(self._leave, name, kind))

    def _enter(self, name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Asked for beforehand: the module may work in place.
        self._fed[name] = self._source(first_tensor(inputs))

    def _leave(self, name: str, kind: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._finished[name] += 1
        layer = self._known.get((name, self._finished[name]))
        tensor = first_tensor(output)
        if layer is None or tensor is None or not tensor.is_floating_point():
            return
        tensor = tensor.detach()
        own, fed = layer.address in self._layers, self._fed.pop(name, None)
        if own:
            self._see(layer, tensor)
        if kind == "activation" and fed is not None:
            self._follow(fed, layer, tensor)
        elif kind != "activation" and (fed is not None or own):
            self._note(first_tensor(output), fed or layer.address)

    def _note(self, tensor: Tensor | None, address: str) -> None:
        if tensor is not None and not tensor.is_inference():
            self._sources[id(tensor)] = weakref.ref(tensor), tensor._version, address

    def _source(self, tensor: Tensor | None) -> str | None:
        """Which layer the tensor comes from; none once something was added to it in place."""
        found = self._sources.get(id(tensor))
        if tensor is None or found is None or found[0]() is not tensor or found[1] != tensor._version:
            return None
        return found[2]
