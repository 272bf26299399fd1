"""The output check against labels: loss, confusion and calibration, re-derived slowly; and of experiments."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import featviz_core as fv
from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.demo.faults import with_fault
from featviz_core.errors import ExperimentError, ModelError
from featviz_core.techniques.output_check.labelled import as_targets, classes_of, compare
from tests.toys import pictures

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
NAMES = ("ant", "bee", "cat", "dog")


class Fixed(nn.Module):
    """Gives the scores that stand in the pictures' first row, and a little of the rest."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes, self.scale = classes, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x[:, 0, 0, : self.classes] * self.scale


def showing(scores: Tensor) -> Tensor:
    images = pictures(len(scores))
    images[:, 0, 0, : scores.shape[1]] = scores
    return images


def checked(scores: Tensor, targets: Tensor, **options) -> fv.ModelOutput:
    return fv.check_model_output(Fixed(scores.shape[1]), showing(scores), targets=targets, **options)


def codes(found, *severities: str) -> set[str]:
    return {f.code for f in found.findings if f.severity in severities}


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 60), classes=st.integers(2, 8), seed=st.integers(0, 999))
def test_loss_accuracy_confusion_and_calibration_against_the_slow_way(count: int, classes: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(count, classes, generator=draw)
    targets = torch.randint(classes, (count,), generator=draw)
    found = checked(scores, targets, class_names=[f"c{i}" for i in range(classes)])
    labelled = found.labelled

    losses, right, counts = [], 0, {}
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, target in zip(scores.double().tolist(), targets.tolist(), strict=True):
        total = sum(math.exp(score) for score in row)
        shares = [math.exp(score) / total for score in row]
        best = max(range(classes), key=lambda i: shares[i])
        losses.append(-math.log(shares[target]))
        right += best == target
        counts[target, best] = counts.get((target, best), 0) + 1
        bins.setdefault(min(9, int(shares[best] * 10)), []).append((shares[best], best == target))
    assert labelled.loss == pytest.approx(sum(losses) / count, rel=1e-4, abs=1e-6)
    assert labelled.uniform_loss == pytest.approx(math.log(classes), rel=1e-5)
    assert labelled.accuracy == pytest.approx(right / count)
    error = sum(abs(sum(sure for sure, _ in part) - sum(good for _, good in part)) / count for part in bins.values())
    assert labelled.ece == pytest.approx(error, abs=1e-6)
    curve = labelled.reliability()
    assert curve["count"].tolist() == [len(bins.get(i, ())) for i in range(10)]
    for i, part in bins.items():
        assert curve["confidence"][i] == pytest.approx(sum(sure for sure, _ in part) / len(part))
        assert curve["accuracy"][i] == pytest.approx(sum(good for _, good in part) / len(part))

    confusion = found.confusion()
    assert confusion["count"].sum() == count
    for row in confusion.itertuples():
        target, other = int(row.target[1:]), int(row.predicted[1:])
        assert row.count == counts.get((target, other), 0)
        assert row.share == pytest.approx(row.count / int((targets == target).sum()))
    frame = found.frame()
    assert int(frame["right"].sum()) == right
    assert frame["target"].tolist() == [f"c{i}" for i in targets.tolist()]


def test_targets_of_every_kind() -> None:
    numbers = torch.tensor([2, 0, 1])
    for given_ in (numbers, numbers.int(), numbers.tolist(), tuple(numbers.tolist()), numbers.numpy()):
        assert classes_of(as_targets(given_, 3)).tolist() == [2, 0, 1]
    one_hot = F.one_hot(numbers, 4)
    assert classes_of(one_hot).tolist() == classes_of(one_hot.float()).tolist() == [2, 0, 1]
    several = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.7, 0.0]])
    assert classes_of(several).tolist() == [-1, -1, 1, -1]
    assert classes_of(torch.tensor([1, -100, 3])).tolist() == [1, -1, 3]
    assert classes_of(torch.tensor([1, 255, 3]), nn.CrossEntropyLoss(ignore_index=255)).tolist() == [1, -1, 3]
    assert classes_of(torch.tensor([0.5, 1.5])).tolist() == [-1, -1]
    for wrong in (numbers[:2], torch.tensor(3), "abc"):
        with pytest.raises(ModelError, match="labels"):
            as_targets(wrong, 3)


