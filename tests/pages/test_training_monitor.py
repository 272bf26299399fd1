"""The page of the training monitor, run without a browser."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from torch import nn
from torch.optim import SGD

import featviz_core as fv
from featviz_core import run_charts
from featviz_core.findings import Finding
from featviz_core.techniques.training_monitor.lines import View, lines
from pages._ui import launch
from pages.debug_training._training_monitor import sources, view

PAGE = "pages/debug_training/training_monitor.py"

OpenPage = Callable[..., AppTest]


def text(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.success, app.code)
    return "\n".join(element.value for kind in kinds for element in kind)


def test_a_visitor_sees_a_run_and_what_it_says(open_page: OpenPage, downloads: dict[str, Any]) -> None:
    app = open_page(PAGE)
    assert "1 thing is wrong" in app.error[0].value
    assert "**Overfitting**" in text(app)
    assert len(app.get("vega_lite_chart")) == 3
    app.session_state["more"] = "Names"
    app.run()
    roles = dict(zip(app.dataframe[0].value["name"], app.dataframe[0].value["taken for"], strict=True))
    assert roles["loss/validation"] == "loss/validation"
    assert roles["gradient/stem.weight"] == "none of these"
    app.session_state["more"] = "Take away"
    app.run()
    assert downloads["made up: overfits.csv"]().startswith(b"step,wall_time,tag,value\n")


def test_how_to_write_a_run_is_shown_and_works(open_page: OpenPage, tmp_path: Path) -> None:
    (shown,) = open_page(PAGE, look_at="your files").code
    model = nn.Linear(2, 2)
    known = {"model": model, "optimizer": SGD(model.parameters(), 0.1), "epochs": 2, "loader": [(0, 0)] * 3}
    known |= dict.fromkeys(("loss", "accuracy", "validation_loss", "validation_accuracy"), 0.5)
    exec(shown.value.replace("runs/first", str(tmp_path / "run")), known)
    run = fv.read_run(tmp_path / "run")
    assert len(run.scalars["loss/train"]) == 6
    assert len(run.scalars["accuracy/validation"]) == 2


def test_an_upload_is_read_and_named_by_hand(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(PAGE, look_at="your files")
    assert not app.get("vega_lite_chart")
    lines = [f"{step},{2 / (1 + step / 20)},{0.5}" for step in range(400)]
    app.file_uploader(key="logs").upload(
        "mine.csv", "\n".join(["step,criterion,lr", *lines]).encode(), "text/csv"
    ).run()
    assert "Nothing to draw: no tag is known as loss" in text(app)
    editor = st.data_editor

    def edited(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:  # AppTest cannot type into it
        editor(frame, **options)
        return frame.assign(**{"taken for": frame["taken for"].mask(frame["name"] == "criterion", "loss/train")})

    monkeypatch.setattr(st, "data_editor", edited)
    app.session_state["more"] = "Names"
    app.run()
    assert not app.exception, app.exception
    assert "Nothing to draw: no tag is known as loss" not in text(app)
    assert "90 % of the improvement" in text(app)


@pytest.fixture
def started_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The app as `-- --runs FOLDER` starts it."""
    launch.options.cache_clear()
    monkeypatch.setenv("FEATVIZ_RUNS", str(tmp_path))
    yield tmp_path
    launch.options.cache_clear()


def test_the_folder_of_runs_comes_from_the_command_line_and_damage_is_told(
    open_page: OpenPage, started_with: Path
) -> None:
    for name in ("first", "second"):
        with fv.TrainingMonitor(started_with / name) as monitor:
            for step in range(50):
                monitor.update(loss=1 / (step + 1), lr=0.1)
    log = next((started_with / "first").glob("*tfevents*"))
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    app = open_page(PAGE, look_at="your runs folder")
    assert "Part of the log cannot be read" in text(app)
    assert "bytes from byte" in text(app)
    assert app.button_group[1].options == ["first", "second"] or "second" in str(app.button_group[1].options)


