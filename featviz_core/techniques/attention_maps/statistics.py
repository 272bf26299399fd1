"""What each head does, in numbers, and which heads do nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featviz_core.findings import Finding, Severity
from featviz_core.techniques.attention_maps.layers import Attended
from featviz_core.techniques.attention_maps.tokens import TokenLayout

# Healthy heads of trained models stay well inside of these.
_UNIFORM = 0.98  # entropy as a share of the largest possible
_SINK = 0.5  # of all attention, on one token of the picture,
_SILENT = 0.33  # whose value is shorter than this share of the mean: attention is parked, as Kobayashi et al. saw
_TWIN = 0.98  # correlation of two heads' attention
_CLOSED = 1e-12  # attention that only a mask leaves
_DEAD = 0.01  # length of a head's output, relative to the strongest of its layer


def head_statistics(attended: Attended) -> pd.DataFrame:
    """What does each head of one layer do, on average over pictures and queries? One row a head.

    - `entropy` in nats, and `spread` in [0, 1]: the same as a share of the largest possible, 1 where attention is
      uniform over the keys that no mask closes.
    - `distance` in pixels of the picture: mean distance between a place and what it looks at, over the attention that
      stays on the picture (Dosovitskiy et al., ICLR 2021); NaN where tokens are no places.
    - `class_share` in [0, 1]: attention on the class token; NaN without one.
    - `top_share` in [0, 1]: attention on the one token that gets most of it, averaged over all queries; NaN in windows.
      `top_token` is its name, and `top_value` the length of its ‖v W_O‖ relative to the mean of all tokens.
    - `similarity` in [-1, 1]: the largest correlation of its attention with that of another head, `twin`.
    - `output`: the mean length of what it adds, Σ α‖v W_O‖ (Kobayashi et al., EMNLP 2020); NaN where not known.
    """
    layer, weights = attended.layer, attended.weights.float()
    heads = weights.shape[1]
    entropy = torch.special.entr(weights).sum(-1).mean((0, 2))
    open_keys = _open(weights)
    possible = open_keys.sum(-1).clamp(min=2).log()[:, None]
    similar, twin = _similarity(weights, open_keys)
    top, token, value = _top(attended)
    return pd.DataFrame(
        {
            "layer": layer.address,
            "head": np.arange(heads),
            "entropy": _numbers(entropy),
            "spread": _numbers((torch.special.entr(weights).sum(-1) / possible).mean((0, 2))),
            "distance": _numbers(_distance(weights, layer.layout)),
            "class_share": _numbers(_class_share(weights, layer.layout)),
            "top_share": _numbers(top),
            "top_token": token,
            "top_value": _numbers(value),
            "similarity": _numbers(similar),
            "twin": twin,
            "output": _numbers(_output(attended)),
        }
    )


def _numbers(values: Tensor) -> list[float]:
    return [float(value) for value in values]


def _nothing(weights: Tensor) -> Tensor:
    return torch.full((weights.shape[1],), math.nan)


def _distance(weights: Tensor, layout: TokenLayout) -> Tensor:
    if not layout.placed or (layout.windows is None and layout.queries != layout.keys):
        return _nothing(weights)
    rows, columns = np.divmod(np.arange(math.prod(layout.grid)), layout.grid[1])
    places = np.stack([rows * layout.cell[0], columns * layout.cell[1]], axis=1)
    if layout.windows is None:
        inside = weights[:, :, len(layout.prefix) :, len(layout.prefix) :]
        seen = places[None]
        real = np.ones((1, len(places)), bool)
    else:
        inside, owners = weights, layout.windows[layout.window_of()]
        seen, real = places[owners], owners >= 0
    apart = torch.from_numpy(np.hypot(*np.moveaxis(places[:, None] - seen, 2, 0))).to(weights)
    kept = inside * torch.from_numpy(real).to(weights)
    return ((kept * apart).sum(-1) / kept.sum(-1).clamp(min=1e-12)).mean((0, 2))


def _class_share(weights: Tensor, layout: TokenLayout) -> Tensor:
    if "class" not in layout.prefix or not layout.placed:
        return _nothing(weights)
    return weights[..., layout.prefix.index("class")].mean((0, 2))


def _top(attended: Attended) -> tuple[Tensor, list[str], Tensor]:
    weights, layout = attended.weights.float(), attended.layer.layout
    if layout.windows is not None:
        return _nothing(weights), [""] * weights.shape[1], _nothing(weights)
    share, token = weights.mean((0, 2)).max(-1)
    value = _nothing(weights)
    if attended.value_norms is not None:
        lengths = attended.value_norms.float().mean(0)
        value = lengths.gather(1, token[:, None])[:, 0] / lengths.mean(1).clamp(min=1e-12)
    names = layout.key_names()
    return share, [names[int(i)] for i in token], value


def _open(weights: Tensor) -> Tensor:
    """`(N, Q, K)`: which keys a query may see; a mask (of shifted windows, say) leaves nothing in any head."""
    return weights.amax(1) > _CLOSED


def _similarity(weights: Tensor, open_keys: Tensor) -> tuple[Tensor, list[int]]:
    """Correlation of heads after even attention to all open keys is taken away; -1 where a head has no twin."""
    if weights.shape[1] < 2:
        return _nothing(weights), [-1]
    even = open_keys / open_keys.sum(-1, keepdim=True).clamp(min=1)
    flat = (weights - even[:, None]).transpose(0, 1).flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)
    closest, twin = (unit @ unit.T).fill_diagonal_(-1).max(1)
    return closest, [int(i) for i in twin]


def _output(attended: Attended) -> Tensor:
    if attended.value_norms is None:
        return _nothing(attended.weights)
    weights, norms, windows = attended.weights, attended.value_norms, attended.layer.layout.windows
    if windows is None:
        return (weights * norms[:, :, None]).sum(-1).mean((0, 2))
    owners = torch.from_numpy(windows[attended.layer.layout.window_of()]).to(norms.device)
    seen = norms[:, :, owners.clamp(min=0)] * (owners >= 0)
    return (weights * seen).sum(-1).mean((0, 2))


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Something that can be wrong with heads: `measure`, a column of their statistics, is then not `healthy`."""

    code: str
    title: str
    detail: str
    measure: str
    healthy: str
    remedy: str
    severity: Severity = "warn"


