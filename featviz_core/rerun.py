"""Running only what follows a layer: what would the model answer if the layer gave something else?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import copied, layers_of, placed, with_first_tensor
from featviz_core.errors import LayerError, ModelError
from featviz_core.layouts import first_tensor
from featviz_core.trace import Layer, Trace, explained


class Rerun:
    """The part of a model behind one layer: `rerun(activation) -> output`.

    `activation` is what the layer gave for the picture, `(1, ...)`, and `output` the model's answer to it; changed
    activations come in batches `(B, ...)`.

    How: the first pass notes what each outermost module before the layer gave, in the order of the calls. In a
    rerun these modules give that back instead of computing (a shared, expanded tensor for the whole batch), and the
    layer gives the changed activation. Skip connections and code between modules run as always; nothing is traced.
    """

    def __init__(self, module: nn.Module, image: Tensor, layer: Layer, steps: Trace) -> None:
        self._module, self._layer = module, layer
        self._image = placed(image, module)
        self._target = module.get_submodule(layer.name)
        self._batched = {(step.name, step.call): step.batched for step in steps.layers}
        notes = _Notes(module, self._target, layer.call, self._image)
        with torch.no_grad(), explained(module, image.shape[1:]):
            self.output: Any = copied(module(self._image))
        self._events = notes.finish()
        self.activation: Tensor = _needs_tensor(self._events[-1].value, layer)
        self._image_written = notes.image_written
        self._forwards = {event.module: event.module.forward for event in self._events}
        self._replaced = {module: module.__dict__.get("forward") for module in self._forwards}

    def __call__(self, activation: Tensor) -> Any:
        """The model's output for changed activations `(B, ...)` of the layer, shaped like `activation` but for B."""
        if activation.shape[1:] != self.activation.shape[1:]:
            raise LayerError(
                f"The changed activation does not fit layer '{self._layer.address}'.",
                why=f"Expected (B, {str(tuple(self.activation.shape[1:]))[1:]}, got {tuple(activation.shape)}.",
            )
        batch = len(activation)
        given = [self._spread(event, batch) for event in self._events[:-1]]
        given.append(with_first_tensor(self._events[-1].value, activation.clone()))
        cursor = 0

        def give_back(module: nn.Module) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                nonlocal cursor
                if cursor < len(given) and self._events[cursor].module is module:
                    cursor += 1
                    return given[cursor - 1]
                return self._forwards[module](*args, **kwargs)

            return forward

        try:
            for module in self._forwards:
                module.__dict__["forward"] = give_back(module)
            output = self._module(_expand(self._image, batch, copy=self._image_written))
        finally:
            for module, own in self._replaced.items():
                if own is None:
                    module.__dict__.pop("forward", None)
                else:
                    module.__dict__["forward"] = own
        if cursor != len(given):
            raise LayerError(
                f"The model takes another path when layer '{self._layer.address}' changes.",
                do="Choose a layer nearer to the output.",
            )
        return output

    def _spread(self, event: _Event, batch: int) -> Any:
        if not self._batched.get((event.name, event.call), True):
            return copied(event.value) if event.written else event.value
        return tree_map_only(Tensor, lambda t: _expand(t, batch, copy=event.written), event.value)


@contextmanager
def rerun_from(model: Model, image: Tensor, *, layer: str) -> Iterator[Rerun]:
    """Which answer would the model give if `layer` gave something else for `image` (1, C, H, W)?

    Raises `LayerError` as `record` does.
    """
    if len(image) != 1:
        raise ModelError("A partial run starts from one picture.", why=f"Expected (1, C, H, W), got {len(image)}.")
    steps = layers_of(model, tuple(image.shape[1:]))
    found = steps.find(layer)
    with borrowed(model) as module:
        yield Rerun(module, image, found, steps)


@dataclass(slots=True)
class _Event:
    """One outermost call before the layer: which module, what it gave, and whether code between modules wrote on it."""

    module: nn.Module
    name: str
    call: int
    value: Any
    raw: Tensor | None
    version: int
    written: bool = False


class _Notes:
    """Hooks that write down the events of one pass, up to and including the `call`-th call of `target`."""

    def __init__(self, module: nn.Module, target: nn.Module, call: int, image: Tensor) -> None:
        self._target, self._call = target, call
        self._image, self._image_version = image, image._version
        self._names = {id(m): name for name, m in module.named_modules()}
        self._calls = Counter[int]()
        self._inside = 0
        self._done = False
        self._events: list[_Event] = []
        self._hooks = []
        for m in module.modules():
            if m is target or not any(inner is target for inner in m.modules()):
                self._hooks.append(m.register_forward_pre_hook(self._enter))
                self._hooks.append(m.register_forward_hook(self._leave))

    def finish(self) -> list[_Event]:
        """The events, once the pass is over."""
        for hook in self._hooks:
            hook.remove()
        if not self._done:
            raise LayerError("The layer was not reached.", do="Choose a layer that this picture's pass calls.")
        self._mark_written()
        return self._events

    @property
    def image_written(self) -> bool:
        """Whether the model wrote on its input."""
        return self._image._version != self._image_version

    def _enter(self, _module: nn.Module, _inputs: Any) -> None:
        if not self._done and not self._inside:
            self._mark_written()
        self._inside += 1

    def _leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._inside -= 1
        self._calls[id(module)] += 1
        if self._done or self._inside:
            return
        # What a finished module wrote on earlier outputs needs no repeating: it will not run again.
        for event in self._events:
            event.version = event.raw._version if event.raw is not None else 0
        call, raw = self._calls[id(module)], first_tensor(output)
        version = raw._version if raw is not None else 0
        self._events.append(_Event(module, self._names[id(module)], call, copied(output), raw, version))
        self._done = module is self._target and call == self._call

    def _mark_written(self) -> None:
        for event in self._events:
            if event.raw is not None and event.raw._version != event.version:
                event.written = True


def _expand(tensor: Tensor, batch: int, *, copy: bool) -> Tensor:
    spread = tensor.expand(batch, *tensor.shape[1:])
    return spread.clone() if copy else spread


def _needs_tensor(output: Any, layer: Layer) -> Tensor:
    tensor = first_tensor(output)
    if tensor is None:
        raise LayerError(f"Layer '{layer.address}' gives no tensor.", do="Choose another layer.")
    return tensor
