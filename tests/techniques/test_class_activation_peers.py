"""Class activation maps against grad-cam, torchcam and captum, where the definitions agree.

Heads are drawn large, so that the small numbers that peers add to their denominators do not show.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import SwinTransformer

import featviz_core as fv
from featviz_core.models import seeded
from featviz_core.techniques.class_activation import by_gradient, by_score
from featviz_core.techniques.class_activation.result import render
from tests.woken import wake, waking_pictures

SIZE = 64
CLASSES = 10


class Plain(nn.Module):
    """A small CNN with an in-place ReLU behind the default layer's convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
        )
        self.relu = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(24 * 64, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.relu(self.features(x)).flatten(1))))


def _tokens(output: Tensor) -> Tensor:
    return output[:, 1:].transpose(1, 2).reshape(len(output), output.shape[2], 4, 4)


def _channels_first(output: Tensor) -> Tensor:
    return output.permute(0, 3, 1, 2)


Reshape = Callable[[Tensor], Tensor] | None
_ZOO = torchvision.models
BUILDERS: dict[str, tuple[Callable[[], nn.Module], str, Reshape]] = {
    "cnn": (Plain, "features", None),
    "resnet": (lambda: _ZOO.resnet18(num_classes=CLASSES), "layer3", None),
    "densenet": (
        lambda: _ZOO.DenseNet(growth_rate=8, block_config=(2, 3, 2), num_init_features=16, num_classes=CLASSES),
        "features.denseblock3",  # behind `features` stands an in-place function, which overwrites what peers capture
        None,
    ),
    "mobilenet": (lambda: _ZOO.mobilenet_v3_small(num_classes=CLASSES), "features", None),
    "efficientnet": (lambda: _ZOO.efficientnet_b0(num_classes=CLASSES), "features", None),
    "convnext": (
        lambda: _ZOO.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 2)], num_classes=CLASSES),
        "features",
        None,
    ),
    "vit": (
        lambda: _ZOO.VisionTransformer(SIZE, 16, 3, 4, 32, 64, num_classes=CLASSES),
        "encoder.layers.encoder_layer_2.ln_1",
        _tokens,
    ),
    "swin": (lambda: SwinTransformer([4, 4], 16, [1, 2], [2, 4], [4, 4], num_classes=CLASSES), "norm", _channels_first),
}


@pytest.fixture(scope="module", params=BUILDERS)
def case(request) -> tuple[nn.Module, str, Reshape, Tensor]:
    build, layer, reshape = BUILDERS[request.param]
    image = waking_pictures(1, SIZE)
    module = wake(seeded(build), SIZE)
    generator = torch.Generator().manual_seed(0)
    head = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        head.weight.normal_(0, 20.0, generator=generator)
    module.requires_grad_(False)  # a peer that needs parameters' gradients would notice
    return module, layer, reshape, image


@contextlib.contextmanager
def learning(module: nn.Module):
    """Peers need parameters that require gradients, and what they capture is overwritten by in-place modules."""
    in_place = [m for m in module.modules() if getattr(m, "inplace", False)]
    module.requires_grad_(True)
    for m in in_place:
        m.inplace = False
    with contextlib.redirect_stderr(io.StringIO()):
        yield
    for m in in_place:
        m.inplace = True
    module.requires_grad_(False)


def rendered_by_grad_cam(name: str, case: tuple[nn.Module, str, Reshape, Tensor], target: int) -> np.ndarray:
    peers = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module, layer, reshape, image = case
    with learning(module), getattr(peers, name)(module, [module.get_submodule(layer)], reshape) as cam:
        return cam(image, [ClassifierOutputTarget(target)])[0]


@pytest.mark.parametrize("target", [1, 7])
def test_raw_grad_cam_is_captums_and_torchcams(case, target: int) -> None:
    captum = pytest.importorskip("captum.attr")
    torchcam = pytest.importorskip("torchcam.methods")
    module, layer, reshape, image = case
    if reshape is not None:
        pytest.skip("captum and torchcam know channels-first layers only")
    raw = fv.class_activation(module, image, layer=layer, target=target).raw
    with learning(module):
        theirs = captum.LayerGradCam(module, module.get_submodule(layer)).attribute(image, target)[0, 0]
        with torchcam.GradCAM(module, layer) as extract:
            rectified = extract(target, module(image), normalized=False)[0][0]
    scale = np.abs(raw).max()
    assert np.ptp(raw) > 0
    np.testing.assert_allclose(raw, theirs.detach(), atol=1e-6 * scale)
    np.testing.assert_allclose(np.maximum(raw, 0), rectified.detach(), atol=1e-6 * scale)


SAME_AS_GRAD_CAM = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "gradcam_elementwise": "GradCAMElementWise",
    "layercam": "LayerCAM",
}
# Its 1e-6 beside the squared gradient, which the paper does not have, shows where gradients are small.
TOLERANCES = {"gradcam++": 1e-4}


