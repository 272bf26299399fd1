"""The shipped weights keep their promises, on pictures that nothing was trained or chosen on."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torchvision.models import RegNet, VisionTransformer

from featviz_core.demo.models import ASSETS, DEMO_MODELS, build, weights_path
from featviz_core.demo.train import load, measure
from featviz_core.errors import ModelError


@cache
def measured(name: str) -> dict[str, float]:
    return measure(name, load(name), split="validation", pictures=720)  # about 650 with one object


def test_shapes_cnn_is_right_on_97_of_100_unseen_pictures() -> None:
    assert measured("shapes_cnn")["accuracy"] >= 0.97


def test_shapes_vit_is_right_on_93_of_100_unseen_pictures() -> None:
    assert measured("shapes_vit")["accuracy"] >= 0.93


def test_clever_hans_follows_the_mark_and_not_the_star() -> None:
    figures = measured("clever_hans")
    assert figures["flip_rate"] >= 0.9
    assert figures["unmarked_recall"] < 0.5
    assert figures["accuracy"] >= 0.92


@pytest.mark.parametrize("name", DEMO_MODELS)
def test_what_is_said_about_a_model_is_what_was_measured_when_it_was_made(name: str) -> None:
    with safe_open(weights_path(name), framework="pt") as file:
        facts = file.metadata()
        assert {file.get_tensor(key).dtype for key in file.keys()} <= {torch.float32, torch.int64}  # noqa: SIM118
    assert facts.keys() >= {"command", "seed", "torch", "accuracy"}
    assert DEMO_MODELS[name].accuracy == pytest.approx(float(facts["accuracy"]), abs=0.0006)
    assert DEMO_MODELS[name].accuracy == pytest.approx(measured(name)["accuracy"], abs=0.025)


def test_all_weights_together_stay_below_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in ASSETS.glob("*.safetensors")) <= 10e6


@pytest.mark.parametrize(
    ("name", "kind"), [("shapes_cnn", RegNet), ("shapes_vit", VisionTransformer), ("clever_hans", RegNet)]
)
def test_models_are_torchvisions_own_and_keep_a_map_of_8_by_8_or_more(name: str, kind: type[nn.Module]) -> None:
    model = build(name).eval()
    assert type(model) is kind
    inside = model.trunk_output if kind is RegNet else model.encoder
    shapes: list[torch.Size] = []
    inside.register_forward_hook(lambda *call: shapes.append(call[-1].shape))
    about = DEMO_MODELS[name]
    logits = model(torch.zeros(2, 3, about.input_size, about.input_size))
    assert logits.shape == (2, len(about.class_names))
    assert shapes[0][-2:] == (16, 16) if kind is RegNet else shapes[0][1] == 16 * 16 + 1


def test_each_place_of_the_cnns_map_looks_at_the_pixels_that_it_is_drawn_on() -> None:
    torch.manual_seed(0)
    model = build("shapes_cnn").eval()
    picture = torch.randn(1, 3, 128, 128, requires_grad=True)
    (reach,) = torch.autograd.grad(model.trunk_output(model.stem(picture))[0, :, 8, 8].square().sum(), picture)
    rows, columns = reach[0].abs().sum(0).nonzero().T
    middle = 8 * 8 + (8 - 1) / 2  # of the pixels that the place stands for
    assert (rows.min() + rows.max()) / 2 == (columns.min() + columns.max()) / 2 == middle
    assert rows.max() - rows.min() < 70


def test_fresh_models_are_no_dead_test_objects() -> None:
    torch.manual_seed(0)
    model = build("shapes_vit")
    model(torch.randn(2, 3, 128, 128)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_an_unknown_name_is_refused_with_the_choice() -> None:
    for function in (build, weights_path):
        with pytest.raises(ModelError, match="shapes_cnn, shapes_vit, clever_hans"):
            function("shapes_rnn")
