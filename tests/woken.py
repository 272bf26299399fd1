"""torchvision's classifiers without published weights, yet not the poor test objects that fresh ones are."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from featviz_core.architectures import build, seeded
from featviz_core.trace import Layer, Trace
from featviz_core.zoo import ZOO

# Where smaller pictures than usual would do, so that tests stay fast.
_SMALLER = {"vit_h": 56, "vit": 64, "swin": 96, "alexnet": 128, "inception": 128}


def size_of(name: str) -> int:
    """A side in pixels that the model takes and that leaves at least 2×2 places at its end."""
    smallest = min(weights.min_size for weights in ZOO[name].weights)
    return next((size for family, size in _SMALLER.items() if name.startswith(family)), max(64, smallest))


def waking_pictures(count: int, size: int) -> Tensor:
    """Smooth blobs with some noise `(N, 3, size, size)`, scaled like normalised photos."""
    draw = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 3, 6, 6, generator=draw)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return smooth + 0.2 * torch.randn(count, 3, size, size, generator=draw)


def wake(module: nn.Module, size: int) -> nn.Module:
    """Redraw zero heads from N(0, .02) and set BatchNorm statistics by one pass."""
    draw = torch.Generator().manual_seed(2)
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.Linear) and not m.weight.any():
                m.weight.normal_(std=0.02, generator=draw)
        module.eval()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train().momentum = 1.0
        if norms:
            module(waking_pictures(4, size))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return module.eval()


def woken(name: str, *, size: int | None = None) -> nn.Module:
    """The model of that name, woken, for pictures of `size_of(name)` or `size`."""
    size = size or size_of(name)
    options: dict[str, object] = {"image_size": size} if name.startswith("vit") else {}
    return wake(seeded(lambda: build(name, **options)), size)


@cache
def remembered(name: str) -> nn.Module:
    """As `woken`, once for all tests; only for small models, and never to be changed."""
    return woken(name)


def stages(trace: Trace) -> list[Layer]:
    """The first, the middle and the last layer whose output lies on the picture in more than one place."""
    spatial = sorted((layer for layer in trace.layers if layer.name and _places(layer) > 1), key=lambda x: x.order)
    return [spatial[0], spatial[len(spatial) // 2], spatial[-1]]


def _places(layer: Layer) -> int:
    if layer.layout is None or layer.shape is None:
        return 0
    return layer.layout.to_maps(torch.empty(layer.shape, device="meta")).shape[2:].numel()
