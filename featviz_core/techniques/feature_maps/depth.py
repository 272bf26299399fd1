"""How the picture changes on its way through the model: one small map a layer, from a single pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.borrowing import Model
from featviz_core.capture import layers_of, record
from featviz_core.techniques.feature_maps.compute import from_output
from featviz_core.trace import Layer, Trace


@dataclass(frozen=True, slots=True, eq=False)
class DepthMap:
    """One layer on the way: `energy (h, w)` is the root mean square over its channels, in the layer's units;
    `dead_fraction` the share of channels in [0, 1] that give one value everywhere for this picture."""

    layer: Layer
    energy: NDArray[np.float32]
    dead_fraction: float


def stages(trace: Trace, *, least: int = 8, most: int = 12) -> list[Layer]:
    """The layers that tell the story from picture to answer, in the order in which they finish.

    Starts from the outermost modules with maps and opens the one with most modules inside until there are `least`;
    evenly thinned out where that gives more than `most`.
    """
    spatial = [layer for layer in trace.layers if layer.name and layer.kind != "dropout" and _has_places(layer)]
    inside = {layer.name: [other for other in spatial if other.name.startswith(layer.name + ".")] for layer in spatial}
    chosen = _outermost(spatial)
    while len(chosen) < least:
        largest = max(chosen, key=lambda layer: len(inside[layer.name]), default=None)
        if largest is None or not inside[largest.name]:
            break
        chosen = [layer for layer in chosen if layer.name != largest.name] + _outermost(inside[largest.name])
    chosen.sort(key=lambda layer: layer.order)
    keep = range(len(chosen)) if len(chosen) <= most else np.linspace(0, len(chosen) - 1, most).round().astype(int)
    return [chosen[i] for i in keep]


def _has_places(layer: Layer) -> bool:
    """Whether the layer's output has more than one place on the picture."""
    if layer.layout is None or layer.shape is None or layer.layout.kind == "vector":
        return False
    if layer.layout.kind in ("tokens", "windows"):
        return layer.layout.grid != (1, 1) or layer.layout.window > 1
    rows, columns = (2, 3) if layer.layout.kind == "channels_first" else (1, 2)
    return layer.shape[rows] * layer.shape[columns] > 1


def _outermost(layers: list[Layer]) -> list[Layer]:
    names = {layer.name for layer in layers}
    return [layer for layer in layers if not any(layer.name.startswith(name + ".") for name in names)]


def depth_overview(model: Model, image: Tensor, *, layers: Sequence[str] | None = None) -> list[DepthMap]:
    """How does `image` (1, C, H, W) look to the model, stage by stage?

    One forward pass; only a map of each layer is kept. Without `layers`, eight to twelve stages are chosen.

    Raises `LayerError` as `feature_maps` does.
    """
    steps = layers_of(model, tuple(image.shape[1:]))
    chosen = [steps.find(address) for address in layers] if layers is not None else stages(steps)
    recording = record(model, image, layers=[layer.address for layer in chosen], pick=_summarise)
    return [recording.outputs[layer.address] for layer in sorted(chosen, key=lambda layer: layer.order)]


def _summarise(layer: Layer, output: Any) -> DepthMap:
    result = from_output(layer, output)
    with np.errstate(over="ignore"):
        energy = np.sqrt(np.square(result.maps[0]).mean(axis=0))
    return DepthMap(layer, energy, float(result.dead().mean()))
