"""The diagnosis of training curves: right on curves of every kind, quiet on healthy ones, and marked where it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from featviz_core.diagnosis import curves_of, diagnose
from featviz_core.diagnosis.curves import curve
from featviz_core.diagnosis.learning import extrapolated
from featviz_core.diagnosis.stability import turns
from tests.curve_kinds import HEALTHY, KINDS, LN8, ROLES, STEPS, Kind, T, decay, noisy

BY_NAME = {kind.name: kind for kind in KINDS}


def codes(frame: pd.DataFrame) -> dict[str, str]:
    return {finding.code: finding.severity for finding in diagnose(frame, ROLES)}


def frame_of(**tags: np.ndarray) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"step": np.arange(1, len(values) + 1), "tag": tag.replace("_", "/", 1), "value": values})
        for tag, values in tags.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_curve_is_called_by_its_name(kind: Kind) -> None:
    found = codes(kind.frame(seed=0))
    alarms = {code for code, severity in found.items() if severity in ("warn", "fail")}
    if kind.expected == HEALTHY:
        assert not alarms
        assert "curve.healthy" in found
    else:
        assert kind.expected in found
        assert alarms <= {kind.expected, *kind.also}


def test_at_least_thirty_kinds_are_asked() -> None:
    assert len(KINDS) >= 30
    assert sum(kind.expected == HEALTHY for kind in KINDS) >= 10


@pytest.mark.parametrize("factor", [0.01, 100])
@pytest.mark.parametrize("name", ["plain run", "loses its way", "overfits", "spikes", "slow swings"])
def test_the_unit_of_the_loss_does_not_matter(name: str, factor: float) -> None:
    frame = BY_NAME[name].frame(seed=1)
    scaled = frame.assign(value=frame["value"].where(~frame["tag"].str.startswith("loss"), frame["value"] * factor))
    assert codes(scaled) == codes(frame)


def test_percent_and_the_order_of_rows_do_not_matter() -> None:
    frame = BY_NAME["a wide gap"].frame(seed=0)
    percent = frame.assign(value=frame["value"].where(~frame["tag"].str.startswith("acc"), frame["value"] * 100))
    expected = diagnose(frame, ROLES)
    for other in (percent, frame.sample(frac=1, random_state=0)):
        found = diagnose(other, ROLES)
        assert [finding.code for finding in found] == [finding.code for finding in expected]
        assert found[0].evidence["gap"] == pytest.approx(expected[0].evidence["gap"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "code", "tag", "first", "last"),
    [
        ("turns into nan", "not_finite", "loss/train", 901, STEPS),
        ("some steps are nan", "not_finite", "loss/train", 301, 901),
        ("spikes", "spikes", "loss/train", 401, 1703),
    ],
)
def test_the_place_on_the_curve_is_exact(name: str, code: str, tag: str, first: int, last: int) -> None:
    found = next(f for f in diagnose(BY_NAME[name].frame(seed=0), ROLES) if f.code == f"curve.{code}")
    assert found.where == tag
    assert found.evidence["steps"] == (first, last)
    assert found.remedy


def test_the_turn_of_overfitting_and_the_death_of_the_rate_are_found() -> None:
    overfit = next(f for f in diagnose(BY_NAME["overfits"].frame(seed=0), ROLES) if f.code == "curve.overfitting")
    assert 600 <= overfit.evidence["best_step"] <= 1000  # the validation loss turns between 700 and 900
    killed = next(
        f for f in diagnose(BY_NAME["schedule dies in mid fall"].frame(seed=0), ROLES) if f.code == "curve.rate_killed"
    )
    died = 2.5 * np.log(0.005) / np.log(0.97)
    assert killed.evidence["steps"][0] == pytest.approx(died, abs=2)


def test_one_value_is_no_verdict() -> None:
    loss = decay(T, LN8, 0.1, 300) + 0.0
    loss[-1] = 50.0
    assert "curve.diverged" not in codes(frame_of(loss_train=loss))
    epochs = np.array([1.0, 0.6, 0.5, 0.4, 0.35, 0.33, 0.32, 0.31, 0.3, 0.9])
    assert "curve.overfitting" not in codes(frame_of(loss_validation=epochs, loss_train=epochs))
    lasting = np.array([1.0, 0.6, 0.5, 0.4, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert "curve.overfitting" in codes(frame_of(loss_validation=lasting, loss_train=epochs[::1].clip(0, 0.4)))


def test_a_failure_is_not_followed_by_guesses() -> None:
    found = codes(BY_NAME["turns into nan"].frame(seed=0))
    assert set(found) == {"curve.not_finite"}


def test_no_loss_is_said_and_is_no_error() -> None:
    assert set(codes(frame_of(other=np.arange(5.0)))) == {"curve.no_loss"}
    empty = pd.DataFrame({"step": [], "tag": [], "value": []}).astype({"step": int, "value": float})
    assert set(codes(empty)) == {"curve.no_loss"}


# What it is made of


def test_levels_and_noise_of_a_known_line() -> None:
    rng = np.random.default_rng(0)
    line, sigma = np.linspace(3, 1, 6000), 0.2
    found = curve("x", np.arange(6000), line + rng.normal(0, sigma, 6000))
    assert found is not None
    assert len(found.levels) == 60
    np.testing.assert_allclose(found.levels, line[50::100], atol=4 * found.noise)
    assert found.scatter == pytest.approx(sigma, rel=0.05)
    assert found.noise == pytest.approx(1.25 * sigma / 10, rel=0.05)  # a median of a hundred


def test_few_values_are_their_own_levels() -> None:
    values = np.array([3.0, np.nan, 1.0, 0.5])
    found = curve("x", np.array([4, 3, 2, 1]), values)
    assert found is not None
    np.testing.assert_array_equal(found.levels, [0.5, 1.0, 3.0])
    np.testing.assert_array_equal(found.level_steps, [1, 2, 4])
    assert curve("x", np.arange(2), np.full(2, np.nan)) is None


def test_turns_are_those_that_a_slow_reading_finds() -> None:
    assert turns(np.array([0.0, 1, 0.9, 1, 0, 0.1, 0, 2.0]), 0.5) == [1, 4]
    assert turns(np.linspace(1, 0, 20), 0.2) == []
    wave = np.sin(np.linspace(0, 6 * np.pi, 600))  # three whole waves turn six times
    assert len(turns(wave, 0.5)) == 6
    assert turns(wave + np.random.default_rng(0).normal(0, 0.02, 600), 3.0) == []


def test_an_exponential_is_extrapolated_exactly() -> None:
    a, b, tau = 0.2, 2.0, 700.0
    found = curve("loss/train", T.astype(int), a + b * np.exp(-T / tau))
    assert found is not None
    forecast = extrapolated(found)
    assert forecast is not None
    assert forecast[0] == pytest.approx(a, abs=0.02)
    # Within a hundredth of the whole gain: b·exp(-t/τ) = 0.01·(start - a).
    assert forecast[1] == pytest.approx(tau * np.log(100), rel=0.1)
    straight = curve("loss/train", T.astype(int), 3 - T / STEPS)
    assert straight is not None
    assert extrapolated(straight) is None


def test_the_curve_with_most_values_plays_a_role() -> None:
    rng = np.random.default_rng(0)
    frame = frame_of(loss_train=noisy(rng, decay(T, 2, 1, 100)), loss_epoch=np.array([2.0, 1.0]))
    found = curves_of(frame, {**ROLES, "loss/epoch": ROLES["loss/train"]})
    assert found.train_loss is not None
    assert found.train_loss.tag == "loss/train"
    assert found.by_step


def test_an_even_fall_is_not_blamed_on_the_rate_where_the_steps_are_large_enough() -> None:
    frame = BY_NAME["creeps"].frame(seed=0)
    assert "curve.rate_too_low" in codes(frame)
    looks = np.arange(0, STEPS, 50)
    for size, blamed in ((3e-3, False), (2e-5, True)):
        sizes = pd.DataFrame({"step": looks, "tag": "update/stem.weight", "value": size})
        assert ("curve.rate_too_low" in codes(pd.concat([frame, sizes]))) == blamed


def test_weights_that_do_not_move_are_no_matter_of_the_rate() -> None:
    frame = BY_NAME["plain run"].frame(seed=0)
    looks = np.arange(0, STEPS, 50)
    sizes = [
        pd.DataFrame({"step": looks, "tag": f"update/{name}", "value": size})
        for name, size in (("stem", 0.0), ("trunk", 0.0), ("head", 3e-3))
    ]
    found = {finding.code: finding for finding in diagnose(pd.concat([frame, *sizes]), ROLES)}
    assert found["curve.not_moving"].title.startswith("2 of 3 weights")
    assert "curve.rate_too_low" not in found


def test_steps_that_die_out_after_a_blow_are_not_called_too_small() -> None:
    frame = BY_NAME["wild then flat"].frame(seed=0)
    looks = np.arange(0, STEPS, 50)
    sizes = pd.DataFrame({"step": looks, "tag": "update/stem.weight", "value": 0.7 * np.exp(-looks / 20.0)})
    found = codes(pd.concat([frame, sizes]))
    assert "curve.nothing_learned" in found
    assert "curve.rate_too_low" not in found
