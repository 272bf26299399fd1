"""Gradient flow: closed forms, agreement with the plain recipe, and what is told apart."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import featviz_core as fv
from featviz_core.errors import ModelError
from featviz_core.techniques.gradient_flow import ParameterGradient
from tests.woken import size_of, waking_pictures, woken

Untouched = Callable[[Any], AbstractContextManager[None]]


class Flat(nn.Module):
    """Pictures as rows of numbers."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def codes(found: Any) -> dict[str, str]:
    return {finding.code: finding.severity for finding in found.findings}


def by_name(found: fv.GradientFlow) -> dict[str, ParameterGradient]:
    return {parameter.parameter: parameter for parameter in found.parameters}


def pictures(count: int = 2, size: int = 2, *, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def plain_net(width: int = 8) -> nn.Sequential:
    return nn.Sequential(Flat(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))


# Numbers


def test_a_linear_layer_by_hand() -> None:
    images = pictures(4)
    model = nn.Sequential(Flat(), nn.Linear(12, 3))
    targets = torch.tensor([0, 1, 2, 1])
    found = by_name(fv.gradient_flow(model, images, targets))
    x, linear = images.flatten(1).double(), model[1].double()
    error = (linear(x).softmax(1) - functional.one_hot(targets, 3)) / 4  # ∂loss/∂logits of cross-entropy
    error = error.detach()
    weight, bias = error.T @ x, error.sum(0)
    for name, expected, own in (("1.weight", weight, linear.weight), ("1.bias", bias, linear.bias)):
        row = found[name]
        assert row.mean_abs == pytest.approx(float(expected.abs().mean()), rel=1e-5)
        assert row.max_abs == pytest.approx(float(expected.abs().max()), rel=1e-5)
        assert row.norm == pytest.approx(float(expected.norm()), rel=1e-5)
        assert row.weight_norm == pytest.approx(float(own.detach().norm()), rel=1e-6)
        assert row.ratio == pytest.approx(float(expected.norm() / own.detach().norm()), rel=1e-5)
        assert (row.layer, row.type, row.state) == ("1", "Linear", "reached")
    whole = fv.gradient_flow(model.float(), images, targets)
    assert whole.output_norm == pytest.approx(float(error.norm()), rel=1e-5)
    layer = whole.layers().iloc[0]
    assert layer["norm"] == pytest.approx(math.hypot(float(weight.norm()), float(bias.norm())), rel=1e-5)
    assert layer["parameters"] == 39


def test_exact_zeros_and_dead_units_are_counted() -> None:
    model = plain_net(4)
    with torch.no_grad():
        model[1].bias[:3] = -100  # three of four units never fire
        model[1].bias[3] = 100
    row = by_name(fv.gradient_flow(model, pictures(20), [0] * 20))["1.weight"]
    assert row.zero_fraction == row.dead_fraction == 0.75
    images = pictures(20)
    images[:, :, 0, 0] = 0  # three of twelve inputs
    row = by_name(fv.gradient_flow(model, images, [0] * 20))["1.weight"]
    assert row.zero_fraction == pytest.approx(0.75 + 0.25 * 3 / 12)
    assert row.dead_fraction == 0.75


@pytest.mark.parametrize("scale", [1e-24, 1e24])
def test_norms_hold_where_squares_do_not(scale: float) -> None:
    model = nn.Sequential(Flat(), nn.Linear(12, 3))
    images, targets = pictures(), [0, 1]
    one = by_name(fv.gradient_flow(model, images, targets))["1.weight"]
    other = by_name(
        fv.gradient_flow(model, images, targets, loss_fn=lambda z, y: functional.cross_entropy(z, y) * scale)
    )["1.weight"]
    assert other.norm == pytest.approx(one.norm * scale, rel=1e-5)
    assert other.mean_abs == pytest.approx(one.mean_abs * scale, rel=1e-5)


def test_sums_over_many_values_stay_exact() -> None:
    model = nn.Sequential(Flat(), nn.Linear(3 * 32 * 32, 2048))
    images = pictures(2, 32)
    row = by_name(fv.gradient_flow(model, images, [0, 1]))["1.weight"]
    loss = functional.cross_entropy(model(images), torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(loss, [model[1].weight])
    assert row.norm == pytest.approx(float(gradient.double().norm()), rel=1e-6)
    assert row.mean_abs == pytest.approx(float(gradient.double().abs().mean()), rel=1e-6)
    assert row.weight_norm == pytest.approx(float(model[1].weight.detach().double().norm()), rel=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["shapes_cnn", "resnet18", "vit_b_32", "swin_t"])
def test_the_same_as_backward_on_a_private_copy(name: str, training: bool, model_untouched: Untouched) -> None:
    model: Any
    if name == "shapes_cnn":
        model = fv.load_model("demo/shapes_cnn")
        module, images = model.module, waking_pictures(2, 128)
    else:
        model = module = woken(name)
        images = waking_pictures(2, size_of(name))
    copied = copy.deepcopy(module).train(training)
    torch.manual_seed(0)
    loss = functional.cross_entropy(copied(images), torch.tensor([1, 2]))
    loss.backward()
    with model_untouched(model):
        found = fv.gradient_flow(model, images, [1, 2], training=training)
    assert found.loss == pytest.approx(float(loss), rel=1e-6)
    rows = by_name(found)
    assert set(rows) == {name for name, _ in copied.named_parameters()}
    for name_, parameter in copied.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name_
        wanted = gradient.double()
        # Biases before a normalisation get rounding errors only, which no two passes share.
        noise = 1e-6 * float(loss)
        assert rows[name_].norm == pytest.approx(float(wanted.norm()), rel=1e-6, abs=noise), name_
        assert rows[name_].mean_abs == pytest.approx(float(wanted.abs().mean()), rel=1e-6, abs=noise), name_
        assert rows[name_].max_abs == pytest.approx(float(wanted.abs().max()), rel=1e-6, abs=noise), name_


# What is asked for


def test_without_targets_the_predicted_class() -> None:
    model, images = plain_net(), pictures(5)
    predicted = model(images).argmax(1)
    assert fv.gradient_flow(model, images).loss == pytest.approx(fv.gradient_flow(model, images, predicted).loss)


def test_targets_of_any_kind_go_to_the_loss() -> None:
    model, images = plain_net(), pictures(2)
    mixed = {"labels": torch.tensor([0, 1]), "share": 0.3}

    def loss_fn(logits: Tensor, targets: dict[str, Any]) -> Tensor:
        return targets["share"] * functional.cross_entropy(logits, targets["labels"])

    expected = 0.3 * fv.gradient_flow(model, images, [0, 1]).loss
    assert fv.gradient_flow(model, images, mixed, loss_fn=loss_fn).loss == pytest.approx(expected)


def test_scores_are_found_in_larger_outputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain_net()

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"features": images, "logits": self.net(images)}

    model, images = Both(), pictures()
    found = fv.gradient_flow(model, images, [0, 1])
    assert found.loss == fv.gradient_flow(model, images, [0, 1], get_logits=lambda output: output["logits"]).loss
    assert codes(found) == {"gradient.healthy": "ok"}


def test_network_order_is_that_of_the_calls() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.never = nn.Linear(2, 2)
            self.last = nn.Linear(8, 3)
            self.first = nn.Linear(12, 8)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.first(images.flatten(1)).relu()) * self.scale

    found = fv.gradient_flow(Backwards(), pictures(), [0, 1])
    assert [row.parameter for row in found.parameters] == [
        *("scale", "first.weight", "first.bias", "last.weight", "last.bias", "never.weight", "never.bias")
    ]
    assert found.frame()["parameter"].tolist() == [row.parameter for row in found.parameters]


