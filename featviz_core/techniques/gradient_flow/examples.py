"""A small live result for the home page."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from featviz_core import drawing
from featviz_core.borrowing import Model
from featviz_core.techniques.gradient_flow.compute import gradient_flow

_WIDTH, _HEIGHT = 400, 200  # in pixels


def preview(model: Model, images: Tensor) -> Image.Image:
    """What does this technique show? A bar for the gradient of each weight, first to last, on a logarithmic scale."""
    found = gradient_flow(model, images)
    norms = np.array([parameter.norm for parameter in found.parameters if parameter.is_matrix])
    levels = np.log10(np.maximum(norms, norms.max() / 1e3))
    heights = (levels - levels.min()) / max(1e-9, float(np.ptp(levels))) * 0.85 + 0.15
    column = np.linspace(0, len(heights), _WIDTH, endpoint=False).astype(int)
    rows = np.linspace(1, 0, _HEIGHT)[:, None]
    values = np.where(rows <= heights[column][None], heights[column][None], 0)
    values[:, np.flatnonzero(np.diff(column))] = 0
    return Image.fromarray(drawing.colorize(values[None], low=0, high=1)[0])
