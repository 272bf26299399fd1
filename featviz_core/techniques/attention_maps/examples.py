"""A small live result for the home page."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from featviz_core import drawing
from featviz_core.borrowing import Model
from featviz_core.techniques.attention_maps.overview import attention_overview


def preview(model: Model, images: Tensor) -> Image.Image:
    """What does this technique show? Where the class token looks, in four heads of each of two late layers."""
    found = attention_overview(model, images[:1])
    last = [found.maps[layer.address][:4] for layer in found.layers[-2:]]
    tiles = np.concatenate(last)
    return drawing.mosaic(tiles, columns=len(last[0]), tile=96, gap=4, scale="channel", color_map="magma").image
