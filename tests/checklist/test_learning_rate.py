"""The rate and what goes with it, where a short training gets somewhere all the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featviz_core as fv
from featviz_core.checklist.learning_rate import usual_momentum
from featviz_core.demo.faults import FAULTS
from featviz_core.demo.setups import SetUp
from tests.toy_experiments import experiment, loader

pytestmark = pytest.mark.usefixtures("one_thread")


def verdict_on(make: Any) -> Any:
    return fv.run_checklist(make, items=["optimizer.learning_rate"])["optimizer.learning_rate"]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32), nn.ReLU(), nn.Linear(32, 3))


def trained_by(optimizer: Any) -> Any:
    def make() -> fv.Experiment:
        torch.manual_seed(0)
        model = network()
        return experiment(
            model=model, optimizer=optimizer(model.parameters()), train_loader=loader(120, batch_size=12, shuffle=True)
        )

    return make


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9999),
        lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.9999, 0.9999)),
    ],
    ids=["momentum", "betas"],
)
def test_a_momentum_that_never_forgets_is_told_even_where_a_short_training_gets_somewhere(optimizer: Any) -> None:
    verdict = verdict_on(trained_by(optimizer))
    assert verdict.status in ("warn", "fail") and "10,000 steps" in verdict.summary
    assert verdict.evidence["momentum"] == {"value": 0.9999, "healthy": [None, 0.99]}
    assert (verdict.status == "fail") == verdict.trials[0].helped


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.98])
def test_a_usual_momentum_is_quiet(momentum: float) -> None:
    assert verdict_on(trained_by(lambda p: torch.optim.SGD(p, lr=0.02, momentum=momentum))).status == "pass"


def test_only_what_is_unusual_is_put_back() -> None:
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": [weights[0]], "momentum": 0.999}, {"params": [weights[1]], "momentum": 0.5}]
    subject = usual_momentum(experiment(optimizer=torch.optim.SGD(groups, lr=0.1)))
    assert [group["momentum"] for group in subject.optimizer.param_groups] == [0.9, 0.5]


def test_steps_as_large_as_the_weights_are_too_large_where_a_tenth_gets_much_further() -> None:
    """A network that learns nearly everything at a hundred times the rate, and more at ten times."""

    def make() -> fv.Experiment:
        return FAULTS["learning_rate_too_high"].apply(SetUp("cnn", "adamw", "textures")())

    verdict = verdict_on(make)
    assert verdict.status == "warn" and "too high" in verdict.summary
    (trial,) = verdict.trials
    assert trial.changed == "lr / 10" and trial.helped and trial.after < 0.1 * trial.before


def test_a_validation_that_only_augmentation_sets_apart_is_no_matter_of_the_range() -> None:
    """Nine tenths of each training picture are grey; the clean ones are like validation's."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(128, 3, 8, 8, generator=generator)
    labels = torch.arange(128) % 3

    class Erased(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            hidden = image.clone()
            hidden[:, :7] = 0.01 * torch.rand(())
            return hidden, label

    clean = TensorDataset(images[:64], labels[:64])
    validation = DataLoader(TensorDataset(images[64:], labels[64:]), batch_size=16)
    train = DataLoader(Erased(images[:64], labels[:64]), batch_size=16)

    def codes(clean_train: Any) -> set[str]:
        return {f.code for f in fv.check_dataloader(train, validation=validation, clean_train=clean_train).findings}

    assert "augmentation.shift" in codes(clean) and "data.shift" not in codes(clean)
    assert "data.shift" in codes(None) and "augmentation.shift" not in codes(None)
    darker = TensorDataset(images[:64] * 0.2, labels[:64])
    assert "data.shift" in codes(darker)
