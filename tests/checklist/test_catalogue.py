"""The catalogue of faults: broad enough, split as it says, and its figures are right."""

from __future__ import annotations

import pytest

from featviz_core.checklist.catalogue.cases import PARTS, Case, cases, part_of
from featviz_core.checklist.catalogue.harm import HARM, harm
from featviz_core.checklist.catalogue.run import Row, run
from featviz_core.checklist.catalogue.table import matrix, misses, summary, wilson
from featviz_core.checklist.items import ITEMS
from featviz_core.demo.faults import FAULTS, with_fault
from featviz_core.demo.setups import OPTIMIZERS, set_up
from featviz_core.demo.textures import TEXTURE_NAMES, Textures
from featviz_core.demo.variations import VARIATIONS
from featviz_core.experiment import evaluate_on, fresh, train_on

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")]


def test_it_is_as_broad_as_it_should_be():
    every = [case for part in PARTS for case in cases(part)]
    faulty = [case for case in every if case.fault]
    healthy = [case for case in every if not case.fault and part_of(case.setup) == "apart"]
    assert len(FAULTS) >= 50
    assert {fault.item for fault in FAULTS.values()} == set(ITEMS) - {"loss.decreases"}
    for fault in FAULTS.values():
        on = {case.setup for case in faulty if case.fault == fault.name}
        assert len(on) >= 2
        assert {setup.network for setup in on} <= set(fault.networks)
    assert len({case.setup for case in healthy}) >= 60
    assert {case.setup.network for case in every} >= {"plain", "cnn", "residual", "vit"}
    assert {case.setup.optimizer for case in every} == set(OPTIMIZERS)
    assert {case.setup.variation for case in every} == {"", *VARIATIONS}
    assert len({case.name for case in every}) == len(every)
    assert [case.name for case in cases("apart")] == [case.name for case in cases("apart")]


def test_no_set_up_is_in_both_parts():
    assert not {c.setup for c in cases("tune")} & {c.setup for c in cases("apart")}


def test_textures_are_equal_each_time_and_can_be_told_apart():
    data = Textures("train", 12, lambda image: image)
    assert [data[n][1] for n in range(12)] == [*range(6), *range(6)]
    assert all(bool((data[n][0] == Textures("train", 12, lambda image: image)[n][0]).all()) for n in range(12))
    experiment = fresh(set_up("cnn-adamw-textures"))
    for _ in range(3):
        train_on(experiment, experiment.train_loader)
    assert evaluate_on(experiment, experiment.val_loader)["accuracy"] > 2 / len(TEXTURE_NAMES)


@pytest.mark.parametrize("variation", VARIATIONS)
def test_every_variation_trains(variation):
    experiment = fresh(set_up(f"cnn-sgd-textures-{variation}"))
    batches = [batch for batch, _ in zip(experiment.train_loader, range(4), strict=False)]
    before = {name: value.clone() for name, value in experiment.model.named_parameters()}
    train_on(experiment, batches)
    assert any(bool((before[name] != value).any()) for name, value in experiment.model.named_parameters())


def test_harm_is_what_is_lost_or_told_wrongly():
    setup = set_up("plain-sgd-textures")
    assert harm(setup, FAULTS["labels_from_one"], 0) == 1.0  # raises
    assert harm(setup, FAULTS["learning_rate_zero"], 0) > 0.2
    assert harm(setup, FAULTS["no_optimizer_step"], 0) > HARM


def test_a_row_says_what_came_of_a_case():
    row = run(Case(set_up("plain-sgd-textures"), "nan_weight", 0))
    assert (row.item, row.root_cause, row.named) == ("model.finite",) * 3
    assert row.fails == ("model.finite",)
    assert row.harmful
    assert with_fault(row.setup, row.fault)().model is not None


def made_up(fault="", item="", root="", warns=(), harm=0.0):
    fails = (root,) if root else ()
    return Row(f"x+{fault}@0", "x", fault, item, root, fails, tuple(warns), harm, 3.0)


def test_the_figures_are_counted_rightly():
    rows = [
        made_up("a", "data.range", "data.range", harm=0.5),
        made_up("b", "data.range", "loss.value", harm=0.5),
        made_up("c", "data.labels", "", ["data.labels"], harm=0.2),
        made_up("d", "data.labels", "", harm=0.3),
        made_up("e", "model.init", "", ["model.init"], harm=0.0),
        made_up(),
        made_up(warns=["data.range"]),
    ]
    table = matrix(rows)
    assert table.loc["data.range", "loss.value"] == 1
    assert table.loc["data.labels", "nothing"] == 1
    assert int(table.to_numpy().sum()) == 5
    text = summary(rows)
    assert "faults that do harm, reported: 3 of 4" in text
    assert "with the right item first: 2 of 4" in text
    assert "as the root cause of a fail: 1 of 4" in text
    assert "without measurable harm, reported: 1 of 1" in text
    assert "healthy set-ups with a fail: 0 of 2" in text
    assert "warnings for a healthy set-up: 0.50" in text
    assert misses(rows).count("\n") == 2


def test_wilson_s_interval_is_the_published_one():
    low, high = wilson(81, 263)  # Newcombe, Statistics in Medicine 17 (1998), table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
