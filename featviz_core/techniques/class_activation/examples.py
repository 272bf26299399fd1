"""What class activation maps look like, made with the demo model."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from featviz_core.models import LoadedModel
from featviz_core.techniques.class_activation.compute import class_activations


def preview(model: LoadedModel, images: Tensor) -> Image.Image:
    """What does this technique show? A small picture for the home page: what was seen, and two maps over it."""
    seen = model.preprocessing.undo(images[:1]).resize((192, 192))
    found = class_activations(model, images[:1], methods=["gradcam", "layercam"])
    tiles = [seen.convert("RGB"), *(result.overlay(seen) for result in found.values())]
    gap = 4
    strip = Image.new("RGBA", (len(tiles) * (192 + gap) - gap, 192))
    for number, tile in enumerate(tiles):
        strip.paste(tile, (number * (192 + gap), 0))
    return strip
