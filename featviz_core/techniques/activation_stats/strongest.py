"""Which pictures, and which part of them, each channel answers to most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import check_images, placed, record
from featviz_core.errors import LayerError, ModelError
from featviz_core.layouts import Layout, first_tensor, unreadable
from featviz_core.trace import Layer

_PROBES = 4  # pictures of noise: a ReLU that is off for one of them hides a part of the receptive field


@dataclass(frozen=True, slots=True, eq=False)
class TopPictures:
    """The pictures that each channel of a layer answers to most, strongest first.

    `scores (C, k)`: the channel's largest value in that picture, in the layer's units; `pictures (C, k)`: its number,
    in the order in which they came; `boxes (C, k, 4)`: left, top, right, bottom of the part of the model's input, in
    pixels, that this value depends on, cut at the picture's edge.
    """

    layer: Layer
    scores: NDArray[np.float32]
    pictures: NDArray[np.int64]
    boxes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Field:
    """What the place `at` of a layer's map sees: `box` in pixels; one place further on it is `step` pixels further."""

    at: tuple[int, int]
    box: tuple[int, int, int, int]
    step: tuple[float, float]


def top_pictures(model: Model, batches: Tensor | Iterable[Tensor], *, layer: str, count: int = 8) -> TopPictures:
    """Which of these pictures does each channel of `layer` answer to most, and to which part of them?

    `batches`: pictures of one size, one tensor (N, C, H, W) or any number of them; `count`: how many are kept.
    The part is the receptive field of the strongest place, found as the extent of that place's gradient; layers behind
    attention or global pooling see everything.

    Raises `LayerError` for a layer that does not exist, is never called or gives nothing that lies on the picture;
    `ModelError` for pictures that the model cannot look at. Source: Zeiler and Fergus, ECCV 2014.
    """
    best: tuple[NDArray[Any], ...] | None = None
    seen, shape, found = 0, (0, 0), None
    for images in [batches] if isinstance(batches, Tensor) else batches:
        check_images(images)
        if found is not None and tuple(images.shape[2:]) != shape:
            raise ModelError("The pictures differ in size.", do="Give pictures of one size.")
        recording = record(model, images, layers=[layer], pick=_strongest)
        found, shape = recording.layers[layer], (images.shape[2], images.shape[3])
        scores, places, grid = recording.outputs[layer]
        numbers = np.broadcast_to(np.arange(seen, seen + len(images))[:, None], scores.shape)
        best = _better(best, (scores, numbers, places), count)
        seen += len(images)
    if best is None or found is None:
        raise ModelError("There are no pictures to look at.", do="Give at least one batch (N, C, H, W).")
    field = _receptive_field(model, found, tuple(images.shape[1:]), grid)
    scores, numbers, places = (row.T for row in best)
    return TopPictures(found, scores.astype(np.float32), numbers, _boxes(places, grid, field, shape))


def _strongest(layer: Layer, output: Any) -> tuple[NDArray[Any], NDArray[Any], tuple[int, int]]:
    """For each picture and channel the largest value and its place, both `(N, C)`, and the map's height and width."""
    maps = _maps(layer.layout, layer.address, output).float()
    scores, places = maps.flatten(2).nan_to_num(-np.inf).max(2)
    return scores.cpu().numpy(), places.cpu().numpy(), (maps.shape[2], maps.shape[3])


def _maps(layout: Layout | None, address: str, output: Any) -> Tensor:
    tensor = first_tensor(output)
    if tensor is None or layout is None:
        raise unreadable(address, () if tensor is None else tuple(tensor.shape))
    return layout.to_maps(tensor)


def _better(
    best: tuple[NDArray[Any], ...] | None, new: tuple[NDArray[Any], ...], count: int
) -> tuple[NDArray[Any], ...]:
    """The `count` rows with the largest scores, channel by channel, of those known and the new."""
    rows = new if best is None else tuple(np.concatenate(pair) for pair in zip(best, new, strict=True))
    order = np.argsort(-rows[0], axis=0, kind="stable")[:count]
    return tuple(np.take_along_axis(row, order, axis=0) for row in rows)


def _receptive_field(model: Model, layer: Layer, shape: tuple[int, ...], grid: tuple[int, int]) -> _Field:
    """What the middle of the layer's map depends on: where the gradient of all its channels is not zero."""
    middle, kept = (grid[0] // 2, grid[1] // 2), []
    noise = torch.randn(_PROBES, *shape, generator=torch.Generator().manual_seed(0))

    def keep(calls: list[int], _module: nn.Module, _inputs: Any, output: Any) -> None:
        calls.append(1)
        if len(calls) == layer.call:
            kept.append(_maps(layer.layout, layer.address, output)[:, :, middle[0], middle[1]].sum())

    with borrowed(model) as module, torch.enable_grad():
        module.requires_grad_(False)
        leaf = placed(noise, module).requires_grad_()
        module.get_submodule(layer.name).register_forward_hook(partial(keep, []))
        module(leaf.clone())
        if not kept or not kept[0].requires_grad:
            raise LayerError(f"Layer '{layer.address}' does not depend on the picture.")
        (gradient,) = torch.autograd.grad(kept[0], leaf)
    touched = gradient.abs().sum((0, 1)).cpu().numpy() > 0
    (top, bottom), (left, right) = (_extent(np.asarray(touched.any(axis=axis))) for axis in (1, 0))
    box = (left, top, right, bottom)
    return _Field(middle, box, (shape[1] / grid[0], shape[2] / grid[1]))


def _extent(touched: NDArray[np.bool_]) -> tuple[int, int]:
    """From the first to behind the last; beyond both ends of the picture where one of them is reached."""
    seen = np.flatnonzero(touched)
    if not len(seen) or seen[0] == 0 or seen[-1] == len(touched) - 1:
        return -len(touched), 2 * len(touched)
    return int(seen[0]), int(seen[-1]) + 1


def _boxes(
    places: NDArray[np.int64], grid: tuple[int, int], field: _Field, shape: tuple[int, int]
) -> NDArray[np.int64]:
    rows, columns = np.divmod(places, grid[1])
    down, right = (rows - field.at[0]) * field.step[0], (columns - field.at[1]) * field.step[1]
    left, top, far, bottom = field.box
    moved = np.stack([left + right, top + down, far + right, bottom + down], axis=-1).round().astype(np.int64)
    return np.clip(moved, 0, np.array([shape[1], shape[0], shape[1], shape[0]]))
