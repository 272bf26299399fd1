"""From the attention of every layer to one map of the whole model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featviz_core.errors import ModelError
from featviz_core.techniques.attention_maps.tokens import TokenLayout

Fusion = Literal["mean", "max", "min"]
FUSIONS: tuple[Fusion, ...] = ("mean", "max", "min")

Matrix = NDArray[np.floating[Any]]


def fuse(weights: Matrix, fusion: Fusion) -> Matrix:
    """One matrix for all heads: `(N, heads, T, T)` to `(N, T, T)`. Raises `ValueError` for an unknown fusion."""
    if fusion not in FUSIONS:
        raise ValueError(f"Expected a fusion of {', '.join(FUSIONS)}, got {fusion!r}.")
    fused: Matrix = getattr(weights, fusion)(axis=1)
    return fused


def roll_out(
    fused: Iterable[Matrix], *, discard: float = 0.0, residual: float = 0.5, prefix: int = 0, normalize: bool = True
) -> Matrix:
    """How much of each token's output comes from each token of the picture? `(N, T, T)`.

    `Â = residual · I + (1 - residual) · A` for the fused attention `A (N, T, T)` of each layer, first to last, rows
    made to sum to 1 (unless told otherwise), and `Â_L ··· Â_1` of all. `discard`, a share in [0, 1), sets the
    smallest of a picture's weights to zero before that; weights on the `prefix` first tokens always stay.

    Raises `ValueError` for shares outside their range. Source: Abnar and Zuidema, ACL 2020.
    """
    if not 0 <= discard < 1 or not 0 <= residual <= 1:
        raise ValueError(f"Expected discard in [0, 1) and residual in [0, 1], got {discard} and {residual}.")
    joint: Matrix | None = None
    for attention in fused:
        kept = _discard(attention, discard, prefix) if discard else attention
        mixed = residual * np.eye(kept.shape[-1], dtype=kept.dtype) + (1 - residual) * kept
        if normalize:
            total = mixed.sum(axis=-1, keepdims=True)
            mixed = np.divide(mixed, total, out=np.zeros_like(mixed), where=total > 0)
        joint = mixed if joint is None else mixed @ joint
    if joint is None:
        raise ValueError("Expected the attention of at least one layer.")
    return joint


def _discard(attention: Matrix, share: float, prefix: int) -> Matrix:
    pictures = attention[:, :, prefix:].reshape(len(attention), -1)
    drop = int(share * pictures.shape[1])
    if not drop:
        return attention
    kept = pictures.copy()
    smallest = np.argpartition(pictures, drop - 1, axis=1)[:, :drop]
    np.put_along_axis(kept, smallest, 0, axis=1)
    rest = kept.reshape(len(attention), attention.shape[1], -1)
    return np.concatenate([attention[:, :, :prefix], rest], axis=2)


def relevance_of(gradient_weighted: Iterable[Matrix]) -> Matrix:
    """`(N, T, T)` relevance of each token for each: `R ← R + Ā R` from `R = I`, where `Ā = E_heads[(∇A ⊙ A)⁺]`.

    Source: Chefer, Gur and Wolf, ICCV 2021, for models with self-attention only.
    """
    joint: Matrix | None = None
    for attention in gradient_weighted:
        start = np.eye(attention.shape[-1], dtype=attention.dtype)[None] if joint is None else joint
        joint = start + attention @ start
    if joint is None:
        raise ValueError("Expected the attention of at least one layer.")
    return joint


def to_map(joint: Matrix, layout: TokenLayout) -> NDArray[np.float32]:
    """The picture's part of a joint matrix `(N, T, T)`: `(N, h, w)` of the class token's row; the mean over all rows
    where there is no class token."""
    row = joint[:, layout.prefix.index("class")] if "class" in layout.prefix else joint.mean(axis=1)
    return row[:, len(layout.prefix) :].reshape(-1, *layout.grid).astype(np.float32)


def share_one_grid(layouts: Iterable[TokenLayout]) -> bool:
    """Whether in all layers all tokens look at all tokens of one grid, so that their matrices can be multiplied."""
    found = {
        (layout.queries, layout.keys, layout.grid, layout.prefix, layout.placed and layout.windows is None)
        for layout in layouts
    }
    if len(found) != 1:
        return False
    queries, keys, grid, prefix, everywhere = next(iter(found))
    return everywhere and queries == keys == len(prefix) + math.prod(grid)


def check_one_grid(layouts: Sequence[TokenLayout]) -> None:
    """Raises `ModelError` for layers whose matrices cannot be multiplied."""
    if not share_one_grid(layouts):
        raise ModelError(
            "Rollout and relevance cannot be followed through these layers.",
            why="They multiply the attention of all layers, but these look at windows or at grids of several sizes.",
            do="Look at single layers, or at class activation maps.",
        )
