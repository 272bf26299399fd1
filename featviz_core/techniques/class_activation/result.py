"""A class activation map: what is shown, the numbers behind it, and what must be said about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featviz_core import drawing
from featviz_core.techniques.class_activation.evidence import Method
from featviz_core.techniques.class_activation.targets import Target
from featviz_core.trace import Layer

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ClassActivation:
    """Where in a picture one method finds the evidence for one target.

    `map (H, W)`: float32 in [0, 1] at the input's size. `raw (h, w)`: before ReLU, normalisation and resizing, in the
    method's own units. `score`: the target's score, before softmax. `layer`: where the map comes from; the model
    itself for FullGrad. `note`: a plain statement where the map needs one, else empty.
    """

    map: Floats
    raw: Floats
    target: Target
    score: float
    layer: Layer
    method: str
    note: str

    def overlay(self, image: Image.Image, opacity: float = 0.5, color_map: str = "magma") -> Image.Image:
        """The map over `image`, RGB of its size; `opacity` in [0, 1] is the share of the colours.

        `image` should show what the model saw (`model.preprocessing.cut(picture)`). Raises `ValueError` for an
        opacity or a colour map that does not exist.
        """
        return drawing.overlay(image, self.map, opacity=opacity, color_map=color_map, low=0, high=1)


def render(raw: Floats, size: tuple[int, int], *, high: float | None = None) -> Floats:
    """A map in [0, 1] of `size` (H, W): ReLU, min-max, bilinear resize, min-max.

    `high` puts the map on a given scale instead: 0 stays 0 and `high` becomes 1. A map without any difference is 0
    where nothing speaks for the target and 1 where everything does so equally.
    """
    positive: Floats = np.maximum(np.nan_to_num(raw, nan=0.0, posinf=0.0, neginf=0.0), 0)
    if high is not None:
        scaled = positive / np.float32(high) if high > 0 else np.zeros_like(positive)
        return _clipped(drawing.resize_map(scaled, size))
    return _clipped(_stretched(_clipped(drawing.resize_map(_stretched(positive), size))))


def _stretched(values: Floats) -> Floats:
    low, high = values.min(), values.max()
    if high > low:
        stretched: Floats = (values - low) / (high - low)
        return stretched
    return np.full_like(values, float(high > 0))


def _clipped(values: NDArray[np.floating[Any]]) -> Floats:
    clipped: Floats = np.clip(values, 0, 1).astype(np.float32)
    return clipped


def note_on(raw: Floats, score: float, classes: int, method: Method) -> str:
    """What must be said about a map, in plain sentences; empty where it speaks for itself."""
    return " ".join(_statements(raw, score, classes, method))


def _statements(raw: Floats, score: float, classes: int, method: Method) -> Iterator[str]:
    if not np.isfinite(score):
        yield "The target's score is not a finite number, so nothing that follows from it can be trusted."
    finite = raw[np.isfinite(raw)]
    if finite.size < raw.size:
        yield f"{raw.size - finite.size} of {raw.size} values are NaN or infinite and are shown as zero."
    if raw.size == 1:
        yield "The layer has one place only, so the map cannot say where: choose an earlier layer."
    elif finite.size and np.all(finite == finite[0]) and finite[0] > 0:
        yield "The evidence is the same everywhere."
    if finite.size and not finite.any():
        yield "Blank: the score does not change with this layer at all, or every part cancels out."
    elif finite.size and finite.max() <= 0:
        yield "Blank: all evidence is negative, and ReLU removed it. Ask what argues against the target to see it."
    elif method.signed and raw.size > 1 and finite.size and finite.min() > 0:
        yield "One-sided: every place speaks for the target, so dark means less, not against."
    if not method.uses_class:
        yield "This method does not look at the class."
    elif classes == 1:
        yield "The model has a single output: the map shows what raises it."


def shared_high(raws: Sequence[Floats]) -> float:
    """The largest finite value of several maps, at least 0: the end of their common scale."""
    return max((float(raw[np.isfinite(raw)].max(initial=0)) for raw in raws), default=0.0)
