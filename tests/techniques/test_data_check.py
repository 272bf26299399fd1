"""Every fault of data is found under its code, and healthy data stay quiet."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset
from torchvision.transforms import v2

import featviz_core as fv
from tests.loaders import CLASSES, IMAGENET, Noisy, codes, labels, loader, normal, scenes

pytestmark = pytest.mark.usefixtures("one_thread")

N = 192
X, Y = scenes(N), labels(N)
V, W = scenes(80, seed=1), labels(80, seed=1)
TINTED = (1.0, 0.8, 0.6)
ORDER = torch.argsort(Y, stable=True)


def check(*args, **options):
    return fv.check_dataloader(*args, **{"num_batches": None, "num_classes": CLASSES} | options)


def with_some_of_training(count):
    return loader(torch.cat([V, X[:count]]), torch.cat([W, Y[:count]]))


# Healthy data

HEALTHY = {
    "zero to one": lambda: check(loader(X, Y), validation=loader(V, W, shuffle=False)),
    "ImageNet": lambda: check(loader(normal(X), Y), validation=loader(normal(V), W), normalization=IMAGENET),
    "ImageNet, not stated": lambda: check(loader(normal(X), Y), validation=loader(normal(V), W)),
    "grey": lambda: check(loader(X[:, :1], Y), validation=loader(V[:, :1], W)),
    "minus one to one": lambda: check(loader(X * 2 - 1, Y), normalization=((0.5,), (0.5,))),
    "few batches": lambda: check(loader(X, Y), num_batches=3),
    "one small batch": lambda: check(loader(X[:5], Y[:5]), num_classes=None),
    "sorted validation": lambda: check(loader(X, Y), validation=loader(V[W.sort()[1]], W.sort()[0], shuffle=False)),
    "probabilities": lambda: check(loader(X, nn.functional.one_hot(Y).float())),
    "binary": lambda: check(loader(X, (Y % 2).float()[:, None]), num_classes=1),
    "ignored labels": lambda: check(loader(X, torch.where(torch.arange(N) % 9 == 0, -100, Y))),
    "drawn with replacement": lambda: check(
        DataLoader(TensorDataset(X, Y), 16, sampler=RandomSampler(X, replacement=True, num_samples=2 * N))
    ),
    "noise after normalising": lambda: check(loader(normal(X) + 0.3 * torch.randn(X.shape), Y), normalization=IMAGENET),
    "imbalanced": lambda: check(loader(X[ORDER[: 3 * N // 4 + 3]], Y[ORDER[: 3 * N // 4 + 3]])),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_data_stay_quiet(name):
    found = HEALTHY[name]()
    assert codes(found) == set(), found.findings
    assert [f.code for f in found.findings if f.severity == "ok"] == ["data.healthy"]


class Augmented(Dataset):
    """Flipped and shifted at random, as torchvision does it."""

    def __init__(self, images, targets):
        self.images, self.targets = images, targets
        self.transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(24, padding=3)])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.targets[index])


def test_augmented_data_stay_quiet_and_their_copies_are_found():
    train = DataLoader(Augmented(X, Y), 16, shuffle=True)
    healthy = check(train, validation=loader(V, W))
    assert codes(healthy) == set()
    assert [split.augmented for split in healthy.splits] == [True, False]
    leaking = check(train, validation=with_some_of_training(20))
    assert codes(leaking) == {"leak.exact"}
    assert {pair.labels_differ for pair in leaking.duplicates} == {False}
    # Clean entries without labels cannot be put through `unpack`: then copies go unseen, which is said.
    blind = check(train, validation=DataLoader(Subset(TensorDataset(X, Y), range(20)), 8), clean_train=list(X))
    assert "leak.exact" not in codes(blind)
    again = check(DataLoader(Augmented(X, Y), 16), clean_train=list(zip(X, Y.tolist(), strict=True)))
    assert codes(again) == set()


def test_copies_that_augmentation_hides_are_not_denied():
    shared = TensorDataset(X, Y)
    train, validation = DataLoader(Noisy(shared), 16), DataLoader(Subset(shared, range(20)), 8)
    (leak,) = [f for f in check(train, validation=validation).findings if f.code == "leak.file"]
    assert "may go unseen" in leak.detail


def test_pairs_tell_whether_their_labels_differ():
    found = check(loader(torch.cat([X, X[:2]]), torch.cat([Y, torch.stack([Y[0], (Y[1] + 1) % CLASSES])])))
    differ = {pair.first.label == pair.second.label: pair.labels_differ for pair in found.duplicates}
    assert differ == {True: False, False: True}


# Faults


def with_pictures(changed, places):
    images = X.clone()
    images[places] = changed
    return loader(images, Y)


def on(chosen):
    return loader(X[chosen], Y[chosen])


FAULTS = {
    "0 to 255": ("data.range", lambda: check(loader(X * 255, Y))),
    "0 to 255, normalisation stated": ("data.range", lambda: check(loader(X * 255, Y), normalization=IMAGENET)),
    "divided twice": ("data.range", lambda: check(loader(X / 255, Y))),
    "huge values": ("data.range", lambda: check(loader(X * 4000 - 1000, Y))),
    "not normalised": ("data.normalization", lambda: check(loader(X, Y), normalization=IMAGENET)),
    "normalised twice": ("data.normalization", lambda: check(loader(normal(normal(X)), Y), normalization=IMAGENET)),
    "normalised twice, not stated": ("data.normalization", lambda: check(loader(normal(normal(X)), Y))),
    "255 normalised": ("data.normalization", lambda: check(loader(normal(X * 255), Y), normalization=IMAGENET)),
    "constants reversed": (
        "data.normalization",
        lambda: check(loader(normal(X, [v[::-1] for v in IMAGENET]), Y), normalization=IMAGENET),
    ),
    "constants for other channels": (
        "data.normalization",
        lambda: check(loader(X[:, :1], Y), normalization=IMAGENET),
    ),
    "blue first, stated means": (
        "data.channel_order",
        lambda: check(
            loader(normal((X * torch.tensor(TINTED)[:, None, None]).flip(1), ((0.5, 0.4, 0.3), (0.3,) * 3)), Y),
            normalization=((0.5, 0.4, 0.3), (0.3,) * 3),
        ),
    ),
    "blue first in validation": (
        "data.channel_order",
        lambda: check(loader(scenes(N, tint=TINTED), Y), validation=loader(scenes(80, seed=1, tint=TINTED).flip(1), W)),
    ),
    "bytes": ("data.dtype", lambda: check(loader((X * 255).byte(), Y))),
    "channels last": ("data.layout", lambda: check(loader(X.permute(0, 2, 3, 1), Y))),
    "no channels": ("data.layout", lambda: check(loader(X[:, 0], Y))),
    "NaN": ("data.finite", lambda: check(with_pictures(float("nan"), [7]))),
    "infinite": ("data.finite", lambda: check(with_pictures(float("inf"), [7, 8]))),
    "constant": ("data.constant", lambda: check(with_pictures(0.5, slice(0, 20)))),
    "brighter with time": (
        "data.drift",
        lambda: check(loader(X * 0.3 + torch.linspace(0, 0.7, N)[:, None, None, None], Y, shuffle=False)),
    ),
    "validation not scaled": ("data.shift", lambda: check(loader(X, Y), validation=loader(V * 255, W))),
    "validation darker": ("data.shift", lambda: check(loader(X, Y), validation=loader(V * 0.3, W))),
    "sorted": ("labels.sorted", lambda: check(loader(X[ORDER], Y[ORDER], shuffle=False))),
    "sorted, few batches": ("labels.sorted", lambda: check(loader(X[ORDER], Y[ORDER], shuffle=False), num_batches=3)),
    "labels from one": ("labels.range", lambda: check(loader(X, Y + 1))),
    "negative label": ("labels.range", lambda: check(loader(X, torch.where(torch.arange(N) == 5, -1, Y)))),
    "class missing": ("labels.missing", lambda: check(on(Y != 2))),
    "class missing in validation": (
        "labels.missing",
        lambda: check(loader(X, Y), validation=loader(V[W != 2], W[W != 2]), num_classes=None),
    ),
    "class in validation only": (
        "labels.unexpected",
        lambda: check(loader(X[Y < 3], Y[Y < 3]), validation=loader(V, W)),
    ),
    "one class only": ("labels.balance", lambda: check(on(Y == 1))),
    "one-hot": ("labels.one_hot", lambda: check(loader(X, nn.functional.one_hot(Y)))),
    "floats": ("labels.dtype", lambda: check(loader(X, Y.float()))),
    "int32": ("labels.dtype", lambda: check(loader(X, Y.int()))),
    "column": ("labels.shape", lambda: check(loader(X, Y[:, None]))),
    "too few names": ("labels.names", lambda: check(loader(X, Y), class_names=["a", "b", "c", "d", "e"])),
    "copies": ("duplicates.exact", lambda: check(loader(torch.cat([X, X[:9]]), torch.cat([Y, Y[:9]])))),
    "one picture, two labels": (
        "duplicates.labels",
        lambda: check(loader(torch.cat([X, X[:1]]), torch.cat([Y, (Y[:1] + 1) % CLASSES]))),
    ),
    "leak": (
        "leak.exact",
        lambda: check(loader(X, Y), validation=loader(torch.cat([V, X[:5]]), torch.cat([W, Y[:5]]))),
    ),
    "leak, saved anew": (
        "leak.near",
        lambda: check(
            loader(X, Y),
            validation=loader(torch.cat([V, (X[:9] * 0.9 + 0.01 * torch.randn(9, 3, 24, 24)).clamp(0, 1)]), labels(89)),
        ),
    ),
    "leak, mirrored": (
        "leak.mirrored",
        lambda: check(
            loader(X, Y),
            validation=loader(
                torch.cat([V, (X[:9].flip(3) + 0.01 * torch.randn(9, 3, 24, 24)).clamp(0, 1)]), labels(89)
            ),
        ),
    ),
    "overlapping subsets": (
        "leak.exact",
        lambda: check(DataLoader(Subset(DATA, range(100))), validation=DataLoader(Subset(DATA, range(90, N)))),
    ),
    "overlapping subsets, augmented in an unknown way": (
        "leak.file",
        lambda: check(
            DataLoader(Noisy(Subset(DATA, range(100))), 16),
            validation=DataLoader(Noisy(Subset(DATA, range(90, N))), 16),
        ),
    ),
}
DATA = TensorDataset(X, Y)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(name):
    code, make = FAULTS[name]
    found = make()
    assert code in codes(found), found.findings
    assert "data.healthy" not in codes(found, "ok")
    for finding in found.findings:
        json.dumps(finding.evidence)
        assert finding.title
        assert finding.detail or finding.evidence or finding.remedy
    assert all(finding.remedy for finding in found.findings if finding.severity == "fail"), found.findings


class Endless(IterableDataset):
    def __iter__(self):
        return zip(X[:64], Y[:64].tolist(), strict=True)


def test_workers_that_repeat_each_other_are_found():
    assert "loader.workers" in codes(check(DataLoader(Endless(), 16, num_workers=2)))
    assert codes(check(DataLoader(Endless(), 16))) == set()


def test_classes_that_two_folders_number_differently():
    train, other = TensorDataset(X, Y), TensorDataset(V, W)
    train.classes, other.classes = ["ant", "bee", "cat", "dog"], ["bee", "cat", "dog", "eel"]
    found = check(DataLoader(train, 16, shuffle=True), validation=DataLoader(Subset(other, range(80)), 16))
    assert "labels.mapping" in codes(found)
    assert found.class_names == ("ant", "bee", "cat", "dog")
    turned = check(DataLoader(train, 16, shuffle=True), class_names=train.classes[::-1])
    assert "labels.names" in codes(turned, "fail")


def test_notes_do_not_alarm():
    last = check(loader(X[:33], Y[:33]))
    assert "loader.last_batch" in codes(last, "note")
    dropped = check(loader(X, Y), validation=loader(V, W, drop_last=True))
    assert "loader.drop_last" in codes(dropped, "note")
    still = check(loader(X, Y, shuffle=False))
    assert "loader.unshuffled" in codes(still, "note")
    rare = torch.cat([torch.zeros(180), torch.ones(12)]).long()
    assert "labels.balance" in codes(check(loader(X, rare), num_classes=2), "note")
    assert all(codes(found) == set() for found in (last, dropped, still))
