"""Every head of every layer at a glance, from one pass that keeps only a small map of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.borrowing import Model
from featviz_core.findings import Finding
from featviz_core.techniques.attention_maps.layers import Attended, AttentionLayer, record_attention
from featviz_core.techniques.attention_maps.statistics import findings_of, head_statistics


@dataclass(frozen=True, slots=True, eq=False)
class AttentionOverview:
    """All layers and heads for one picture.

    `maps {address: (heads, h, w)}`: where the class token looks, each a share in [0, 1]; without a class token, how
    much attention each place gets, on average over the queries that can see it. `frame`: `head_statistics` of all
    layers; `findings`: what is wrong with them.
    """

    layers: tuple[AttentionLayer, ...]
    maps: dict[str, NDArray[np.float32]]
    frame: pd.DataFrame
    findings: tuple[Finding, ...]


def attention_overview(model: Model, image: Tensor) -> AttentionOverview:
    """What does every head of every layer look at in `image` (1, C, H, W)?

    Raises `ModelError` as `attention_maps` does.
    """
    kept = record_attention(model, image, pick=_summarise, values=True)
    layers = tuple(layer for layer, _, _ in kept.values())
    frame = pd.concat([frame for _, _, frame in kept.values()], ignore_index=True)
    findings = findings_of(frame, [layer.layout for layer in layers])
    return AttentionOverview(layers, {layer.address: maps for layer, maps, _ in kept.values()}, frame, findings)


def _summarise(attended: Attended) -> tuple[AttentionLayer, NDArray[np.float32], pd.DataFrame]:
    maps = _received(attended)[0].float().cpu().numpy()
    return attended.layer, maps, head_statistics(attended)


def _received(attended: Attended) -> Tensor:
    """`(N, heads, h, w)`: the class token's row, or the attention that each place gets."""
    layout, weights = attended.layer.layout, attended.weights
    if layout.windows is None:
        own = "class" in layout.prefix and layout.queries == layout.keys
        row = weights[:, :, layout.prefix.index("class")] if own else weights.mean(2)
        return row[:, :, len(layout.prefix) :].reshape(*row.shape[:2], *layout.grid)
    owners = torch.from_numpy(layout.windows[layout.window_of()]).to(weights.device).flatten()
    real = owners >= 0
    gets = weights.new_zeros(*weights.shape[:2], layout.queries)
    gets.index_add_(2, owners[real], weights.flatten(2)[:, :, real])
    return gets.div(layout.keys).reshape(*gets.shape[:2], *layout.grid)
