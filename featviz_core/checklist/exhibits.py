"""What there is to see of a verdict, as plain numbers: whoever measures makes it, the page and the reports draw it.

Importing this needs no torch. Whatever is shown travels between processes and into files, so it is small and plain.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Range: TypeAlias = tuple[float | None, float | None]
"""From where to where a number is healthy; None where that side is open."""

_LONGEST = 96  # pixels of a picture's longer side, below which it is enlarged


@dataclass(frozen=True, slots=True)
class Curves:
    """Values that go on from step to step, a curve for each name; `healthy` is drawn as a band behind them."""

    title: str
    curves: Mapping[str, Sequence[float]]
    x: str = "step"
    healthy: Range | None = None
    log: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """One number for each name (layer, parameter, class), in their own order; `healthy` is drawn behind them."""

    title: str
    values: Mapping[str, float]
    healthy: Range | None = None
    log: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fall between `edges (B + 1)`: `counts (B)` for each name. `healthy` is a range of the values."""

    title: str
    edges: Sequence[float]
    counts: Mapping[str, Sequence[float]]
    healthy: Range | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """`values (rows, columns)`, such as a confusion matrix; the larger, the darker."""

    title: str
    values: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text, numbers and yes or no; `marked` are the places of rows that stand out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    marked: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Pictures:
    """A few pictures as PNG files, with a caption each. Make them with `pictures`."""

    title: str
    files: Sequence[bytes]
    captions: Sequence[str]


Exhibit: TypeAlias = Curves | Bars | Histogram | Matrix | Table | Pictures


@dataclass(frozen=True, slots=True)
class Trial:
    """A short experiment on a copy, in which one thing was changed to see whether that was it.

    `name` says what was tried ("a tenth of the learning rate"), `changed` how, in the user's terms
    (`lr=0.001 instead of 0.01`), `figure` what was measured ("loss after 40 steps"); `helped`: whether it made
    the difference.
    """

    name: str
    changed: str
    figure: str
    before: float
    after: float
    helped: bool


def pictures(title: str, arrays: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> Pictures:
    """`arrays`, each (H, W, 3) of 0 to 255 as `experiment_model.to_pixels` gives them, to be shown side by side.

    Small ones are enlarged by a whole number, without smoothing.
    """
    files: list[bytes] = []
    for array in arrays:
        factor = max(1, _LONGEST // max(array.shape[:2]))
        buffer = io.BytesIO()
        Image.fromarray(array.repeat(factor, 0).repeat(factor, 1)).save(buffer, "PNG", optimize=True)
        files.append(buffer.getvalue())
    return Pictures(title, files, captions)


def measured(value: float, healthy: Range | float) -> dict[str, Any]:
    """A number for a verdict's evidence, with the range (or the only value) in which it is healthy."""
    return {"value": value, "healthy": list(healthy) if isinstance(healthy, tuple) else healthy}
