"""A small live result for the home page."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from featviz_core import drawing
from featviz_core.borrowing import Model
from featviz_core.techniques.activation_stats import ruler
from featviz_core.techniques.activation_stats.compute import activation_stats

_SIZE = (384, 192)  # pixels
_SEEN = 1e-3  # share of a layer's values that makes a bin worth showing


def preview(model: Model, images: Tensor) -> Image.Image:
    """What does this technique show? Layers across, the values of each from large below zero to large above."""
    found = activation_stats(model, images)
    shares = np.stack([layer.ruled / layer.sampled for layer in found.layers.values()], axis=1)
    coarse = np.add.reduceat(shares, np.arange(0, ruler.BINS, 5), axis=0)[::-1]
    seen = np.flatnonzero((coarse > _SEEN).any(axis=1))
    shown = np.sqrt(coarse[seen[0] : seen[-1] + 1])
    colored = drawing.colorize(shown, low=0, high=float(shown.max()), color_map="magma")
    return Image.fromarray(colored).resize(_SIZE, Image.Resampling.NEAREST)
