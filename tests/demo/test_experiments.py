"""The demo experiments and the mistakes in them: equal each time, told nowhere, injectable everywhere."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from featviz_core.demo.experiments import DEMO_EXPERIMENTS, demo_experiment
from featviz_core.demo.faults import FAULTS, with_fault
from featviz_core.demo.setups import SETUPS
from featviz_core.demo.shapes import CLASS_NAMES
from featviz_core.demo.small_shapes import SIDE, pictures
from featviz_core.errors import ExperimentError
from featviz_core.experiment import evaluate_on, few_batches, fresh, train_on

pytestmark = pytest.mark.usefixtures("one_thread")


def test_pictures_are_equal_each_time_and_no_two_splits_share_one():
    train, labels = pictures("train", 64)
    assert train.shape == (64, 3, SIDE, SIDE)
    assert 0 <= float(train.min()) < float(train.max()) <= 1
    assert [labels.count(c) for c in range(len(CLASS_NAMES))] == [8] * len(CLASS_NAMES)
    assert torch.equal(pictures.__wrapped__("train", 8)[0], train[:8])
    validation, _ = pictures("validation", 64)
    assert not {t.numpy().tobytes() for t in train} & {t.numpy().tobytes() for t in validation}


@pytest.mark.parametrize("name", DEMO_EXPERIMENTS)
def test_a_factory_gives_equal_fresh_experiments(name):
    one, two = fresh(demo_experiment(name)), fresh(demo_experiment(name))
    for (key, ours), theirs in zip(one.model.state_dict().items(), two.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    assert one.model is not two.model
    images, targets = one.pair(next(iter(one.train_loader)))
    assert images.shape == (32, 3, SIDE, SIDE)
    assert targets.shape == (32,)


@pytest.mark.parametrize("setup", SETUPS)
def test_the_healthy_ones_learn(setup):
    subject = fresh(SETUPS[setup])
    before = evaluate_on(subject, subject.val_loader)
    epochs = 4 if setup == "vit" else 2
    losses = [loss for _ in range(epochs) for loss in train_on(subject, subject.train_loader)]
    assert sum(losses[-8:]) < 0.985 * sum(losses[:8])
    assert evaluate_on(subject, subject.val_loader)["loss"] < 1.02 * before["loss"]


@cache
def outcome(setup: str, fault: str = "") -> list[float] | str:
    """What a few steps and a validation give: numbers, or what they raise."""
    try:
        subject = fresh(with_fault(setup, fault))
        few = few_batches(subject, subject.train_loader, 3)
        losses = train_on(subject, few)
        found = evaluate_on(subject, few_batches(subject, subject.val_loader, 2))
        return [*losses, *found.values()]
    except Exception as error:  # noqa: BLE001 - a network's own complaint is an outcome too
        return str(error)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_mistake_changes_what_comes_out(fault):
    setup = "cnn" if "cnn" in FAULTS[fault].networks else "plain"
    assert outcome(setup, fault) != outcome(setup)


def test_names_that_are_not_there():
    for setup, fault in (("cnn", "bad_luck"), ("rnn", "")):
        with pytest.raises(ExperimentError, match="Choose one of"):
            with_fault(setup, fault)


def test_choosing_needs_no_torch_and_names_no_fault():
    code = "import sys, featviz_core.demo.experiments; print([m for m in ('torch', 'streamlit') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
