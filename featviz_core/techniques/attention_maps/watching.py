"""Seeing every attention of a running model, without changing what the model computes.

Three kinds are recognised, each at the module that is running:

- `nn.MultiheadAttention`, by a hook: on the CPU its fused path hands the weights out when asked, at no cost and bit by
  bit the same output; everywhere else the weights are computed beside it, from queries and keys.
- `scaled_dot_product_attention`, by a function mode of this thread: the weights are computed beside it.
- `softmax` over the last axis of at least three, by the same mode: its result is the weights; below float32 they are
  computed once more beside it.

With `graph=True` the weights that the model goes on with are in autograd's graph, so that gradients towards them can
be taken; the fused kernels, which never hold them, are then replaced by the same formula written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featviz_core.layouts import first_tensor
from featviz_core.techniques.attention_maps.scores import Parts, finish_module, parts_of_call, parts_of_module

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax)
_PRODUCTS = (torch.matmul, torch.bmm, torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.bmm)
_ARGUMENTS = (
    "query",
    "key",
    "value",
    "key_padding_mask",
    "need_weights",
    "attn_mask",
    "average_attn_weights",
    "is_causal",
)


class Seen(NamedTuple):
    """One attention: the `call`-th that module `name` does; `weights (..., heads, Q, K)`, `value (..., heads, K, e)`
    where it was asked for and found, and the `shape` of the module's first input."""

    name: str
    call: int
    weights: Tensor
    value: Tensor | None
    shape: tuple[int, ...]


class Watch(TorchFunctionMode):
    """Calls `see(Seen)` for each attention of the modules called `only` (of all, where it is None).

    Use as `with Watch(...)` around forward passes of a borrowed `module`, whose hooks are the borrower's to put back.
    The mode itself is on only while one of these modules runs.
    """

    def __init__(
        self,
        module: nn.Module,
        see: Callable[[Seen], None],
        *,
        only: Collection[str] | None = None,
        values: bool = False,
        graph: bool = False,
    ) -> None:
        super().__init__()
        self._see, self._values, self._graph = see, values, graph
        self._calls = Counter[str]()
        self._running: list[tuple[str, tuple[int, ...]]] = []
        self._pending: Seen | None = None
        self._module, self._only = module, only

    def __enter__(self) -> Watch:
        names = {m: name for name, m in self._module.named_modules()}
        modules = [m for m, name in names.items() if self._only is None or name in self._only]
        for m in modules:
            if isinstance(m, nn.MultiheadAttention):
                self._watch_multihead(m, names[m])
        others = [m for m in modules if not isinstance(m, nn.MultiheadAttention)]
        for m in {inner for outer in others for inner in outer.modules()}:
            # A softmax that is a module of its own belongs to the module around it.
            if not isinstance(m, nn.Softmax):
                m.register_forward_pre_hook(self._started(names[m]), with_kwargs=True)
                m.register_forward_hook(self._finished, always_call=True)
        for m in names:
            if isinstance(m, nn.TransformerEncoder):
                m.use_nested_tensor = False  # its packed batches have no weights to look at
        return self

    def __exit__(self, *_error: object) -> None:
        self._pending = None
        while self._running:
            self._finished()

    def _started(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensor = first_tensor((*args, *kwargs.values()))
            if not self._running:
                super(Watch, self).__enter__()  # type: ignore[no-untyped-call]
            self._running.append((name, () if tensor is None else tuple(tensor.shape)))

        return hook

    def _finished(self, *_call: Any) -> None:
        if not self._running:
            return
        self._settle()
        self._running.pop()
        if not self._running:
            super().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._fused(func, args, kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX and _is_attention(result, args, kwargs):
            weights = self._note(*self._running[-1], _at_full_precision(result, args, kwargs))
            return weights.to(result.dtype) if self._graph else result
        if self._pending is not None and func in _PRODUCTS:
            operands = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            if len(operands) == 2 and operands[0].shape == self._pending.weights.shape:
                self._settle(operands[1])
        return result

    def _fused(self, func: Any, args: Any, kwargs: Any) -> Any:
        parts = parts_of_call(*args, **kwargs)
        weights = self._note(*self._running[-1], parts.weights())
        self._settle(parts.value)
        return (weights.to(parts.value.dtype) @ parts.value) if self._graph else func(*args, **kwargs)

    def _note(self, name: str, shape: tuple[int, ...], weights: Tensor) -> Tensor:
        """Keep attention weights until their values are known; give what the model goes on with."""
        self._settle()
        if self._graph and not weights.requires_grad:
            weights = weights.detach().requires_grad_()
        self._calls[name] += 1
        self._pending = Seen(name, self._calls[name], weights, None, shape)
        if not self._values:
            self._settle()
        return weights

    def _settle(self, value: Tensor | None = None) -> None:
        seen, self._pending = self._pending, None
        if seen is not None:
            wanted = value.detach() if self._values and value is not None else None
            self._see(seen._replace(value=wanted))

    def _watch_multihead(self, module: nn.MultiheadAttention, name: str) -> None:
        if self._graph:
            module.forward = self._written_out(module, name)  # type: ignore[method-assign]
            # `nn.TransformerEncoderLayer` goes past modules without hooks in one fused step.
            module.register_forward_hook(lambda *_call: None)
            return
        asked: list[dict[str, Any]] = []

        def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
            if not self._values and _hands_weights_out(module, given):
                asked.append(given)
                return (), given | {"need_weights": True, "average_attn_weights": False}
            self._beside(name, given, parts_of_module(module, given))
            return None

        def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not asked:
                return None
            given, (mixed, weights) = asked.pop(), output
            self._note(name, tuple(given["query"].shape), weights)
            self._settle()
            averaged = weights.mean(1) if given.get("average_attn_weights", True) else weights
            return mixed, averaged if given.get("need_weights", True) else None

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after)

    def _beside(self, name: str, given: dict[str, Any], parts: Parts) -> Tensor:
        with torch._C.DisableTorchFunction():  # our own softmax is none of the model's
            weights = parts.weights()
        weights = self._note(name, tuple(given["query"].shape), weights)
        self._settle(parts.value)
        return weights

    def _written_out(self, module: nn.MultiheadAttention, name: str) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
            parts = parts_of_module(module, given)
            return finish_module(module, self._beside(name, given, parts), parts.value, given)

        return forward


def _is_attention(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a softmax looks like attention: over the last axis (keys), with an axis of queries before it."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if not isinstance(result, Tensor) or result.ndim < 3 or dim not in (-1, result.ndim - 1):
        return False
    return result.shape[-1] > 1 and (result.ndim > 3 or result.shape[-2] > 1)


def _at_full_precision(result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A softmax over the last axis, in float32 at least."""
    if torch.promote_types(result.dtype, torch.float32) == result.dtype:
        return result
    scores: Tensor = args[0] if args else kwargs["input"]
    return scores.float().softmax(-1)


def _hands_weights_out(module: nn.MultiheadAttention, given: dict[str, Any]) -> bool:
    """Whether torch's fused path holds the weights anyway: on the CPU, for plain self-attention without gradients."""
    query = given["query"]
    return (
        not torch.is_grad_enabled()
        and query.device.type == "cpu"
        and query.dtype == torch.float32
        and query.ndim == 3
        and query is given["key"]
        and query is given["value"]
        and given.get("attn_mask") is None
        and given.get("key_padding_mask") is None
        and module.batch_first
        and module._qkv_same_embed_dim
        and module.num_heads % 2 == 0
        and module.bias_k is None
        and not module.add_zero_attn
    )
