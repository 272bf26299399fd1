"""What the activation statistics find wrong, and what they leave alone."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featviz_core as fv
from featviz_core.demo.faults import with_fault
from featviz_core.demo.samples import SAMPLES
from featviz_core.demo.setups import SETUPS
from featviz_core.errors import ModelError
from featviz_core.experiment import fresh, train_on
from featviz_core.images import read_picture
from featviz_core.techniques.activation_stats import ActivationStats
from featviz_core.techniques.activation_stats.activations import ENDS, saturated
from tests import toy_experiments

DEMO = ("demo/shapes_cnn", "demo/shapes_vit", "demo/clever_hans")


def codes(stats: ActivationStats) -> list[str]:
    return [finding.code for finding in stats.findings]


def samples(model: fv.LoadedModel) -> Tensor:
    return model.preprocess(*(read_picture(sample.path.read_bytes()).image for sample in SAMPLES))


def deep(activation: type[nn.Module], gain: float, *, depth: int = 10) -> nn.Module:
    """Layers of 64 units whose weights are drawn with `gain` over the root of their inputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in [3 * 64] + [64] * (depth - 1):
        linear = nn.Linear(width, 64)
        nn.init.normal_(linear.weight, std=gain / width**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers)


def noise(count: int = 32) -> Tensor:
    return torch.randn(count, 3, 8, 8)


@pytest.mark.parametrize("name", DEMO)
@pytest.mark.parametrize("training", [False, True])
def test_the_demo_models_are_healthy(name: str, training: bool) -> None:
    model = fv.load_model(name)
    images = samples(model)
    assert codes(fv.activation_stats(model, images, training=training)) == ["activation.healthy"]
    assert codes(fv.activation_stats(model, images[:1])) == ["activation.healthy"]
    every = [layer.address for layer in model.layers() if layer.shape is not None and layer.name]
    assert codes(fv.activation_stats(model, images, layers=every, training=training)) == ["activation.healthy"]


@pytest.mark.parametrize("setup", SETUPS)
def test_healthy_setups_are_quiet_fresh_and_trained(setup: str) -> None:
    experiment = fresh(with_fault(setup))
    images = list(islice(experiment.val_loader, 2))
    assert codes(fv.activation_stats(experiment.model, images)) == ["activation.healthy"]
    train_on(experiment, list(islice(experiment.train_loader, 20)))
    assert codes(fv.activation_stats(experiment.model, images)) == ["activation.healthy"]


@pytest.mark.parametrize(("setup", "layers"), [("plain", "0, 3, 6"), ("cnn", "0, 4, 8")])
def test_dead_relus_are_found_where_they_are(setup: str, layers: str) -> None:
    experiment = fresh(with_fault(setup, "dead_relus"))
    stats = fv.activation_stats(experiment.model, islice(experiment.val_loader, 2))
    finding = stats.findings[0]
    assert (finding.code, finding.severity, finding.where) == ("activation.dead", "fail", layers)
    assert codes(stats) == ["activation.dead"], "what follows a dead layer is its consequence"


def test_few_pictures_are_weak_evidence() -> None:
    net = nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Conv2d(10, 2, 1))
    with torch.no_grad():
        net[0].bias[:6] = -100
    found = {count: fv.activation_stats(net, noise(count)).findings[0] for count in (4, 8)}
    assert [found[count].severity for count in found] == ["note", "warn"]
    assert found[8].evidence["dead_fraction"] == [0.6]


def test_the_origin_of_nan_is_named() -> None:
    experiment = fresh(with_fault("cnn", "nan_weight"))
    (images, _), *_ = experiment.val_loader
    finding = fv.activation_stats(experiment.model, images).findings[0]
    assert (finding.code, finding.severity, finding.where) == ("activation.nan", "fail", "0")
    assert finding.detail == "`0` (Conv2d) is the first to give NaN or infinity for finite input: its weight hold some."


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def test_the_origin_may_lie_between_the_layers_that_are_looked_at() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Root(), nn.Conv2d(4, 4, 1))
    stats = fv.activation_stats(net, noise(2))
    assert stats.findings[0].where == "2"
    assert stats.origin == "`1` (Root) is the first to give NaN or infinity for finite input."


def test_pictures_may_be_to_blame() -> None:
    stats = fv.activation_stats(nn.Sequential(nn.Conv2d(3, 4, 1)), [noise(2), noise(2) * float("nan")])
    assert stats.origin == "The pictures already hold NaN or infinity."
    row = stats.frame().iloc[0]
    assert row["nan_count"] == 2 * 4 * 64
    assert np.isfinite(row[["mean", "std", "min", "max"]].to_numpy(float)).all(), "over the finite values"


def test_infinity_is_counted() -> None:
    images = noise(2)
    images[0, :, 0, 0] = float("inf")
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
    nn.init.ones_(net[0].weight)
    row = fv.activation_stats(net, images).frame().iloc[0]
    assert (row["inf_count"], row["nan_count"]) == (2, 0)


