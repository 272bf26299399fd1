"""The page of the gradient flow, run without a browser."""

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

PAGE = "pages/debug_training/gradient_flow.py"
TRAINING = "an experiment's training"

OpenPage = Callable[..., AppTest]


def text(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.success, app.code)
    return "\n".join(element.value for kind in kinds for element in kind)


def case_of(fault: str) -> str:
    return next(f"demo/{name}" for name, card in DEMO_EXPERIMENTS.items() if card.fault == fault)


def test_a_healthy_model_is_told_so(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    assert "Nothing is wrong" in app.success[0].value
    assert "The gradient reaches every layer" in text(app)
    assert [tab.label for tab in app.tabs] == [
        *("How to read this", "Gradient to weight", "By layer", "Table", "Take away")
    ]
    app.session_state["more"] = "Table"
    app.run()
    shown = app.dataframe[0].value
    assert shown["parameter"].tolist()[0] == "stem.0.weight"
    assert set(shown["state"]) == {"reached"}


def test_class_and_mode_change_the_loss(open_page: OpenPage) -> None:
    said = []
    for towards, mode in (("the predicted class", "evaluation"), ("circle", "evaluation"), ("circle", "training")):
        app = open_page(PAGE, towards=towards, mode=mode, more="Take away")
        said.append(next(caption.value for caption in app.caption if caption.value.startswith("Cross-entropy")))
        assert ("[0]" in app.code[0].value, "training=True" in app.code[0].value) == (
            towards == "circle",
            mode == "training",
        )
    assert len(set(said)) == 3


def test_what_can_be_taken_away_is_what_the_library_gives(open_page: OpenPage, downloads: dict[str, Any]) -> None:
    app = open_page(PAGE, towards="heart", more="Take away")
    model = fv.load_model("demo/shapes_cnn")
    images = model.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image)
    expected = fv.gradient_flow(model, images, [model.class_names.index("heart")])
    rows = list(csv.DictReader(io.StringIO(downloads["gradient_flow_demo_shapes_cnn.csv"]().decode())))
    assert [row["parameter"] for row in rows] == expected.frame()["parameter"].tolist()
    np.testing.assert_allclose([float(row["norm"]) for row in rows], expected.frame()["norm"], rtol=1e-3)
    assert json.loads(downloads["gradient_flow_demo_shapes_cnn.json"]())["loss"] == pytest.approx(
        expected.loss, rel=1e-3
    )
    settings = json.loads(downloads["gradient_flow_demo_shapes_cnn_settings.json"])
    assert settings["target"] == model.class_names.index("heart")
    exec(compile(app.code[0].value, "snippet", "exec"), {})


@pytest.mark.usefixtures("at_once")
def test_a_healthy_experiment_trains(open_page: OpenPage, capsys: pytest.CaptureFixture[str]) -> None:
    app = open_page(PAGE, flow=TRAINING, experiment="demo/healthy_cnn", steps="8")
    assert "Nothing is wrong" in app.success[0].value
    assert "8 batches, 8 steps of the optimiser." in text(app)
    shown = {
        "Ledger": "**11** parameters in the model, **11** of them in the optimiser",
        "First batch": "of 32 pictures, in training mode, before any step",
        "Gradient to weight": "Times the learning rate",
        "By layer": "",
        "Take away": "fv.gradient_history",
        "How to read this": "The ledger",
    }
    assert {tab.label for tab in app.tabs} == set(shown)
    for tab, expected in shown.items():
        app.session_state["more"] = tab
        app.run()
        assert not app.exception, (tab, app.exception)
        assert expected in text(app), tab
    app.session_state["more"] = "Take away"
    app.run()
    exec(compile(app.code[0].value, "snippet", "exec"), {})
    assert "gradient.healthy" in capsys.readouterr().out


@pytest.mark.usefixtures("at_once")
def test_a_forgotten_group_stands_out_in_the_ledger(open_page: OpenPage) -> None:
    app = open_page(PAGE, flow=TRAINING, experiment=case_of("only_head_in_optimizer"), steps="8", more="Ledger")
    assert "1 thing is wrong" in app.error[0].value
    assert "The optimiser does not hold all that should learn" in text(app)
    assert len(app.dataframe[0].value) == 11
    app.toggle(key="odd").set_value(True).run()
    odd = app.dataframe[0].value
    assert odd["parameter"].tolist() == [f"{place}.{name}" for place, name in _TRUNK]
    assert not odd["moved"].any()


_TRUNK = [(0, "weight"), *((1, n) for n in ("weight", "bias")), (4, "weight"), *((5, n) for n in ("weight", "bias"))]
_TRUNK += [(8, "weight"), *((9, n) for n in ("weight", "bias"))]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", ["dead_relus", "learning_rate_too_high"])
def test_nothing_to_draw_is_no_error(open_page: OpenPage, fault: str) -> None:
    for shown in ("gradient ‖g‖", "update ‖Δw‖/‖w‖"):
        app = open_page(PAGE, flow=TRAINING, experiment=case_of(fault), steps="8", shown=shown, log="true")
        assert app.error and not app.exception
        app.session_state["more"] = "First batch"
        app.run()
        assert not app.exception


def test_an_experiment_waits_for_its_start(open_page: OpenPage) -> None:
    app = open_page(PAGE, flow=TRAINING)
    assert [button.label for button in app.button if button.label.startswith("Train")] == ["Train and watch"]
    assert "Healthy:" in text(app)
    assert not app.tabs
