"""Class activation maps in a real browser: choosing, clicking a region away, comparing, taking away."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

import featviz_core as fv
from featviz_core.demo.samples import SAMPLES

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser

STAR = next(sample for sample in SAMPLES if sample.slug == "star")


def opens(visitor: Visitor, tab: str = "Take away", **chosen: str) -> None:
    visitor.opens("class_activation?" + urlencode({"more": tab, **chosen}))
    visitor.page.get_by_role("img", name="The map over the picture").wait_for()
    visitor.rests()


def expected(**options: str) -> fv.ClassActivation:
    model = fv.load_model("demo/shapes_cnn")
    return fv.class_activation(model, model.preprocess(Image.open(STAR.path)), **options)


def test_another_class_and_method_change_the_map_that_is_taken_away(visitor: Visitor) -> None:
    opens(visitor)
    visitor.picks("Explain", "cross")
    visitor.picks("Method", "layercam")
    visitor.page.get_by_role("img", name="Evidence for cross").wait_for()
    name, data = visitor.downloads("Map as NPY")
    found = expected(target="cross", method="layercam")
    assert name == f"layercam_cross_demo_shapes_cnn_{found.layer.address}.npy"
    np.testing.assert_allclose(np.load(io.BytesIO(data)), found.map, atol=1e-5)
    picture = Image.open(io.BytesIO(visitor.downloads("Overlay as PNG")[1]))
    picture.load()
    assert picture.size == (512, 512)
    manifest = json.loads(visitor.downloads("Manifest as JSON")[1])
    assert manifest["target"]["label"] == "cross"
    assert manifest["method"] == "layercam"


def test_a_difference_of_classes_can_be_typed(visitor: Visitor) -> None:
    opens(visitor)
    field = visitor.picker("Explain")
    field.click()
    field.fill("star - cross")
    field.press("Enter")
    visitor.page.get_by_role("img", name="Evidence for star − cross").wait_for()


def test_hiding_the_star_takes_its_probability_away_and_another_click_brings_it_back(visitor: Visitor) -> None:
    opens(visitor, "Hide a region", target="star")
    now = visitor.page.get_by_test_id("stMetric").filter(has_text="star now")
    before = now.inner_text()
    visitor.page.get_by_role("radio", name="4", exact=True).click()
    visitor.rests()
    for column, row in [(0, 1), (1, 1), (1, 2)]:
        visitor.clicks_tile("cells-to-hide", column, row, columns=4, rows=4)
    visitor.page.get_by_text("with 3 cells hidden").wait_for()
    assert now.inner_text() != before
    visitor.clicks_tile("cells-to-hide", 1, 2, columns=4, rows=4)
    visitor.page.get_by_text("with 2 cells hidden").wait_for()
    visitor.page.get_by_role("button", name="Show everything again").click()
    visitor.page.get_by_text("with 0 cells hidden").wait_for()
    assert now.inner_text().split("\n")[1] == before.split("\n")[1]


def test_a_click_on_a_class_a_layer_or_a_method_takes_it(visitor: Visitor) -> None:
    model = fv.load_model("demo/shapes_cnn")
    images = model.preprocess(Image.open(STAR.path))
    _, (second, _) = fv.top_classes(model, images, count=2)
    first_stage, next_stage = (stage.layer.address for stage in fv.depth_overview(model, images)[:2])
    opens(visitor, "Classes")
    visitor.clicks_tile("classes", 1, 0, columns=6, rows=1, caption=20)
    visitor.comes_to_see(Explain=second)
    visitor.opens_tab("Methods")
    visitor.clicks_tile("methods", 5, 0, columns=7, rows=2, caption=20)
    visitor.comes_to_see(Method="layercam")
    visitor.opens_tab("Layers")
    visitor.clicks_tile("stages", 0, 0, columns=6, rows=2, caption=20)
    visitor.comes_to_see(Layer=first_stage)
    visitor.page.get_by_role("slider", name="From the picture to the answer").press("ArrowRight")
    visitor.comes_to_see(Layer=next_stage)


def test_the_strip_judges_the_map_and_can_be_stopped(visitor: Visitor) -> None:
    opens(visitor, "Trust")
    visitor.page.get_by_test_id("stMetric").filter(has_text="Deletion area").wait_for()
    assert "Energy in the star" in visitor.says()
    visitor.page.get_by_role("button", name="Reset the weights").click()
    visitor.page.get_by_text("reset_from").wait_for()
    visitor.page.get_by_text("Hide and show pixels").first.click()
    visitor.page.get_by_test_id("stMetric").filter(has_text="Deletion area").wait_for(state="detached")


def test_all_pictures_at_once(visitor: Visitor) -> None:
    opens(visitor, "All pictures")
    visitor.page.get_by_role("button", name="Run on all").click()
    table = visitor.downloads("Table as CSV")[1].decode()
    assert len(table.strip().split("\n")) == 1 + len(SAMPLES)
    visitor.clicks_tile("all-pictures", 1, 0, columns=6, rows=2, caption=20)
    visitor.comes_to_see(Picture=SAMPLES[1].title)


def test_the_tutorial_leads_to_the_badge(visitor: Visitor) -> None:
    opens(visitor, "Tutorial")
    visitor.page.get_by_role("main").get_by_role("button", name="Show me").first.click()
    visitor.comes_to_see(Picture="Blue heart with a badge in the corner", Model="demo/shapes_cnn")
    visitor.page.get_by_text("Energy in the badge").wait_for()
