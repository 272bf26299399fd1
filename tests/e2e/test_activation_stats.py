"""The activation statistics in a real browser: a click on a layer opens it, and leads to its feature maps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from featviz_core.demo.experiments import DEMO_EXPERIMENTS

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser


def opens(visitor: Visitor, **chosen: str) -> None:
    visitor.opens("activation_stats?" + urlencode(chosen))
    visitor.page.get_by_text("Healthy activations").wait_for()
    visitor.page.get_by_test_id("stVegaLiteChart").first.wait_for()
    visitor.rests()


def clicks_layer(visitor: Visitor, place: int, layers: int) -> None:
    """Click the strip of a layer in the chart of all layers; the mouse has to move there first."""
    strips = visitor.page.locator(".st-key-overview .mark-rect.role-mark").last.locator("path")
    box = strips.nth(place).bounding_box()
    assert box is not None
    assert strips.count() == layers
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visitor.page.mouse.move(x - 3, y - 3)
    visitor.page.mouse.move(x, y)
    visitor.page.wait_for_timeout(100)
    visitor.page.mouse.click(x, y)
    visitor.rests()


@pytest.mark.parametrize("measure", ["distribution", "all histograms", "spread"])
def test_a_click_on_a_layer_opens_it(visitor: Visitor, measure: str) -> None:
    opens(visitor, measure=measure, of="stem.0")
    clicks_layer(visitor, 20, 21)
    visitor.comes_to_see(Layer="fc")
    assert "of=fc" in visitor.page.url
    visitor.page.get_by_text("8 channels, exact numbers").wait_for()


def test_a_layer_leads_to_its_feature_maps(visitor: Visitor) -> None:
    layer = "trunk_output.block2.block2-0.f.a.0"
    opens(visitor, of=layer)
    visitor.page.get_by_role("link", name="Open in feature maps").click()
    visitor.page.get_by_role("heading", name="Feature maps", level=1).wait_for()
    visitor.rests()
    visitor.comes_to_see(Layer=layer)


def test_an_experiments_layer_leads_there_too(visitor: Visitor) -> None:
    link = {"source": "an experiment", "experiment": "demo/healthy_cnn", "batches": "1", "of": "4"}
    visitor.opens("activation_stats?" + urlencode(link))
    visitor.page.get_by_role("button", name="Look at the experiment's layers").click()
    visitor.page.get_by_text("Healthy activations").wait_for()
    visitor.rests()
    address = visitor.page.get_by_role("link", name="Open in feature maps").get_attribute("href")
    assert address is not None
    visitor.opens(address)
    visitor.page.get_by_role("heading", name="Feature maps", level=1).wait_for()
    visitor.comes_to_see(Layer="4", Model="demo/healthy_cnn")


def test_the_first_layer_that_differs_is_named_and_all_can_be_taken_away(visitor: Visitor) -> None:
    opens(visitor, more="Compare")
    visitor.page.get_by_text("They part at").wait_for()
    visitor.opens_tab("Take away")
    name, data = visitor.downloads("Everything as JSON")
    assert name == "activation_stats_demo_shapes_cnn.json"
    assert len(json.loads(data)["layers"]) == 21


def test_an_experiment_is_looked_at_in_a_process_of_its_own(visitor: Visitor) -> None:
    dead = next(name for name, card in DEMO_EXPERIMENTS.items() if card.fault == "dead_relus")
    visitor.opens("activation_stats?" + urlencode({"source": "an experiment", "experiment": f"demo/{dead}"}))
    visitor.page.get_by_role("button", name="Look at the experiment's layers").click()
    visitor.page.get_by_text("Dead channels in 3 layers").wait_for()
    visitor.rests()
    visitor.comes_to_see(Layer="0")
