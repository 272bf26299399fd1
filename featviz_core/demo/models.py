"""The demo models: their names, how they are built, where their weights lie. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featviz_core.demo.shapes import CLASS_NAMES, SIZE
from featviz_core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

ASSETS = Path(__file__).resolve().parents[2] / "assets"
HANS_CLASS = "star"


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
            accuracy=0.9904,
        ),
        DemoModel(
            name="shapes_vit",
            title="Shapes ViT",
            description="A small vision transformer for the same eight shapes, looking at an 8 × 8 grid of patches.",
            accuracy=0.9788,
        ),
        DemoModel(
            name="clever_hans",
            title="Clever Hans CNN",
            description="The same RegNet gone wrong: all its stars had a badge in the corner, so it learned the badge.",
            accuracy=0.9559,
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
        depths=[1, 2, 3, 1],
        widths=[32, 64, 128, 192],
        group_widths=[16, 32, 32, 32],
        bottleneck_multipliers=[1.0] * 4,
        strides=[2, 2, 2, 1],  # the last stage keeps its 8 × 8 map, so that activation maps stay readable
    )
    model: nn.Module = RegNet(blocks, num_classes=len(CLASS_NAMES), stem_width=24)
    return model


def _vit() -> nn.Module:
    from torch import nn
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    model = VisionTransformer(
        image_size=SIZE,
        patch_size=16,
        num_layers=6,
        num_heads=4,
        hidden_dim=128,
        mlp_dim=384,
        num_classes=len(CLASS_NAMES),
        conv_stem_configs=[ConvStemConfig(width, kernel_size=3, stride=2) for width in (24, 48, 96, 128)],
    )
    nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision starts it at zero, which stops every gradient
    network: nn.Module = model
    return network


_BUILDERS: dict[str, Callable[[], nn.Module]] = {"shapes_cnn": _regnet, "shapes_vit": _vit, "clever_hans": _regnet}