def test_huge_values_are_no_infinities() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1))
    stats = fv.activation_stats(net, noise(2) * 1e25)
    assert stats.frame()["inf_count"][0] == 0
    assert np.isfinite(stats.frame()["std"][0])
    assert codes(stats) == ["activation.huge"]


@pytest.mark.parametrize(
    ("activation", "gain", "code"),
    [
        (nn.Tanh, 0.3, "activation.vanishing"),
        (nn.ReLU, 0.5, "activation.vanishing"),
        (nn.ReLU, 5.0, "activation.exploding"),
        (nn.Tanh, 1.0, "activation.healthy"),
        (nn.ReLU, 2**0.5, "activation.healthy"),
        (nn.GELU, 1.5, "activation.healthy"),
    ],
)
def test_trends_are_found(activation: type[nn.Module], gain: float, code: str) -> None:
    assert codes(fv.activation_stats(deep(activation, gain), noise()))[0] == code


@pytest.mark.parametrize(
    "activation",
    [nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Softsign, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish],
)
def test_saturation_is_found(activation: type[nn.Module]) -> None:
    # All values far out: where the one-ended are flat below zero, they go there.
    outwards = -1 if len(ENDS[activation.__name__]) == 1 and activation is not nn.ReLU6 else 1
    net = nn.Sequential(nn.Conv2d(3, 4, 1), activation())
    with torch.no_grad():
        net[0].bias.fill_(500.0 * outwards)
    stats = fv.activation_stats(net, noise())
    assert stats.health()["saturated_fraction"][0] == 1
    assert "activation.saturated" in codes(stats)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Hardswish, nn.ReLU6])
def test_activations_at_work_are_not_saturated(activation: type[nn.Module]) -> None:
    assert codes(fv.activation_stats(deep(activation, 1.5, depth=3), noise())) == ["activation.healthy"]


def test_what_counts_as_saturated() -> None:
    values = np.array([0.0, 0.01, 0.5, 0.99, 1.0])
    assert saturated("Sigmoid", values) == 4
    assert saturated("GELU", np.array([-0.1, -0.01, 0.0, 0.01])) == 2
    assert saturated("ReLU", values) == 0
    assert np.isnan(fv.activation_stats(deep(nn.ReLU, 1.0), noise()).health()["saturated_fraction"]).all()


def test_features_that_no_picture_changes_are_found() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    nn.init.zeros_(net[2].weight)
    nn.init.ones_(net[2].bias)
    finding = fv.activation_stats(net, noise()).findings[0]
    assert (finding.code, finding.severity, finding.where) == ("activation.degenerate", "warn", "2, 4")
    head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4))
    nn.init.zeros_(head[3].weight)
    assert fv.activation_stats(head, noise()).findings[0].severity == "note", "heads may start at zero"
    alike = fv.activation_stats(head, noise(1).repeat(4, 1, 1, 1)).findings[0]
    assert "are the pictures all alike" in alike.remedy


# Comparing


def test_equal_looks_do_not_diverge() -> None:
    model = fv.load_model("demo/shapes_cnn")
    stats = fv.activation_stats(model, samples(model))
    result = fv.compare_activations(stats, stats)
    assert result.diverging == ""
    assert (result.frame["apart"] == 0).all()


def test_the_first_layer_that_differs_is_named() -> None:
    model = fv.load_model("demo/shapes_cnn")
    images = samples(model)
    before = fv.activation_stats(model, images)
    changed = fv.load_model("demo/shapes_cnn").module
    layer = before.frame()["layer"][6]
    with torch.no_grad():
        changed.get_submodule(layer).weight.mul_(1.5)
    result = fv.compare_activations(before, fv.activation_stats(changed, images))
    assert result.diverging == layer
    row = result.frame.set_index("layer").loc[layer]
    assert row["ratio"] == pytest.approx(1.5, rel=1e-4)
    assert row["apart"] == pytest.approx(np.log(1.5), rel=1e-3)


def test_a_nan_on_one_side_is_a_difference() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    result = fv.compare_activations(
        fv.activation_stats(net, noise(2)), fv.activation_stats(net, noise(2) * float("nan"))
    )
    assert result.diverging == "0" and np.isinf(result.frame["apart"][0])


def test_models_without_a_common_layer_cannot_be_compared() -> None:
    one = fv.activation_stats(nn.Sequential(nn.Conv2d(3, 4, 1)), noise(1))
    other = fv.activation_stats(nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 1)), noise(1))
    with pytest.raises(ModelError, match="no layer in common"):
        fv.compare_activations(one, other)


def test_fresh_weights_are_those_the_model_starts_with() -> None:
    model = fv.load_model("demo/shapes_cnn")
    images = samples(model)[:4]
    found = fv.fresh_activation_stats(model, images)
    assert found.training
    expected = fv.activation_stats(_built("demo/shapes_cnn"), images, training=True)
    np.testing.assert_allclose(found.frame()["std"], expected.frame()["std"], rtol=1e-6)


