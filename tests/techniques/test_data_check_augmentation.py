"""Does augmentation leave of a picture what its label says? Harmless, ruinous and unreadable ones."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import featviz_core as fv
from featviz_core.techniques.data_check.keeping import how_much_is_kept
from tests import toy_experiments as toys

pytestmark = pytest.mark.usefixtures("one_thread")


class Augmented(Dataset[tuple[Tensor, int]]):
    def __init__(self, augment: Callable[[Tensor], Tensor], spoilt: int = 0) -> None:
        self.images, self.labels = toys.pictures(90)
        self.images[:spoilt] = math.inf
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.augment(self.images[index]), int(self.labels[index])


def check(augment: Callable[[Tensor], Tensor], spoilt: int = 0) -> fv.AugmentationCheck:
    def make() -> fv.Experiment:
        train, clean = (DataLoader(Augmented(change, spoilt), batch_size=6) for change in (augment, lambda x: x))
        return toys.experiment(train_loader=train, clean_train=clean)

    return fv.check_augmentation(make)


def test_a_shade_of_noise_leaves_everything() -> None:
    found = check(lambda image: image + 1e-3 * torch.randn(()))
    assert found.random_train and found.kept is not None
    assert found.kept.likeness.mean() > 0.95 and found.kept.changed > found.kept.chance + 0.2
    assert {finding.code for finding in found.findings} == {"augmentation.healthy"}


def test_a_picture_of_noise_only_is_like_any_other() -> None:
    found = check(torch.randn_like)
    assert found.kept is not None and 0.35 < found.kept.likeness.mean() < 0.62
    assert {"augmentation.unlike", "augmentation.destructive"} <= {finding.code for finding in found.findings}


@pytest.mark.parametrize("spoilt", [2, 90], ids=["some", "all"])
def test_pictures_that_are_no_numbers_do_not_spoil_the_others(spoilt: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = check(lambda image: image + 1e-3 * torch.randn(()), spoilt)
    assert found.kept is not None and np.isfinite(found.kept.likeness).all()
    assert (found.kept.changed > found.kept.chance + 0.2) == (spoilt < 90)


def test_features_that_tell_nothing_apart_keep_nothing_that_could_be_measured() -> None:
    same = np.ones((12, 5))
    found = how_much_is_kept(same, same, np.arange(12) % 3)
    assert np.allclose(found.likeness, 0.5)
    assert found.clean <= found.chance + 0.2 and found.clean == found.changed