def test_parameters_of_layers_that_are_never_called_stand_with_those_that_use_them() -> None:
    names = [row.parameter for row in fv.gradient_flow(woken("vit_b_32"), waking_pictures(1, 64), [0]).parameters]
    attention = "encoder.layers.encoder_layer_3.self_attention"
    place = names.index(f"{attention}.in_proj_weight")
    assert names[place : place + 4] == [
        *(f"{attention}.in_proj_weight", f"{attention}.in_proj_bias"),
        *(f"{attention}.out_proj.weight", f"{attention}.out_proj.bias"),
    ]


# What is told apart


class Parts(nn.Module):
    """A trunk, a head, a side branch that is thrown away, a layer that never runs."""

    def __init__(self, *, cut: bool = False) -> None:
        super().__init__()
        self.trunk, self.middle = nn.Linear(12, 8), nn.Linear(8, 8)
        self.head, self.side, self.never = nn.Linear(8, 3), nn.Linear(8, 2), nn.Linear(8, 2)
        self.cut = cut

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk(images.flatten(1)).relu()
        features = features.detach() if self.cut else features
        features = self.middle(features).relu()
        self.side(features)
        return self.head(features)


def test_frozen_detached_and_unused_are_told_apart() -> None:
    model = Parts()
    model.middle.requires_grad_(False)
    found = fv.gradient_flow(model, pictures(), [0, 1])
    states = {row.layer: row.state for row in found.parameters}
    assert states == {
        "trunk": "reached",
        "middle": "frozen",
        "head": "reached",
        "side": "detached",
        "never": "unused",
    }
    assert codes(found) == {"gradient.disconnected": "warn", "gradient.unused": "note", "gradient.frozen": "note"}
    where = {finding.code: finding.where for finding in found.findings}
    assert where == {"gradient.disconnected": "side", "gradient.unused": "never", "gradient.frozen": "middle"}
    assert all(math.isnan(row.norm) for row in found.parameters if row.state != "reached")


