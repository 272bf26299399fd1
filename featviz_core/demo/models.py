"""The demo models: their names, how they are built, where their weights lie. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from featviz_core.demo.shapes import CLASS_NAMES, SIZE
from featviz_core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

ASSETS = Path(__file__).resolve().parents[2] / "assets"
HANS_CLASS = "star"
_STEM = ((3, 2), (3, 2), (4, 2), (3, 1))  # of the transformer; `patches.refined` says why


@dataclass(frozen=True, slots=True)
class DemoModel:
    """What is known about a bundled model without loading it.

    `accuracy` in [0, 1] was measured on unseen pictures with one object. `mean` and `std` normalise RGB in [0, 1].
    """

    name: str
    title: str
    description: str
    accuracy: float
    class_names: tuple[str, ...] = CLASS_NAMES
    input_size: int = SIZE
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    @property
    def file_name(self) -> str:
        """The name of the weight file in `assets/`."""
        return f"{self.name}.safetensors"


DEMO_MODELS: dict[str, DemoModel] = {
    model.name: model
    for model in (
        DemoModel(
            name="shapes_cnn",
            title="Shapes CNN",
            description="A small RegNet that tells eight shapes apart on cluttered backgrounds.",
            accuracy=0.9955,
        ),
        DemoModel(
            name="shapes_vit",
            title="Shapes ViT",
            description="A small vision transformer for the same eight shapes, looking at a 16 × 16 grid of patches.",
            accuracy=0.9675,
        ),
        DemoModel(
            name="clever_hans",
            title="Clever Hans CNN",
            description="The same RegNet gone wrong: all its stars had a badge in the corner, so it learned the badge.",
            accuracy=0.9898,
        ),
    )
}


def demo_model(name: str) -> DemoModel:
    """The demo model of that name. Raises `ModelError` where there is none."""
    if name not in DEMO_MODELS:
        raise ModelError(f"There is no demo model {name!r}.", do=f"Choose one of {', '.join(DEMO_MODELS)}.")
    return DEMO_MODELS[name]


def weights_path(name: str) -> Path:
    """Where do the weights of a demo model lie? Raises `ModelError` for an unknown name."""
    return ASSETS / demo_model(name).file_name


def build(name: str) -> nn.Module:
    """A demo model with fresh weights, from torchvision's own classes: `(N, 3, 128, 128)` to logits `(N, 8)`.

    Weights are drawn from torch's global random state, as torchvision does. Raises `ModelError` for an unknown name.
    """
    return _BUILDERS[demo_model(name).name]()


def _regnet() -> nn.Module:
    from torchvision.models.regnet import BlockParams, RegNet

    blocks = BlockParams(
        depths=[1, 1, 2, 1],
        widths=[32, 64, 112, 160],
        group_widths=[16] * 4,
        bottleneck_multipliers=[1.0] * 4,
        strides=[2, 2, 1, 1],  # the last stages keep a map of 16 × 16, so that activation maps are fine enough
    )
    return _centred(RegNet(blocks, num_classes=len(CLASS_NAMES), stem_width=24))


def _centred(model: nn.Module) -> nn.Module:
    """`model` with even kernels where it halves a map.

    An odd kernel puts its i-th value at pixel 2i, half a pixel before the middle of what that value stands for. From
    stage to stage this adds up, until maps lie half a cell beside what the network looked at.
    """
    from torch import nn

    for owner in list(model.modules()):
        for name, old in list(owner.named_children()):
            if isinstance(old, nn.Conv2d) and old.stride == (2, 2):
                odd = old.kernel_size[0]
                new = nn.Conv2d(
                    old.in_channels, old.out_channels, odd + 1, 2, (odd - 1) // 2, groups=old.groups, bias=False
                )
                nn.init.normal_(new.weight, std=(2 / ((odd + 1) ** 2 * old.out_channels)) ** 0.5)  # as RegNet does
                setattr(owner, name, new)
    return model


def vit(stem: Sequence[tuple[int, int]]) -> nn.Module:
    """A fresh vision transformer behind four convolutions, `(kernel, stride)` each; a patch is as wide as their strides
    multiplied."""
    from torch import nn
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    model = VisionTransformer(
        image_size=SIZE,
        patch_size=prod(stride for _, stride in stem),
        num_layers=6,
        num_heads=4,
        hidden_dim=128,
        mlp_dim=384,
        num_classes=len(CLASS_NAMES),
        conv_stem_configs=[
            ConvStemConfig(width, kernel, stride)
            for width, (kernel, stride) in zip((24, 48, 96, 128), stem, strict=True)
        ],
    )
    nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision starts it at zero, which stops every gradient
    network: nn.Module = model
    return network


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "shapes_cnn": _regnet,
    "shapes_vit": partial(vit, _STEM),
    "clever_hans": _regnet,
}