def test_soft_labels_have_a_loss_and_no_accuracy() -> None:
    scores, soft = torch.randn(8, 4), torch.rand(8, 4).softmax(1)
    found = checked(scores, soft, loss_fn=nn.CrossEntropyLoss())
    assert found.labelled.loss == pytest.approx(float(F.cross_entropy(scores, soft)), rel=1e-5)
    assert math.isnan(found.labelled.accuracy) and math.isnan(found.labelled.ece)
    assert found.confusion().empty
    without = checked(scores, soft)
    assert math.isnan(without.labelled.loss) and not without.labelled.loss_error


def test_a_loss_that_fails_says_how_and_everything_else_stays() -> None:
    def mine(scores: Tensor, targets: Tensor) -> Tensor:
        raise KeyError("weights")

    found = checked(torch.randn(8, 4), torch.arange(8) % 4, loss_fn=mine)
    failed = next(f for f in found.findings if f.code == "output.loss_failed")
    assert failed.severity == "fail" and "KeyError: 'weights'" in failed.detail and "mine" in failed.title
    assert found.labelled.accuracy >= 0
    nan = checked(torch.randn(8, 4), torch.arange(8) % 4, loss_fn=lambda scores, _: scores.sum() * math.nan)
    assert "output.loss_not_finite" in codes(nan, "fail")


def test_sure_and_wrong_is_worse_than_knowing_nothing() -> None:
    targets = torch.arange(20) % 4
    wrong = 5.0 * F.one_hot((targets + 1) % 4, 4) + 0.1 * torch.randn(20, 4)
    assert "output.loss_above_uniform" in codes(checked(wrong, targets), "warn")
    right = 5.0 * F.one_hot(targets, 4) + 0.1 * torch.randn(20, 4)
    assert not codes(checked(right, targets), "note", "warn", "fail")
    unsure = 0.2 * torch.randn(20, 4)
    assert not codes(checked(unsure, targets), "warn", "fail")


def test_classes_in_another_order_are_named() -> None:
    targets = torch.arange(40) % 4
    swapped = torch.tensor([1, 0, 3, 2])[targets]
    found = checked(4.0 * F.one_hot(swapped, 4) + torch.randn(40, 4), targets, class_names=NAMES)
    order = next(f for f in found.findings if f.code == "output.class_order")
    assert order.where == "ant → bee, bee → ant, cat → dog, dog → cat"
    chance = checked(torch.randn(40, 4), targets, class_names=NAMES)
    assert "output.class_order" not in {f.code for f in chance.findings}


def test_a_class_that_is_never_recognised_is_named() -> None:
    targets = torch.arange(40) % 4
    answers = torch.where(targets == 3, 0, targets)
    found = checked(4.0 * F.one_hot(answers, 4) + 0.1 * torch.randn(40, 4), targets, class_names=NAMES)
    missed = next(f for f in found.findings if f.code == "output.class_never_right")
    assert missed.where == "dog" and missed.severity == "warn"


def test_overconfidence_is_a_note() -> None:
    targets = torch.arange(200) % 4
    answers = torch.where(torch.arange(200) % 10 < 6, targets, (targets + 1) % 4)
    found = checked(9.0 * F.one_hot(answers, 4) + 0.1 * torch.randn(200, 4), targets)
    assert found.labelled.ece == pytest.approx(0.4, abs=0.01)
    assert "output.miscalibrated" in codes(found, "note")
    cooled = checked(1.5 * F.one_hot(answers, 4) + 0.01 * torch.randn(200, 4), targets)
    assert "output.miscalibrated" not in {f.code for f in cooled.findings}


def test_probabilities_are_not_made_twice() -> None:
    scores, targets = torch.randn(30, 4), torch.arange(30) % 4
    raw = compare(scores, targets, "", None, CPU)
    soft = compare(scores.softmax(1), targets, "softmax", None, CPU)
    log = compare(scores.log_softmax(1), targets, "log_softmax", nn.NLLLoss(), CPU)
    assert raw.ece == pytest.approx(soft.ece, abs=1e-6) == pytest.approx(log.ece, abs=1e-6)
    assert raw.loss == pytest.approx(log.loss, rel=1e-5)


