"""The numbers of the data check against slow definitions and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featviz_core as fv
from featviz_core.techniques.data_check import duplicates, normalizations
from featviz_core.techniques.data_check.collect import collect, merged
from featviz_core.techniques.data_check.disagreement import Features, Table, disagreements, out_of_fold
from featviz_core.techniques.data_check.order import same_neighbours
from featviz_core.techniques.data_check.pictures import (
    channels_first,
    measure,
    mirrored_hash,
    perceptual_hash,
    thumbnail,
)
from featviz_core.techniques.data_check.targets import read_targets
from tests.loaders import CLASSES, codes, labels, loader, normal, scenes

pytestmark = pytest.mark.usefixtures("one_thread")


# Numbers of pictures


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (255, 0), (1, 1e4), (1e-3, -2)])
def test_moments_are_those_of_all_pixels(scale, offset):
    parts = [scenes(n, seed=n, side=side) * scale + offset for n, side in ((5, 9), (1, 24), (7, 12))]
    found = [measure(part) for part in parts]
    mean, std = (np.concatenate([getattr(f, name) for f in found]) for name in ("mean", "std"))
    pixels = np.concatenate([f.size for f in found]).prod(1)
    together = torch.cat([part.double().transpose(0, 1).flatten(1) for part in parts], dim=1)
    centre, spread = merged(mean, std, pixels)
    # Inputs are float32: at an offset of 10,000 they are spaced by 0.001.
    assert np.allclose(centre, together.mean(1), rtol=1e-6, atol=1e-6 * scale)
    assert np.allclose(spread, together.std(1, correction=0), rtol=1e-4, atol=1e-6 * scale)
    low, high = (np.concatenate([getattr(f, name) for f in found]) for name in ("low", "high"))
    assert np.array_equal(low, np.concatenate([part.amin((2, 3)) for part in parts]))
    assert np.array_equal(high, np.concatenate([part.amax((2, 3)) for part in parts]))


def test_pictures_with_nan_do_not_spoil_the_others():
    images = scenes(6)
    images[2, 1, 3, 4], images[4, 0, 0, :3] = math.nan, math.inf
    found = measure(images)
    assert found.not_finite.tolist() == [0, 0, 1, 0, 3, 0]
    good = images[[0, 1, 3, 5]].double().transpose(0, 1).flatten(1)
    centre, spread = merged(found.mean, found.std)
    assert np.allclose(centre, good.mean(1), rtol=1e-6)
    assert np.allclose(spread, good.std(1, correction=0), rtol=1e-6)
    assert np.isnan(merged(found.mean[[2]], found.std[[2]])[0]).all()


def test_sharpness_is_the_variance_of_the_laplacian_over_that_of_the_picture():
    images = scenes(3, side=11)
    for image, sharpness in zip(images.double().sum(1), measure(images).sharpness, strict=True):
        edges = [
            image[r - 1, c] + image[r + 1, c] + image[r, c - 1] + image[r, c + 1] - 4 * image[r, c]
            for r in range(1, 10, 2)
            for c in range(1, 10, 2)
        ]
        assert sharpness == pytest.approx(float(np.var(edges) / image.numpy().var()), rel=1e-4)
    blurred = nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    assert (measure(blurred).sharpness < measure(images).sharpness / 4).all()
    # Less contrast is not less sharpness.
    assert np.allclose(measure(images * 0.1 + 0.4).sharpness, measure(images).sharpness, rtol=1e-2)
    assert np.isnan(measure(torch.ones(1, 3, 8, 8)).sharpness).all()
    assert np.isnan(measure(torch.rand(1, 3, 2, 2)).sharpness).all()


def test_the_perceptual_hash_is_the_signs_of_the_lowest_frequencies():
    grid = np.random.default_rng(0).normal(size=(2, 32, 32))
    waves = sorted(itertools.product(range(12), repeat=2), key=lambda wave: wave[0] ** 2 + wave[1] ** 2)[1:65]
    for picture, found in zip(grid, perceptual_hash(grid), strict=True):
        bits = ""
        for u, v in waves:
            rows, columns = (np.cos(np.pi * k * (np.arange(32) + 0.5) / 32) for k in (u, v))
            bits += "1" if rows @ picture @ columns > 0 else "0"
        assert found.tobytes() == int(bits, 2).to_bytes(8)
    assert perceptual_hash(3 * grid + 5).tolist() == perceptual_hash(grid).tolist()


def test_equal_pictures_have_equal_hashes_and_no_others():
    images = scenes(8)
    images[5] = images[2]
    images[6], images[6, 2, 23, 23] = images[3], images[3, 2, 23, 23] + 1e-6
    content = measure(images).content
    assert content[5] == content[2]
    assert len(set(content.tolist())) == 7
    assert measure(images[:1].reshape(1, 3, 12, 48)).content != content[0]


def test_layouts_come_to_channels_first():
    images = scenes(2)
    assert torch.equal(channels_first(images.permute(0, 2, 3, 1)), images)
    assert torch.equal(channels_first(images[:, 0]), images[:, :1])
    assert channels_first((images * 255).byte()).dtype == torch.float32


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (65, 64), (224, 224), (500, 3), (1, 1)])
def test_thumbnails_are_means_of_blocks_and_small(size):
    image = torch.rand(3, *size)
    small = thumbnail(image, 64)
    assert max(small.shape[:2]) <= 64
    step = -(-max(size) // 64)
    block = image[:, : min(step, size[0]), : min(step, size[1])]
    assert np.allclose(small[0, 0], block.mean((1, 2)), atol=1e-6)


# Order, normalisation, targets


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=6).filter(lambda given: len(set(given)) > 1))
def test_same_neighbours_against_all_orders(given_labels):
    orders = np.array(list(itertools.permutations(given_labels)))
    same = (orders[:, 1:] == orders[:, :-1]).sum(1)
    share, z = same_neighbours(np.array(given_labels))
    assert share == pytest.approx(same[0] / (len(given_labels) - 1))
    if same.std() > 1e-9:
        assert z == pytest.approx((same[0] - same.mean()) / same.std())
    else:
        assert z == 0


@pytest.mark.parametrize("name", ["ImageNet", "CIFAR-10", "CIFAR-100", "CLIP", "−1 to 1", "0 to 1"])
def test_usual_normalisations_are_recognised(name):
    known = next(own for own in normalizations.known(3) if own.name == name)
    images = scenes(64, tint=(1.0, 1.0, 1.0))
    found = fv.check_dataloader(loader(normal(images, (known.mean.tolist(), known.std.tolist())).float(), labels(64)))
    assert found.normalization.name == name
    undone = found.channels[["pixel_mean", "pixel_std"]].to_numpy()
    batches = found.splits[0].pictures
    assert batches == 48
    assert np.all((undone > 0.2) & (undone < 0.7))


def test_recipes_undo_what_they_do():
    own = normalizations.recipe("x", (0.2, 0.4, 0.5), (0.1, 0.2, 0.3), 3)
    once = lambda values: (values - own.mean) / own.std  # noqa: E731
    for made, recipe in (
        (once, own),
        (lambda values: once(once(values)), own.twice()),
        (lambda values: once(values * 255), own.unscaled()),
        (lambda values: (values - own.mean[::-1]) / own.std[::-1], own.reversed()),
    ):
        black, white = recipe.bounds
        assert np.allclose(black, made(np.zeros(3)))
        assert np.allclose(white, made(np.ones(3)))
        assert recipe.holds(black, white)
        assert recipe.filled(black, white) == pytest.approx(1)
        assert recipe.beyond(black - (white - black), white) == pytest.approx(1)


TARGETS = (
    (torch.tensor([2, 0, 1]), "classes", [2, 0, 1]),
    (torch.tensor([True, False]), "classes", [1, 0]),
    (torch.tensor(3), "classes", [3]),
    (torch.tensor([[2], [0]]), "column", [2, 0]),
    (torch.tensor([2.0, 0.0]), "float", [2, 0]),
    (torch.tensor([[1.0], [0.0]]), "binary", [1, 0]),
    (torch.tensor([[0, 1], [1, 0]]), "one_hot", [1, 0]),
    (torch.tensor([[0.3, 0.7], [1.0, 0.0]]), "probabilities", [1, 0]),
    (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "several", None),
    (torch.tensor([0.5, math.nan]), "numbers", None),
    (torch.zeros(2, 4, 4).long(), "other", None),
    (torch.zeros(3).long(), "other", None),
    ([1, 0], "list", [1, 0]),
    (("cat", "dog"), "other", None),
    (None, "other", None),
    ({"boxes": torch.zeros(2, 4)}, "other", None),
)


@pytest.mark.parametrize(("targets", "kind", "numbers"), TARGETS)
def test_kinds_of_targets(targets, kind, numbers):
    found = read_targets(targets, 2 if numbers is None else len(numbers))
    assert found.kind == kind
    assert (None if found.numbers is None else found.numbers.tolist()) == numbers


# Duplicates


def test_near_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 300).astype(np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, n, replace=False)) for n in range(7) for _ in range(40)]
    )
    hashes = np.concatenate([base, base[np.arange(280) % 300] ^ flips.astype(np.uint64)])
    found = set(zip(*(side.tolist() for side in duplicates._close(hashes)), strict=True))
    pairs = [(i, j) for i, j in itertools.combinations(range(len(hashes)), 2) if _bits(hashes[i] ^ hashes[j]) <= 6]
    sure = {(i, j) for i, j in pairs if _bits(hashes[i] ^ hashes[j]) <= 3}
    assert sure <= found <= set(pairs)
    assert len(found) > 0.8 * len(pairs)


def test_the_hash_of_a_mirror_image_follows_from_that_of_the_picture():
    grids = np.random.default_rng(0).normal(size=(20, 32, 32))
    assert (mirrored_hash(perceptual_hash(grids)) == perceptual_hash(grids[:, :, ::-1])).all()
    assert (mirrored_hash(perceptual_hash(grids)) != perceptual_hash(grids)).all()


def _bits(number):
    return bin(int(number)).count("1")


def test_many_equal_hashes_stay_near_linear():
    one, _ = duplicates._close(np.full(2000, 7, np.uint64))
    assert len(one) <= 2000 * 32


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.data(),
)
def test_exact_duplicates_against_counting(train, validation, data):
    """Numbers stand for pictures that may come again, with labels of their own."""
    pictures = scenes(6, side=8)
    marks = [data.draw(st.integers(0, 1)) for _ in range(len(train) + len(validation))]
    sets = [
        TensorDataset(pictures[own], torch.tensor(marked))
        for own, marked in ((train, marks[: len(train)]), (validation, marks[len(train) :]))
    ]
    found = fv.check_dataloader(DataLoader(sets[0], 4), validation=DataLoader(sets[1], 4), num_batches=None)
    counted = found.duplicate_counts.set_index(["kind", "where"])["pictures"].to_dict()
    assert counted.get(("exact", "train"), 0) == len(train) - len(set(train))
    leaked = sum(number in set(train) for number in validation)
    assert counted.get(("exact", "train and validation"), 0) == leaked
    # A picture that training has, too, is counted as a leak only.
    alone = [number for number in validation if number not in train]
    assert counted.get(("exact", "validation"), 0) == len(alone) - len(set(alone))
    for pair in found.duplicates:
        own = {"train": train, "validation": validation}
        assert own[pair.first.split][pair.first.index] == own[pair.second.split][pair.second.index]
        assert pair.distance == 0


# Labels that features speak against


def blobs(count, seed=0):
    """Features of classes far apart from each other, some labels wrong."""
    rng = np.random.default_rng(seed)
    right = np.arange(count) % CLASSES
    features = rng.normal(0, 1, (count, 12)) + 6 * np.eye(CLASSES, 12)[right]
    given_labels = right.copy()
    wrong = rng.choice(count, 8, replace=False)
    given_labels[wrong] = (right[wrong] + 1) % CLASSES
    return features.astype(np.float32), given_labels, wrong


def seen_of(given_labels):
    """A pass over pictures with these labels."""
    images = torch.zeros(len(given_labels), 1, 4, 4)
    source = loader(images, torch.from_numpy(given_labels), shuffle=False)
    return collect("train", source, tuple, num_batches=None, tell=lambda _: None, also=lambda *_: None)


def table(features, labels):
    """Features of one model."""
    return Table(features, labels, np.zeros(len(labels), int))


def test_wrong_labels_are_those_doubted():
    features, given_labels, wrong = blobs(400)
    odds, findings = disagreements(table(features, given_labels), seen_of(given_labels), ["ant", "bee"])
    assert {odd.position for odd in odds} == set(wrong.tolist())
    assert [finding.code for finding in findings] == ["labels.disagreement"]
    assert [odd.value for odd in odds] == sorted(odd.value for odd in odds)
    names = [["ant", "bee", "2", "3"][given_labels[odd.position]] for odd in odds]
    assert [odd.text.split()[1] for odd in odds] == names
    assert findings[0].evidence["entries"] == [odd.position for odd in odds]


def test_probabilities_out_of_fold_are_those_of_gaussian_classes():
    features, given_labels, _ = blobs(200)
    chance = out_of_fold(features, given_labels, np.zeros(200, int))
    assert np.allclose(chance.sum(1), 1)
    # The first picture of each class is in the first fold: told again from the other four, by the definition.
    fold = np.zeros(200, int)
    fold[np.argsort(given_labels, kind="stable")] = np.arange(200) % 5
    x = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    rest = fold != 0
    means = np.stack([x[rest & (given_labels == c)].mean(0) for c in range(CLASSES)])
    inside = x[rest] - means[given_labels[rest]]
    covariance = 0.9 * inside.T @ inside / (rest.sum() - CLASSES)
    covariance += 0.1 * np.trace(covariance / 0.9) / 12 * np.eye(12)
    i = int(np.flatnonzero(~rest)[3])
    prior = np.bincount(given_labels[rest]) / rest.sum()
    inverse = np.linalg.inv(covariance)
    away = x[i] - means
    density = prior * np.exp(-np.einsum("cf,fg,cg->c", away, inverse, away) / 2)
    assert np.allclose(chance[i], density / density.sum(), atol=1e-6)


def test_many_features_are_reduced_to_the_directions_in_which_they_vary():
    features, given_labels, wrong = blobs(400)
    rng = np.random.default_rng(1)
    wide = features @ np.linalg.qr(rng.normal(size=(300, 12)))[0].T + rng.normal(0, 0.1, (400, 300))
    odds, _ = disagreements(table(wide.astype(np.float32), given_labels), seen_of(given_labels), [])
    assert {odd.position for odd in odds} == set(wrong.tolist())


def test_features_that_tell_nothing_accuse_nobody():
    rng = np.random.default_rng(0)
    features, given_labels = rng.normal(size=(200, 6)).astype(np.float32), np.arange(200) % 4
    odds, findings = disagreements(table(features, given_labels), seen_of(given_labels), [])
    assert odds == []
    assert [finding.code for finding in findings] == ["labels.separable"]
    one_class = np.zeros(50, np.int64)
    assert disagreements(table(np.zeros((50, 3), np.float32), one_class), seen_of(one_class), []) == ([], [])


def test_features_are_what_goes_into_the_head(model_untouched):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    images = scenes(150)
    features = Features(model)
    with model_untouched(model):
        for start in range(0, 150, 40):
            features.see(images[start : start + 40], np.zeros(len(images[start : start + 40]), np.int64))
        features.finish()
    rows = features.table().rows
    with torch.no_grad():
        expected = model.eval()[:4](images)
    assert np.allclose(rows, expected, atol=1e-6)


def test_wrong_labels_are_shown_to_look_at(shapes_cnn, model_untouched):
    from featviz_core.demo.dataset import render

    pictures, right = render("test", 160, single=True)
    images = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    wrong = torch.from_numpy(right).clone()
    wrong[[11, 50]] = (wrong[[11, 50]] + 3) % 8
    with model_untouched(shapes_cnn):
        found = fv.check_dataloader(loader(images, wrong, shuffle=False), num_batches=None, model=shapes_cnn)
    assert {11, 50} <= {suspect.picture.index for suspect in found.suspects_of("disagreement")}
    assert len(found.suspects_of("disagreement")) < 8
    assert "labels.disagreement" in codes(found, "note")
