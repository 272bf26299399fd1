"""Loaders of every structure are read past their mistakes, and left as they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import featviz_core as fv
from featviz_core.techniques.data_check.reading import MOST_FAILURES, Delivered, Failure, walk
from tests.loaders import CLASSES, codes, labels, loader, scenes

pytestmark = pytest.mark.usefixtures("one_thread")

X, Y = scenes(64), labels(64)

STRUCTURES = {
    "pair": (lambda images, targets: (images, targets), None),
    "list": (lambda images, targets: [images, targets], None),
    "dict": (lambda i, t: {"pixels": i, "label": t, "id": "x"}, lambda batch: (batch["pixels"], batch["label"])),
    "three": (lambda images, targets: (images, targets, [1, 2]), lambda batch: batch[:2]),
    "nested": (lambda images, targets: {"data": (images, {"y": targets})}, lambda b: (b["data"][0], b["data"][1]["y"])),
}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)
FORMS = {
    "classes": lambda t: t,
    "int16": lambda t: t.short(),
    "column": lambda t: t[:, None],
    "float": lambda t: t.float(),
    "one-hot": lambda t: torch.nn.functional.one_hot(t, CLASSES),
    "list": lambda t: t.tolist(),
    "names": lambda t: [str(n) for n in t.tolist()],
    "nothing": lambda _: None,
}


@settings(deadline=None, max_examples=60)
@given(
    structure=st.sampled_from(sorted(STRUCTURES)),
    dtype=st.sampled_from(DTYPES),
    form=st.sampled_from(sorted(FORMS)),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    channels=st.integers(1, 4),
    side=st.integers(1, 9),
    num_batches=st.one_of(st.none(), st.integers(1, 6)),
)
def test_batches_of_any_structure(structure, dtype, form, sizes, channels, side, num_batches):
    wrap, unpack = STRUCTURES[structure]
    images = (torch.rand(sum(sizes), channels, side, side + 1) * 200).to(dtype)
    parts = list(zip(images.split(sizes), labels(sum(sizes)).split(sizes), strict=True))
    found = fv.check_dataloader(
        [wrap(own, FORMS[form](targets)) for own, targets in parts], unpack=unpack, num_batches=num_batches
    )
    seen = sizes[:num_batches]
    assert (found.splits[0].pictures, found.splits[0].batches) == (sum(seen), len(seen))
    assert found.splits[0].complete == (num_batches is None or num_batches >= len(sizes))
    for batch, (own, _) in zip(found.batches, parts, strict=False):
        assert batch.shape == tuple(own.shape)
        assert batch.dtype == str(dtype).removeprefix("torch.")
        values = own.double()
        assert (batch.min, batch.max) == (float(values.min()), float(values.max()))
        assert batch.mean == pytest.approx(float(values.mean()), rel=1e-4)
        assert batch.std == pytest.approx(float(values.std(correction=0)), rel=1e-3, abs=1e-3)
    counted = form in ("classes", "int16", "column", "float", "one-hot", "list")
    assert found.class_counts["count"].sum() == (sum(seen) if counted else 0)
    table = found.frame()
    assert len(table) == len(found.batches) > 0
    assert table.columns[:3].tolist() == ["split", "batch", "shape"]


class Spoilt(Dataset):
    """Some entries raise, one is of another size."""

    def __init__(self, bad=(), larger=()):
        self.bad, self.larger = bad, larger

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError(f"image file is truncated: {index}.jpg")
        return (torch.zeros(3, 30, 30) if index in self.larger else X[index]), int(Y[index])


@pytest.mark.parametrize("workers", [0, 2])
def test_failing_entries_are_named_and_the_rest_is_seen(workers):
    found = fv.check_dataloader(DataLoader(Spoilt((9, 40)), 8, num_workers=workers), num_batches=None)
    split = found.splits[0]
    assert (split.failed, split.batches, split.pictures, split.complete) == (2, 6, 48, True)
    (finding,) = [finding for finding in found.findings if finding.code == "loader.failed"]
    assert finding.severity == "fail"
    assert finding.evidence["batches"] == [1, 5]
    assert finding.evidence["entries"] == [9, 40]
    assert "OSError: image file is truncated: 9.jpg" in finding.detail
    assert [suspect.picture.index for suspect in found.suspects_of("unreadable")] == [9, 40]


def test_pictures_that_do_not_fit_together_blame_no_entry():
    found = fv.check_dataloader(DataLoader(Spoilt(larger=(3,)), 8), num_batches=None)
    (finding,) = [finding for finding in found.findings if finding.code == "loader.failed"]
    assert finding.evidence["entries"] == []
    assert "stack expects each tensor to be equal size" in finding.detail


def test_a_loader_that_always_fails_is_given_up():
    found = fv.check_dataloader(DataLoader(Spoilt(range(64)), 1), num_batches=None)
    assert found.splits[0].failed == MOST_FAILURES
    assert found.splits[0].pictures == 0
    assert len(found.frame()) == len(found.samples) == 0
    assert codes(found) == {"loader.failed"}

    def broken():
        yield X[:4], Y[:4]
        raise ValueError("no more")

    class Once:
        def __iter__(self):
            return broken()

    assert codes(fv.check_dataloader(Once(), num_batches=None), "fail") == {"loader.failed"}


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_is_left_as_it_was(workers):
    generator = torch.Generator().manual_seed(5)
    source = loader(X, Y, generator=generator, num_workers=workers, persistent_workers=workers > 0)
    before = generator.get_state(), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    attributes = dict(vars(source))
    fv.check_dataloader(source, validation=loader(X, Y), num_batches=2)
    assert vars(source) == attributes
    assert torch.equal(generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    assert np.array_equal(np.random.get_state()[1], before[3])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_pictures_indices_are_known(workers):
    source = loader(X, torch.arange(64), generator=torch.Generator().manual_seed(1), num_workers=workers)
    batches = [item for item in walk(source, limit=None) if isinstance(item, Delivered)]
    assert len(batches) == 4
    for item in batches:
        assert item.indices.tolist() == item.content[1].tolist()
    found = fv.check_dataloader(source, num_batches=None)
    for sample in found.samples:
        assert sample.picture.index == sample.picture.label
        shown = (X[sample.picture.index].permute(1, 2, 0).numpy() * 255).round()
        assert np.abs(sample.person - shown).max() <= 1
    assert [sample.picture.position for sample in found.samples] == list(range(16))


def test_unbatched_loaders_and_samplers_of_whole_batches():
    whole = DataLoader(TensorDataset(X, Y), sampler=[[0, 1, 2], [3, 4]], batch_size=None)
    items = list(walk(whole, limit=None))
    assert [item.indices.tolist() for item in items] == [[0, 1, 2], [3, 4]]
    assert not [item for item in items if isinstance(item, Failure)]


def test_pictures_are_read_again_as_the_loader_gives_them():
    """Those far behind in the loader are not kept, so their thumbnails are made from a second reading."""
    many = scenes(700, side=8)
    many[650:] = many[:50]
    data = TensorDataset(many * 255, labels(700))

    def collate(entries):
        return torch.stack([image for image, _ in entries]) / 255, torch.stack([label for _, label in entries])

    batches = BatchSampler(SequentialSampler(data), 50, drop_last=False)
    found = fv.check_dataloader(DataLoader(data, batch_sampler=batches, collate_fn=collate), num_batches=None)
    pairs = [pair for pair in found.duplicates if pair.kind == "exact"]
    assert len(pairs) == 24
    for pair in pairs:
        assert pair.second.position == pair.first.position + 650
        assert np.array_equal(pair.first.thumbnail, pair.second.thumbnail)
        shown = (many[pair.first.position].permute(1, 2, 0).numpy() * 255).round()
        assert np.abs(pair.second.thumbnail - shown).max() <= 1


def test_thumbnails_that_cannot_be_had_are_left_out():
    many = scenes(600, side=8)
    many = torch.cat([many, many[:20]])
    found = fv.check_dataloader([(part, None) for part in many.split(50)], num_batches=None)
    pairs = [pair for pair in found.duplicates if pair.kind == "exact"]
    assert pairs
    assert all(pair.first.thumbnail is not None and pair.second.thumbnail is None for pair in pairs)
    assert {pair.second.index for pair in pairs} == {None}
    assert pairs[0].second.name == f"train {pairs[0].second.position}"


# Folders of files


@pytest.fixture
def folders(tmp_path):
    """Two classes of files: ordinary ones, a small one, a long one, a dark one."""
    rng = np.random.default_rng(0)
    for number in range(80):
        pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
        size = {3: (12, 12), 7: (400, 40)}.get(number, (48, 48))
        pixels = pixels // 40 if number == 11 else pixels
        path = tmp_path / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).resize(size).save(path)
    (tmp_path / "a" / "zz.png").write_bytes(b"no picture")
    return tmp_path


def resized(image):
    return ToTensor()(image.resize((48, 48)))


def test_odd_files_are_listed_with_their_paths(folders):
    data = ImageFolder(str(folders), resized)
    found = fv.check_dataloader(DataLoader(data, 9, shuffle=True), num_batches=None)
    for kind, name in (("size", "003.png"), ("aspect", "007.png"), ("dark", "011.png")):
        suspects = found.suspects_of(kind)
        assert [suspect.picture.path.rsplit("/", 1)[-1] for suspect in suspects] == [name], kind
        assert name in suspects[0].picture.name
        assert f"pictures.{kind}" in codes(found, "note")
    assert found.class_names == ("a", "b")
    assert codes(found) == {"loader.failed"}
    assert len(found.suspects_of("unreadable")) == 1


def test_the_same_file_on_both_sides_of_a_split(folders):
    (folders / "a" / "zz.png").unlink()

    def noisy(image):
        return (resized(image) + 0.2 * torch.randn(3, 48, 48)).clamp(0, 1)

    data = ImageFolder(str(folders), noisy), ImageFolder(str(folders), noisy)
    train, validation = Subset(data[0], range(50)), Subset(data[1], range(45, 80))
    found = fv.check_dataloader(DataLoader(train, 10), validation=DataLoader(validation, 10), num_batches=None)
    leaks = [pair for pair in found.duplicates if pair.kind == "file"]
    assert len(leaks) == 5
    assert all(pair.across and pair.first.path == pair.second.path for pair in leaks)
    assert "leak.file" in codes(found, "fail")


def test_blank_and_blurred_pictures_are_listed():
    images = scenes(100)
    images[4] = 0.5 + 0.004 * torch.rand(3, 24, 24)
    images[8] = torch.nn.functional.avg_pool2d(images[8:9], 9, 1, 4, count_include_pad=False)[0]
    images[9] = 0.97 + 0.02 * images[9]
    found = fv.check_dataloader(loader(images, labels(100)), num_batches=None)
    assert {kind: [s.picture.index for s in found.suspects_of(kind)] for kind in ("blank", "blurred", "bright")} == {
        "blank": [4],
        "blurred": [8],
        "bright": [9],
    }
    thumbnail = found.suspects_of("bright")[0].picture.thumbnail
    assert thumbnail.min() > 245
