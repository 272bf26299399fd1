"""A small live result for the home page."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from featviz_core.borrowing import Model
from featviz_core.demo.models import DEMO_MODELS
from featviz_core.demo.shapes import CLASS_NAMES, draw
from featviz_core.techniques.data_check.compute import check_dataloader
from featviz_core.techniques.data_check.result import DataCheck

_NUMBERS = (11, 15, 23, 53, 38, 59)  # of pictures of the training split with one clear object
_PLACES = (1, 6)  # of the picture that comes twice, among them
_TILE, _GAP, _CAPTION = 96, 4, 16
_BACKGROUND, _TEXT, _ALARM = (38, 39, 48), (222, 223, 228), (213, 94, 0)


def preview(_model: Model, images: Tensor) -> Image.Image:
    """What does this technique show? Eight pictures of a batch; framed: two that are the same, under two labels."""
    norm = DEMO_MODELS["shapes_cnn"]
    pictures = [draw("train", number) for number in _NUMBERS]
    batch = [torch.from_numpy(picture.image).permute(2, 0, 1).float() / 255 for picture in pictures]
    batch = [(image - norm.mean[0]) / norm.std[0] for image in batch]
    labels = [picture.label for picture in pictures]
    for place, label in zip(_PLACES, ("star", "cross"), strict=True):
        batch.insert(place, images[0].cpu())
        labels.insert(place, CLASS_NAMES.index(label))
    data = TensorDataset(torch.stack(batch), torch.tensor(labels))
    return _drawn(check_dataloader(DataLoader(data, len(data)), normalization=(norm.mean, norm.std)))


def _drawn(check: DataCheck) -> Image.Image:
    suspicious = {note.position for pair in check.duplicates for note in (pair.first, pair.second)}
    columns = len(check.samples) // 2
    step = (_TILE + _GAP, _TILE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (columns * step[0] + _GAP, 2 * step[1] + _GAP), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for i, sample in enumerate(check.samples):
        left, top = _GAP + i % columns * step[0], _GAP + i // columns * step[1]
        colour = _ALARM if i in suspicious else _TEXT
        sheet.paste(Image.fromarray(sample.person).resize((_TILE, _TILE)), (left, top))
        if i in suspicious:
            pen.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), outline=_ALARM, width=4)
        label = CLASS_NAMES[sample.picture.label or 0]
        pen.text((left + _TILE / 2, top + _TILE + _CAPTION / 2 + 1), label, colour, anchor="mm")
    return sheet
