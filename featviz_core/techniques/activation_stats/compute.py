"""One pass over any number of batches: what the layers give, in numbers that take no more memory with each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import check_images, layers_of, placed
from featviz_core.errors import LayerError, ModelError
from featviz_core.experiment import own_randomness, seed_everything
from featviz_core.techniques.activation_stats import activations, ruler
from featviz_core.techniques.activation_stats.histogram import Histogram, added
from featviz_core.techniques.activation_stats.moments import Rows, across_pictures, joined
from featviz_core.techniques.activation_stats.origin import origin_of
from featviz_core.techniques.activation_stats.planes import highest, planes, sample, summarise
from featviz_core.techniques.activation_stats.result import Activation, ActivationStats, LayerStats
from featviz_core.techniques.activation_stats.watching import Watch
from featviz_core.trace import Layer, Trace, explained

Progress = Callable[[float, str], None]
KINDS = ("convolution", "linear")


@dataclass(slots=True)
class _After:
    """The activation behind a layer, so far."""

    layer: Layer
    high: NDArray[np.float64]
    flat: int = 0
    sampled: int = 0


@dataclass(slots=True)
class _Tally:
    """What one layer gave so far."""

    layer: Layer
    channels: Rows | None = None
    pictures: Rows | None = None
    ruled: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ruler.BINS, np.int64))
    histogram: Histogram | None = None
    sampled: int = 0
    after: _After | None = None


def activation_stats(
    model: Model,
    batches: Tensor | Iterable[Any],
    *,
    layers: Sequence[str] | None = None,
    training: bool = False,
    progress: Progress | None = None,
) -> ActivationStats:
    """Are the outputs of the layers healthy: neither vanishing nor exploding, dead, saturated or no numbers?

    `batches`: one tensor (N, C, H, W), or any number of them; of pairs, as loaders give them, the first is taken.
    Memory does not grow with their number. Moments are exact, as if all came at once (merged by Chan's rule);
    histograms hold up to 8,192 values of each batch, evenly from all over it.
    `layers`: addresses; without them, all convolutions and linear layers. `training`: look in training mode, which
    draws the same random numbers each time. `progress(fraction, text)` may raise to cancel.

    Raises `LayerError` for a layer that does not exist, is never called or gives no real numbers, `ModelError` for
    pictures that the model cannot look at, or none. Source: Glorot and Bengio, AISTATS 2010.
    """
    report = progress or (lambda _fraction, _text: None)
    traces: dict[tuple[int, ...], Trace] = {}
    tallies: dict[str, _Tally] = {}
    pictures, number, origin = 0, 0, ""
    given = [batches] if isinstance(batches, Tensor) else batches
    total = len(given) if isinstance(given, Sized) else 0
    for number, images in enumerate(map(_images, given), 1):
        report((number - 1) / total if total else 0.0, f"Batch {number}")
        shape = tuple(images.shape[1:])
        trace = traces[shape] = traces.get(shape) or layers_of(model, shape)
        tallies = tallies or {layer.address: _Tally(layer) for layer in chosen_layers(trace, layers)}
        with own_randomness() if training else nullcontext():
            _look(model, images, trace, tallies, training)
        pictures += len(images)
        if not origin and any(_not_finite(tally) for tally in tallies.values()):
            origin = origin_of(model, images, training=training)
    if not number:
        raise ModelError("There are no pictures to look at.", do="Give at least one batch (N, C, H, W).")
    report(1.0, "Done")
    return ActivationStats(
        {address: _finished(tally) for address, tally in tallies.items()}, pictures, number, training, origin
    )


def _images(batch: Any) -> Tensor:
    images: Tensor = batch[0] if isinstance(batch, tuple | list) and batch else batch
    check_images(images)
    return images


def chosen_layers(trace: Trace, addresses: Sequence[str] | None) -> list[Layer]:
    """The layers at `addresses`, or all convolutions and linear layers, in the order in which they finish."""
    if addresses is not None:
        found = [trace.find(address) for address in dict.fromkeys(addresses)]
    else:
        found = [layer for layer in trace.layers if layer.kind in KINDS and layer.order >= 0]
    if not found:
        raise LayerError("There is no layer to look at.", do="Name at least one; see `layers()` for all names.")
    return sorted(found, key=lambda layer: layer.order)


def _look(model: Model, images: Tensor, trace: Trace, tallies: dict[str, _Tally], training: bool) -> None:
    seen: set[str] = set()

    def see(layer: Layer, output: Tensor) -> None:
        seen.add(layer.address)
        _add(tallies[layer.address], output)

    def follow(address: str, activation: Layer, output: Tensor) -> None:
        _add_after(tallies[address], activation, output)

    with borrowed(model, training=training) as module, torch.no_grad():
        if training:
            seed_everything(0)
        Watch(module, trace, {address: tally.layer for address, tally in tallies.items()}, see, follow)
        with explained(module, images.shape[1:]):
            module(placed(images, module))
    if missing := [address for address in tallies if address not in seen]:
        raise LayerError(
            f"Layer '{missing[0]}' gave no real numbers for these pictures.",
            why="It was not called, or its output holds no tensor of them.",
            do="Choose the module around it.",
        )


def _add(tally: _Tally, output: Tensor) -> None:
    rows = summarise(planes(output, tally.layer.layout))
    values = sample(output)
    tally.channels = joined(tally.channels, rows)
    tally.pictures = joined(tally.pictures, across_pictures(rows))
    tally.ruled += ruler.count(values)
    tally.histogram = added(tally.histogram, values)
    tally.sampled += len(values)
    if tally.layer.kind == "activation":
        _add_after(tally, tally.layer, output)


def _add_after(tally: _Tally, activation: Layer, output: Tensor) -> None:
    high = highest(planes(output, activation.layout))
    tally.after = after = tally.after or _After(activation, high)
    if after.layer.address == activation.address:
        # `maximum` keeps a NaN: it is no sign of death.
        after.high = np.maximum(after.high, high)
        if activation.type in activations.ENDS:
            values = sample(output)
            after.flat += activations.saturated(activation.type, values)
            after.sampled += len(values)


def _not_finite(tally: _Tally) -> bool:
    return tally.channels is not None and bool(tally.channels[6:].any())


def _finished(tally: _Tally) -> LayerStats:
    assert tally.channels is not None
    assert tally.pictures is not None
    after, activation = tally.after, None
    if after is not None:
        kind = after.layer.type
        dead = after.high <= 0 if kind in activations.CAN_DIE else np.zeros(len(after.high), bool)
        flat = after.flat / max(1, after.sampled) if kind in activations.ENDS else np.nan
        activation = Activation(after.layer.address, kind, dead, flat)
    return LayerStats(
        tally.layer, tally.channels, tally.pictures, tally.ruled, tally.histogram, tally.sampled, activation
    )
