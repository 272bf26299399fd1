"""A few numbers for each picture of a batch: everything that is kept of a picture during the pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.batches import describe
from featviz_core.errors import ExperimentError

Floats = NDArray[np.float32]

TINY = 16
"""Side of the grey thumbnail by which near duplicates are confirmed, in pixels."""

_GRID = 32  # side of the grey thumbnail that the perceptual hash is taken of
_COLOUR_CHANNELS = (1, 3, 4)
# Below this share of the squared mean, float32 sums lose the variance in rounding: those pictures get two passes.
_CANCELS = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Numbers of N pictures with C channels.

    `mean std low high (N, C)` over pixels; NaN for pictures with NaN or infinite values, which `not_finite (N,)`
    counts. `sharpness (N,)`: variance of the Laplacian relative to the picture's own variance. `content (N,)`: a
    64-bit hash of the numbers; `perceptual (N,)`: one that similar pictures nearly share; `tiny (N, 16, 16)`: grey,
    standardised, in steps of 1/32 of a standard deviation. `size (N, 2)`: height and width in pixels.
    """

    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    not_finite: NDArray[np.int64]
    sharpness: Floats
    content: NDArray[np.int64]
    perceptual: NDArray[np.uint64]
    tiny: NDArray[np.int8]
    size: NDArray[np.int64]


def layout_of(images: Tensor) -> str:
    """How do axes lie? "NCHW", "NHWC" or "NHW". Raises `ExperimentError` for what are no pictures."""
    if images.ndim == 3:
        return "NHW"
    if images.ndim != 4 or 0 in images.shape:
        raise ExperimentError(
            "A batch holds no pictures.",
            why=f"Expected a tensor (N, C, H, W), got {describe(images)}.",
            do="Let `unpack` give the pictures, with flattened ones reshaped.",
        )
    last = images.shape[3] in _COLOUR_CHANNELS and images.shape[1] not in _COLOUR_CHANNELS
    return "NHWC" if last else "NCHW"


def channels_first(images: Tensor) -> Tensor:
    """Pictures of any layout as float32 `(N, C, H, W)` on the CPU."""
    layout = layout_of(images)
    images = images.detach().cpu()
    images = images[:, None] if layout == "NHW" else images.permute(0, 3, 1, 2) if layout == "NHWC" else images
    return images.float().contiguous()


def measure(images: Tensor) -> Measured:
    """What can be said of each of `images (N, C, H, W)`, float32, in one look?"""
    flat = images.flatten(2)
    mean, std = _moments(flat)
    finite = torch.isfinite(mean).all(1)
    for numbers in (mean, std):
        numbers[~finite] = math.nan
    low, high = flat.amin(-1), flat.amax(-1)
    low[~finite], high[~finite] = math.nan, math.nan
    bad = torch.zeros(len(images), dtype=torch.int64)
    bad[~finite] = (~torch.isfinite(flat[~finite])).sum((1, 2))
    grey = _grey(images)
    grey = grey if finite.all() else grey.nan_to_num(0, 0, 0)
    grid = F.adaptive_avg_pool2d(grey, _GRID).double().numpy()
    size = np.tile(np.array(images.shape[2:]), (len(images), 1))
    return Measured(
        mean=mean.numpy(),
        std=std.numpy(),
        low=low.numpy(),
        high=high.numpy(),
        not_finite=bad.numpy(),
        sharpness=_sharpness(grey),
        content=_content(images),
        perceptual=perceptual_hash(grid),
        tiny=_standardised(grid),
        size=size,
    )


def _moments(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the last axis."""
    mean = flat.mean(-1)
    variance = torch.linalg.vector_norm(flat, dim=-1).square() / flat.shape[-1] - mean.square()
    unsure = variance < _CANCELS * mean.square()
    if unsure.any():
        variance[unsure] = flat[unsure].var(-1, correction=0)
    return mean, variance.clamp(min=0).sqrt()


def _grey(images: Tensor) -> Tensor:
    """The sum of the channels `(N, H, W)`; added one by one, which is faster than `images.sum(1)`."""
    grey = images[:, 0].clone()
    for channel in range(1, images.shape[1]):
        grey += images[:, channel]
    return grey


def _sharpness(grey: Tensor) -> Floats:
    """Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), taken at every second pixel, over the variance of
    the picture: a picture of little contrast is not blurred for that. NaN for tiny or even pictures."""
    if min(grey.shape[1:]) < 3:
        return np.full(len(grey), np.nan, np.float32)
    centre, up, down = grey[:, 1:-1:2, 1:-1:2], grey[:, :-2:2, 1:-1:2], grey[:, 2::2, 1:-1:2]
    left, right = grey[:, 1:-1:2, :-2:2], grey[:, 1:-1:2, 2::2]
    edges = _moments((up + down + left + right - 4 * centre).flatten(1))[1].numpy()
    spread = _moments(grey.flatten(1))[1].numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (edges / spread) ** 2, np.nan).astype(np.float32)


def _content(images: Tensor) -> NDArray[np.int64]:
    """Python's own keyed 64-bit hash (SipHash): three times as fast as SHA-256, and never leaves this process."""
    shape = tuple(images.shape[1:])
    return np.array([hash((shape, picture.tobytes())) for picture in images.numpy()], np.int64)


@cache
def _cosines() -> NDArray[np.float64]:
    """The first rows of the discrete cosine transform of `_GRID` values."""
    rows, places = np.arange(12)[:, None], np.arange(_GRID)[None] + 0.5
    return np.asarray(np.cos(np.pi * rows * places / _GRID))


@cache
def _lowest() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the 64 lowest frequencies, the mean left out."""
    rows, columns = np.divmod(np.arange(144), 12)
    order = np.argsort(rows**2 + columns**2, kind="stable")[1:65]
    return rows[order], columns[order]


def perceptual_hash(grid: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The signs of the 64 lowest frequencies of grey pictures `(N, 32, 32)` (after Zauner's pHash, 2010)."""
    cosines = _cosines()
    waves = cosines @ grid @ cosines.T
    signs = waves[:, *_lowest()] > 0
    return np.ascontiguousarray(np.packbits(signs, axis=1)).view(np.uint64)[:, 0]


def mirrored_hash(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What `perceptual_hash` gives for the mirror images: waves of odd number from left to right change their sign."""
    odd = np.packbits(_lowest()[1] % 2 == 1).view(np.uint64)[0]
    return np.asarray(hashes ^ odd)


def _standardised(grid: NDArray[np.float64]) -> NDArray[np.int8]:
    half = _GRID // TINY
    tiny = grid.reshape(-1, TINY, half, TINY, half).mean((2, 4))
    tiny = tiny - tiny.mean((1, 2), keepdims=True)
    spread = tiny.std((1, 2), keepdims=True)
    return np.asarray(np.rint(tiny / np.where(spread > 0, spread, 1) * 32).clip(-127, 127), np.int8)


def thumbnail(image: Tensor, side: int) -> Floats:
    """`image (C, H, W)` at most `side` pixels high and wide, as float32 `(h, w, C)` in its own units."""
    factor = max(1, -(-max(image.shape[1:]) // side))
    kernel = (min(factor, image.shape[1]), min(factor, image.shape[2]))
    small: Any = F.avg_pool2d(image[None], kernel)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(small, np.float32)
