"""A small live result for the home page."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from featviz_core import drawing
from featviz_core.demo.shapes import draw
from featviz_core.models import LoadedModel
from featviz_core.techniques.output_check.compute import check_model_output

_PICTURES = 16
_CELL = 24  # of one score, in pixels


def preview(model: LoadedModel, images: Tensor) -> Image.Image:
    """What does this technique show? The scores of two pictures of each shape: a row for each class of the model."""
    pictures = sorted((draw("test", index) for index in range(_PICTURES)), key=lambda picture: picture.label)
    batch = model.preprocess(*(Image.fromarray(picture.image) for picture in pictures))
    found = check_model_output(model, batch.to(images))
    return drawing.mosaic(found.logits.T[None], tile=_CELL * _PICTURES).image
