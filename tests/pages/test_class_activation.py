"""The page of class activation maps, run without a browser."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from featviz_core.demo.models import weights_path

ROOT = Path(__file__).resolve().parents[2]
TABS = ["How to read this", "Classes", "Layers", "Methods", "Hide a region", "Trust", "All pictures", "Take away"]
HANS = pytest.mark.skipif(not weights_path("clever_hans").is_file(), reason="Clever Hans is not trained yet")


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def opened(**link: str) -> AppTest:
        return checked(open_page("pages/look_inside/class_activation.py", **link))

    return opened


def checked(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    assert not at.error, [error.value for error in at.error]
    return at


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def captions(at: AppTest) -> str:
    return "\n".join(caption.value for caption in at.caption)


@pytest.mark.parametrize("tab", TABS)
def test_each_part_can_be_opened(page: Callable[..., AppTest], tab: str) -> None:
    at = page(more=tab)
    assert at.title[0].value == "Class activation maps"
    assert "Evidence for star" in captions(at)


def test_the_strip_judges_the_map_against_the_truth_and_against_random(page: Callable[..., AppTest]) -> None:
    found = metrics(page(picture="Orange heart on stripes"))
    assert found["Peak in the heart"] == "yes"
    assert 0 <= float(found["Deletion area"]) < float(found["Insertion area"]) <= 1


def test_the_hole_of_a_ring_is_in_its_box(page: Callable[..., AppTest]) -> None:
    found = metrics(page(picture="Golden ring on green", target="ring", check="false"))
    assert found["Peak in the ring"] == "in its box"


def test_the_strip_can_be_turned_off(page: Callable[..., AppTest]) -> None:
    assert "Deletion area" not in metrics(page(check="false"))


def test_another_target_method_and_layer(page: Callable[..., AppTest]) -> None:
    at = page(target="-star", method="layercam", layer="trunk_output.block2")
    assert "Evidence for − star" in captions(at)
    assert "16×16 values" in captions(at)


def test_a_class_of_another_model_is_forgotten(page: Callable[..., AppTest]) -> None:
    at = page(target="star", more="Take away", check="false")
    at.session_state["model"] = "resnet18"
    checked(at.run())
    assert at.session_state["target"] == "the predicted class"


def test_an_unknown_class_is_explained(open_page: Callable[..., AppTest]) -> None:
    at = open_page("pages/look_inside/class_activation.py", target="sofa")
    assert "no class 'sofa'" in at.error[0].value


def test_a_map_that_needs_words_gets_them(page: Callable[..., AppTest]) -> None:
    assert any("does not look at the class" in info.value for info in page(method="eigencam", check="false").info)


def test_hiding_cells_changes_the_probability(page: Callable[..., AppTest]) -> None:
    at = page(more="Hide a region", check="false")
    before = metrics(at)
    assert before["star before"] == before["star now"]
    at.session_state["hidden cells"] = tuple(range(64))
    found = metrics(checked(at.run()))
    assert found["star before"] == before["star before"]
    assert float(found["star now"].rstrip("%")) < 30
    at.session_state["cells"] = 4
    assert "with 0 cells hidden" in captions(checked(at.run()))


def test_the_strip_leads_to_its_curves(page: Callable[..., AppTest]) -> None:
    at = page()
    assert "Reset the weights" not in {button.label for button in at.button}
    checked(next(button for button in at.button if button.label == "Curves, and weights reset").click().run())
    assert "Reset the weights" in {button.label for button in at.button}


def test_the_sanity_check_runs_on_request(page: Callable[..., AppTest]) -> None:
    at = page(more="Trust")
    assert not at.table
    checked(next(button for button in at.button if button.label == "Reset the weights").click().run())
    assert at.table[0].value["reset_from"].iloc[0] == "fc"


def test_all_pictures_are_listed_with_their_truth(page: Callable[..., AppTest]) -> None:
    at = page(more="All pictures", check="false")
    checked(next(button for button in at.button if button.label.startswith("Run on all")).click().run())
    frame = at.dataframe[0].value.set_index("picture")
    assert frame.loc["Purple star on waves", "answer"] == "star"
    assert frame.loc["Orange heart on stripes", "hit"]
    assert frame.loc["Golden ring on green", ["hit", "in box"]].tolist() == [False, True]
    assert 0.2 < frame.loc["Purple star on waves", "energy inside"] <= 1
    known = frame[frame["energy inside"].notna()]
    assert len(known) > 1
    assert f"On the {len(known)} pictures" in captions(at)
    assert f"in the outline on **{known['hit'].sum()}**, in the box around it on **{known['in box'].sum()}**" in (
        captions(at)
    )


def test_the_snippet_runs_and_draws_the_same(page: Callable[..., AppTest], tmp_path: Path) -> None:
    at = page(more="Take away", target="heart - star", method="hirescam", check="false")
    code = at.code[0].value
    assert 'target="heart - star"' in code
    code = code.replace("assets/", f"{ROOT}/assets/")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check="false",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("heart − star ")
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_the_downloads_are_valid_and_belong_together(
    page: Callable[..., AppTest], downloads: dict[str, bytes | Callable[[], bytes]]
) -> None:
    page(more="Take away", check="false")
    files = {Path(name).suffix: data() for name, data in downloads.items() if callable(data) and "_raw" not in name}
    (raw,) = (data() for name, data in downloads.items() if callable(data) and name.endswith("_raw.npy"))
    heat, values = np.load(io.BytesIO(files[".npy"])), np.load(io.BytesIO(raw))
    assert (heat.shape, heat.dtype, values.shape) == ((128, 128), np.float32, (16, 16))
    picture = Image.open(io.BytesIO(files[".png"]))
    picture.load()
    assert picture.size == (512, 512)
    manifest = json.loads(files[".json"])
    assert manifest["raw"]["max"] == pytest.approx(float(values.max()))
    assert (manifest["method"], manifest["target"]["label"], manifest["model"]["name"]) == (
        "gradcam",
        "star",
        "demo/shapes_cnn",
    )
    assert set(manifest["versions"]) == {"featviz", "python", "torch", "torchvision", "numpy", "pillow"}
    assert len(manifest["picture"]["sha256"]) == 64


@HANS
def test_the_tutorial_shows_that_clever_hans_looks_at_the_badge(page: Callable[..., AppTest]) -> None:
    at = page(more="Tutorial", check="false")
    buttons = [button for button in at.button if button.label == "Show me"]
    checked(buttons[1].click().run())
    assert at.session_state["model"] == "demo/clever_hans"
    assert "Evidence for star" in captions(at)
    found = metrics(at)
    assert found["Peak in the badge"] == "yes"
    assert float(found["Energy in the badge"].rstrip("%")) > 20
    checked([button for button in at.button if button.label == "Show me"][2].click().run())
    assert metrics(at)["The model's answer now"] == "star"
    at.session_state["hidden cells"] = (56,)
    assert metrics(checked(at.run()))["The model's answer now"] == "heart"