def test_a_detach_in_the_middle_is_found_where_it_is() -> None:
    model = Parts(cut=True)
    del model.never
    found = fv.gradient_flow(model, pictures(), [0, 1])
    finding = found.findings[0]
    assert (finding.code, finding.severity) == ("gradient.disconnected", "fail")
    assert "trunk" in finding.evidence["layers"]


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t"])
def test_attention_without_a_gradient_is_detached_as_a_whole(name: str) -> None:
    model = woken(name)
    found = fv.gradient_flow(model, waking_pictures(1, size_of(name)), [0], loss_fn=_cut_off)
    assert {row.state for row in found.parameters} == {"detached"}
    assert [(f.code, f.where) for f in found.findings] == [("gradient.disconnected", "loss")]


def _cut_off(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.detach(), targets).requires_grad_()


def test_a_cut_before_the_logits_is_no_cut_in_the_loss() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain_net()

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images).detach().requires_grad_()

    found = fv.gradient_flow(Cut(), pictures(), [0, 1])
    assert [(f.code, f.where) for f in found.findings] == [("gradient.disconnected", "model")]
    assert found.output_norm > 0


def test_everything_frozen_is_said() -> None:
    model = plain_net().requires_grad_(False)
    assert codes(fv.gradient_flow(model, pictures(), [0, 1])) == {"gradient.frozen": "fail"}


def test_a_nan_is_found_where_it_begins() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 0).abs().sqrt() + x  # its slope at 0 is infinite, times 0

    model = nn.Sequential(Flat(), nn.Linear(12, 6), Root(), nn.Linear(6, 5), nn.Linear(5, 3))
    found = fv.gradient_flow(model, pictures(), [0, 1])
    assert math.isfinite(found.loss)
    (finding,) = found.findings
    assert (finding.code, finding.severity, finding.where) == ("gradient.not_finite", "fail", "1")
    row = by_name(found)["1.weight"]
    assert row.nan_count + row.inf_count == 72 and not row.finite


def test_a_weight_and_a_loss_that_are_no_numbers() -> None:
    model = plain_net()
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    (finding,) = fv.gradient_flow(model, pictures(), [0, 1]).findings
    assert (finding.code, finding.where) == ("gradient.not_finite", "3.weight")
    (finding,) = fv.gradient_flow(plain_net(), pictures() * float("nan"), [0, 1]).findings
    assert (finding.code, finding.where) == ("gradient.not_finite", "loss")


# Sizes


