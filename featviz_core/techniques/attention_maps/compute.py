"""The attention maps of a model, and what can be read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.borrowing import Model
from featviz_core.errors import LayerError, ModelError
from featviz_core.findings import Finding
from featviz_core.techniques.attention_maps import rollout
from featviz_core.techniques.attention_maps.layers import Attended, AttentionLayer, find, record_attention
from featviz_core.techniques.attention_maps.relevance import attention_gradients
from featviz_core.techniques.attention_maps.statistics import findings_of, head_statistics
from featviz_core.techniques.attention_maps.tokens import TokenLayout

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Who looks at whom, in every head of some layers.

    - `weights {address: (N, heads, queries, keys)}`: float32 in [0, 1], each row sums to 1 over keys (windows of Swin
      and MaxViT: queries are all places of the picture, keys those of the query's own window; see `layout`).
    - `value_norms {address: (N, heads, places)}`: the length of what each token can add, ‖v W_O‖, where asked for.
    - `gradients` like `weights`, and `targets (N,)`, where a target was given: how the target's score changes with
      each weight. `relevance (N, h, w)` then is Chefer et al.'s (ICCV 2021) map, at least 0, in the score's units; None
      where the layers' attention cannot be multiplied (windows, grids of several sizes).
    """

    layers: tuple[AttentionLayer, ...]
    weights: dict[str, Array]
    value_norms: dict[str, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)
    targets: tuple[int, ...] = ()
    relevance: Array | None = None

    @property
    def layout(self) -> dict[str, TokenLayout]:
        """Where the tokens of each layer lie, by address."""
        return {layer.address: layer.layout for layer in self.layers}

    @property
    def token_grid(self) -> tuple[int, int]:
        """(h, w) of the last layer's tokens on the picture."""
        return self.layers[-1].layout.grid

    @property
    def prefix_tokens(self) -> tuple[str, ...]:
        """Names of the last layer's tokens before the picture's: class, distillation, registers."""
        return self.layers[-1].layout.prefix

    def looks(self, layer: str, *, query: int, image: int = 0) -> Array:
        """Where does `query` look, in each head of `layer`? `(heads, h, w)`; prefix tokens are left out.

        `layout[layer]` names the queries. Raises `LayerError` for a layer that is not among these.
        """
        found = self._layer(layer)
        return found.layout.to_picture(self.weights[found.address][image][:, query], query)

    def value_weighted(self, layer: str) -> Array:
        """How much does each key really add? `(N, heads, queries, keys)`: attention times ‖v W_O‖, in the units of the
        layer's output. Source: Kobayashi et al., EMNLP 2020. Raises `LayerError` without `value_norms`.
        """
        found = self._layer(layer)
        if found.address not in self.value_norms:
            raise LayerError(
                f"The values of layer '{layer}' were not kept.", do="Ask for them with `value_norms=True`."
            )
        norms = self.value_norms[found.address]
        if found.layout.windows is None:
            return self.weights[found.address] * norms[:, :, None]
        owners = found.layout.windows[found.layout.window_of()]
        seen = np.where(owners >= 0, norms[:, :, np.maximum(owners, 0)], 0)
        weighted: Array = self.weights[found.address] * seen
        return weighted

    def rollout(
        self,
        fusion: rollout.Fusion = "mean",
        *,
        discard: float = 0.0,
        residual: float = 0.5,
        gradient_weighted: bool = False,
    ) -> Array:
        """Which places of the picture reach the class token (all tokens, without one) through all these layers?

        `(N, h, w)`, shares of 1 that also lie on prefix tokens. `fusion` of heads; `discard`: this share of a picture's
        smallest weights is dropped; `residual`: share of the skip connection. With `gradient_weighted`, heads are
        averaged after weighting by the positive gradients of the target's score.

        Raises `ModelError` for layers in windows or with grids of several sizes, and where there are no gradients.
        Formula and source: `rollout.roll_out`.
        """
        rollout.check_one_grid([layer.layout for layer in self.layers])
        if gradient_weighted and not self.gradients:
            raise ModelError("There are no gradients.", do="Name a `target`.")
        fused = self._gradient_weighted() if gradient_weighted else (rollout.fuse(w, fusion) for w in self._ordered())
        prefix = len(self.prefix_tokens)
        joint = rollout.roll_out(fused, discard=discard, residual=residual, prefix=prefix)
        return rollout.to_map(joint, self.layers[-1].layout)

    def frame(self) -> pd.DataFrame:
        """What does each head do? One row a layer and head; the columns are explained in `head_statistics`."""
        return pd.concat([head_statistics(self._attended(layer)) for layer in self.layers], ignore_index=True)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Heads that are uniform, look at a sink, repeat another or are dead."""
        return findings_of(self.frame(), list(self.layout.values()))

    def _ordered(self) -> list[Array]:
        return [self.weights[layer.address] for layer in self.layers]

    def _gradient_weighted(self) -> list[Array]:
        both = ((self.gradients[layer.address], self.weights[layer.address]) for layer in self.layers)
        return [np.maximum(g * w, 0).mean(axis=1) for g, w in both]

    def _attended(self, layer: AttentionLayer) -> Attended:
        norms = self.value_norms.get(layer.address)
        weights = torch.from_numpy(self.weights[layer.address])
        return Attended(layer, weights, None if norms is None else torch.from_numpy(norms))

    def _layer(self, address: str) -> AttentionLayer:
        for layer in self.layers:
            if address in (layer.address, f"{layer.name}#{layer.call}"):
                return layer
        raise LayerError(
            f"Layer '{address}' is not among those looked at.", do=f"Choose one of {', '.join(self.weights)}."
        )


def attention_maps(
    model: Model,
    images: Tensor,
    *,
    layers: Sequence[str] | None = None,
    target: int | Sequence[int] | None = None,
    value_norms: bool = False,
) -> AttentionMaps:
    """Who looks at whom in `images` (N, C, H, W)? The attention weights of `layers` (all, by default), head by head.

    Works for `nn.MultiheadAttention` (torchvision's ViT, `nn.TransformerEncoder`), torchvision's Swin and MaxViT, and
    any module that calls `scaled_dot_product_attention` or a softmax over keys. The model's answer stays as it is.
    `layers` are addresses as in `attention_layers`. With `target`, a class for all pictures or one for each, there are
    gradients and relevance too.

    Raises `ModelError` for a model without attention, pictures that it cannot look at, or a target that is no class;
    `LayerError` for a layer that does not attend.
    """
    if target is not None:
        return _with_target(model, images, layers, target, value_norms=value_norms)
    found = find(model, images, layers)
    kept = record_attention(model, images, layers=[x.address for x in found], pick=_keep, values=value_norms)
    return AttentionMaps(
        layers=found,
        weights={address: weights for address, (weights, _) in kept.items()},
        value_norms={address: norms for address, (_, norms) in kept.items() if norms is not None},
    )


def _keep(attended: Attended) -> tuple[Array, Array | None]:
    norms = attended.value_norms
    return _numpy(attended.weights), None if norms is None else _numpy(norms)


def _numpy(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def _with_target(model: Model, images: Tensor, layers: Any, target: Any, *, value_norms: bool) -> AttentionMaps:
    graded = attention_gradients(model, images, target=target, layers=layers)
    relevance = None
    if rollout.share_one_grid(layer.layout for layer in graded.layers):
        relevance = rollout.to_map(rollout.relevance_of(graded.weighted()), graded.layers[-1].layout)
    return AttentionMaps(
        layers=graded.layers,
        weights={address: _numpy(w) for address, w in graded.weights.items()},
        value_norms={a: _numpy(n) for a, n in graded.value_norms.items()} if value_norms else {},
        gradients={address: _numpy(g) for address, g in graded.gradients.items()},
        targets=graded.targets,
        relevance=relevance,
    )
