"""A small live result for the home page."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from featviz_core import drawing
from featviz_core.models import LoadedModel
from featviz_core.techniques.attention_maps.overview import attention_overview
from featviz_core.techniques.attention_maps.relevance import attention_explanations

_SIDE, _GAP = 192, 4


def preview(model: LoadedModel, images: Tensor) -> Image.Image:
    """What does this technique show? What was seen, where one head of the first layer looks, and all layers at once."""
    seen = model.preprocessing.undo(images[:1]).resize((_SIDE, _SIDE)).convert("RGB")
    head = next(iter(attention_overview(model, images[:1]).maps.values()))[0]
    through = attention_explanations(model, images[:1], residual=0.8).maps["rollout"]
    tiles = [seen, *(drawing.overlay(seen, heat, opacity=0.6, color_map="magma") for heat in (head, through))]
    strip = Image.new("RGBA", (len(tiles) * (_SIDE + _GAP) - _GAP, _SIDE))
    for number, tile in enumerate(tiles):
        strip.paste(tile, (number * (_SIDE + _GAP), 0))
    return strip
