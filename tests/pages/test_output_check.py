"""The page of the output check, run without a browser."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import featviz_core as fv
from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.demo.samples import SAMPLES
from featviz_core.images import read_picture

PAGE = "pages/debug_training/output_check.py"
TABS = ["How to read this", "Scores", "Confidence", "By layer", "Take away"]

OpenPage = Callable[..., AppTest]


def text(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.success, app.code, app.subheader)
    return "\n".join(element.value for kind in kinds for element in kind)


def test_a_healthy_model_is_told_so(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    assert "Nothing wrong was found" in app.success[0].value and not app.error and not app.warning
    tables = [table.value for table in app.table]
    assert tables[1]["value"].tolist()[0] == str((len(SAMPLES), 8))
    assert len(tables[0]) >= 7 and set(tables[0].iloc[:, 0]) == {":green[:material/check:]"}
    assert [tab.label for tab in app.tabs] == TABS


@pytest.mark.parametrize("source", ["pictures", "Shapes with labels"])
def test_every_part_opens(open_page: OpenPage, source: str) -> None:
    shown = {
        "How to read this": "Healthy logits",
        "Scores": "8 of 8 classes",
        "Confidence": "where there is nothing to see",
        "Against labels": "Which class is taken for which",
        "By layer": "Every layer's output is finite",
        "Take away": "fv.check_model_output",
    }
    app = open_page(PAGE, source=source)
    assert ("Against labels" in [tab.label for tab in app.tabs]) == (source != "pictures")
    for tab in [tab.label for tab in app.tabs]:
        app.session_state["more"] = tab
        app.run()
        assert not app.exception
        assert shown[tab] in text(app), tab


def test_labels_of_other_classes_are_not_compared(open_page: OpenPage) -> None:
    app = open_page(PAGE, source="Shapes with labels", model="squeezenet1_1")
    assert "squeezenet1_1 has other classes" in app.info[0].value
    assert not app.tabs and "Healthy logits" in text(app)


def test_what_clever_hans_misses(open_page: OpenPage) -> None:
    app = open_page(PAGE, source="Shapes with labels", model="demo/clever_hans")
    assert "1 warning" in app.warning[0].value
    assert "never recognised" in app.warning[1].value and "`star`" in app.warning[1].value


def test_what_can_be_taken_away_is_what_the_library_gives(open_page: OpenPage, downloads: dict[str, Any]) -> None:
    app = open_page(PAGE, more="Take away")
    model = fv.load_model("demo/shapes_cnn")
    images = model.preprocess(*(read_picture(sample.path.read_bytes()).image for sample in SAMPLES))
    expected = fv.check_model_output(model, images)
    content = json.loads(downloads["output_check_demo_shapes_cnn.json"]())
    np.testing.assert_allclose(content["logits"], expected.logits, atol=1e-4)
    assert content["findings"][0]["code"] == "output.healthy"
    rows = list(csv.DictReader(io.StringIO(downloads["output_check_demo_shapes_cnn_answers.csv"]().decode())))
    assert [row["predicted"] for row in rows] == expected.frame()["predicted"].tolist()
    assert [row["name"] for row in rows] == [sample.title for sample in SAMPLES]
    assert b"trunk_output.block1" in downloads["output_check_demo_shapes_cnn_layers.csv"]()
    exec(compile(app.code[0].value, "snippet", "exec"), {})


def test_the_code_for_labelled_pictures_runs(open_page: OpenPage, capsys: pytest.CaptureFixture[str]) -> None:
    app = open_page(PAGE, source="Shapes with labels", more="Take away")
    exec(compile(app.code[0].value, "snippet", "exec"), {})
    assert "output.healthy" in capsys.readouterr().out


@pytest.mark.usefixtures("at_once")
def test_an_experiment_is_checked_on_its_own_data(open_page: OpenPage, capsys: pytest.CaptureFixture[str]) -> None:
    app = open_page(PAGE, source="an experiment", experiment="demo/healthy_cnn", more="Take away")
    assert "Nothing wrong was found" in app.success[0].value
    assert "The experiment's validation data" in text(app)
    exec(compile(app.code[0].value, "snippet", "exec"), {})
    assert "output.batchnorm_fresh" in capsys.readouterr().out
    app.session_state["more"] = "Against labels"
    softmax = next(name for name, card in DEMO_EXPERIMENTS.items() if card.fault == "softmax_first")
    app.selectbox(key="experiment").set_value(f"demo/{softmax}").run()
    assert not app.exception
    assert any("softmax is already applied" in error.value for error in app.error)


def test_an_experiment_waits_for_its_start(open_page: OpenPage) -> None:
    app = open_page(PAGE, source="an experiment")
    assert [button.label for button in app.button if button.label.startswith("Check")] == [
        "Check the experiment's output"
    ]
    assert "Healthy logits" in text(app) and not app.tabs
