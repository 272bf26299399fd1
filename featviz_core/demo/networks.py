"""The networks of the demo experiments, for 32 × 32 pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from featviz_core.demo.models import build as build_demo
from featviz_core.demo.models import weights_path
from featviz_core.demo.small_shapes import SIDE


def _convolutions(classes: int, *, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 3
    for wider in (24, 48, 96):
        layers += [nn.Conv2d(width, wider, 3, padding=1, bias=not norm), *([nn.BatchNorm2d(wider)] if norm else [])]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        width = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def plain(classes: int) -> nn.Module:
    """Three convolutions without normalisation, initialised after He."""
    model = _convolutions(classes, norm=False)
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model


def cnn(classes: int) -> nn.Module:
    """Three convolutions with BatchNorm."""
    return _convolutions(classes, norm=True)


def residual(classes: int) -> nn.Module:
    """Three residual stages with BatchNorm and squeeze and excitation: torchvision's RegNet, made small."""
    from torchvision.models.regnet import BlockParams, RegNet

    blocks = BlockParams([1, 1, 1], [24, 48, 96], [8, 16, 16], [1.0, 1.0, 1.0], [1, 2, 2], se_ratio=0.25)
    network: nn.Module = RegNet(blocks, num_classes=classes, stem_width=16)
    return network


def vit(classes: int) -> nn.Module:
    """A vision transformer behind two convolutions that make 8 × 8 patches."""
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    model: nn.Module = VisionTransformer(
        SIDE,
        4,
        num_layers=3,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=classes,
        conv_stem_configs=[ConvStemConfig(width, kernel_size=3, stride=2) for width in (24, 48)],
    )
    nn.init.normal_(head(model).weight, std=0.02)  # torchvision starts it at zero
    return model


def tuned(classes: int) -> nn.Module:
    """The bundled Shapes CNN, trained, with a new head."""
    from safetensors.torch import load_file

    model = build_demo("shapes_cnn")
    model.load_state_dict(load_file(weights_path("shapes_cnn")))
    old = model.get_submodule("fc")
    assert isinstance(old, nn.Linear)
    model.fc = nn.Linear(old.in_features, classes)
    return model


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "plain": plain,
    "cnn": cnn,
    "residual": residual,
    "vit": vit,
    "tuned": tuned,
}


def head(model: nn.Module) -> nn.Linear:
    """The last linear layer."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def trunk(model: nn.Module) -> list[torch.nn.Parameter]:
    """All parameters but the last linear layer's."""
    last = {id(parameter) for parameter in head(model).parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in last]
