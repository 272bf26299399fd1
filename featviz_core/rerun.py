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
from featviz_core.capture import check_images, copied, layers_of, placed, with_first_tensor
from featviz_core.errors import LayerError, ModelError
from featviz_core.layouts import first_tensor
from featviz_core.trace import BATCH, Layer, Trace, explained


class Rerun:
    """The part of a model behind one layer: `rerun(activation) -> output`.

    `activation` is what the layer gave for the picture, `(1, ...)`, and `output` the model's answer to it; changed
    activations come in batches `(B, ...)`, or along the layer's own batch axis where that is another one.

    How: the first pass notes what each outermost module before the layer gave, in the order of the calls. In a
    rerun these modules give that back instead of computing (a shared, expanded tensor for the whole batch), and the
    layer gives the changed activation. Skip connections and code between modules run as always; nothing is traced.
    """

    def __init__(self, module: nn.Module, image: Tensor, layer: Layer, steps: Trace) -> None:
        self._module, self._layer = module, layer
        self._steps = {(step.name, step.call): step for step in steps.layers}
        picture = placed(image, module)
        notes = _Notes(module, module.get_submodule(layer.name), layer.call, picture)
        with torch.no_grad(), explained(module, image.shape[1:]):
            self.output: Any = copied(module(picture))
        self._events = notes.finish()
        self.activation: Tensor = _needs_tensor(self._events[-1].value, layer)
        self._share = True

    def __call__(self, activation: Tensor) -> Any:
        """The model's output for changed activations `(B, ...)` of the layer, shaped like `activation` but for B."""
        axis = self._layer.layout.batch_dim if self._layer.layout else 0
        one = self.activation.shape
        batch = activation.shape[axis] // one[axis] if activation.ndim == len(one) else 0
        if batch < 1 or activation.shape != (*one[:axis], batch * one[axis], *one[axis + 1 :]):
            raise LayerError(
                f"The changed activation does not fit layer '{self._layer.address}'.",
                why=f"Expected {tuple(one)} or a batch of such, got {tuple(activation.shape)}.",
            )
        with explained(self._module, self._events[0].value.shape[1:]):
            if self._share:
                try:
                    return self._run(activation, batch)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError:
                    # Some code needs its tensors contiguous (`view`), which shared ones are not.
                    self._share = False
            return self._run(activation, batch)

    def _run(self, activation: Tensor, batch: int) -> Any:
        given = [self._spread(self._events[0], self._events[0].value, batch)]

        def stand_in(module: nn.Module) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if len(given) < len(self._events) and self._events[len(given)].module is module:
                    given.append(self._give_back(given, activation, batch))
                    return given[-1]
                return nn.Module._call_impl(module, *args, **kwargs)  # type: ignore[no-untyped-call]

            return call

        modules = {event.module for event in self._events if event.module is not None}
        try:
            for module in modules:
                # In the place of the whole call: the owner's hooks have been at the noted output already.
                module.__dict__["_call_impl"] = stand_in(module)
            output = self._module(given[0])
        finally:
            for module in modules:
                module.__dict__.pop("_call_impl", None)
        if len(given) != len(self._events):
            raise LayerError(
                f"The model takes another path when layer '{self._layer.address}' changes.",
                do="Choose a layer nearer to the output.",
            )
        return output

    def _give_back(self, given: list[Any], activation: Tensor, batch: int) -> Any:
        event = self._events[len(given)]
        for index, value in event.wrote.items():
            _first(given[index]).data = self._spread(self._events[index], value, batch)
        answer = self._spread(event, event.value, batch)
        if event is self._events[-1]:
            return with_first_tensor(answer, activation.clone())
        return answer if event.same is None else with_first_tensor(answer, _first(given[event.same]))

    def _spread(self, event: _Event, value: Any, batch: int) -> Any:
        """`value`, noted for one picture, for `batch` of them."""
        step = self._steps.get((event.name, event.call)) if event.module is not None else None
        axis = step.layout.batch_dim if step and step.layout else 0

        def spread(tensor: Tensor) -> Tensor:
            if tensor.ndim <= axis:
                return tensor.clone()
            if step and not step.batched:
                # Windows folded into the batch axis are repeated; what does not grow with the batch stays.
                folded = step.shape and step.shape[0] == BATCH * len(tensor)
                return tensor.repeat(batch if folded else 1, *[1] * (tensor.ndim - 1))
            if tensor.shape[axis] != 1:
                return tensor.clone()
            wide = tensor.expand(*tensor.shape[:axis], batch, *tensor.shape[axis + 1 :])
            shared = self._share and not event.written and batch > 1
            return wide if shared else wide.clone(memory_format=torch.contiguous_format)

        return tree_map_only(Tensor, spread, value)