# Experiments


@pytest.mark.parametrize("name", [name for name in DEMO_EXPERIMENTS if not name.startswith("case_")])
def test_healthy_demo_experiments_are_quiet(name: str) -> None:
    seen: list[float] = []
    found = fv.check_experiment_output(f"demo/{name}", progress=lambda fraction, _: seen.append(fraction))
    assert not codes(found.output, "warn", "fail"), found.output.findings
    assert found.source == "validation" and not found.notes and seen[-1] == 1
    assert found.thumbnails.dtype == np.uint8 and found.thumbnails.shape[0] == len(found.output.logits)
    assert found.output.labelled.loss == pytest.approx(found.output.labelled.uniform_loss, abs=0.12)
    assert pickle.loads(pickle.dumps(found)).output.findings == found.output.findings


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("softmax_first", "output.softmax_applied"),
        ("dead_relus", "output.constant"),
        ("nan_pictures", "output.input_not_finite"),
        ("nan_weight", "output.weights_not_finite"),
        ("labels_from_one", "output.labels_out_of_range"),
    ],
)
def test_faults_of_demo_experiments_are_found(fault: str, code: str) -> None:
    found = fv.check_experiment_output(with_fault("plain", fault), batches=2)
    assert code in codes(found.output, "fail")
    assert not codes(fv.check_experiment_output(with_fault("plain"), batches=2).output, "warn", "fail")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x.mean((2, 3))), x


def experiment(batches, **parts) -> fv.Experiment:
    model = Two()
    made = {
        "model": model,
        "train_loader": batches,
        "loss_fn": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "get_logits": lambda output: output[0],
    }
    return fv.Experiment(**made | parts)


def test_batches_as_real_projects_have_them() -> None:
    batches = [{"image": pictures(4, seed=i), "label": torch.tensor([0, 1, 0, 1]), "id": "x"} for i in range(6)]
    found = fv.check_experiment_output(
        lambda: experiment(batches, unpack=lambda b: (b["image"], b["label"]), class_names=["a", "b"]), batches=3
    )
    assert found.source == "training" and found.output.shape == (12, 2)
    assert found.output.class_names == ("a", "b") and len(found.output.labelled.targets) == 12

    uneven = [(pictures(4), torch.zeros(4).long()), (pictures(4, shape=(3, 6, 6)), torch.zeros(4).long())]
    found = fv.check_experiment_output(lambda: experiment(uneven))
    assert found.notes == ("Batches left out, because their pictures have another size: 1.",)
    many = [(pictures(4), {"boxes": torch.zeros(4, 2)})]
    found = fv.check_experiment_output(lambda: experiment(many))
    assert found.output.labelled is None and "a dict with ('boxes'" in found.notes[0]


def test_experiments_that_cannot_be_checked_say_so() -> None:
    with pytest.raises(ExperimentError, match="hold no pictures"):
        fv.check_experiment_output(lambda: experiment([(torch.zeros(4, 8, 8), torch.zeros(4).long())]))
    with pytest.raises(ExperimentError, match="no batch"):
        fv.check_experiment_output(lambda: experiment([]))
    with pytest.raises(ExperimentError, match="get_logits"):
        fv.check_experiment_output(
            lambda: experiment([(pictures(4), torch.zeros(4).long())], get_logits=None), batches=1
        )


def test_thumbnails_are_what_the_model_saw() -> None:
    images = torch.rand(2, 3, 8, 8)
    shown = dataclasses.replace(
        experiment([((images - 0.5) / 0.25, torch.zeros(2).long())]), normalization=([0.5] * 3, [0.25] * 3)
    )
    found = fv.check_experiment_output(lambda: shown)
    np.testing.assert_allclose(found.thumbnails / 255, images.permute(0, 2, 3, 1), atol=1 / 250)
    large = fv.check_experiment_output(lambda: experiment([(torch.rand(2, 1, 300, 200).expand(-1, 3, -1, -1), None)]))
    assert large.thumbnails.shape == (2, 96, 64, 3)