def _built(name: str) -> nn.Module:
    from featviz_core.architectures import build, seeded

    return seeded(lambda: build(name))


def test_any_module_can_be_made_fresh() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with torch.no_grad():
        net[0].weight.fill_(100)
    found = fv.fresh_activation_stats(net, noise(2))
    assert found.frame()["std"][0] < 2
    assert (net[0].weight == 100).all()


# Experiments


def test_an_experiment_is_looked_at_before_and_after_some_training() -> None:
    before = fv.experiment_activations("demo/healthy_cnn", batches=2)
    after = fv.experiment_activations("demo/healthy_cnn", batches=2, steps=10)
    assert before.pictures == after.pictures == 128
    assert codes(before) == codes(after) == ["activation.healthy"]
    assert fv.compare_activations(before, after).diverging
    again = fv.experiment_activations("demo/healthy_cnn", batches=2)
    assert fv.compare_activations(before, again).frame["apart"].max() == 0


class Counted:
    """A loader that knows how many of its batches are in memory, and how many were asked for."""

    def __init__(self, batches: int) -> None:
        self.batches, self.given, self.alive, self.most = batches, 0, weakref.WeakSet[Tensor](), 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.batches):
            images = torch.randn(2, 3, toy_experiments.SIDE, toy_experiments.SIDE)
            self.alive.add(images)
            self.given, self.most = self.given + 1, max(self.most, len(self.alive))
            yield images, torch.tensor([0, 1])


def test_an_experiments_batches_are_not_kept() -> None:
    data = Counted(40)
    found = fv.experiment_activations(lambda: toy_experiments.experiment(val_loader=data), batches=30)
    assert (found.pictures, data.given) == (60, 30)
    assert data.most < 6


def test_training_goes_on_behind_the_end_of_an_epoch() -> None:
    data = Counted(4)
    fv.experiment_activations(lambda: toy_experiments.experiment(train_loader=data), steps=10, batches=1)
    assert data.given == 10


def test_an_experiments_kinds_of_layers_and_part_can_be_chosen() -> None:
    found = fv.experiment_activations("demo/case_1", split="train", batches=1, kinds=["activation"])
    assert found.pictures == 32
    assert found.frame()["type"].unique().tolist() == ["ReLU"]
    assert (found.frame()["dead_fraction"] == 1).all()


# Top pictures


def bright_spot(count: int, *places: tuple[int, int]) -> Tensor:
    """Dark pictures of 16×16, of which number i has a spot of brightness i + 1 at `places[i]`."""
    images = torch.zeros(count, 1, 16, 16)
    for number, (row, column) in enumerate(places):
        images[number, 0, row, column] = number + 1
    return images


def spotter() -> nn.Module:
    """Two 3×3 convolutions of ones: a place of the second sees 7×7 pixels, its stride is 2."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False), nn.Conv2d(1, 1, 3, padding=1, bias=False))
    for layer in net:
        nn.init.ones_(layer.weight)
    return net


def test_the_strongest_pictures_are_found_with_what_they_show() -> None:
    images = bright_spot(3, (8, 8), (4, 4), (10, 6))
    top = fv.top_pictures(spotter(), [images[:2], images[2:]], layer="1", count=2)
    assert top.pictures.tolist() == [[2, 1]]
    assert top.scores[0, 0] == 3
    for (row, column), (left, upper, right, lower) in zip([(10, 6), (4, 4)], top.boxes[0], strict=True):
        assert right - left <= 7 and lower - upper <= 7
        assert left <= column < right and upper <= row < lower


def test_the_receptive_field_is_the_closed_form() -> None:
    images = bright_spot(1, (8, 8))
    for layer, size in (("0", 3), ("1", 7)):
        left, upper, right, lower = fv.top_pictures(spotter(), images, layer=layer).boxes[0, 0]
        assert (right - left, lower - upper) == (size, size)


def test_behind_attention_everything_is_seen() -> None:
    model = fv.load_model("demo/shapes_vit")
    top = fv.top_pictures(model, samples(model)[:2], layer="encoder.layers.encoder_layer_2.mlp.0", count=1)
    assert (top.boxes == [0, 0, 128, 128]).all()


def test_top_pictures_need_pictures_of_one_size() -> None:
    with pytest.raises(ModelError, match="differ in size"):
        fv.top_pictures(spotter(), [torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 8, 8)], layer="1")
    with pytest.raises(ModelError, match="no pictures"):
        fv.top_pictures(spotter(), [], layer="1")


def test_an_experiments_top_pictures_come_with_the_pictures() -> None:
    top, shown = fv.experiment_top_pictures("demo/healthy_cnn", layer="4", batches=1)
    assert top.scores.shape == (48, 8)
    assert len(shown) == 64 and shown[0].shape == (32, 32, 3)
    assert (np.diff(top.scores, axis=1) <= 0).all()
