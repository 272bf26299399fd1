"""The page of attention maps, run without a browser."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import featviz_core as fv
from featviz_core.demo.models import weights_path
from featviz_core.demo.samples import SAMPLES

ROOT = Path(__file__).resolve().parents[2]
TABS = ["How to read this", "Query × key", "Through all layers", "Heads in numbers", "Take away"]
VIT = "demo/shapes_vit" if weights_path("shapes_vit").is_file() else "vit_b_32"

OpenPage = Callable[..., AppTest]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    monkeypatch.chdir(ROOT)

    def opened(**chosen: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        app.switch_page("pages/look_inside/attention_maps.py")
        for key, value in chosen.items():
            app.session_state[key] = value
        app.run()
        assert not app.exception, app.exception
        return app

    return opened


def text(app: AppTest) -> str:
    return "\n".join(e.value for e in (*app.markdown, *app.caption, *app.info, *app.warning, *app.code))


def test_a_model_without_attention_gets_one_sentence_and_a_way_on(open_page: OpenPage) -> None:
    app = open_page(model="demo/shapes_cnn")
    assert [info.value for info in app.info] == [
        "demo/shapes_cnn has no attention layers, so there are no attention maps to show."
    ]
    assert "class_activation" in {link.proto.page for link in app.get("page_link")}
    assert not app.tabs and not app.error
    buttons = [button for button in app.button if button.label == "Choose the demo transformer"]
    if weights_path("shapes_vit").is_file():
        buttons[0].click().run()
        assert app.tabs and not app.exception


@pytest.mark.parametrize("tab", TABS)
def test_every_part_opens_for_a_vision_transformer(open_page: OpenPage, tab: str) -> None:
    app = open_page(model=VIT, more=tab)
    assert [found.label for found in app.tabs] == TABS
    assert "**Where the class token looks**" in text(app) and not app.error
    shown = {
        "How to read this": "A row of attention is a share of 1",
        "Query × key": "queries × ",
        "Through all layers": "gradient rollout, relevance, LeGrad and Grad-CAM",
        "Heads in numbers": "Entropy, as a share of the largest possible",
        "Take away": "fv.attention_maps",
    }
    assert shown[tab] in text(app)


def test_a_link_brings_back_layer_head_and_query_and_a_wrong_one_falls_back(open_page: OpenPage) -> None:
    layer = "encoder.layers.encoder_layer_2.self_attention"
    app = open_page(model=VIT, layer=layer, head="1", query="3,4")
    assert "**Where place 3,4 looks** · head 1" in text(app)
    assert app.selectbox(key="layer").value == layer
    app = open_page(model=VIT, layer="conv_proj", head="99", query="nowhere")
    assert "**Where the class token looks** · all" in text(app)


def test_windows_are_shown_one_by_one_and_not_multiplied(open_page: OpenPage) -> None:
    app = open_page(model="swin_t", layer="features.5.1.attn", query="2,3", more="Query × key")
    windows = next(field for field in app.number_input if field.label == "Window")
    assert (windows.min, windows.max) == (0, 3)


@pytest.mark.parametrize("name", ["swin_t", "maxvit_t"])
def test_where_layers_cannot_be_multiplied_the_last_stands_beside_grad_cam(open_page: OpenPage, name: str) -> None:
    app = open_page(model=name, more="Through all layers")
    assert any("windows or at grids of several sizes" in info.value for info in app.info) and not app.error
    captions = [image.proto.imgs[0].caption for image in app.get("image")]
    assert {"the picture", "last layer", "Grad-CAM"} <= {caption.split(":")[0] for caption in captions}
    assert "residual" not in {slider.key for slider in app.slider}


def test_what_can_be_taken_away_is_what_the_library_gives(open_page: OpenPage, downloads: dict[str, Any]) -> None:
    app = open_page(model=VIT, more="Take away")
    layer = app.selectbox(key="layer").value
    model = fv.load_model(VIT)
    found = fv.attention_maps(model, model.preprocess(Image.open(SAMPLES[0].path)), layers=[layer])
    stem = f"attention_{VIT}_{layer}".replace("/", "_")
    weights = downloads[f"{stem}.npy"]()
    np.testing.assert_allclose(np.load(io.BytesIO(weights)), found.weights[layer], atol=1e-6)
    picture = Image.open(io.BytesIO(downloads[f"{stem}.png"]()))
    assert picture.size == (512, 512)
    assert Image.open(io.BytesIO(downloads[f"{stem}_heads.png"]())).mode == "RGBA"
    assert b"spread" in downloads[f"attention_{VIT}_heads.csv".replace("/", "_")]()
    manifest = json.loads(downloads[f"{stem}.json"]())
    assert (manifest["model"]["name"], manifest["layer"], manifest["head"]) == (VIT, layer, "average")
    assert (manifest["query"], manifest["weights"]["shape"]) == ("class", list(found.weights[layer].shape))
    assert "torch" in manifest["versions"] and len(manifest["picture"]["sha256"]) == 64
    exec(compile(app.code[0].value, "snippet", "exec"), {})
