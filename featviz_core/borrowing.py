"""Using a model that others use too, and leaving nothing behind.

Hooks, modes, flags and gradients on a shared `nn.Module` are everybody's: with eight threads, naive forward
hooks hand nearly every thread somebody else's activations. So nothing in FeatViz touches a module except inside
`borrowed(model)`, which lends either a structural view (modules of its own over shared parameter storage) or,
where a module cannot be copied, the module itself behind a lock; and puts everything back on every way out.
"""

from __future__ import annotations

import copy
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

# Every module's own dictionaries: parameters, buffers, children and all kinds of hooks.
_REGISTRIES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
CANNOT_COPY = (TypeError, RuntimeError, AttributeError, ValueError, copy.Error, pickle.PickleError)
_MOST_VIEWS = 8


class Lender(Protocol):
    """Anything that lends a module: `LoadedModel`, or a user's own wrapper."""

    def borrow(self, *, training: bool = False) -> AbstractContextManager[nn.Module]:
        """Lend the module in the given mode and put everything back afterwards."""


Model = nn.Module | Lender


@contextmanager
def untouched(module: nn.Module, *, training: bool = False) -> Iterator[nn.Module]:
    """Run a block with `module` in the given mode, and leave the module as it was on every way out.

    Put back: modes, hooks, attributes (replaced `forward`s included), `requires_grad`, `.grad`, and the numbers in
    buffers (BatchNorm statistics). Inside the block every `.grad` is `None`, so that nothing can be added to the
    owner's gradients.
    """
    with ExitStack() as put_back:
        for m in module.modules():
            put_back.callback(_remember_module(m))
        for parameter in module.parameters():
            put_back.callback(_remember_parameter(parameter))
        module.train(training)
        yield module


def _remember_module(module: nn.Module) -> Callable[[], None]:
    attributes = dict(vars(module))
    registries = {name: dict(attributes[name]) for name in _REGISTRIES if name in attributes}
    buffers = [(buffer, buffer.clone()) for buffer in module._buffers.values() if buffer is not None]

    def put_back() -> None:
        _refill(vars(module), attributes)
        for name, content in registries.items():
            _refill(attributes[name], content)
        for buffer, value in buffers:
            # Compared by value: BatchNorm writes its statistics without counting up `_version`.
            if not torch.equal(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)

    return put_back


def _refill(now: dict[str, Any], before: dict[str, Any]) -> None:
    for name in [name for name in now if name not in before]:
        del now[name]
    now.update(before)


def _remember_parameter(parameter: nn.Parameter) -> Callable[[], None]:
    requires_grad, grad = parameter.requires_grad, parameter.grad
    parameter.grad = None

    def put_back() -> None:
        parameter.requires_grad_(requires_grad)
        parameter.grad = grad

    return put_back


def structural_view(module: nn.Module) -> nn.Module:
    """A copy of the module tree over the same parameter storage; its buffers, hooks and flags are its own."""
    return _copy_over(module, lambda tensor: tensor.detach())


def meta_view(module: nn.Module) -> nn.Module:
    """A copy of the module tree without any numbers: it computes shapes only, at almost no cost."""
    return _copy_over(module, lambda tensor: torch.empty_like(tensor, device="meta"), buffers=True)


def _copy_over(module: nn.Module, replace: Callable[[Tensor], Tensor], *, buffers: bool = False) -> nn.Module:
    if any("forward" in vars(m) for m in module.modules()):
        # A function put in `forward`'s place holds on to the original, so its copy would run the original's layers.
        raise copy.Error("A module has its own `forward`.")
    memo: dict[int, Any] = {id(p): nn.Parameter(replace(p), requires_grad=p.requires_grad) for p in module.parameters()}
    if buffers:
        memo |= {id(b): replace(b) for b in module.buffers()}
    return copy.deepcopy(module, memo)


class Pool:
    """The views of one module: lent to one thread at a time each, made when needed, at most eight.

    A module that cannot be copied (locks, open files, tensors inside a graph) is lent itself, to one at a time.
    """

    def __init__(self, module: nn.Module) -> None:
        self._template = module
        self._idle: list[nn.Module] = []
        self._made = 0
        self._can_copy = True
        self._changed = threading.Condition()

    @contextmanager
    def borrow(self, *, training: bool = False) -> Iterator[nn.Module]:
        """Lend a view in the given mode; blocks while all are out."""
        view = self._take()
        if view is None:
            with borrowed(self._template, training=training) as module:
                yield module
            return
        try:
            with untouched(view, training=training):
                yield view
        finally:
            with self._changed:
                self._idle.append(view)
                self._changed.notify()

    def _take(self) -> nn.Module | None:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._made < _MOST_VIEWS or not self._can_copy)
            if self._idle:
                return self._idle.pop()
            if not self._can_copy:
                return None
            self._made += 1
        try:
            # Nobody may be using the module itself meanwhile, or the view would inherit their hooks and modes.
            with _lock_of(self._template):
                return structural_view(self._template)
        except BaseException as error:
            cannot_copy = isinstance(error, CANNOT_COPY)
            with self._changed:
                self._made -= 1
                self._can_copy &= not cannot_copy
                self._changed.notify_all()
            if not cannot_copy:
                raise
            return None


_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()


def _lock_of(module: nn.Module) -> threading.RLock:
    with _locks_guard:
        return _locks.setdefault(module, threading.RLock())


@contextmanager
def borrowed(model: Model, *, training: bool = False) -> Iterator[nn.Module]:
    """Use `model`, a plain module or anything that lends one, and leave it as it was.

    A plain module is used in place, by one thread at a time.
    """
    if not isinstance(model, nn.Module):
        with model.borrow(training=training) as module:
            yield module
        return
    with _lock_of(model), untouched(model, training=training):
        yield model