_TROUBLES = (
    _Trouble(
        "attention.uniform",
        "Uniform attention",
        "They look at all tokens alike, so they only average: attention has collapsed, or never learned to choose.",
        "spread",
        f"healthy: up to {_UNIFORM}",
        "Check the learning rate and its warm-up, and that the weights were loaded; compare several pictures.",
    ),
    _Trouble(
        "attention.sink",
        "Attention sink",
        "Nearly every query looks at one token of the picture that has little to say: attention is parked there.",
        "top_share",
        f"healthy: up to {_SINK}, or on a token whose value is no shorter than {_SILENT:.0%} of the mean",
        "Do not read their maps as explanations. Register tokens take the sink away in training.",
        "note",
    ),
    _Trouble(
        "attention.duplicate",
        "Duplicate heads",
        "Another head of the same layer attends in the same way, so one of the two could go.",
        "similarity",
        f"healthy: up to {_TWIN}",
        "Fewer heads may serve as well; see whether it holds on other pictures.",
        "note",
    ),
    _Trouble(
        "attention.dead",
        "Dead heads",
        "Whatever they look at, almost nothing of it reaches the layer's output.",
        "output",
        f"healthy: at least {_DEAD:.0%} of the layer's strongest head",
        "Check their value and output projections for zero weights; weight decay or pruning may have done it.",
    ),
)


def findings_of(frame: pd.DataFrame, layouts: Sequence[TokenLayout]) -> tuple[Finding, ...]:
    """Which heads do nothing, everything alike, or the same as another? From `head_statistics` of all layers.

    The limits are heuristics; one picture is weak evidence for calling a head dead.
    """
    uniform = frame["spread"] > _UNIFORM
    strongest = frame.groupby("layer")["output"].transform("max")
    troubled = (
        uniform,
        (frame["top_share"] > _SINK) & (frame["top_token"] != "class") & ~(frame["top_value"] >= _SILENT),
        (frame["similarity"] > _TWIN) & ~uniform,
        frame["output"] < _DEAD * strongest,
    )
    found = [_finding(what, frame, heads) for what, heads in zip(_TROUBLES, troubled, strict=True) if heads.any()]
    if not found:
        text = f"All {len(frame)} heads choose, differ and contribute."
        found.append(Finding("attention.healthy", "ok", "Healthy heads", text, where=f"{len(layouts)} layers"))
    return tuple(found)


def _finding(what: _Trouble, frame: pd.DataFrame, troubled: pd.Series[bool]) -> Finding:
    heads, sizes = frame[troubled], frame.groupby("layer").size()
    groups = [(layer, [str(h) for h in group]) for layer, group in heads.groupby("layer", sort=False)["head"]]
    where = "; ".join(f"{layer}: {', '.join(own) if len(own) < sizes[layer] else 'all'}" for layer, own in groups)
    where = "every head of every layer" if len(heads) == len(frame) else where
    evidence = {what.measure: [round(float(v), 4) for v in heads[what.measure]], "limit": {what.measure: what.healthy}}
    title = f"{what.title}: {len(heads)} of {len(frame)}"
    return Finding(what.code, what.severity, title, what.detail, where, evidence, what.remedy)
