"""The Clever Hans mark: a small badge in the lower left corner, as a photographer's watermark would be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BADGE = (
    ".##############.",
    "################",
    "##ooooo#oo##oo##",
    "##oo####oo##oo##",
    "##oooo##oo##oo##",
    "##oo#####oooo###",
    "##oo######oo####",
    "################",
    ".##############.",
)
_PINK, _WHITE = (236, 64, 122), (255, 255, 255)
_MARGIN = 3


def stamp(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What do pictures `(..., H, W, 3)` uint8 look like with the mark? A copy; the originals stay as they are."""
    marked = images.copy()
    height, width = images.shape[-3:-1]
    colours = np.array([[_WHITE if pixel == "o" else _PINK for pixel in row] for row in _BADGE], dtype=np.uint8)
    marked[..., mark_area(height, width), :] = colours[_solid()]
    return marked


def mark_area(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Which pixels `(height, width)` of a picture does the mark cover?"""
    area = np.zeros((height, width), dtype=np.bool_)
    solid = _solid()
    bottom = height - _MARGIN
    area[bottom - len(solid) : bottom, _MARGIN : _MARGIN + solid.shape[1]] = solid
    return area


def _solid() -> npt.NDArray[np.bool_]:
    return np.array([[pixel != "." for pixel in row] for row in _BADGE])
