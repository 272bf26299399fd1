"""The data check on the demo experiments, and what its result holds."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

import featviz_core as fv
from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.demo.faults import with_fault
from featviz_core.errors import ExperimentError, ModelError
from featviz_core.techniques.data_check import apprentices
from featviz_core.techniques.data_check.examples import preview
from featviz_core.techniques.data_check.result import SUSPECT_KINDS
from tests.loaders import CLASSES, Noisy, codes, labels, loader, scenes

pytestmark = pytest.mark.usefixtures("one_thread")

N = 192
X, Y = scenes(N), labels(N)
V, W = scenes(80, seed=1), labels(80, seed=1)
ORDER = torch.argsort(Y, stable=True)


def check(*args, **options):
    return fv.check_dataloader(*args, **{"num_batches": None, "num_classes": CLASSES} | options)


# Demo experiments


@pytest.mark.parametrize("name", [name for name, card in DEMO_EXPERIMENTS.items() if not card.fault])
def test_healthy_demos_stay_quiet(name):
    found = fv.check_experiment_data(f"demo/{name}", num_batches=None)
    assert codes(found) == set(), found.findings
    assert found.normalization.name == "stated"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("raw_pixels", "data.range"),
        ("normalized_twice", "data.normalization"),
        ("nan_pictures", "data.finite"),
        ("labels_from_one", "labels.range"),
        ("validation_leak", "leak.exact"),
    ],
)
def test_faults_of_the_demo_are_found(fault, code):
    found = fv.check_experiment_data(with_fault("plain", fault), num_batches=None)
    assert code in codes(found, "fail"), found.findings


def test_an_experiment_whose_head_has_another_size():
    def make():
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, CLASSES - 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return fv.Experiment(model=model, train_loader=loader(X, Y), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)

    found = fv.check_experiment_data(make)
    assert "labels.range" in codes(found, "fail")


# The result


def test_the_result_can_be_sent_to_another_process():
    found = check(loader(torch.cat([X, X[:3]]), torch.cat([Y, Y[:3]])), validation=loader(V, W))
    again = pickle.loads(pickle.dumps(found))
    assert again.frame().equals(found.frame())
    assert [f.code for f in again.findings] == [f.code for f in found.findings]
    assert len(again.duplicates) == 3
    assert not any(hasattr(value, "numpy") for value in (again.samples[0].person, again.samples[0].model))


def test_pictures_to_look_at_are_bounded_and_named():
    images = torch.cat([X, X.flip(3)])
    images[:40] = images[:40] * 0.005 + 0.3
    images[40:100] = images[100:101]
    found = check(loader(images, torch.cat([Y, Y]), shuffle=False))
    assert {suspect.kind for suspect in found.suspects} <= set(SUSPECT_KINDS)
    assert max(len(found.suspects_of(kind)) for kind in SUSPECT_KINDS) <= 24
    assert len(found.duplicates) <= 24 * 3
    assert len(found.suspects_of("blank")) == 24
    counted = found.duplicate_counts.set_index(["kind", "where"])
    assert counted.loc[("exact", "train"), "pictures"] == 60
    for suspect in found.suspects:
        assert suspect.picture.thumbnail.dtype == np.uint8
        assert max(suspect.picture.thumbnail.shape[:2]) <= 64
        assert suspect.picture.name == f"train {suspect.picture.index}"
        assert suspect.title
        assert suspect.text


def test_frames_agree_with_each_other():
    found = check(loader(X[ORDER], Y[ORDER], shuffle=False), validation=loader(V, W))
    assert found.class_counts.groupby("split")["count"].sum().to_dict() == {"train": N, "validation": 80}
    by_class = found.label_order.groupby(["split", "label"])["count"].sum()
    assert by_class.tolist() == found.class_counts.set_index(["split", "label"])["count"].tolist()
    train = found.label_order[found.label_order["split"] == "train"]
    assert train["label"].is_monotonic_increasing
    time = found.over_time[found.over_time["split"] == "train"]
    assert time["first"].tolist()[1:] == (time["last"] + 1).tolist()[:-1]
    sizes = time["last"] - time["first"] + 1
    own = found.channels[found.channels["split"] == "train"]
    assert np.average(time["mean"], weights=sizes) == pytest.approx(own["mean"].mean(), rel=1e-6)
    assert check(loader(X, torch.arange(N)), num_classes=N).label_order.empty


def test_progress_rises_to_one_and_may_cancel():
    told = []
    check(loader(X, Y), validation=loader(V, W), progress=lambda share, text: told.append((share, text)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert 0.9 < shares[-1] <= 1

    class Cancel(Exception):
        pass

    def cancel(share, text):
        raise Cancel

    source = loader(X, Y, generator=torch.Generator().manual_seed(3))
    before = source.generator.get_state()
    with pytest.raises(Cancel):
        check(source, progress=cancel)
    assert torch.equal(source.generator.get_state(), before)


def test_what_cannot_be_checked_is_said():
    with pytest.raises(ExperimentError, match="no batch"):
        check([])
    with pytest.raises(ExperimentError, match="unpack"):
        check([{"image": X[:4], "label": Y[:4]}])
    with pytest.raises(ExperimentError, match="no pictures"):
        check([(X[:4].flatten(1), Y[:4])])
    with pytest.raises(ExperimentError, match="number of channels changes"):
        check([(X[:4], Y[:4]), (X[:4, :1], Y[:4])])
    assert "loader.empty" in codes(check(loader(X, Y), validation=[]), "fail")
    with pytest.raises(ModelError, match="cannot look at"):
        check(loader(X[:, :1], Y), model=nn.Conv2d(3, 4, 3))


def test_labels_that_are_names_of_something_else():
    found = check(loader(X, Y * 2**40), num_classes=None)
    assert found.class_counts.empty
    assert codes(found) == set()


def test_files_and_entries_behind_concatenated_and_wrapped_sets():
    data = TensorDataset(X, Y)
    both = ConcatDataset([Subset(data, range(50)), Subset(data, range(50, N))])
    found = check(DataLoader(Noisy(both), 16), validation=DataLoader(Noisy(Subset(data, [60, 61])), 16))
    pairs = [(pair.first.index, pair.second.index) for pair in found.duplicates if pair.kind == "file"]
    assert pairs == [(60, 0), (61, 1)]


def test_preview(shapes_cnn):
    picture = preview(shapes_cnn, torch.zeros(1, 3, 128, 128).uniform_(-2, 2))
    assert (213, 94, 0) in {colour for _, colour in picture.getcolors(picture.width * picture.height)}


# Labels, by copies of the model that learn first


def learner(images, targets):
    """An experiment whose network could learn these few pictures by heart."""

    def make():
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        source = DataLoader(TensorDataset(images, targets), 16, shuffle=True)
        return fv.Experiment(model=model, train_loader=source, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)

    return make


@pytest.fixture
def short_lessons(monkeypatch):
    monkeypatch.setattr(apprentices, "_LESSONS", 4000)
    monkeypatch.setattr(apprentices, "_TELLS", 2.0)  # nobody's own features will do


def test_copies_that_learned_find_wrong_labels(short_lessons):
    right = labels(240)
    # A class is whether two hidden patterns have the same sign or not, and which is there: no line tells that.
    patterns = torch.randn(CLASSES, 192)
    images = (patterns[right] * (torch.randint(0, 2, (240, 1)) * 2 - 1) + 0.3 * torch.randn(240, 192)).view(-1, 3, 8, 8)
    wrong = [7, 50, 101, 200]
    given = right.clone()
    given[wrong] = (right[wrong] + 1) % CLASSES
    told = []
    found = fv.check_experiment_data(
        learner(images, given), num_batches=None, model=True, progress=lambda share, text: told.append((share, text))
    )
    suspects = {suspect.picture.index for suspect in found.suspects_of("disagreement")}
    assert set(wrong) <= suspects
    assert len(suspects) < 10
    assert any("Copies of the model learn" in text for _, text in told)
    assert [share for share, _ in told] == sorted(share for share, _ in told)


def test_no_picture_vouches_for_its_own_label(short_lessons):
    images, given = torch.randn(240, 3, 8, 8), labels(240)
    found = fv.check_experiment_data(learner(images, given), num_batches=None, model=True)
    finding = next(finding for finding in found.findings if finding.code == "labels.separable")
    assert finding.evidence["accuracy"] < 0.4  # chance is a quarter
