"""Sending what a page shows to a run: what comes out is read back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import featviz_core as fv
from pages._ui import export, launch

OpenPage = Callable[..., AppTest]


@pytest.fixture
def items(monkeypatch: pytest.MonkeyPatch) -> dict[str, export.Items]:
    """What stands behind the buttons that open the dialog, by the name of the run."""
    found: dict[str, export.Items] = {}
    monkeypatch.setattr(export, "button", lambda made, name: found.__setitem__(name, made))
    return found


@pytest.mark.parametrize(
    ("page", "holds"),
    [
        ("look_inside/feature_maps", ("mosaic", "channels/mean", "graph")),
        ("look_inside/class_activation", ("class_activation",)),
        ("look_inside/activation_stats", ("layers/mean", "histogram")),
        ("look_inside/attention_maps", ("heads",)),
        ("debug_training/gradient_flow", ("gradients/norm",)),
        ("debug_training/output_check", ("layers/largest",)),
    ],
)
def test_each_page_sends_a_run(open_page: OpenPage, items: dict[str, Any], page: str, holds: tuple[str, ...]) -> None:
    link = {"model": "demo/shapes_vit"} if "attention" in page else {}
    open_page(f"pages/{page}.py", more="Take away", **link)
    (made,) = items.values()
    run = fv.read_run({"sent.zip": export._packed(made, "sent", None)})
    there = {*run.scalars, *(image.tag for image in run.images)}
    there |= {"graph"} if run.graph else set()
    there |= {"histogram"} if run.logged_histograms else set()
    assert set(holds) <= there, there
    assert run.name == "sent"


def test_the_dialog_offers_a_zip_and_the_folder_of_runs(
    open_page: OpenPage, downloads: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEATVIZ_RUNS", str(tmp_path))
    launch.options.cache_clear()
    app = open_page("pages/debug_training/gradient_flow.py", more="Take away")
    app.button(key="send gradient_flow_demo_shapes_cnn").click().run()
    launch.options.cache_clear()
    assert not app.exception, app.exception
    assert f"Write into {tmp_path.name}/" in [button.label for button in app.button]
    assert "gradients/norm" in fv.read_run({"a.zip": downloads["gradient_flow_demo_shapes_cnn.zip"]()}).scalars


def test_what_is_written_into_the_folder_stays_in_it(tmp_path: Path) -> None:
    def made(to: Any) -> list[Any]:
        return [to.Distribution("spread", [1, 2], [0.0, 0.5, 1.0])]

    name = export._folder_name("../../mine: 1")
    assert name == "_.._mine__1"
    for expected in (name, f"{name}-2"):  # nothing is replaced
        assert export._written(made, tmp_path, name, None) == f"{tmp_path.name}/{expected}"
        assert fv.read_run(tmp_path / expected).histograms["count"].tolist() == [1, 2]


def test_the_module_that_makes_items_is_there() -> None:
    made = importlib.import_module(export._EXPORT)
    assert all(hasattr(made, kind) for kind in ("Picture", "Table", "Distribution", "Graph"))
