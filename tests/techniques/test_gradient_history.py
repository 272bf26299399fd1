"""Gradient history: against a loop written out, the famous mistakes, and manners."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import featviz_core as fv
from featviz_core.demo.faults import with_fault
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, fresh, train_step
from featviz_core.techniques.gradient_flow import steps_frame
from tests import toy_experiments as toys

HEALTHY = {"gradient.healthy": "ok"}


def codes(found: fv.GradientHistory) -> dict[str, str]:
    return {finding.code: finding.severity for finding in found.findings}


def where(found: fv.GradientHistory, code: str) -> str:
    return next(finding.where for finding in found.findings if finding.code == code)


def written_out(make: Factory, steps: int, seed: int) -> tuple[list[list[float]], list[list[float]], list[float]]:
    """Norms of gradients and update ratios for each step and parameter, and losses, by the plainest loop."""
    experiment = fresh(make, seed=seed)
    model, batches = experiment.model.train(), iter(experiment.train_loader)
    norms, ratios, losses = [], [], []
    for _ in range(steps):
        images, targets = next(batches)
        before = [parameter.detach().double().clone() for parameter in model.parameters()]
        experiment.optimizer.zero_grad()
        loss = experiment.loss_fn(model(images), targets)
        loss.backward()
        norms.append([float(p.grad.double().norm()) for p in model.parameters() if p.grad is not None])
        experiment.optimizer.step()
        after = [parameter.detach().double() for parameter in model.parameters()]
        ratios.append([float((a - b).norm() / b.norm()) for a, b in zip(after, before, strict=True)])
        losses.append(float(loss.detach()))
    return norms, ratios, losses


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_as_a_loop_written_out(dropout: float) -> None:
    def make() -> Experiment:
        return toys.experiment(model=toys.net(norm=False, dropout=dropout))

    found = fv.gradient_history(make, steps=4, seed=3)
    norms, ratios, losses = written_out(make, 4, 3)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-6)
    np.testing.assert_allclose(found.gradient_norms, norms, rtol=1e-5)
    np.testing.assert_allclose(found.update_ratios, ratios, rtol=1e-3)  # a difference of nearly equal numbers
    assert found.parameters == tuple(name for name, _ in make().model.named_parameters())
    assert (found.steps, found.optimizer_steps) == (4, 4)
    if not dropout:  # else other units are dropped
        first = [parameter.norm for parameter in found.first.parameters]
        np.testing.assert_allclose(first, norms[0], rtol=1e-5)


def test_a_step_of_plain_sgd_is_the_rate_times_the_gradient() -> None:
    found = fv.gradient_history(lambda: toys.experiment(model=toys.net(norm=False)), steps=1)
    weights = np.array([parameter.weight_norm for parameter in found.first.parameters])
    np.testing.assert_allclose(found.update_ratios[0], 0.1 * found.gradient_norms[0] / weights, rtol=1e-4)


def test_every_step_is_told_as_soon_as_it_is_done() -> None:
    told: list[tuple[int, Any]] = []
    trained: list[int] = []

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        trained.append(1)
        return train_step(experiment, images, targets)

    found = fv.gradient_history(
        lambda: toys.experiment(train_step=step), steps=3, part=lambda one: told.append((len(trained), one))
    )
    assert [count for count, _ in told] == [1, 2, 3]
    pd.testing.assert_frame_equal(steps_frame([one for _, one in told]), found.frame())


def test_a_short_loader_starts_again() -> None:
    found = fv.gradient_history(lambda: toys.experiment(train_loader=toys.loader(12)), steps=5)
    assert found.steps == 5  # its loader has two batches
    assert found.frame().groupby("step").size().tolist() == [6] * 5


# The famous mistakes


# The last four have heads that start small or learn fast, and a gate that hardly moves.
QUIET = ["cnn", "plain", "vit", "tuning", "residual-rmsprop-shapes", "residual-sgd-shapes", "tuned-sgd-textures"]


@pytest.mark.parametrize("setup", [*QUIET, "vit-sgd-shapes"])
def test_healthy_demos_are_quiet(setup: str) -> None:
    found = fv.gradient_history(with_fault(setup), steps=16)
    assert codes(found) == HEALTHY
    assert all(row.in_optimizer == 1 and row.moved and row.mode == "train" for row in found.ledger)


@pytest.mark.parametrize(
    ("setup", "fault", "code", "place"),
    [
        ("cnn", "no_zero_grad", "gradient.not_cleared", None),
        ("vit", "no_zero_grad", "gradient.not_cleared", None),
        ("cnn", "only_head_in_optimizer", "gradient.not_updated", "0"),
        ("tuning", "only_head_in_optimizer", "gradient.not_updated", "stem.0"),
        ("plain", "stale_optimizer", "gradient.not_updated", "0"),
        ("plain", "no_optimizer_step", "gradient.not_updated", "optimizer"),
        ("plain", "dead_relus", "gradient.dead", "6"),
        ("cnn", "dead_relus", "gradient.dead", "8"),
        ("vit", "dead_relus", "gradient.dead", "conv_proj.conv_bn_relu_1.0"),
        ("plain", "learning_rate_too_high", "gradient.update_large", None),
        ("cnn", "learning_rate_too_high", "gradient.update_large", None),
        ("vit", "learning_rate_too_high", "gradient.update_large", None),
        ("plain", "raw_pixels", "gradient.exploding", "11"),
        ("cnn", "detached_loss", "gradient.disconnected", "loss"),
        ("cnn", "nan_weight", "gradient.not_finite", "0.weight"),
        ("vit", "nan_pictures", "gradient.not_finite", "loss"),
    ],
)
def test_mistakes_are_flagged_where_they_are(setup: str, fault: str, code: str, place: str | None) -> None:
    found = fv.gradient_history(with_fault(setup, fault), steps=8)
    assert codes(found).get(code) in ("fail", "warn")
    assert place is None or where(found, code) == place


def test_the_ledger_tells_who_is_left_out() -> None:
    found = fv.gradient_history(with_fault("cnn", "only_head_in_optimizer"), steps=3)
    rows = {row.parameter: row for row in found.ledger}
    assert [name for name, row in rows.items() if row.in_optimizer] == ["14.weight", "14.bias"]
    assert [name for name, row in rows.items() if row.moved] == ["14.weight", "14.bias"]
    assert all(row.gradients == row.nonzero == 3 for name, row in rows.items() if name.endswith("weight"))
    assert not found.update_ratios[:, found.parameters.index("0.weight")].any()


def test_the_ledger_tells_whose_tensors_the_optimiser_holds() -> None:
    found = fv.gradient_history(with_fault("plain", "stale_optimizer"), steps=2)
    own, strange = ([row for row in found.ledger if row.in_model is there] for there in (True, False))
    assert len(own) == len(strange) == 8
    assert not any(row.in_optimizer or row.moved for row in own)
    assert [row.shape for row in strange] == [row.shape for row in own]
    (finding,) = (f for f in found.findings if f.code == "gradient.not_updated")
    assert "8 tensors of another model" in finding.detail


def test_a_frozen_trunk_is_a_note() -> None:
    def make() -> Experiment:
        model = toys.net(norm=False)
        model[0].requires_grad_(False)
        return toys.experiment(model=model, optimizer=torch.optim.SGD(model[6].parameters(), lr=0.1))

    found = fv.gradient_history(make, steps=2)
    assert codes(found) == {"gradient.frozen": "note"}
    rows = {row.parameter: row for row in found.ledger}
    assert (rows["0.weight"].requires_grad, rows["0.weight"].gradients, rows["0.weight"].moved) == (False, 0, False)
    assert np.isnan(found.gradient_norms[:, found.parameters.index("0.weight")]).all()


def test_a_parameter_that_is_held_twice_moves_twice() -> None:
    def make() -> Experiment:
        model = toys.net(norm=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.param_groups.append({**optimizer.param_groups[0], "params": list(model[0].parameters())})
        return toys.experiment(model=model, optimizer=optimizer)

    found = fv.gradient_history(make, steps=2)
    assert codes(found)["gradient.updated_twice"] == "fail"
    assert where(found, "gradient.updated_twice") == "0"


def test_a_group_without_a_learning_rate_stands_still() -> None:
    def make() -> Experiment:
        model = toys.net(norm=False)
        groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[6].parameters()}]
        return toys.experiment(model=model, optimizer=torch.optim.SGD(groups, lr=0.1))

    found = fv.gradient_history(make, steps=2)
    assert codes(found) == {"gradient.not_updated": "warn"}
    assert where(found, "gradient.not_updated") == "0"


def test_something_that_puts_weights_back_is_noticed() -> None:
    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        kept = experiment.model[0].weight.detach().clone()
        loss = train_step(experiment, images, targets)
        with torch.no_grad():
            experiment.model[0].weight.copy_(kept)
        return loss

    found = fv.gradient_history(lambda: toys.experiment(model=toys.net(norm=False), train_step=step), steps=2)
    assert codes(found) == {"gradient.not_updated": "fail"}
    assert where(found, "gradient.not_updated") == "0"


def test_a_head_that_starts_near_zero_may_grow() -> None:
    """What it learns in a step is more than all it was, and little against what heads usually are."""

    def make(rate: float) -> Experiment:
        model = toys.net(norm=False)
        head = next(module for module in reversed([*model.modules()]) if isinstance(module, nn.Linear))
        torch.nn.init.normal_(head.weight, std=1e-3)
        return toys.experiment(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=rate))

    quiet = fv.gradient_history(lambda: make(0.05), steps=3)
    head = quiet.parameters.index(quiet.matrices[-1])
    assert quiet.update_ratios[0, head] > 0.4
    assert quiet.weight_norms[1, head] > quiet.weight_norms[0, head]
    assert codes(quiet) == HEALTHY
    assert codes(fv.gradient_history(lambda: make(50.0), steps=3))["gradient.update_large"] == "fail"


@pytest.mark.parametrize(("rate", "severity"), [(1e-7, "fail"), (5e-4, "warn")])
def test_updates_that_are_too_small(rate: float, severity: str) -> None:
    def make() -> Experiment:
        model = toys.net(norm=False)
        return toys.experiment(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=rate))

    assert codes(fv.gradient_history(make, steps=3)) == {"gradient.update_small": severity}


def test_modes_stand_in_the_ledger() -> None:
    found = fv.gradient_history(with_fault("cnn", "eval_mode_in_training"), steps=2)
    assert {row.mode for row in found.ledger} == {"eval"}


# The user's own loop


def test_an_own_loop_over_the_epoch_is_followed() -> None:
    def train_epoch(experiment: Experiment, batches: Iterable[tuple[Tensor, Any]]) -> None:
        experiment.model.train()
        for images, targets in batches:
            train_step(experiment, images, targets)

    plain = fv.gradient_history(lambda: toys.experiment(), steps=4)
    own = fv.gradient_history(lambda: toys.experiment(train_epoch=train_epoch), steps=4)
    np.testing.assert_allclose(own.gradient_norms, plain.gradient_norms, rtol=1e-6)
    assert np.isnan(own.losses).all() and np.isfinite(plain.losses).all()


def test_gradients_of_several_micro_batches_belong_to_one_step() -> None:
    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        experiment.optimizer.zero_grad()
        for part, labels in zip(images.chunk(2), targets.chunk(2), strict=True):
            loss = experiment.loss_fn(experiment.model(part), labels) / 2
            loss.backward()
        experiment.optimizer.step()
        return loss

    found = fv.gradient_history(lambda: toys.experiment(model=toys.net(norm=False), train_step=step), steps=3)
    assert found.gradient_norms.shape == (3, 4)
    assert {row.gradients for row in found.ledger} == {6}
    assert codes(found) == HEALTHY


def test_what_the_user_raises_becomes_an_error_with_their_lines() -> None:
    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        raise KeyError("alpha")

    with pytest.raises(ExperimentError, match=r"The training loop failed: KeyError") as caught:
        fv.gradient_history(lambda: toys.experiment(train_step=step), steps=2)
    assert 'raise KeyError("alpha")' in caught.value.trace
    with pytest.raises(ExperimentError, match=r"The first batch failed: IndexError: Target 9") as caught:
        wrong = DataLoader(TensorDataset(toys.pictures()[0], torch.full((24,), 9)), batch_size=6)
        fv.gradient_history(lambda: toys.experiment(train_loader=wrong), steps=2)
    assert "IndexError" in caught.value.trace


@pytest.mark.parametrize(
    ("parts", "steps", "message"),
    [
        ({}, 0, "at least 1 step"),
        ({"train_loader": []}, 2, "gave no batch"),
        ({"train_epoch": lambda *_: None}, 2, "took no batch"),
        ({"train_loader": [{"image": 1}]}, 2, "no pair of pictures and labels"),
    ],
)
def test_what_cannot_be_done_is_said(parts: Any, steps: int, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        fv.gradient_history(lambda: toys.experiment(**parts), steps=steps)


def test_a_warm_up_that_starts_at_zero_is_woken() -> None:
    def make() -> Experiment:
        made = toys.experiment(model=toys.net(norm=False))
        made.scheduler = torch.optim.lr_scheduler.LambdaLR(made.optimizer, lambda step: min(1.0, step / 10))
        return made

    found = fv.gradient_history(make, steps=2)
    assert codes(found) == HEALTHY
    assert {row.learning_rate for row in found.ledger} == {0.1}


# Manners


class Cancelled(Exception):
    """Whoever watches has seen enough."""


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_progress_may_cancel(at: float) -> None:
    told: list[float] = []

    def progress(fraction: float, text: str) -> None:
        told.append(fraction)
        if fraction >= at and len(told) > 1:
            raise Cancelled

    def stubborn(experiment: Experiment, batches: Iterable[tuple[Tensor, Any]]) -> None:
        for images, targets in batches:
            train_step(experiment, images, targets)

    for parts in ({}, {"train_epoch": stubborn}):
        told.clear()
        with pytest.raises(Cancelled):
            fv.gradient_history(lambda parts=parts: toys.experiment(**parts), steps=4, progress=progress)
        assert told[-1] == at


def test_nothing_of_the_users_is_changed() -> None:
    shared = toys.loader(shuffle=True)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()
    fv.gradient_history(lambda: toys.experiment(train_loader=shared), steps=2)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.random.get_rng_state(), before[2])


def test_no_hook_stays_on_the_trained_copy() -> None:
    made: list[Experiment] = []

    def make() -> Experiment:
        made.append(toys.experiment())
        return made[-1]

    fv.gradient_history(make, steps=2)
    for experiment in made:
        for module in experiment.model.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks
        for parameter in experiment.model.parameters():
            assert not parameter._backward_hooks


def test_results_travel_and_are_written() -> None:
    found = fv.gradient_history("demo/healthy_cnn", steps=2)
    again = pickle.loads(pickle.dumps(found))
    assert again.frame().equals(found.frame())
    assert again.ledger_frame().equals(found.ledger_frame())
    content = json.loads(found.to_json())
    assert content["losses"] == found.losses.tolist()
    assert np.shape(content["update_ratios"]) == (2, len(found.parameters))
    assert [row["parameter"] for row in content["ledger"]] == list(found.parameters)


def test_a_gradient_that_blows_up_on_the_way_is_dated() -> None:
    class Blows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.passes = toys.net(norm=False), 0

        def forward(self, images: Tensor) -> Tensor:
            self.passes += 1
            scores: Tensor = self.net(images)
            return scores * float("nan") if self.passes == 3 else scores

    found = fv.gradient_history(lambda: toys.experiment(model=Blows()), steps=4)
    finding = next(f for f in found.findings if f.code == "gradient.not_finite")
    assert finding.evidence["step"] == 2
    assert np.isinf(found.gradient_norms[2]).all()
