"""Healthy and unhealthy feature maps to learn from, made with the demo model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from PIL import Image
from torch import Tensor, nn

from featviz_core.architectures import seeded
from featviz_core.borrowing import Model, structural_view
from featviz_core.capture import layers_of
from featviz_core.demo.models import build
from featviz_core.demo.samples import SAMPLES
from featviz_core.images import read_picture
from featviz_core.models import load_model
from featviz_core.techniques.feature_maps.compute import FeatureMaps, feature_maps
from featviz_core.techniques.feature_maps.depth import stages

_LAYER = "trunk_output.block1"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One look to learn: what it is called, what to see in it, and the maps."""

    title: str
    text: str
    maps: FeatureMaps


@cache
def example_maps() -> tuple[Example, ...]:
    """The same layer and picture three times: trained, with dead channels, and never trained."""
    model = load_model("demo/shapes_cnn")
    picture = read_picture(SAMPLES[0].path.read_bytes())
    images = model.preprocess(picture.image)
    fresh = seeded(lambda: build("shapes_cnn"))
    return (
        Example(
            "Healthy",
            "Channels differ, and the object stands out in several of them.",
            feature_maps(model, images, layer=_LAYER),
        ),
        Example(
            "Dead channels",
            "Here the shift before the last ReLU was pushed far below zero, as one step with too high a learning rate "
            "does: the crossed-out channels never answer, and no gradient brings them back.",
            feature_maps(_with_dead_channels(model.module), images, layer=_LAYER),
        ),
        Example(
            "Never trained",
            "Fresh weights: every channel is a blurred copy of the same texture. A checkpoint that was not loaded "
            "looks like this.",
            feature_maps(fresh, images, layer=_LAYER),
        ),
    )


def preview(model: Model, images: Tensor) -> Image.Image:
    """What does this technique show? A small picture for the home page: eight channels of an early stage."""
    layer = stages(layers_of(model, tuple(images.shape[1:])))[1].address
    maps = feature_maps(model, images, layer=layer)
    return maps.mosaic(channels=maps.ranked("spread")[:8], columns=4, tile=96, gap=4, color_map="magma").image


def _with_dead_channels(module: nn.Module) -> nn.Module:
    """A view of `module` whose block ends in a ReLU that lets every second channel through."""
    view = structural_view(module)

    def push_down(_module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        pushed = inputs[0].clone()
        pushed[:, ::2] -= 100
        return (pushed,)

    last = [m for m in view.get_submodule(_LAYER).modules() if isinstance(m, nn.ReLU)][-1]
    last.register_forward_pre_hook(push_down)
    return view
