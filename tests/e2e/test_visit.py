"""A visit in a real browser: from the front door to the feature maps of one's own picture, and back by a link."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

import featviz_core as fv
from featviz_core.images import read_picture
from tests.e2e.app_driver import ROOT, Visitor, picture_file, serving, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

LAYER = "trunk_output.block2"
Visit = Callable[..., AbstractContextManager[Visitor]]


def maps_of(data: bytes, layer: str, model: str = "demo/shapes_cnn", **options: Path) -> np.ndarray:
    """What the library says about a picture."""
    loaded = fv.load_model(model, **options)
    return fv.feature_maps(loaded, loaded.preprocess(read_picture(data).image), layer=layer).maps


def chosen_in(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_one_click_from_home_to_the_maps_of_a_trained_model(visitor: Visitor) -> None:
    visitor.opens()
    assert "learn" in visitor.heading()
    visitor.page.get_by_role("main").get_by_role("link", name="feature maps").click()
    visitor.chart("mosaic").wait_for()
    visitor.rests()
    assert visitor.heading() == "Feature maps"
    assert visitor.picked("Model") == "demo/shapes_cnn"
    assert visitor.page.url.split("?")[0].endswith("/feature_maps")


def test_the_home_page_shows_a_live_result_of_each_technique(visitor: Visitor) -> None:
    from featviz_core.catalog import abouts

    visitor.opens()
    for slug in abouts():
        visitor.page.get_by_role("img", name=f"{slug}: a live result").wait_for()


def test_own_picture_layer_channel_and_downloads(visitor: Visitor) -> None:
    mine = picture_file(1)
    visitor.opens("feature_maps")
    visitor.uploads("mine.png", mine)
    visitor.comes_to_see(Picture="mine.png")
    visitor.picks("Layer", LAYER)
    visitor.clicks_tile("mosaic", 2, 1, columns=4, rows=4)
    visitor.comes_to_see_channel(6)
    visitor.page.get_by_role("img", name="Channel 6", exact=True).wait_for()

    visitor.opens_tab("Take away")
    name, png = visitor.downloads("Mosaic as PNG")
    expected = maps_of(mine, LAYER)
    assert name == f"feature_maps_demo_shapes_cnn_{LAYER}.png"
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    assert picture.size == (4 * 64 + 3 * 2, 4 * 64 + 3 * 2)
    np.testing.assert_array_equal(visitor.downloads_maps(LAYER, "mine.png"), expected)


def test_a_click_on_the_way_through_the_model_chooses_the_layer(visitor: Visitor) -> None:
    visitor.opens("feature_maps")
    assert visitor.picked("Layer") not in ("trunk_output.block4.block4-0", "stem")
    visitor.clicks_tile("depth", 7, 0, columns=8, rows=1, caption=20)
    visitor.comes_to_see(Layer="trunk_output.block4.block4-0")
    visitor.clicks_tile("depth", 0, 0, columns=8, rows=1, caption=20)
    visitor.comes_to_see(Layer="stem")
    assert chosen_in(visitor.page.url)["layer"] == "stem"


def test_choices_survive_a_walk_to_another_page(visitor: Visitor) -> None:
    visitor.opens("feature_maps")
    visitor.picks("Model", "resnet18")
    visitor.picks("Layer", "layer3.0.conv1")
    visitor.picks("Sort by", "max")
    visitor.picks("Picture", "Golden ring on green")
    visitor.clicks_link("Home")
    visitor.comes_to_see(Picture="Golden ring on green")
    visitor.clicks_link("Feature maps")
    visitor.comes_to_see(Model="resnet18", Layer="layer3.0.conv1", Sort_by="max", Picture="Golden ring on green")


def test_a_link_shows_the_same_to_somebody_new(visit: Visit) -> None:
    with visit() as teacher:
        teacher.opens("feature_maps")
        teacher.picks("Model", "resnet18")
        teacher.picks("Picture", "Green moon on checks")
        teacher.picks("Layer", "layer2.0.bn2")
        teacher.picks("Sort by", "max")
        teacher.clicks_tile("mosaic", 1, 2, columns=4, rows=4)
        teacher.leaves_channel(0)
        teacher.rests()
        link, channel = teacher.page.url, teacher.channel()
    with visit() as pupil:
        pupil.opens(link.split("/", 3)[3])
        pupil.chart("mosaic").wait_for()
        pupil.comes_to_see(Model="resnet18", Picture="Green moon on checks", Layer="layer2.0.bn2", Sort_by="max")
        pupil.comes_to_see_channel(channel)
        assert pupil.heading() == "Feature maps"


def test_nonsense_in_a_link_falls_back(visitor: Visitor) -> None:
    nonsense = dict.fromkeys(
        ("model", "weights", "picture", "device", "layer", "sort", "count", "scale", "colors", "channel", "view"),
        "../<script>",
    )
    visitor.opens(f"feature_maps?{urlencode(nonsense)}&more=%00&unknown=1")
    visitor.chart("mosaic").wait_for()
    assert visitor.picked("Model") == "demo/shapes_cnn"
    assert visitor.picked("Sort by") == "channel"
    assert visitor.channel() == 0
    visitor.opens("feature_maps?channel=99999&layer=stem&count=all")
    visitor.chart("mosaic").wait_for()
    assert 0 <= visitor.channel() < 24
    assert visitor.picked("Layer") == "stem"


def test_a_checkpoint_of_one_s_own_for_a_model_of_torchvision(visitor: Visitor, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    torch.manual_seed(1)
    save_file(torchvision.models.resnet18(num_classes=5).state_dict(), mine)
    layer = "layer1.0.conv1"
    star = (ROOT / "assets/samples/star.png").read_bytes()

    visitor.opens("feature_maps?more=Take+away")
    visitor.picks("Model", "resnet18")
    visitor.picks("Layer", layer)
    fresh = visitor.downloads_maps(layer, "star.png")
    np.testing.assert_array_equal(fresh, maps_of(star, layer, "resnet18"))

    visitor.picks("Weights", "a checkpoint file")
    visitor.page.get_by_text("No checkpoint was given yet").wait_for()
    visitor.uploads("mine.safetensors", mine, label="Checkpoint")
    visitor.page.get_by_test_id("stCode").get_by_text("mine.safetensors").wait_for()
    loaded = visitor.downloads_maps(layer, "star.png")
    np.testing.assert_array_equal(loaded, maps_of(star, layer, "resnet18", checkpoint=mine))
    assert not np.array_equal(loaded, fresh)
    assert re.search(r"class [0-4] \d", visitor.says())


def test_a_file_that_is_no_picture_is_explained(visitor: Visitor) -> None:
    visitor.opens("feature_maps")
    visitor.page.get_by_role("region", name="Your own pictures").locator("input[type=file]").set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"not a picture at all"}
    )
    message = visitor.page.get_by_role("alert").filter(has_text="notes.png")
    message.wait_for()
    assert "not a picture that can be read" in message.inner_text()
    assert visitor.picked("Picture") != "notes.png"


@pytest.mark.parametrize(("scheme", "dark"), [("dark", True), ("light", False)])
def test_the_system_s_colour_scheme_is_followed(visit: Visit, scheme: str, dark: bool) -> None:
    with visit(color_scheme=scheme) as visitor:
        visitor.opens("feature_maps")
        visitor.chart("mosaic").wait_for()
        color = visitor.page.get_by_test_id("stApp").evaluate("element => getComputedStyle(element).backgroundColor")
        channels = [int(value) for value in color.removeprefix("rgb(").removesuffix(")").split(",")]
        assert (max(channels) < 60) if dark else (min(channels) > 230)


def test_the_first_visitor_after_a_start_may_come_by_a_link(browser: Browser, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with serving(log) as fresh, visiting(browser, fresh) as visitor:
        visitor.opens("feature_maps?layer=stem")
        visitor.chart("mosaic").wait_for()
        visitor.page.wait_for_timeout(1000)
        assert visitor.page.get_by_role("dialog").count() == 0
        assert visitor.heading() == "Feature maps"
        visitor.comes_to_see(Layer="stem")
    assert "Traceback" not in log.read_text()
