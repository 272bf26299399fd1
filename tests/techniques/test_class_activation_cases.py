"""What class activation maps say in awkward cases: targets, layers, blank maps, NaN, and models left as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featviz_core as fv
from featviz_core.errors import LayerError, ModelError
from featviz_core.models import LoadedModel
from featviz_core.preprocessing import Preprocessing
from featviz_core.techniques.class_activation.layers import find_default
from featviz_core.trace import trace
from tests.toys import logits_of, pictures, toy

NAMES = ("cat", "Dog", "short-haired pointer", "crane", "crane")


class Head(nn.Module):
    """One channel a class, their means as scores: the map of class c is channel c."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stage = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(x).mean((2, 3)))


def loaded(module: nn.Module) -> LoadedModel:
    preprocessing = Preprocessing(resize_size=8, crop_size=8, mean=(0, 0, 0), std=(1, 1, 1))
    return LoadedModel("test", module, class_names=NAMES, preprocessing=preprocessing)


@pytest.fixture
def model() -> LoadedModel:
    torch.manual_seed(0)
    return loaded(Head())


@pytest.mark.parametrize(
    ("target", "label", "weights"),
    [
        (1, "Dog", {1: 1}),
        ("dog", "Dog", {1: 1}),
        ("short-haired pointer", "short-haired pointer", {2: 1}),
        ("-cat", "− cat", {0: -1}),
        ("− cat", "− cat", {0: -1}),
        ("cat - Dog", "cat − Dog", {0: 1, 1: -1}),
        ("cat + short-haired pointer - 3", "cat + short-haired pointer − crane", {0: 1, 2: 1, 3: -1}),
        (("cat", 1), "cat + Dog", {0: 1, 1: 1}),
        ("class 4", "crane", {4: 1}),
        (fv.Target("mine", ((0, 0.5), (3, 2.0))), "mine", {0: 0.5, 3: 2}),
    ],
)
def test_targets(model: LoadedModel, target: object, label: str, weights: dict[int, float]) -> None:
    result = fv.class_activation(model, pictures(), target=target)
    assert result.target.label == label
    assert dict(result.target.weights) == weights
    logits = model.logits(pictures())[0]
    assert result.score == pytest.approx(sum(float(logits[i]) * w for i, w in weights.items()), rel=1e-5)
    stage = model.module.stage(pictures())[0].detach()
    factors = sum(model.module.head.weight[i].detach() * w for i, w in weights.items()) / 64
    np.testing.assert_allclose(result.raw, torch.einsum("k,kij->ij", factors, stage), atol=1e-6)