def deep(activation: Callable[[], nn.Module], *, gain: float, depth: int = 12) -> nn.Sequential:
    layers: list[nn.Module] = [Flat()]
    for place in range(depth):
        linear = nn.Linear(12 if place == 0 else 32, 32)
        nn.init.normal_(linear.weight, std=gain / math.sqrt(linear.in_features))
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(32, 3))


@pytest.mark.parametrize(
    ("activation", "gain", "expected"),
    [
        (nn.Sigmoid, 1.0, {"gradient.vanishing": "fail"}),
        (nn.Identity, 4.0, {"gradient.exploding"}),
        (nn.ReLU, math.sqrt(2), {"gradient.healthy": "ok"}),
        (nn.Tanh, 1.0, {"gradient.healthy": "ok"}),
    ],
)
def test_gradients_that_vanish_and_explode(activation: Any, gain: float, expected: Any) -> None:
    found = fv.gradient_flow(deep(activation, gain=gain), pictures(16), [0, 1] * 8)
    assert codes(found) == expected or set(codes(found)) == expected
    assert "layers" in found.findings[0].evidence or found.findings[0].severity == "ok"


def test_the_layer_where_gradients_vanish_is_named() -> None:
    model = nn.Sequential(Flat(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[3].weight *= 1e-6  # passes back a millionth of what it gets
        model[3].bias.fill_(1)
    finding = fv.gradient_flow(model, pictures(), [0, 1]).findings[0]
    assert finding.code == "gradient.vanishing"
    assert finding.evidence["layers"] == ["1"]
    assert "between `3` and `1`" in finding.detail


def test_features_near_zero_vanish_absolutely() -> None:
    model = plain_net()
    nn.init.zeros_(model[1].bias)
    found = fv.gradient_flow(model, pictures() * 1e-7, [0, 1])
    assert codes(found) == {"gradient.vanishing": "fail"}
    assert found.findings[0].title == "Hardly any gradient arrives anywhere"
    assert codes(fv.gradient_flow(model, pictures() * 1e3, [0, 1])) == {"gradient.exploding": "warn"}


def test_dead_relus_are_found_where_they_are() -> None:
    model = nn.Sequential(Flat(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[3].bias.fill_(-100)
    (finding,) = fv.gradient_flow(model, pictures(), [0, 1]).findings
    assert (finding.code, finding.severity, finding.where) == ("gradient.dead", "fail", "3")


def test_a_head_that_starts_at_zero_is_no_fault() -> None:
    model = plain_net()
    nn.init.zeros_(model[3].weight)
    assert codes(fv.gradient_flow(model, pictures(), [0, 1])) == {"gradient.zero_start": "note"}


def test_dead_units_need_a_batch_to_be_told() -> None:
    model = plain_net(8)
    with torch.no_grad():
        model[1].bias[:6] = -100
    assert codes(fv.gradient_flow(model, pictures(16), [0, 1] * 8)) == {"gradient.dead": "warn"}
    assert codes(fv.gradient_flow(model, pictures(2), [0, 1])) == {"gradient.healthy": "ok"}


def test_a_sure_model_is_no_vanishing_gradient() -> None:
    model = plain_net()
    with torch.no_grad():
        model[3].bias[0] += 12
    found = fv.gradient_flow(model, pictures(), [0, 0])
    assert codes(found) == {"gradient.settled": "note"}
    assert codes(fv.gradient_flow(model, pictures(), [1, 1])) == {"gradient.healthy": "ok"}
    with torch.no_grad():
        model[3].bias[0] += 1000  # the softmax is exactly 0 and 1 now
    assert codes(fv.gradient_flow(model, pictures(), [0, 0])) == {"gradient.settled": "note"}


@pytest.mark.parametrize("name", ["demo/shapes_cnn", "demo/shapes_vit", "demo/clever_hans"])
def test_the_demo_models_are_healthy(name: str) -> None:
    model = fv.load_model(name)
    images = waking_pictures(1, model.input_size[0])
    for label in range(8):
        assert codes(fv.gradient_flow(model, images, [label])) in (
            {"gradient.healthy": "ok"},
            {"gradient.settled": "note"},
        )


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "swin_t", "mobilenet_v3_small", "squeezenet1_1"])
def test_torchvisions_models_are_healthy(name: str) -> None:
    found = fv.gradient_flow(woken(name), waking_pictures(2, size_of(name)), [0, 1])
    assert codes(found) == {"gradient.healthy": "ok"}


# Manners


def test_what_the_owner_has_stays(model_untouched: Untouched) -> None:
    model = plain_net()
    functional.cross_entropy(model(pictures()), torch.tensor([0, 1])).backward()
    model[1].requires_grad_(False)
    model[1].register_forward_hook(lambda *_: None)
    before = torch.random.get_rng_state()
    with model_untouched(model):
        fv.gradient_flow(model, pictures(), [1, 0], training=True)
    assert torch.equal(before, torch.random.get_rng_state())


def test_running_statistics_of_a_training_pass_are_put_back(model_untouched: Untouched, shapes_cnn: Any) -> None:
    with model_untouched(shapes_cnn):
        fv.gradient_flow(shapes_cnn, waking_pictures(2, 128), [0, 1], training=True)


def test_an_exception_leaves_nothing_behind(model_untouched: Untouched) -> None:
    def fails(logits: Tensor, targets: Tensor) -> Tensor:
        raise KeyError("weight of the classes")

    model = plain_net()
    with model_untouched(model), pytest.raises(ModelError, match=r"The loss failed.*KeyError"):
        fv.gradient_flow(model, pictures(), [0, 1], loss_fn=fails)


def test_dropout_drops_the_same_each_time() -> None:
    model = nn.Sequential(Flat(), nn.Dropout(0.5), nn.Linear(12, 3))
    one, other = (fv.gradient_flow(model, pictures(), [0, 1], training=True) for _ in range(2))
    assert one.frame().equals(other.frame())
    assert one.loss != fv.gradient_flow(model, pictures(), [0, 1]).loss


def test_many_at_once_get_their_own_answers(shapes_cnn: Any, model_untouched: Untouched) -> None:
    images = waking_pictures(1, 128)
    alone = [fv.gradient_flow(shapes_cnn, images, [label]).frame()["norm"].to_numpy() for label in range(8)]
    with model_untouched(shapes_cnn), ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(fv.gradient_flow, shapes_cnn, images, [label]) for label in [*range(8)] * 2]
        together = [answer.result().frame()["norm"].to_numpy() for answer in asked]
    for one, other in zip(alone * 2, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4)


def _of_each(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


@pytest.mark.parametrize(
    ("images", "targets", "options", "message"),
    [
        (torch.zeros(3, 2, 2), [0], {}, "wrong form"),
        (torch.zeros(1, 3, 5, 5), [0], {}, "cannot look at pictures"),
        (torch.zeros(1, 3, 2, 2), [7], {}, "The loss failed"),
        (torch.zeros(2, 3, 2, 2), [0, 1], {"loss_fn": _of_each}, "no single number"),
        (torch.zeros(1, 3, 2, 2), [0], {"loss_fn": lambda *_: 1.0}, "no single number"),
        (torch.zeros(1, 3, 2, 2), [0], {"get_logits": lambda output: output.scores}, "`get_logits` failed"),
        (torch.zeros(1, 3, 2, 2), [0], {"get_logits": lambda _: "x"}, "no single tensor"),
    ],
)
def test_what_cannot_be_done_is_said(images: Tensor, targets: Any, options: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fv.gradient_flow(plain_net(), images, targets, **options)


def test_results_travel_and_are_written() -> None:
    model = Parts()
    found = fv.gradient_flow(model, pictures(), [0, 1])
    assert pickle.loads(pickle.dumps(found)).frame().equals(found.frame())
    content = json.loads(found.to_json())
    assert content["loss"] == found.loss
    assert [row["parameter"] for row in content["parameters"]] == found.frame()["parameter"].tolist()
    assert content["parameters"][-1]["norm"] is None
    stated = ["parameter", "layer", "shape", "mean_abs", "max_abs", "norm", "weight_norm", "ratio"]
    assert list(found.frame().columns[:8]) == stated