@contextmanager
def rerun_from(model: Model, image: Tensor, *, layer: str) -> Iterator[Rerun]:
    """Which answer would the model give if `layer` gave something else for `image` (1, C, H, W)?

    Gradients can be taken towards the changed activation, not towards parameters.

    Raises `LayerError` as `record` does.
    """
    check_images(image)
    if len(image) != 1:
        raise ModelError("A partial run starts from one picture.", why=f"Expected (1, C, H, W), got {len(image)}.")
    steps = layers_of(model, tuple(image.shape[1:]))
    found = steps.find(layer)
    with borrowed(model) as module:
        module.requires_grad_(False)
        yield Rerun(module, image, found, steps)


@dataclass(slots=True, eq=False)
class _Event:
    """One outermost call before the layer, or the picture itself (no module).

    `value`: a copy of what was given, `raw`: its first tensor itself, at `version`. `written`: code between modules
    wrote on it later. `same`: the earlier event that gave the same tensor object. `wrote`: what earlier events' tensors
    held after this call, where it changed them.
    """

    module: nn.Module | None
    name: str
    call: int
    value: Any
    raw: Tensor | None
    version: int
    same: int | None
    wrote: dict[int, Tensor]
    written: bool = False


class _Notes:
    """Hooks that write down the events of one pass, up to and including the `call`-th call of `target`."""

    def __init__(self, module: nn.Module, target: nn.Module, call: int, picture: Tensor) -> None:
        self._target, self._call = target, call
        self._names = {id(m): name for name, m in module.named_modules()}
        self._calls = Counter[int]()
        self._inside = 0
        self._done = False
        self._events: list[_Event] = []
        self._note(None, "", 0, picture)
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
        for event in self._events:
            event.raw = None
        return self._events

    def _enter(self, _module: nn.Module, _inputs: Any) -> None:
        if not self._done and not self._inside:
            self._mark_written()
        self._inside += 1

    def _leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._inside -= 1
        self._calls[id(module)] += 1
        if self._done or self._inside:
            return
        call = self._calls[id(module)]
        self._note(module, self._names[id(module)], call, output)
        self._done = module is self._target and call == self._call

    def _note(self, module: nn.Module | None, name: str, call: int, output: Any) -> None:
        value, raw = copied(output), first_tensor(output)
        same = next((i for i, event in enumerate(self._events) if raw is not None and event.raw is raw), None)
        wrote = {i: _first(value) if now is raw else now.detach().clone() for i, now in self._changed()}
        self._events.append(_Event(module, name, call, value, raw, raw._version if raw is not None else 0, same, wrote))

    def _mark_written(self) -> None:
        for index, _ in self._changed():
            self._events[index].written = True

    def _changed(self) -> Iterator[tuple[int, Tensor]]:
        """The events whose tensors were written on since the last look, with these tensors."""
        for index, event in enumerate(self._events):
            if event.raw is not None and event.raw._version != event.version:
                event.version = event.raw._version
                yield index, event.raw


def _first(output: Any) -> Tensor:
    tensor = first_tensor(output)
    assert tensor is not None
    return tensor


def _needs_tensor(output: Any, layer: Layer) -> Tensor:
    tensor = first_tensor(output)
    if tensor is None:
        raise LayerError(f"Layer '{layer.address}' gives no tensor.", do="Choose another layer.")
    return tensor
