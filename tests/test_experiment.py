"""The experiment: its parts, batches of any structure, the standard bodies against loops written out, the protocol."""

from __future__ import annotations

import random
from collections import namedtuple
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from featviz_core.batches import describe
from featviz_core.errors import ExperimentError
from featviz_core.experiment import (
    Experiment,
    evaluate,
    evaluate_on,
    few_batches,
    fresh,
    loss_value,
    own_randomness,
    train_on,
)
from tests.toy_experiments import CLASSES, experiment, loader, net, pictures

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ("model", "resnet18", "torch.nn.Module"),
        ("optimizer", 0.1, "torch.optim.Optimizer"),
        ("train_loader", None, "gives batches"),
        ("train_loader", iter([1]), "not an iterator"),
        ("val_loader", 3, "gives batches"),
        ("loss_fn", "cross_entropy", "a function"),
        ("unpack", 1, "a function"),
        ("scheduler_step", "step", "'epoch', 'batch', 'own'"),
    ],
)
def test_a_wrong_part_is_named_with_what_was_expected(part, value, expected):
    good = experiment()
    parts: dict[str, Any] = {name: getattr(good, name) for name in [field.name for field in fields(Experiment)]}
    with pytest.raises(ExperimentError, match=rf"(?s){part}.*{expected}"):
        Experiment(**(parts | {part: value}))


# Batches

leaves = st.sampled_from([torch.zeros(2, 3, 4, 4), torch.zeros(2), np.zeros(3), None, 3, "name", True])
structures = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["image", "label", "path", "index"]), inner, max_size=4),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(batch=structures)
def test_any_batch_gives_a_pair_or_one_clear_error(batch):
    subject = experiment()
    try:
        images, _ = subject.pair(batch)
    except ExperimentError as error:
        assert "unpack" in error.do
        assert error.why.startswith("The loader gave ")
    else:
        assert isinstance(batch, tuple | list)
        assert len(batch) == 2
        assert images is batch[0]


def test_dict_batches_come_with_the_line_that_unpacks_them():
    batch = {"path": ["a"], "image": torch.zeros(1, 3, 4, 4), "class_id": torch.zeros(1)}
    with pytest.raises(ExperimentError, match=r"lambda batch: \(batch\['path'\], batch\['class_id'\]\)") as caught:
        experiment().pair(batch)
    assert "'image': float32 tensor (1, 3, 4, 4)" in caught.value.why
    subject = experiment(unpack=lambda batch: (batch["image"], batch["class_id"]))
    images, targets = subject.pair(batch)
    assert images is batch["image"]
    assert targets is batch["class_id"]


def test_an_unpack_that_fails_shows_the_batch():
    with pytest.raises(ExperimentError, match=r"KeyError: 'picture'.*'image': float32 tensor") as caught:
        experiment(unpack=lambda batch: batch["picture"]).pair({"image": torch.zeros(1, 3, 4, 4)})
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ExperimentError, match="gave no pair"):
        experiment(unpack=lambda batch: batch[0]).pair((torch.zeros(1, 3, 4, 4), 1))


@pytest.mark.parametrize("kind", ["tensor", "dict", "named"])
def test_scores_are_found_where_they_are_called_logits(kind):
    scores = torch.randn(2, CLASSES)
    wrapped = {"tensor": scores, "dict": {"logits": scores}, "named": namedtuple("Out", "logits aux")(scores, None)}
    assert experiment().logits(wrapped[kind]) is scores


def test_other_outputs_need_an_adapter():
    output = (torch.zeros(2, CLASSES), torch.zeros(2, 7))
    with pytest.raises(ExperimentError, match=r"a tuple of \(float32 tensor \(2, 3\), float32 tensor \(2, 7\)\)"):
        experiment().logits(output)
    assert experiment(get_logits=lambda out: out[0]).logits(output) is output[0]
    with pytest.raises(ExperimentError, match="TypeError"):
        experiment(get_logits=lambda out: out["scores"]).logits(output)


def test_descriptions_end():
    loop: list[Any] = []
    loop.append(loop)
    assert describe(loop) == "a list of (a list of (a list))"
    assert describe(dict.fromkeys(range(9))).endswith("5: None, …)")


# The standard bodies


