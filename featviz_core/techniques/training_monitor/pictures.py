"""What the model says of a few pictures, and where it looks: drawn after each validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from featviz_core.borrowing import borrowed
from featviz_core.capture import placed
from featviz_core.errors import ModelError
from featviz_core.layouts import first_tensor
from featviz_core.runs import tags
from featviz_core.techniques.class_activation import class_activation

_SIDE = 192  # pixels: smaller pictures are drawn larger, so that a caption fits below
_STRIP = 22
_BACKGROUND, _TEXT = (32, 33, 40), (240, 240, 242)
_RIGHT, _WRONG = (110, 200, 150), (240, 140, 120)


def drawn(
    model: nn.Module, images: Tensor, targets: Sequence[int] | None, names: Sequence[str]
) -> Iterator[tuple[str, Image.Image, str]]:
    """Tag, picture and caption: for each of `images` (N, C, H, W) what the model says, and the map behind it.

    Raises `FeatVizError` where the model has no class scores or no layer with places.
    """
    for place, (share, index) in enumerate(_answers(model, images)):
        caption, color = f"{_label(names, index)} {share:.0%}", _TEXT
        if targets is not None:
            wanted = targets[place]
            caption, color = (
                (caption, _RIGHT) if wanted == index else (f"{caption}, is {_label(names, wanted)}", _WRONG)
            )
        picture = shown(images[place])
        yield f"{tags.PREDICTION}{place}", _captioned(picture, caption, color), caption
        found = class_activation(model, images[place : place + 1], target=index)
        yield f"{tags.CLASS_ACTIVATION}{place}", _captioned(found.overlay(picture), caption, color), caption


def _answers(model: nn.Module, images: Tensor) -> list[tuple[float, int]]:
    """For each picture the predicted class and its probability."""
    with borrowed(model) as module, torch.no_grad():
        logits = first_tensor(module(placed(images, module)))
    if logits is None or logits.ndim != 2:
        raise ModelError("The model gives no class scores.", why="Expected an output (N, classes).")
    logits = logits.float()
    shares = logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()
    best, classes = shares.max(1)
    return list(zip(best.tolist(), classes.tolist(), strict=True))


def shown(image: Tensor) -> Image.Image:
    """A model's input (C, H, W) as a picture: its own range becomes black to white."""
    values = image.detach().float().cpu().nan_to_num().numpy()
    values = values[:3] if len(values) >= 3 else values[:1].repeat(3, 0)
    low, high = float(values.min()), float(values.max())
    pixels: NDArray[np.uint8] = ((values - low) / (high - low or 1.0) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _label(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else f"class {index}"


def _captioned(picture: Image.Image, caption: str, color: tuple[int, int, int]) -> Image.Image:
    scale = max(1, round(_SIDE / max(picture.size)))
    large = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    sheet = Image.new("RGB", (large.width, large.height + _STRIP), _BACKGROUND)
    sheet.paste(large)
    font = ImageFont.load_default(13)
    ImageDraw.Draw(sheet).text((6, large.height + 3), caption, color, font=font)
    return sheet