def test_what_is_written_into_the_folder_meanwhile_is_shown(
    open_page: OpenPage, started_with: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_POLL_SECONDS", 0.0)  # all that was written is seen at once
    with fv.TrainingMonitor(started_with / "b") as monitor:
        monitor.update(loss=1.0)
        monitor.validate(loss=1.0)
    app = open_page(PAGE, look_at="your runs folder")
    assert "best 1 at step 0" in text(app)
    with fv.TrainingMonitor(started_with / "a") as other:
        other.update(loss=9.0)
    with fv.TrainingMonitor(started_with / "b") as again:
        again.load_state_dict(monitor.state_dict())
        again.update(loss=0.5)
        again.validate(loss=0.5)
    app.run()
    assert "best 0.5 at step 1" in text(app)
    assert app.button_group[1].value == ["b"]


def test_a_run_that_cannot_be_read_says_why_beside_the_others(
    open_page: OpenPage, started_with: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb.proto", None)
    (started_with / "a.wandb").write_bytes(b"x")
    with fv.TrainingMonitor(started_with / "b") as monitor:
        monitor.update(loss=1.0)
    app = open_page(PAGE, look_at="your runs folder")
    assert "a.wandb cannot be read without wandb" in text(app)
    assert "pip install wandb" in text(app)
    app.button_group[1].set_value(["b"]).run()
    assert not app.exception, app.exception
    assert "best 1 at step 0" in text(app)


def test_the_folder_is_not_offered_without_the_option(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    assert "your runs folder" not in str(app.button_group[0].options)


@pytest.mark.usefixtures("at_once")
def test_the_rate_test_marks_ones_own_rate_and_the_suggested_one(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[pd.DataFrame] = []
    chart = run_charts.rate_test
    monkeypatch.setattr(run_charts, "rate_test", lambda frame, marks: drawn.append(marks) or chart(frame, marks))
    app = open_page(PAGE, look_at="learning-rate test", experiment="demo/fine_tuning", rate_steps="80")
    assert "Your learning rate fits" in text(app)
    labels = dict(zip(drawn[0]["label"].str.partition(":")[0], drawn[0]["rate"], strict=True))
    assert labels["yours"] == 3e-4
    assert labels["suggested"] < labels["too high from here"]


def test_a_run_keeps_its_colour_whatever_is_shown_beside_it(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    runs = next(group for group in app.button_group if "made up: breaks" in str(group.options))
    found = []
    for shown in (["made up: breaks", "made up: learns"], ["made up: overfits", "made up: learns"]):
        runs.set_value(shown).run()
        assert not app.exception, app.exception
        spec = app.get("vega_lite_chart")[0].proto.spec
        scale = next(scale for scale in scales(json.loads(spec)) if "made up: learns" in scale["domain"])
        found.append(dict(zip(scale["domain"], scale["range"], strict=True)))
    assert found[0]["made up: learns"] == found[1]["made up: learns"]
    assert len({found[1][name] for name in ("made up: learns", "made up: overfits", "made up: breaks")}) == 3


def test_what_a_finding_rests_on_is_marked_be_it_a_single_step() -> None:
    run = fv.read_run({"a.csv": b"step,loss\n" + b"".join(b"%d,%d\n" % (step, 9 - step) for step in range(9))})
    told = [Finding("x", kind, kind, "", "loss", {"steps": (4, 4)}) for kind in ("warn", "note", "ok")]
    bands = view._bands([view.Opened(run, tuple(told))], "loss", View())
    assert bands.to_dict("list") == {
        "from": [4, 4, 4],
        "to": [4, 4, 4],
        "severity": ["warn", "note", "ok"],
        "title": ["warn", "note", "ok"],
    }
    chart = run_charts.curves(
        lines([run], "loss", View()), title="loss", by="run", colors={"a.csv": "#000"}, bands=bands
    )
    first = chart.to_dict()["layer"][0]
    assert first["encoding"]["stroke"]["field"] == "severity"
    assert first["mark"]["strokeWidth"] > 0


def scales(spec: Any) -> Iterator[dict[str, Any]]:
    """Every scale with a domain in a chart."""
    if isinstance(spec, dict):
        if isinstance(spec.get("domain"), list) and "range" in spec:
            yield spec
        for part in spec.values():
            yield from scales(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from scales(part)