def test_training_equals_the_loop_written_out():
    ours, theirs = fresh(experiment), fresh(experiment)
    batches = list(ours.train_loader)
    losses = train_on(ours, batches)
    theirs.model.train()
    for (images, targets), loss in zip(batches, losses, strict=True):
        theirs.optimizer.zero_grad()
        expected = theirs.loss_fn(theirs.model(images), targets)
        expected.backward()
        theirs.optimizer.step()
        assert loss == float(expected.detach())
    for ours_value, theirs_value in zip(
        ours.model.state_dict().values(), theirs.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours_value, theirs_value)


def test_evaluation_equals_one_big_batch_and_leaves_the_statistics():
    subject = experiment(val_loader=loader(13, seed=1, batch_size=5))
    before = subject.model[1].running_mean.clone()
    found = evaluate(subject, subject.val_loader)
    images, targets = pictures(13, seed=1)
    with torch.no_grad():
        logits = subject.model.eval()(images)
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, targets)), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    assert torch.equal(before, subject.model[1].running_mean)


def test_accuracy_is_not_made_up_for_targets_that_are_no_classes():
    images, targets = pictures(4)
    rows = nn.functional.one_hot(targets, CLASSES).float()
    subject = experiment()
    found = evaluate(subject, [(images, rows)])
    assert np.isfinite(found["loss"])
    assert np.isnan(found["accuracy"])


def test_the_scheduler_steps_when_it_is_said_to():
    counts = {}
    for when in ("epoch", "batch", "own"):
        subject = experiment(scheduler_step=when)
        subject.scheduler = torch.optim.lr_scheduler.StepLR(subject.optimizer, 1)
        train_on(subject, subject.train_loader)
        counts[when] = subject.scheduler.last_epoch
        train_on(subject, subject.train_loader, scheduler=False)
        assert subject.scheduler.last_epoch == counts[when]
    assert counts == {"epoch": 1, "batch": 4, "own": 0}


def test_own_bodies_are_used_and_reach_everything_through_the_experiment():
    seen: list[str] = []

    def step(subject, images, targets):
        seen.append("step")
        assert subject.model.training
        return {"loss": subject.loss_fn(subject.model(images), targets)}

    def epoch(subject, batches):
        seen.extend("epoch" for _images, _targets in batches)

    assert len(train_on(experiment(train_step=step), loader())) == 4
    assert train_on(experiment(train_epoch=epoch), loader()) == []
    assert seen == ["step"] * 4 + ["epoch"] * 4
    wrong = experiment(evaluate=lambda *_: 0.5)
    with pytest.raises(ExperimentError, match=r"Expected .*loss.*accuracy.*got 0.5"):
        evaluate_on(wrong, loader())


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(torch.tensor(2.0), 2.0), (3, 3.0), ({"loss": torch.tensor([1.5])}, 1.5), ((torch.tensor(0.5), 1), 0.5)],
)
def test_losses_in_whatever_a_step_gives(loss, expected):
    assert loss_value(loss) == expected


@pytest.mark.parametrize("loss", [None, "low", torch.zeros(3), {}])
def test_no_loss_is_no_number(loss):
    assert np.isnan(loss_value(loss))


# The protocol


def test_the_factory_gives_equal_experiments_and_the_process_s_numbers_go_on():
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    with own_randomness():
        one, other = fresh(experiment, seed=3), fresh(experiment, seed=3)
        different = fresh(experiment, seed=4)
    weights = [next(iter(e.model.parameters())) for e in (one, other, different)]
    assert torch.equal(weights[0], weights[1])
    assert weights[0] is not weights[1]
    assert not torch.equal(weights[0], weights[2])
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_a_factory_that_gives_something_else():
    with pytest.raises(ExperimentError, match="got a Sequential"):
        fresh(net)


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*pictures(10), strict=True)


@pytest.mark.parametrize(
    "source",
    [
        lambda: DataLoader(Stream(), batch_size=3),
        lambda: loader(10, batch_size=3, num_workers=2),
        lambda: [pictures(3)] * 3,
    ],
    ids=["stream", "workers", "list"],
)
def test_a_few_batches_look_like_a_loader_over_just_these(source):
    few = few_batches(experiment(), source(), 2)
    assert len(few) == 2
    assert len(few.dataset) == sum(len(images) for images, _ in few) == 6
    assert [len(images) for images, _ in few] == [3, 3]


def test_an_empty_loader_is_said_to_be():
    with pytest.raises(ExperimentError, match="no batch"):
        few_batches(experiment(), [], 2)
