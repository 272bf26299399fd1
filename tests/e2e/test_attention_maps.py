"""Attention maps in a real browser: clicking a patch lets it look, clicking a head chooses it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np
import pytest

from featviz_core.demo.models import weights_path

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not weights_path("shapes_vit").is_file(), reason="the demo transformer's weights are not there"),
]


def opens(visitor: Visitor, **chosen: str) -> None:
    visitor.opens("attention_maps?" + urlencode({"model": "demo/shapes_vit", **chosen}))
    visitor.page.get_by_text("All layers and heads").wait_for()
    visitor.rests()


def test_a_click_on_a_patch_lets_it_look_and_a_link_brings_it_back(visitor: Visitor) -> None:
    opens(visitor)
    visitor.page.get_by_text("Where the class token looks", exact=True).wait_for()
    visitor.clicks_tile("on-picture", 3, 5, columns=16, rows=16)
    visitor.page.get_by_text("Where place 5,3 looks").wait_for()
    assert "query=5%2C3" in visitor.page.url
    visitor.page.reload()
    visitor.page.get_by_text("Where place 5,3 looks").wait_for()
    visitor.rests()
    visitor.page.get_by_role("button", name="From the class token").click()
    visitor.page.get_by_text("Where the class token looks", exact=True).wait_for()


def test_a_click_on_a_small_map_chooses_layer_and_head(visitor: Visitor) -> None:
    opens(visitor, more="Take away")
    visitor.clicks_tile("all-heads", 2, 1, columns=4, rows=6)
    visitor.page.get_by_text("looks · head 2").wait_for()
    visitor.rests()
    assert visitor.picked("Layer") == "encoder.layers.encoder_layer_1.self_attention"
    name, data = visitor.downloads("Weights as NPY")
    weights = np.load(io.BytesIO(data))
    assert "encoder_layer_1" in name and weights.shape == (1, 4, 257, 257)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


def test_a_model_without_attention_leads_on(visitor: Visitor) -> None:
    visitor.opens("attention_maps?model=demo%2Fshapes_cnn")
    visitor.page.get_by_text("has no attention layers").wait_for()
    visitor.page.get_by_role("button", name="Choose the demo transformer").click()
    visitor.page.get_by_text("Where the class token looks", exact=True).wait_for()
