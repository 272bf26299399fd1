"""Curves as lines: smoothing, thinning, axes and best points against their definitions."""

from __future__ import annotations

import time

import numpy as np
import pytest

from featviz_core.diagnosis import diagnose
from featviz_core.runs import Run, Scalars, roles_of
from featviz_core.techniques.training_monitor import lines
from featviz_core.techniques.training_monitor.lines import View
from featviz_core.techniques.training_monitor.made_up import made_up, made_up_runs


def run_of(name: str = "run", **tags: tuple[list[int], list[float]]) -> Run:
    scalars = {
        tag.replace("_", "/", 1): Scalars(np.array(steps), 100.0 + 2 * np.array(steps), np.array(values, float))
        for tag, (steps, values) in tags.items()
    }
    return Run(name, scalars, roles_of(scalars))


def test_smoothing_is_the_debiased_exponential_mean() -> None:
    values, weight = np.array([3.0, 1.0, np.nan, 4.0, 1.0, 5.0]), 0.7
    expected, last, count = [], 0.0, 0
    for value in values:  # TensorBoard's own recursion
        if np.isfinite(value):
            last, count = last * weight + (1 - weight) * value, count + 1
        expected.append(last / (1 - weight**count))
    np.testing.assert_allclose(lines.smoothed(values, weight), expected)
    assert lines.smoothed(values, 0.0) is values


def test_thinning_keeps_the_ends_and_every_spike() -> None:
    rng = np.random.default_rng(0)
    x, y = np.arange(100_000.0), rng.normal(0, 0.1, 100_000)
    spikes = rng.choice(100_000, 50, replace=False)
    y[spikes] = 9 + rng.random(50)
    kept = lines.thinned(x, y, 400)
    assert len(kept) <= 2 * 400 + 4
    assert {0, 99_999} <= set(kept)
    for part in range(400):  # the slow way
        inside = np.flatnonzero(np.floor((x - x[0]) / (x[-1] - x[0]) * 400) == part)
        shown = y[np.intersect1d(kept, inside)]
        assert (shown.min(), shown.max()) == (y[inside].min(), y[inside].max())


def test_few_points_and_equal_places_are_kept() -> None:
    assert lines.thinned(np.arange(5.0), np.ones(5), 10).tolist() == [0, 1, 2, 3, 4]
    assert len(lines.thinned(np.zeros(100), np.arange(100.0), 10)) == 2


def test_a_million_values_become_a_chart_at_once() -> None:
    steps = list(range(1_000_000))
    values = np.random.default_rng(0).normal(1, 0.1, 1_000_000)
    values[765_432] = 50.0
    run = run_of(loss_train=(steps, values))
    start = time.perf_counter()
    frame = lines.lines([run], "loss", View(smoothing=0.9))
    assert time.perf_counter() - start < 3  # some .2 s on an idle machine
    assert len(frame) < 5000
    assert (frame.loc[frame["value"] == 50.0, "x"] == 765_432).all()
    near = lines.lines([run], "loss", View(window=(765_000, 765_999)))
    assert len(near) == 1000  # every value


def test_axes_agree_with_the_log() -> None:
    run = run_of(loss_train=(list(range(10)), [1.0] * 10), loss_validation=([4, 9], [1.0, 1.0]))
    assert lines.axes_of([run]) == ["step", "epoch", "time"]
    np.testing.assert_allclose(lines.positions(run, "loss/train", "time"), 2 * np.arange(10))
    epochs = lines.positions(run, "loss/train", "epoch")
    assert (epochs[0], epochs[4], epochs[9]) == (0, 1, 2)
    assert (np.diff(epochs) > 0).all()
    counted = run_of(loss_train=([0, 1], [1.0, 1.0]))
    assert lines.axes_of([counted]) == ["step", "time"]


def test_what_is_no_number_is_shown_as_lost_and_logarithms_leave_out_the_rest() -> None:
    run = run_of(loss_train=([0, 1, 2, 3], [1.0, np.nan, -1.0, np.inf]))
    frame = lines.lines([run], "loss", View())
    assert frame.loc[frame["kind"] == "lost", "x"].tolist() == [1, 3]
    assert frame.loc[frame["kind"] == "raw", "value"].tolist() == [1.0, -1.0]
    log = lines.lines([run], "loss", View(log_y=True))
    assert log.loc[log["kind"] == "raw", "value"].tolist() == [1.0]
    assert lines.lines([run], "accuracy", View()).empty


def test_the_best_point_is_of_validation_where_there_is_one() -> None:
    run = run_of(
        loss_train=([0, 1, 2], [3.0, 2.0, 1.0]),
        loss_validation=([1, 2], [np.nan, 2.5]),
        accuracy_train=([0, 1, 2], [0.1, 0.9, 0.5]),
    )
    best = lines.best_of(run, "loss")
    assert best is not None
    assert (best.tag, best.step, best.value) == ("loss/validation", 2, 2.5)
    best = lines.best_of(run, "accuracy", "time")
    assert best is not None
    assert (best.split, best.step, best.x) == ("training", 1, 2.0)
    assert lines.best_of(run, "lr") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("made up: learns", "curve.healthy"),
        ("made up: overfits", "curve.overfitting"),
        ("made up: breaks", "curve.not_finite"),
    ],
)
def test_made_up_runs_are_called_what_they_are(name: str, said: str) -> None:
    assert name in made_up_runs()
    run = made_up(name)
    assert diagnose(run.frame(), run.roles)[0].code == said
    assert len(run.histograms) > 0
