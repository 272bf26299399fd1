"""Two runs compared: what differs is named, and what does not is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featviz_core.runs import Run, Scalars
from featviz_core.techniques.training_monitor.compare import differences, partings
from featviz_core.techniques.training_monitor.made_up import made_up


def parted_at(run: Run, tag: str, step: int, by: float) -> Run:
    one = run.scalars[tag]
    changed = Scalars(one.steps, one.wall_times, np.where(one.steps >= step, one.values + by, one.values))
    return replace(run, scalars=dict(run.scalars) | {tag: changed})


def test_equal_runs_do_not_part() -> None:
    run = made_up("made up: learns")
    assert {finding.code for finding in partings(run, run)} == {"compare.same"}
    assert (differences(run, run)["difference"] == 0).all()


@pytest.mark.parametrize("step", [700, 1900])
def test_the_step_at_which_a_curve_parts_is_found(step: int) -> None:
    run = made_up("made up: learns")
    found = partings(run, parted_at(run, "loss/train", step, 0.5))
    assert found[0].where == "loss/train"
    assert abs(found[0].evidence["step"] - step) <= 60  # a level is 50 steps
    assert [finding.code for finding in found[1:]] == ["compare.same"] * (len(found) - 1)


def test_what_each_reached_is_counted() -> None:
    first, second = made_up("made up: learns"), made_up("made up: overfits")
    rows = differences(first, second).set_index("quantity")
    best = rows.loc["validation loss, best"]
    assert best["first"] == np.min(first.scalars["loss/validation"].values)
    assert best["second"] == np.min(second.scalars["loss/validation"].values)
    assert best["difference"] == best["second"] - best["first"]
    assert rows.loc["learning rate, last", "first"] == pytest.approx(0, abs=1e-9)
    assert rows.loc["steps"].tolist() == [2999, 2999, 0]


def test_what_noise_may_explain_is_not_called_equal() -> None:
    run = made_up("made up: learns")
    found = partings(run, parted_at(run, "loss/train", 0, 1e-4))
    (close,) = [finding for finding in found if finding.where == "loss/train"]
    assert close.code == "compare.close"
    assert "They end at" in close.detail
