"""How the demo transformer came to see small patches: trained on large ones, which takes a tenth of the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featviz_core.demo.models import build, vit

_COARSE = ((3, 2), (3, 2), (3, 2), (3, 2))
_SHIFTED = "conv_proj.conv_bn_relu_2.0.weight"
_POSITIONS = "encoder.pos_embedding"


def coarse_vit() -> nn.Module:
    """The demo transformer with fresh weights and 8 × 8 patches of 16 pixels, as it is trained."""
    return vit(_COARSE)


@torch.no_grad()
def refined(coarse: nn.Module) -> nn.Module:
    """The same transformer with 16 × 16 patches of 8 pixels: more tokens, each of them what it was.

    The stem goes without its last stride, so that it gives the same tokens twice as densely, and the position embedding
    is enlarged bicubically (Dosovitskiy et al., ICLR 2021). Kernels of 3 with stride 2 see a place around the corner of
    their patch. One of them gets a row and a column of zeros in front, which moves what every token sees by 4 pixels:
    to the middle of its patch, where maps are drawn.
    """
    weights = coarse.state_dict()
    weights[_SHIFTED] = nn.functional.pad(weights[_SHIFTED], (1, 0, 1, 0))
    weights[_POSITIONS] = _enlarged(weights[_POSITIONS])
    fine = build("shapes_vit")
    fine.load_state_dict(weights)
    return fine.eval()


def _enlarged(positions: Tensor) -> Tensor:
    """Position embeddings `(1, 1 + h * w, width)` of a square grid, for twice as many rows and columns."""
    side = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].mT.reshape(1, -1, side, side)
    larger = nn.functional.interpolate(grid, scale_factor=2, mode="bicubic")
    return torch.cat([positions[:, :1], larger.flatten(2).mT], dim=1)
