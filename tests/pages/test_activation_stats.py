"""The page of the activation statistics, run without a browser."""

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

PAGE = "pages/look_inside/activation_stats.py"
TABS = ["How to read this", "Compare", "Top pictures", "All layers", "Take away"]
MEASURES = ["distribution", "all histograms", "spread", "dead and zero", "variance ratio"]

OpenPage = Callable[..., AppTest]


def text(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.success, app.code)
    return "\n".join(element.value for kind in kinds for element in kind)


def test_a_healthy_model_is_told_so(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    assert f"**Healthy activations** in 21 layers, for {len(SAMPLES)} pictures." in app.success[0].value
    assert not app.error and not app.warning
    assert [tab.label for tab in app.tabs] == TABS


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("source", ["all pictures", "this picture"])
def test_every_chart_is_drawn(open_page: OpenPage, measure: str, source: str) -> None:
    app = open_page(PAGE, source=source, measure=measure, of="stem.0")
    charts = [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]
    assert len(charts) == 3, "all layers, the layer's histogram, its channels"
    assert app.selectbox(key="of").value == "stem.0"
    assert "24 channels" in text(app)


def test_kinds_of_layers_can_be_chosen(open_page: OpenPage) -> None:
    app = open_page(PAGE, model="demo/shapes_vit")
    app.session_state["kinds"] = ["attention", "normalisation"]
    app.run()
    assert not app.exception
    assert len(app.selectbox(key="of").options) == 6 + 4 + 2 * 6 + 1
    app.session_state["kinds"] = ["activation"]
    app.run()
    assert "GELU saturated" in [metric.label for metric in app.metric]


def test_a_model_without_such_layers_shows_the_others(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    app.session_state["kinds"] = ["attention"]
    app.run()
    assert "no such layer" in app.info[0].value
    assert "stem.0" in app.selectbox(key="of").options


@pytest.mark.parametrize("what", ["fresh weights", "the other mode", "another picture", "other weights"])
def test_every_comparison_is_drawn(open_page: OpenPage, what: str) -> None:
    app = open_page(PAGE, more="Compare", compare=what)
    if what == "other weights":
        assert len(app.dataframe) == 0
        app.selectbox(key="other weights").set_value("demo/clever_hans").run()
    assert not app.exception
    assert "They part at `stem.0`" in text(app) or what == "the other mode"
    frame = app.dataframe[0].value
    assert len(frame) == 21 and np.isfinite(frame["apart"]).all()


def test_top_pictures_start_with_any_channel(open_page: OpenPage) -> None:
    app = open_page(PAGE, more="Top pictures", of="stem.0")
    assert "of 68 to which each channel of `stem.0`" in text(app)
    app.number_input(key="first").set_value(20).run()
    captions = [image.proto.imgs[0].caption for image in app.get("image")]
    captions = [caption for caption in captions if caption.startswith("channel")]
    assert [caption.partition(":")[0] for caption in captions] == [f"channel {n}" for n in range(20, 24)]
    app.selectbox(key="of").set_value("fc").run()
    assert not app.exception and app.number_input(key="first").value == 0, "fc has eight"


def test_what_can_be_taken_away_is_what_the_library_gives(open_page: OpenPage, downloads: dict[str, Any]) -> None:
    app = open_page(PAGE, more="Take away", of="fc")
    model = fv.load_model("demo/shapes_cnn")
    images = model.preprocess(*(read_picture(sample.path.read_bytes()).image for sample in SAMPLES))
    expected = fv.activation_stats(model, images)
    rows = list(csv.DictReader(io.StringIO(downloads["activation_stats_demo_shapes_cnn.csv"]().decode())))
    np.testing.assert_allclose([float(row["std"]) for row in rows], expected.frame()["std"], rtol=1e-4)
    channels = downloads["activation_stats_demo_shapes_cnn_fc_channels.csv"]().decode()
    assert len(channels.splitlines()) == 9
    content = json.loads(downloads["activation_stats_demo_shapes_cnn.json"]())
    assert content["findings"][0]["code"] == "activation.healthy"
    exec(compile(app.code[0].value, "snippet", "exec"), {})


def test_an_experiment_waits_for_its_start(open_page: OpenPage) -> None:
    app = open_page(PAGE, source="an experiment")
    assert "Look at the experiment's layers" in [button.label for button in app.button]
    assert "Each layer is one column" in text(app) and not app.tabs


@pytest.mark.usefixtures("at_once")
def test_dead_layers_of_an_experiment_are_found_and_opened(
    open_page: OpenPage, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = next(name for name, card in DEMO_EXPERIMENTS.items() if card.fault == "dead_relus")
    app = open_page(PAGE, source="an experiment", experiment=f"demo/{dead}", batches="1", more="Take away")
    assert "**1 thing is wrong**" in app.error[0].value
    assert "Dead channels in 3 layers** :gray[· 0, 3, 6]" in text(app)
    assert app.selectbox(key="of").value == "0", "the first that is sick"
    exec(compile(app.code[0].value, "snippet", "exec"), {})
    assert "activation.dead" in capsys.readouterr().out


@pytest.mark.usefixtures("at_once")
def test_an_experiment_is_compared_with_itself(open_page: OpenPage) -> None:
    link = {"source": "an experiment", "batches": "1", "more": "Compare"}
    app = open_page(PAGE, experiment="demo/case_1", compare="the other mode", **link)
    assert "No layer differs" in app.success[0].value, "it has neither BatchNorm nor dropout"
    app = open_page(PAGE, experiment="demo/healthy_cnn", **link)
    assert "They part at" in text(app), "after 30 steps"