def test_without_a_target_the_predicted_class_is_explained(model: LoadedModel) -> None:
    best = int(model.logits(pictures()).argmax())
    assert fv.class_activation(model, pictures()).target == fv.Target(NAMES[best], ((best, 1.0),))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("cta", "nearest names are cat"),
        ("crane", "numbers 3, 4"),
        (5, "0 to 4"),
        (-1, "0 to 4"),
        ("cat - zebrafish", "no class 'zebrafish'"),
        ("", "no class ''"),
        ((), "No class was named"),
        ("7", "no class 7"),
    ],
)
def test_wrong_targets_say_what_is_there(model: LoadedModel, target: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        fv.class_activation(model, pictures(), target=target)


def test_a_plain_module_knows_numbers_only() -> None:
    assert fv.class_activation(Head(), pictures(), target=3).target.label == "class 3"
    with pytest.raises(ModelError, match="no class names"):
        fv.class_activation(Head(), pictures(), target="cat")


def test_what_argues_against_a_class_is_the_negative_of_its_map(model: LoadedModel) -> None:
    found = fv.class_activations(model, pictures(), targets=["cat", "-cat"], methods=["gradcam", "ablationcam"])
    for method in ("gradcam", "ablationcam"):
        speaks, argues = (found["stage", label, method].raw for label in ("cat", "− cat"))
        np.testing.assert_allclose(speaks, -argues, rtol=1e-3, atol=1e-6)


def positive_stage(sign: float, classes: int = 5) -> nn.Module:
    """A stage that is positive everywhere and a head with weights of one sign."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(4, classes))
    nn.init.constant_(module[-1].weight, sign)
    return module


def test_negative_evidence_is_blank_and_says_so() -> None:
    result = fv.class_activation(positive_stage(-1.0), pictures())
    assert "all evidence is negative" in result.note
    assert not result.map.any()
    assert result.raw.max() < 0


def test_one_sided_evidence_says_so() -> None:
    result = fv.class_activation(positive_stage(1.0), pictures())
    assert "One-sided" in result.note
    assert result.map.min() == 0 and result.map.max() == 1


def test_a_layer_that_the_score_does_not_depend_on_is_blank() -> None:
    result = fv.class_activation(positive_stage(0.0), pictures())
    assert "Blank" in result.note and "does not change" in result.note
    assert not result.map.any()


def test_a_one_class_head_says_what_the_map_shows() -> None:
    result = fv.class_activation(Head(classes=1), pictures())
    assert result.target.weights == ((0, 1.0),)
    assert "single output" in result.note

    class Squeezed(Head):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, 0]

    assert fv.class_activation(Squeezed(), pictures()).raw.shape == (8, 8)


def test_a_layer_with_one_place_says_that_it_cannot_say_where() -> None:
    for method in ("gradcam", "scorecam", "eigencam", "eigengradcam", "ablationcam", "fem", "gradcam++"):
        result = fv.class_activation(positive_stage(1.0), pictures(), layer="2", method=method)
        assert "one place only" in result.note
        assert result.raw.shape == (1, 1)
        assert np.isfinite(result.map).all()


def test_scores_that_are_nan_are_said_and_shown_as_nothing() -> None:
    for method in fv.cam_methods():
        result = fv.class_activation(Head(), torch.full((1, 3, 8, 8), torch.nan), method=method)
        assert "not a finite number" in result.note
        assert np.isfinite(result.map).all()
        assert result.map.min() >= 0 and result.map.max() <= 1


def test_a_channel_that_is_dead_or_constant_divides_by_nothing() -> None:
    module = Head()
    nn.init.zeros_(module.stage.weight)
    nn.init.zeros_(module.stage.bias)
    for method in fv.cam_methods():
        result = fv.class_activation(module, pictures(), method=method)
        assert np.isfinite(result.raw).all() and np.isfinite(result.map).all(), method


def test_a_black_picture_and_the_smallest_picture() -> None:
    for image in (torch.zeros(1, 3, 8, 8), torch.rand(1, 3, 3, 5), torch.rand(1, 3, 1, 2)):
        result = fv.class_activation(Head(), image)
        assert result.map.shape == tuple(image.shape[2:])
        assert np.isfinite(result.map).all()


def test_a_model_without_class_scores_says_so() -> None:
    with pytest.raises(ModelError, match="no class scores"):
        fv.class_activation(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), pictures())


def test_a_model_without_places_says_so() -> None:
    with pytest.raises(LayerError, match="knows where"):
        fv.class_activation(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), pictures())
    with pytest.raises(LayerError, match="no layer 'stag'"):
        fv.class_activation(Head(), pictures(), layer="stag")


def test_frozen_parameters_and_no_grad_are_no_hindrance() -> None:
    module = Head()
    free = fv.class_activation(module, pictures()).raw
    module.requires_grad_(False)
    with torch.no_grad():
        np.testing.assert_array_equal(fv.class_activation(module, pictures()).raw, free)


def test_an_in_place_module_behind_the_layer_does_not_change_it() -> None:
    module = toy("InPlace").eval()
    image = pictures()
    maps = module.body[3](module.body[2](module.body[1](module.body[0](image)))).detach().clone()
    weights = module.fc.weight[2].detach() / maps[0, 0].numel()
    expected = (weights[:, None, None] * (maps[0] > 0)).mean((1, 2))
    expected = torch.einsum("k,kij->ij", expected, maps[0])
    raw = fv.class_activation(module, image, layer="body.3", target=2).raw
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", list(fv.cam_methods()))
def test_models_are_left_as_they_were(method, model_untouched) -> None:
    module = Head()
    module.stage.weight.grad = torch.ones_like(module.stage.weight)
    module.train()
    for model in (module, loaded(Head())):
        with model_untouched(model):
            fv.class_activation(model, pictures(), method=method)

        def cancel(fraction: float, text: str) -> None:
            raise KeyboardInterrupt

        with model_untouched(model), pytest.raises(KeyboardInterrupt):
            fv.class_activation(model, pictures(), method=method, progress=cancel)
        with model_untouched(model), pytest.raises(ModelError):
            fv.class_activation(model, pictures(), target=99, method=method)


@pytest.mark.parametrize("name", ["Glue", "Again", "Shared", "SequenceFirst", "Windows", "WritesInput", "Norms"])
def test_awkward_models_give_maps_under_every_kind_of_method(name: str) -> None:
    module = toy(name).eval()
    for method in ("gradcam", "scorecam", "ablationcam", "eigencam", "smooth_gradcam++"):
        result = fv.class_activation(module, pictures(), method=method)
        assert result.map.shape == (8, 8)
        assert np.isfinite(result.raw).all()


@pytest.mark.parametrize(("name", "layer"), [("SequenceFirst", "norm"), ("Windows", "stem"), ("Norms", None)])
def test_ablation_in_every_layout_is_what_a_hook_on_a_full_run_gives(name: str, layer: str | None) -> None:
    module, image = toy(name), pictures()
    layer = layer or fv.default_layer(module, (3, 8, 8))
    found = fv.class_activation(module, image, layer=layer, target=1, method="ablationcam")
    maps = fv.feature_maps(module, image, layer=layer).maps[0]
    axis = 1 if found.layer.layout.kind == "channels_first" else -1
    expected = np.zeros_like(found.raw)
    for channel, one in enumerate(maps):

        def silence(_module, _inputs, output, channel=channel):
            output = output.clone()
            output.select(axis, channel).zero_()
            return output

        handle = module.get_submodule(layer).register_forward_hook(silence)
        with torch.no_grad():
            expected += (found.score - float(logits_of(module(image))[0, 1])) / abs(found.score) * one
        handle.remove()
    np.testing.assert_allclose(found.raw, expected, rtol=1e-3, atol=1e-5)


def test_overlay_has_the_pictures_size(shapes_cnn) -> None:
    from PIL import Image

    picture = Image.new("RGB", (40, 30), "gray")
    result = fv.class_activation(shapes_cnn, torch.rand(1, 3, 128, 128))
    assert result.overlay(picture).size == (40, 30)
    assert np.array_equal(np.asarray(result.overlay(picture, opacity=0)), np.asarray(picture))
    with pytest.raises(ValueError, match="opacity"):
        result.overlay(picture, opacity=2)


DEFAULTS = {
    "resnet18": "layer4",
    "densenet121": "features",
    "squeezenet1_0": "features",
    "vgg11": "features",
    "googlenet": "inception5b",
    "mobilenet_v3_small": "features",
    "convnext_tiny": "features",
    "regnet_y_400mf": "trunk_output",
    "swin_t": "norm",
    "vit_b_32": "encoder.layers.encoder_layer_11.ln_1",
    "maxvit_t": "blocks.3",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_layers(name: str) -> None:
    from featviz_core.architectures import build

    if name.startswith("regnet"):  # computes with its own numbers while it is built
        module = build(name)
    else:
        with torch.device("meta"):
            module = build(name)
    assert find_default(trace(module.eval(), (3, 224, 224))).address == DEFAULTS[name]


class Pooled(nn.Module):
    """Gives its maps beside their means, as the backbones of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.stage(x)
        return {"last": maps, "pooled": self.pool(maps)}


class OnPooled(nn.Module):
    """Classifies by the means alone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Pooled()
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)["pooled"].flatten(1))


def test_a_backbone_that_pools_is_no_default_layer() -> None:
    torch.manual_seed(0)
    found = fv.class_activation(OnPooled(), torch.rand(1, 3, 16, 16))
    assert found.layer.address == "backbone.stage"
    assert np.ptp(found.raw) > 0


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_torchvision_models_have_maps(name: str) -> None:
    from tests.zoo_cam import wrong_with

    assert wrong_with(name) == ""


def test_preview(shapes_cnn) -> None:
    from featviz_core.catalog import preview

    assert preview("class_activation").width > 300
