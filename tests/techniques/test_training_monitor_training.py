"""Trainings with the monitor watching: the run tells what the own loop did, and the loop is not changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import featviz_core as fv
from featviz_core.diagnosis import diagnose
from featviz_core.experiment import Experiment, fresh, train_on
from featviz_core.techniques.training_monitor.training import Training, train

_IMAGES = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
_LABELS = (_IMAGES.mean((1, 2, 3)) > 0).long()
_DATA = TensorDataset(_IMAGES, _LABELS)


def small(**parts: Any) -> Experiment:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    given: dict[str, Any] = {
        "model": model,
        "train_loader": DataLoader(_DATA, batch_size=16, shuffle=True),
        "val_loader": DataLoader(_DATA, batch_size=32),
        "loss_fn": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(
            [{"params": model[1].parameters(), "lr": 0.2}, {"params": model[4].parameters()}], lr=0.1
        ),
        "epochs": 3,
    }
    return Experiment(**(given | parts))


def run_of(training: Training) -> fv.Run:
    return fv.read_run({"run.zip": training.data})


def test_the_run_holds_every_step_and_the_training_goes_as_it_does_alone(tmp_path: Path) -> None:
    texts: list[str] = []
    done = train(small, folder=tmp_path, name="mine", progress=lambda _done, text: texts.append(text))
    run = run_of(done)
    assert (done.outcome, done.problem, done.steps, done.epochs, run.name) == ("done", None, 12, 3, "mine")
    assert texts[-1].startswith("Epoch 3 of 3, step 12: loss 0.")
    alone = fresh(small)
    expected = [loss for _ in range(3) for loss in train_on(alone, alone.train_loader)]
    assert run.scalars["loss/train"].values[:4] == pytest.approx(expected[:4], rel=1e-5)
    assert len(run.scalars["loss/train"]) == len(run.scalars["accuracy/train"]) == 12
    assert len(run.scalars["loss/train_eval"]) == len(run.scalars["accuracy/validation"]) == 3
    assert run.scalars["lr"].values == pytest.approx([0.2] * 12)


def test_a_loop_of_ones_own_is_seen_through_its_loss(tmp_path: Path) -> None:
    def epoch(experiment: Experiment, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        experiment.model.train()
        for images, targets in batches:
            experiment.optimizer.zero_grad()
            experiment.loss_fn(experiment.model(images), targets).backward()
            experiment.optimizer.step()

    module = train(lambda: small(train_epoch=epoch), folder=tmp_path / "a")
    plain = train(lambda: small(train_epoch=epoch, loss_fn=nn.functional.cross_entropy), folder=tmp_path / "b")
    own = run_of(train(small, folder=tmp_path / "c"))
    for run in map(run_of, (module, plain)):
        assert run.scalars["loss/train"].values[:4] == pytest.approx(own.scalars["loss/train"].values[:4], rel=1e-5)
        assert run.scalars["accuracy/train"].values[:4] == pytest.approx(own.scalars["accuracy/train"].values[:4])


def test_another_rate_keeps_the_ratio_of_the_groups(tmp_path: Path) -> None:
    run = run_of(train(small, folder=tmp_path, rate=0.02, epochs=1))
    assert run.scalars["lr"].values == pytest.approx([0.02] * 4)
    assert run.scalars["lr/group1"].values == pytest.approx([0.01] * 4)


def test_a_stop_leaves_what_there_is(tmp_path: Path) -> None:
    steps = iter(range(1, 100))
    done = train(small, folder=tmp_path, control=lambda: next(steps) >= 5)
    assert (done.outcome, done.steps, done.epochs) == ("stopped", 5, 1)
    assert len(run_of(done).scalars["loss/train"]) == 5


def test_a_mistake_in_the_loop_is_told_and_the_run_is_kept(tmp_path: Path) -> None:
    taken: list[int] = []

    def step(experiment: Experiment, images: Tensor, targets: Tensor) -> Tensor:
        taken.append(1)
        if len(taken) == 3:
            raise ValueError("a slip")
        return experiment.loss_fn(experiment.model(images), targets)

    done = train(lambda: small(train_step=step), folder=tmp_path)
    assert done.outcome == "failed"
    assert done.problem is not None
    assert "after 2 steps: ValueError: a slip" in done.problem.what
    assert 'raise ValueError("a slip")' in done.problem.trace
    assert len(run_of(done).scalars["loss/train"]) == 2


@pytest.mark.parametrize(
    ("name", "epochs", "expected"),
    [("healthy_cnn", 3, ""), ("case_2", 3, "fail"), ("case_4", 2, "fail")],
)
def test_demo_experiments_are_told_apart(name: str, epochs: int, expected: str, tmp_path: Path) -> None:
    run = run_of(train(f"demo/{name}", folder=tmp_path, epochs=epochs))
    severities = {finding.severity for finding in diagnose(run.frame(), run.roles)}
    assert ("fail" in severities) == (expected == "fail"), diagnose(run.frame(), run.roles)
