"""Which layer to look at when nobody says: the last one that still knows where things are."""

from __future__ import annotations

import math

import torch

from featviz_core.borrowing import Model
from featviz_core.capture import layers_of
from featviz_core.errors import LayerError
from featviz_core.trace import Layer, Trace


def default_layer(model: Model, shape: tuple[int, ...]) -> str:
    """Which layer's map says most about the class? Its address, for pictures of `shape` (C, H, W).

    The last stage that still has places, before pooling. Where a class token is read at the end, the other tokens
    of the last block no longer count, so it is what the last attention looks at.

    Raises `LayerError` where no layer has places.
    """
    return find_default(layers_of(model, shape)).address


def find_default(steps: Trace) -> Layer:
    """The default layer among the layers of one trace."""
    scores = steps.find("").shape
    classes = scores[-1] if scores else None
    candidates = [layer for layer in steps.layers if layer.name and _is_stage(layer, classes)]
    candidates = [layer for layer in candidates if not _ends_in_pooling(steps, layer)]
    candidates.sort(key=lambda layer: layer.order)
    if not candidates:
        raise LayerError(
            "No layer of this model knows where things are.",
            why="Every output is a single value a channel.",
            do="Give larger pictures, or choose a layer by hand.",
        )
    last = candidates[-1]
    return _before_attention(steps, candidates) if _reads_one_token(last) else last


def places(layer: Layer) -> tuple[int, int]:
    """The height and width of the layer's maps; (0, 0) where it has none."""
    if layer.layout is None or layer.shape is None:
        return (0, 0)
    rows, columns = layer.layout.to_maps(torch.empty(layer.shape, device="meta")).shape[2:]
    return rows, columns


def _is_stage(layer: Layer, classes: int | None) -> bool:
    """Whether the layer has places and learned something, or is what follows such a layer at once."""
    if layer.layout is None or layer.kind in ("pooling", "dropout") or (layer.kind == "other" and not layer.parameters):
        return False
    rows, columns = places(layer)
    if rows * columns <= 1:
        return False
    # A map for each class is the head itself, not a stage before it.
    return not (layer.layout.kind == "channels_first" and layer.shape is not None and layer.shape[1] == classes)


def _ends_in_pooling(steps: Trace, layer: Layer) -> bool:
    """Whether the last thing a block does is to give up all places: what it gives beside that is of no use then."""
    inner = [step for step in steps.layers if step.name.startswith(layer.name + ".") and 0 <= step.order < layer.order]
    last = max(inner, key=lambda step: step.order, default=None)
    return last is not None and math.prod(places(last)) <= 1


def _reads_one_token(layer: Layer) -> bool:
    return layer.layout is not None and layer.layout.kind == "tokens" and layer.layout.prefix > 0


def _before_attention(steps: Trace, candidates: list[Layer]) -> Layer:
    attends = [layer for layer in steps.layers if layer.kind == "attention"]
    last = max(attends, key=lambda layer: layer.order, default=candidates[-1])
    before = [layer for layer in candidates if layer.order < last.order and not layer.name.startswith(last.name + ".")]
    return before[-1] if before else candidates[-1]
