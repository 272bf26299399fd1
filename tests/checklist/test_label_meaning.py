"""Labels that are drawn by chance, told from hard pictures, from few and from a wrong validation set."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featviz_core as fv
from featviz_core.checklist import label_meaning
from tests.toy_experiments import experiment

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, TRAIN, VALIDATION = 4, 400, 200


def pictures(count, *, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    patterns = torch.randn(CLASSES, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    return patterns[labels] + spread * torch.randn(count, 3, 8, 8, generator=generator), labels


def drawn(labels, share):
    """So many labels drawn by chance."""
    generator = torch.Generator().manual_seed(1)
    by_chance = torch.rand(len(labels), generator=generator) < share
    return torch.where(by_chance, torch.randint(0, CLASSES, labels.shape, generator=generator), labels)


def verdict_on(train, validation, *, validation_batch=32):
    def make():
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 48), nn.ReLU(), nn.Linear(48, CLASSES))
        return experiment(
            model=model,
            train_loader=DataLoader(TensorDataset(*train), 32, shuffle=True),
            val_loader=DataLoader(TensorDataset(*validation), validation_batch),
        )

    return fv.run_checklist(make, items=["data.labels"])["data.labels"]


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_labels_drawn_by_chance_are_found_and_counted(share):
    images, labels = pictures(TRAIN)
    given = drawn(labels, share)
    verdict = verdict_on((images, given), pictures(VALIDATION, seed=5))
    assert verdict.status in ("warn", "fail")
    assert "drawn by chance" in verdict.summary
    right = float((given == labels).float().mean())
    counted = verdict.evidence["labels that seem right"]["value"]
    assert abs(counted - (right - 0.25) / 0.75) < 0.12  # beyond those that chance gives


@pytest.mark.parametrize("spread", [1.0, 6.0], ids=["easy", "hard"])
def test_right_labels_stay_quiet(spread):
    verdict = verdict_on(pictures(TRAIN, spread=spread), pictures(VALIDATION, spread=spread, seed=5))
    assert verdict.status == "pass"


def test_a_noisy_validation_set_does_not_accuse_training():
    images, labels = pictures(VALIDATION, seed=5)
    assert verdict_on(pictures(TRAIN), (images, drawn(labels, 0.5))).status == "pass"


def test_few_pictures_say_nothing():
    images, labels = pictures(40)
    assert verdict_on((images, drawn(labels, 0.5)), pictures(40, seed=5)).status == "pass"


def test_labels_that_an_untrained_network_tells_are_not_tried_any_further(monkeypatch):
    monkeypatch.setattr(label_meaning, "patient", lambda _probe: pytest.fail("trained for nothing"))
    monkeypatch.setattr(label_meaning.Practice, "gain", 1.0)
    assert verdict_on(pictures(TRAIN, spread=4.0), pictures(VALIDATION, spread=4.0, seed=5)).status == "pass"


def test_validation_pictures_of_another_kind_do_not_accuse_the_labels():
    images, labels = pictures(VALIDATION, seed=5)
    verdict = verdict_on(pictures(TRAIN), (40 * images.flip(2) + 100, labels))
    assert verdict.status == "pass"


@pytest.mark.parametrize("validation_batch", [32, VALIDATION], ids=["batches", "one batch"])
def test_shuffled_labels_are_accused_and_compared_with_labels_dealt_out_at_random(validation_batch):
    images, labels = pictures(128)
    given = labels[torch.randperm(128, generator=torch.Generator().manual_seed(3))]
    verdict = verdict_on((images, given), pictures(VALIDATION, seed=5), validation_batch=validation_batch)
    assert (verdict.status, verdict.grade) == ("fail", "statistical")
    assert verdict.trials[0].name == "labels dealt out at random"
