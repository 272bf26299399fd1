"""The output check in a real browser: a click chooses a picture, labels find Clever Hans, an experiment is checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.demo.samples import SAMPLES

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser

_ROW = 9  # pictures in a row


def opens(visitor: Visitor, **chosen: str) -> None:
    visitor.opens("output_check?" + urlencode(chosen))
    visitor.page.get_by_text("tests of the model's output").first.wait_for()
    visitor.rests()


def test_a_click_on_a_picture_chooses_it_and_everything_can_be_taken_away(visitor: Visitor) -> None:
    opens(visitor, more="Take away")
    visitor.page.get_by_text("Nothing wrong was found").wait_for()
    rows = -(-len(SAMPLES) // _ROW)
    visitor.clicks_tile("answers", 4, 0, columns=_ROW, rows=rows)
    visitor.comes_to_see(Picture=SAMPLES[4].title)
    visitor.page.get_by_test_id("stMain").get_by_role("img", name=SAMPLES[4].title, exact=True).wait_for()
    name, data = visitor.downloads("Everything as JSON")
    content = json.loads(data)
    assert name == "output_check_demo_shapes_cnn.json"
    assert content["shape"] == [len(SAMPLES), 8]
    assert content["pictures"][4]["predicted"] == SAMPLES[4].label


def test_labels_show_what_clever_hans_never_learned(visitor: Visitor) -> None:
    opens(visitor, source="Shapes with labels", model="demo/clever_hans", more="Against labels")
    visitor.page.get_by_text("A class that is never recognised").first.wait_for()
    visitor.page.get_by_text("Which class is taken for which").wait_for()
    visitor.page.get_by_role("radio", name="wrong first").click()
    visitor.rests()
    visitor.clicks_tile("answers", 0, 0, columns=_ROW, rows=7)
    visitor.page.get_by_text("Wrong: labelled").wait_for()
    assert "order=wrong+first" in visitor.page.url


def test_an_experiment_is_checked_in_a_process_of_its_own(visitor: Visitor) -> None:
    softmax = next(name for name, card in DEMO_EXPERIMENTS.items() if card.fault == "softmax_first")
    visitor.opens("output_check?" + urlencode({"source": "an experiment", "experiment": f"demo/{softmax}"}))
    visitor.page.get_by_role("button", name="Check the experiment's output").click()
    visitor.page.get_by_text("A softmax is already applied").first.wait_for()
    visitor.rests()
    visitor.page.get_by_text("The experiment's validation data").wait_for()
