"""The learning-rate range test: known answers on a quadratic, and nothing is left changed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment
from featviz_core.techniques.training_monitor.rate_test import _judged, rate_test

_IMAGES = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
_TARGETS = _IMAGES @ torch.linspace(-1, 1, 8)


def linear(lr: float = 0.1, **parts: Any) -> Experiment:
    """Least squares: plain descent is stable below a rate of 2 / λ, where λ is some 2 here (2·E[x²])."""
    model = nn.Sequential(nn.Linear(8, 1, bias=False), nn.Flatten(0))
    given: dict[str, Any] = {
        "model": model,
        "train_loader": DataLoader(TensorDataset(_IMAGES, _TARGETS), batch_size=64, shuffle=True),
        "loss_fn": nn.MSELoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5),
    }
    return Experiment(**(given | parts))


@pytest.mark.parametrize(
    ("own", "code"), [(0.1, "rate.fits"), (9.0, "rate.too_high"), (1e-6, "rate.low")], ids=["fits", "high", "low"]
)
def test_the_rate_is_judged_by_where_the_loss_falls(own: float, code: str) -> None:
    found = rate_test(lambda: linear(own), steps=200)
    assert found.suggested is not None
    assert found.lowest is not None
    assert found.too_high is not None
    assert 1e-3 < found.suggested < found.lowest < found.too_high < 10
    assert found.too_high > 0.5  # nothing below is unstable
    assert found.own == own
    assert [finding.code for finding in found.findings] == [code]
    assert len(found.frame()) == len(found.rates)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e8) / 199)


@pytest.mark.parametrize(("own", "code"), [(3e-3, "rate.fits"), (1e-5, "rate.low")])
def test_a_rate_at_which_the_loss_falls_is_not_too_low_however_fast_it_falls_elsewhere(own: float, code: str) -> None:
    rates = np.geomspace(1e-7, 10, 320)
    falls = [0.2 * np.clip(np.log10(rates / 3e-4), 0, 2), 1.2 * np.clip(np.log10(rates / 0.1), 0, 0.5)]
    losses = 2.2 - sum(falls) + 3 * np.clip(np.log10(rates / 0.6), 0, None)
    found = _judged(rates, losses, own)
    assert found.suggested is not None
    assert own < found.suggested / 30
    assert [finding.code for finding in found.findings] == [code]


def test_an_experiment_is_left_as_it_was() -> None:
    experiment = linear()
    experiment.model.eval()
    experiment.optimizer.param_groups[0]["momentum"] = 0.9
    weight = next(experiment.model.parameters())
    weight.grad = torch.ones_like(weight)
    before = copy.deepcopy((experiment.model.state_dict(), experiment.optimizer.state_dict()))
    randomness, body = torch.get_rng_state(), experiment.train_step
    rate_test(experiment, steps=40)
    after = (experiment.model.state_dict(), experiment.optimizer.state_dict())
    assert torch.equal(before[0]["0.weight"], after[0]["0.weight"])
    assert before[1]["param_groups"] == after[1]["param_groups"]
    assert not after[1]["state"]
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert not experiment.model.training
    assert experiment.train_step is body
    assert torch.equal(torch.get_rng_state(), randomness)


def test_nothing_to_learn_gives_no_advice() -> None:
    noise = DataLoader(TensorDataset(_IMAGES, torch.zeros(256)), batch_size=64)
    model = nn.Sequential(nn.Linear(8, 1, bias=False), nn.Flatten(0))
    nn.init.zeros_(model[0].weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = rate_test(lambda: linear(model=model, optimizer=optimizer, train_loader=noise), steps=60)
    assert found.suggested is None
    assert [finding.code for finding in found.findings] == ["rate.none"]


def test_bad_ranges_and_loops_are_explained() -> None:
    with pytest.raises(ExperimentError, match="0 < low < high"):
        rate_test(linear, low=1.0, high=0.1)
    with pytest.raises(ExperimentError, match="gives no loss"):
        rate_test(lambda: linear(train_epoch=lambda _experiment, batches: list(batches)), steps=20)
