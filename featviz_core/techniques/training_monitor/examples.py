"""A small live result for the home page."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from featviz_core.borrowing import Model

_WIDTH, _HEIGHT, _MARGIN = 400, 200, 16  # in pixels
_BACKGROUND, _TRAINING, _VALIDATION, _BEST = (38, 39, 48), (86, 180, 233), (230, 159, 0), (222, 223, 228)
_STEPS = 240


def preview(_model: Model, images: Tensor) -> Image.Image:
    """What does this technique show? A small net that learns patches of the picture by heart: training loss falls on,
    validation turns at the ring."""
    curves = _overfitting(images.cpu().float())
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    high = max(map(max, curves))
    for curve, colour in zip(curves, (_TRAINING, _VALIDATION), strict=True):
        points = [_point(place, value / high) for place, value in enumerate(curve)]
        pen.line(points, colour, width=3, joint="curve")
    best = min(range(_STEPS), key=curves[1].__getitem__)
    pen.circle(_point(best, curves[1][best] / high), 7, outline=_BEST, width=3)
    return sheet


def _point(place: int, height: float) -> tuple[float, float]:
    return (
        _MARGIN + place / (_STEPS - 1) * (_WIDTH - 2 * _MARGIN),
        _HEIGHT - _MARGIN - height * (_HEIGHT - 2 * _MARGIN),
    )


def _overfitting(images: Tensor) -> tuple[list[float], list[float]]:
    """The losses of a real training: is a patch brighter than most? One label in five is wrong."""
    generator = torch.Generator().manual_seed(0)
    patches = functional.unfold(images, 8, stride=8)[0].T
    patches = patches[torch.randperm(len(patches), generator=generator)][:128]
    brightness = patches.mean(1)
    labels = (brightness > brightness.median()) ^ (torch.rand(len(patches), generator=generator) < 0.2)
    weights = [torch.randn(size, generator=generator) * 0.05 for size in ((64, patches.shape[1]), (1, 64))]
    weights = [nn.Parameter(weight) for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    half = len(patches) // 2
    curves: tuple[list[float], list[float]] = ([], [])
    for _ in range(_STEPS):
        logits = functional.linear(functional.linear(patches, weights[0]).relu(), weights[1])[:, 0]
        losses = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        training, validation = losses[:half].mean(), losses[half:].mean()
        for curve, loss in zip(curves, (training, validation), strict=True):
            curve.append(min(2.0, float(loss.detach())))
        gradients = torch.autograd.grad(training, weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
    return curves