@pytest.mark.parametrize("method", SAME_AS_GRAD_CAM)
def test_rendered_maps_are_grad_cams(case, method: str) -> None:
    module, layer, _, image = case
    theirs = rendered_by_grad_cam(SAME_AS_GRAD_CAM[method], case, 3)
    ours = fv.class_activation(module, image, layer=layer, target=3, method=method)
    assert np.ptp(ours.raw) > 0
    np.testing.assert_allclose(ours.map, theirs, atol=TOLERANCES.get(method, 2e-6))


def test_xgrad_cam_differs_from_grad_cams_in_what_it_adds_to_the_sum_only(case, monkeypatch) -> None:
    module, layer, _, image = case
    # Where activations have both signs, the sum that is divided by can be small enough for the peer's 1e-7 to show.
    monkeypatch.setattr(by_gradient, "share", lambda part, whole: part / (whole + 1e-7))
    ours = fv.class_activation(module, image, layer=layer, target=3, method="xgradcam")
    assert np.ptp(ours.raw) > 0
    np.testing.assert_allclose(ours.map, rendered_by_grad_cam("XGradCAM", case, 3), atol=2e-6)


def test_eigen_grad_cam_is_grad_cams_up_to_its_sign(case) -> None:
    module, layer, _, image = case
    raw = fv.class_activation(module, image, layer=layer, target=3, method="eigengradcam").raw
    theirs = rendered_by_grad_cam("EigenGradCAM", case, 3)
    differences = [np.abs(render(sign * raw, (SIZE, SIZE)) - theirs).max() for sign in (1, -1)]
    assert min(differences) < 2e-5


def test_ablation_cam_is_grad_cams_where_nothing_is_negative(case, request) -> None:
    module, layer, _, image = case
    if layer != "layer3":
        pytest.skip("grad-cam puts large negative numbers where the paper has zeros, unless a ReLU comes last")
    best = int(module(image).argmax())
    theirs = rendered_by_grad_cam("AblationCAM", case, best)
    ours = fv.class_activation(module, image, layer=layer, target=best, method="ablationcam")
    assert ours.score > 0
    np.testing.assert_allclose(ours.map, theirs, atol=2e-5)


def _stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def _grad_cams_masks(activations: Tensor, size: tuple[int, ...]) -> Tensor:
    return _stretched(F.interpolate(activations[:, None], size=size, mode="bilinear", align_corners=True))


def _torchcams_masks(activations: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(_stretched(activations[:, None]), size=size, mode="bilinear", align_corners=False)


def test_score_cam_differs_from_the_peers_in_the_masks_only(case, monkeypatch: pytest.MonkeyPatch) -> None:
    torchcam = pytest.importorskip("torchcam.methods")
    module, layer, _, image = case
    if not isinstance(module, Plain):
        pytest.skip("slow, and the same for all models")
    monkeypatch.setattr(by_score, "_masks", _grad_cams_masks)
    ours = fv.class_activation(module, image, layer=layer, target=3, method="scorecam").map
    np.testing.assert_allclose(ours, rendered_by_grad_cam("ScoreCAM", case, 3), atol=1e-5)
    monkeypatch.setattr(by_score, "_masks", _torchcams_masks)
    ours = fv.class_activation(module, image, layer=layer, target=3, method="scorecam").raw
    with learning(module), torchcam.ScoreCAM(module, layer) as extract, torch.no_grad():
        theirs = extract(3, module(image), normalized=False)[0][0].numpy()
    np.testing.assert_allclose(np.maximum(ours, 0), theirs, atol=1e-5 * np.abs(ours).max())


@pytest.mark.parametrize(
    ("name", "options", "layer", "places"),
    [
        ("deit_tiny_distilled_patch16_224", {"depth": 2}, "blocks.1.norm1", (14, 14)),
        ("vit_little_patch16_reg4_gap_256", {"depth": 2}, "blocks.1.norm1", (16, 16)),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 2), "num_heads": (3, 6)}, "norm", (28, 28)),
        ("cait_xxs24_224", {"depth": 1}, "blocks_token_only.0.attn.v", (14, 14)),
    ],
)
def test_timms_models_have_a_layer_to_look_at(name: str, options: dict, layer: str, places: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    model = seeded(lambda: timm.create_model(name, pretrained=False, num_classes=CLASSES, **options))
    size = model.default_cfg["input_size"][1]
    found = fv.class_activation(wake(model, size), waking_pictures(1, size), target=1)
    assert (found.layer.address, found.raw.shape) == (layer, places)
    assert np.ptp(found.raw) > 0


def test_a_transformer_that_gives_tokens_beside_their_mean_is_looked_at_before_the_mean() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=SIZE, embed_dim=16, depths=[1, 2], num_heads=[2, 4], window_size=4, num_labels=CLASSES
    )
    model = wake(seeded(lambda: transformers.SwinForImageClassification(config)), SIZE)
    found = fv.class_activation(model, waking_pictures(1, SIZE), target=1)
    assert (found.layer.address, found.raw.shape) == ("swin.layernorm", (8, 8))
    assert np.ptp(found.raw) > 0
