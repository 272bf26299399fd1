"""Attention weights from queries and keys, as torch's own attention uses them but at full precision."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Parts(NamedTuple):
    """What one attention call works on: `query (..., heads, Q, d)`, `key (..., heads, K, d)`, `value (..., heads, K,
    e)` and `mask`, which is added to the scores (or says with True where attention may go), or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float

    def weights(self) -> Tensor:
        """softmax(q kᵀ · scale + mask) `(..., heads, Q, K)` in float32 at least; a row without any key is all zero."""
        number = torch.promote_types(self.query.dtype, torch.float32)
        scores = (self.query.to(number) * self.scale) @ self.key.to(number).transpose(-2, -1)
        if self.mask is None:
            return scores.softmax(-1)
        masked = scores.masked_fill(~self.mask, -math.inf) if self.mask.dtype == torch.bool else scores + self.mask
        return masked.softmax(-1).masked_fill(masked.isneginf().all(-1, keepdim=True), 0)


def parts_of_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Parts:
    """The parts of a call of `scaled_dot_product_attention`, with its own arguments. Dropout is left out."""
    del dropout_p
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], dim=-3) for t in (key, value))
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    return Parts(query, key, value, attn_mask, query.shape[-1] ** -0.5 if scale is None else scale)


def parts_of_module(module: nn.MultiheadAttention, given: dict[str, Any]) -> Parts:
    """The parts of a call of `nn.MultiheadAttention`, from the arguments of its `forward` by name."""
    tokens = [given[name] for name in ("query", "key", "value")]
    if tokens[0].ndim == 2:
        tokens = [t.unsqueeze(0) for t in tokens]
    elif not module.batch_first:
        tokens = [t.transpose(0, 1) for t in tokens]
    query, key, value = (F.linear(t, w, b) for t, (w, b) in zip(tokens, _projections(module), strict=True))
    if module.bias_k is not None and module.bias_v is not None:
        key, value = (
            torch.cat([t, bias.expand(len(t), 1, -1)], dim=1)
            for t, bias in ((key, module.bias_k), (value, module.bias_v))
        )
    query, key, value = (t.reshape(*t.shape[:2], module.num_heads, -1).transpose(1, 2) for t in (query, key, value))
    if module.add_zero_attn:
        key, value = (F.pad(t, (0, 0, 0, 1)) for t in (key, value))
    return Parts(query, key, value, _mask(module, given, query, key), query.shape[-1] ** -0.5)


def _projections(module: nn.MultiheadAttention) -> list[tuple[Tensor, Tensor | None]]:
    if module._qkv_same_embed_dim:
        weights = list(module.in_proj_weight.chunk(3))
    else:
        weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    biases = [None] * 3 if module.in_proj_bias is None else list(module.in_proj_bias.chunk(3))
    return list(zip(weights, biases, strict=True))


def _mask(module: nn.MultiheadAttention, given: dict[str, Any], query: Tensor, key: Tensor) -> Tensor | None:
    """Both masks of a call as one that is added to the scores, `(N or 1, heads or 1, Q or 1, K)`."""
    total = None
    for name in ("attn_mask", "key_padding_mask"):
        mask = given.get(name)
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(mask, -math.inf)
        if name == "key_padding_mask":
            mask = mask.reshape(len(query), 1, 1, -1)
        elif mask.ndim == 3:
            mask = mask.reshape(len(query), module.num_heads, *mask.shape[1:])
        mask = F.pad(mask, (0, key.shape[-2] - mask.shape[-1]))
        total = mask if total is None else total + mask
    return total


def finish_module(module: nn.MultiheadAttention, weights: Tensor, value: Tensor, given: dict[str, Any]) -> Any:
    """What `nn.MultiheadAttention` gives for these attention weights: its output and, where asked for, the weights."""
    mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
    output = F.linear(mixed, module.out_proj.weight, module.out_proj.bias)
    returned = weights.mean(1) if given.get("average_attn_weights", True) else weights
    if given["query"].ndim == 2:
        output, returned = output.squeeze(0), returned.squeeze(0)
    elif not module.batch_first:
        output = output.transpose(0, 1)
    return output, returned if given.get("need_weights", True) else None
