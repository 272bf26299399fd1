"""The loss by itself: usual ones stay quiet, and what hardly rewards right answers, or ignores some, is found."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import featviz_core as fv
from featviz_core.demo.faults import with_fault
from tests.toy_experiments import CLASSES, experiment, loader, pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def verdict_on(loss_fn, **parts):
    report = fv.run_checklist(lambda: experiment(loss_fn=loss_fn, **parts), items=["loss.value"])
    return report["loss.value"]


def focal(logits, targets):
    chance = functional.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]
    return -((1 - chance.exp()) ** 2 * chance).mean()


def one_hot(kind):
    return lambda logits, targets: kind(logits, functional.one_hot(targets, CLASSES).float())


USUAL = {
    "cross-entropy": nn.CrossEntropyLoss(),
    "much label smoothing": nn.CrossEntropyLoss(label_smoothing=0.3),
    "class weights": nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0])),
    "focal": focal,
    "squares": one_hot(functional.mse_loss),
    "one against all": one_hot(functional.binary_cross_entropy_with_logits),
    "hinge": nn.MultiMarginLoss(),
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_losses_stay_quiet(name):
    assert verdict_on(USUAL[name]).status == "pass"


def test_several_labels_for_a_picture_stay_quiet():
    images, labels = pictures()
    several = functional.one_hot(labels, CLASSES).float()
    several[::2, 0] = 1
    batches = [(images[:12], several[:12]), (images[12:], several[12:])]
    verdict = verdict_on(nn.BCEWithLogitsLoss(), train_loader=batches, val_loader=None)
    assert verdict.status == "pass"


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda logits, targets: functional.cross_entropy(logits.softmax(1), targets),
        lambda logits, targets: functional.cross_entropy(
            functional.one_hot(targets, CLASSES).float(), logits.softmax(1)
        ),
        lambda logits, targets: functional.cross_entropy(0.05 * logits.tanh(), targets),
    ],
    ids=["softmax inside", "arguments swapped", "squeezed scores"],
)
def test_a_loss_that_hardly_tells_right_from_wrong_is_found(loss_fn):
    verdict = verdict_on(loss_fn)
    assert verdict.status in ("warn", "fail")
    assert verdict.harmless == (verdict.status == "warn")
    value = verdict.evidence["loss of the best scores"]["value"]
    assert value > 0.35 * verdict.evidence["guessing"]
    assert "hardly tells right from wrong" in verdict.summary


@pytest.mark.parametrize(
    "loss_fn",
    [nn.CrossEntropyLoss(ignore_index=1), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 1.0]))],
    ids=["ignore_index", "weight"],
)
def test_a_class_that_the_loss_ignores_is_named(loss_fn):
    verdict = verdict_on(loss_fn, class_names=("ant", "bee", "cat"))
    assert (verdict.status, verdict.grade) == ("warn", "proven")
    assert verdict.evidence["ignored classes"] == [1]
    assert "bee" in verdict.summary


def test_the_first_loss_of_few_pictures_may_miss_guessing_by_more():
    def started(batch):
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
        nn.init.zeros_(model[1].weight)
        with torch.no_grad():
            model[1].bias.copy_(torch.tensor([2.2, 0.0, 0.0]))
        source = loader(batch, batch_size=batch)
        return verdict_on(nn.CrossEntropyLoss(), model=model, train_loader=source)

    few, many = started(6), started(48)
    assert few.evidence["first loss"]["value"] == pytest.approx(many.evidence["first loss"]["value"], abs=1e-4)
    assert (few.status, many.status) == ("pass", "warn")


def test_swapped_arguments_of_a_demo_are_confirmed_by_a_trial():
    verdict = fv.run_checklist(with_fault("cnn", "swapped_arguments"), items=["loss.value"])["loss.value"]
    assert verdict.trials[0].after > verdict.trials[0].before - 0.05
    assert verdict.status == ("fail" if verdict.trials[0].helped else "warn")
