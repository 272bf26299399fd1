"""CSV and JSON lines, as the libraries write them; and what names mean."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featviz_core as fv
from featviz_core.errors import RunError
from featviz_core.runs import roles_of
from tests.runs.logs import plain_run

KERAS = "epoch;accuracy;loss;val_accuracy;val_loss;learning_rate\n0;0.5;1.5;0.4;1.6;0.001\n1;0.6;nan;0.5;1.3;0.001\n"
LIGHTNING = "epoch,lr-SGD,step,train_loss_step,val_loss\n0,0.1,9,0.5,\n0,0.1,19,inf,\n0,,19,,0.7\n"
WANDB = (
    '"Step","sun-1 - val/loss","sun-1 - val/loss__MIN","sun-1 - val/loss__MAX"\n"0","1.5","1.5","1.5"\n'
    '"5","1.25","1.2","1.3"\n'
)
TENSORBOARD = "Wall time,Step,Value\n1700000000.5,3,0.25\n1700000001.5,4,0.125\n"
LINES = '{"step": 0, "loss": {"train": 0.5}, "note": "a"}\n{"step": 2, "loss": {"train": NaN, "val": "inf"}}\n'

CASES = {
    "keras.csv": (KERAS, {"val_loss": ([0, 1], [1.6, 1.3]), "loss": ([0, 1], [1.5, math.nan])}, "val_loss"),
    "metrics.csv": (LIGHTNING, {"train_loss_step": ([9, 19], [0.5, math.inf]), "val_loss": ([19], [0.7])}, "val_loss"),
    "wandb_export.csv": (WANDB, {"val/loss": ([0, 5], [1.5, 1.25]), "val/loss__MIN": ([5], [1.2])}, "val/loss"),
    "run-a-tag-loss_val.csv": (TENSORBOARD, {"loss_val": ([3, 4], [0.25, 0.125])}, "loss_val"),
    "log.jsonl": (LINES, {"loss/train": ([0, 2], [0.5, math.nan]), "loss/val": ([2], [math.inf])}, "loss/val"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_libraries_write(name: str) -> None:
    text, expected, validation_loss = CASES[name]
    run = fv.read_run({name: text.encode("utf-8-sig")})
    for tag, (steps, values) in expected.items():
        assert run.scalars[tag].steps.tolist() == steps
        np.testing.assert_array_equal(run.scalars[tag].values, values)
    assert run.tags("loss", "validation") == [validation_loss]
    assert not run.damage
    assert run.name == name


def test_the_runs_that_weights_and_biases_exports_beside_each_other_are_told_apart() -> None:
    def exported(metric: str, *rows: str) -> bytes:
        columns = [f"{run} - {metric}{end}" for run in ("train-a", "b - 2") for end in ("", "__MIN", "__MAX")]
        return "\n".join([",".join(f'"{name}"' for name in ("Step", *columns)), *rows]).encode()

    loss = exported("val/loss", "0,3,3,3,,,", "5,2,1,2,4,4,4")
    rate = exported("lr", "0,0.1,0.1,0.1,0.2,0.2,0.2")
    first, second = sorted(fv.read_runs({"loss.csv": loss, "rate.csv": rate}), key=lambda run: run.name)[::-1]
    assert (first.name, second.name) == ("train-a", "b - 2")
    assert first.scalars["val/loss"].steps.tolist() == [0, 5]
    assert first.scalars["val/loss__MIN"].values.tolist() == [1]
    assert first.tags("loss", "validation") == ["val/loss"]
    assert first.scalars["lr"].values.tolist() == [0.1]
    assert not first.damage


def test_an_exported_run_beside_the_same_run_in_a_folder_keeps_its_own_name(tmp_path: Path) -> None:
    plain_run(tmp_path / "a", steps=2)
    (tmp_path / "loss.csv").write_text("Step,a - loss,a - loss__MAX,b - loss,b - loss__MAX\n0,1,1,2,2\n")
    assert [run.name for run in fv.read_runs(tmp_path)] == ["a", "a (exported)", "b"]


def test_times_are_read() -> None:
    run = fv.read_run({"run-a-tag-loss.csv": TENSORBOARD.encode()})
    assert run.scalars["loss"].wall_times.tolist() == [1700000000.5, 1700000001.5]
    run = fv.read_run({"a.csv": b"timestamp,loss\n2026-01-02T03:04:05+00:00,1\n"})
    assert run.scalars["loss"].wall_times.tolist() == [pd.Timestamp("2026-01-02T03:04:05Z").timestamp()]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1).map(lambda tag: f"x{tag}x"),
        st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(width=64)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_a_frame_comes_back_from_csv_and_lines_whatever_the_names(content: dict[str, list[tuple[int, float]]]) -> None:
    rows = [(step, tag, value) for tag, series in content.items() for step, value in series]
    frame = pd.DataFrame(rows, columns=["step", "tag", "value"])
    for name, data in {
        "a.csv": frame.to_csv(index=False),
        "a.jsonl": "".join(f'{{"step": {step}, {json.dumps(tag)}: {_json(value)}}}\n' for step, tag, value in rows),
    }.items():
        run = fv.read_run({name: data.encode()})
        assert not run.damage, name
        for tag, series in content.items():
            found = run.scalars[tag]
            np.testing.assert_array_equal(found.values, [value for _, value in series])
            # A step is read as a number: beyond 2**53 to the nearest that a float can be.
            assert found.steps.tolist() == [int(float(step)) for step, _ in series]


def _json(value: float) -> str:
    return "NaN" if math.isnan(value) else repr(value).replace("inf", "Infinity")


def test_lines_that_cannot_be_used_are_told_with_their_place() -> None:
    text = "step,loss\n1,0.5\n2,0.4,9\n3,x\n4,0.3\nlater,0.2\n5,0.1"
    run = fv.read_run({"a.csv": text.encode()})
    assert run.scalars["loss"].steps.tolist() == [1, 4, 5]
    first, second = run.damage
    assert (first.place, first.length, first.before, first.after) == (text.index("2,0.4"), len("2,0.4,9\n3,x\n"), 2, 2)
    assert second.place == text.index("later")
    assert "is no number" in second.reason
    assert run.findings[0].evidence["places"] == 2
    run = fv.read_run({"a.jsonl": b'{"loss": 1}\n{"loss": 2\n[1]\n{"loss": 3}\n'})
    assert run.scalars["loss"].values.tolist() == [1, 3]
    assert [(one.place, one.length) for one in run.damage] == [(12, 15)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.wandb", "a.zip"])
@pytest.mark.parametrize("data", [b"", b"words\nmore words\n", b"\xff\xfe\0\0", b"[1, 2]\n", b"{" * 5000])
def test_what_is_no_log_is_said_to_be_none(name: str, data: bytes) -> None:
    with pytest.raises(RunError):
        fv.read_run({name: data})


def test_a_table_that_grows_and_one_that_is_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,train_loss\n0,1\n1,0.")
    follower = fv.follow_run(file)
    assert follower.update().scalars["train_loss"].steps.tolist() == [0]
    file.write_text("step,train_loss\n0,1\n1,0.5\n")
    assert follower.update().scalars["train_loss"].values.tolist() == [1, 0.5]
    file.write_text("step,train_loss,val_loss\n0,1,\n1,0.5,\n2,,0.75\n")
    run = follower.update(finished=True)
    assert run.scalars["train_loss"].values.tolist() == [1, 0.5]
    assert run.scalars["val_loss"].steps.tolist() == [2]


# Names

LOSS, ACCURACY = ("loss", "train"), ("accuracy", "validation")
NAMES = {
    **dict.fromkeys(("Loss/train", "train_loss", "loss", "train/loss", "trainLoss", "Train Loss", "epoch_loss"), LOSS),
    **dict.fromkeys(("train_loss_step", "train_loss_epoch", "loss_train", "training.loss", "nll_train"), LOSS),
    **dict.fromkeys(
        ("val/acc", "val_accuracy", "Accuracy/validation", "valid_acc", "eval/accuracy", "val_top1"), ACCURACY
    ),
    **dict.fromkeys(
        ("lr", "lr-SGD", "lr-AdamW/pg1", "learning_rate", "LearningRate", "train/lr", "Learning Rate"), ("lr", "")
    ),
    **dict.fromkeys(("epoch", "Epoch", "train/epochs"), ("epoch", "")),
    "test_loss": ("loss", "test"),
    **dict.fromkeys(
        ("gradient/loss_head.weight", "lr-SGD-momentum", "val_loss_max", "f1", "time/epoch", "loss_scale"), None
    ),
}


@pytest.mark.parametrize(("name", "role"), NAMES.items())
def test_names_are_recognised(name: str, role: tuple[str, str] | None) -> None:
    found = roles_of([name]).get(name)
    assert (found and (found.metric, found.split)) == role


def test_the_plainest_name_plays_the_role_and_names_can_be_given_by_hand() -> None:
    tags = ["train/loss", "train/box_loss", "train/cls_loss", "net7/val_loss", "elbo"]
    assert set(roles_of(tags)) == {"train/loss", "net7/val_loss"}
    found = roles_of(tags, {"elbo": "loss/train", "net7/val_loss": None, "train/box_loss": fv.Role("box")})
    assert found == {"elbo": fv.Role("loss", "train"), "train/box_loss": fv.Role("box")}
    with pytest.raises(RunError, match="cannot be understood"):
        roles_of(tags, {"elbo": "loss/sometimes"})


def test_without_a_known_name_the_run_says_how_to_give_one() -> None:
    run = fv.read_run({"a.csv": b"step,elbo\n0,1\n"})
    assert [finding.code for finding in run.findings] == ["run.no_loss"]
    assert not fv.read_run({"a.csv": b"step,elbo\n0,1\n"}, names={"elbo": "loss/train"}).findings
