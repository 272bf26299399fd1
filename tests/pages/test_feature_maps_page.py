"""The feature maps page and the frame around it: choices, links, errors, and what can be taken away."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import featviz_core as fv
from featviz_core.demo.samples import SAMPLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = "pages/look_inside/feature_maps.py"
HOME = "pages/start/home.py"
NAMES = ("model", "picture", "device", "layer", "sort", "count", "scale", "colors", "channel", "view")

OpenPage = Callable[..., AppTest]
Downloads = dict[str, bytes | Callable[[], bytes]]


def chosen(app: AppTest) -> dict[str, object]:
    widgets = [*app.selectbox, *app.number_input, *app.get("button_group")]
    return {widget.key: widget.value for widget in widgets if widget.key in NAMES}


def content(downloads: Downloads, ending: str) -> tuple[str, bytes]:
    name, data = next(item for item in downloads.items() if item[0].endswith(ending))
    return name, data() if callable(data) else data


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 140, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_choices_survive_a_walk_to_another_page(open_page: OpenPage) -> None:
    app = open_page(PAGE, model="resnet18")
    app.selectbox(key="layer").set_value("layer3.0.conv1")
    app.selectbox(key="sort").set_value("sparsity")
    app.selectbox(key="scale").set_value("channel")
    app.selectbox(key="picture").set_value("Golden ring on green")
    app.button_group(key="count").set_value("64")
    app.number_input(key="channel").set_value(5)
    before = chosen(app.run())
    app.switch_page(HOME).run()
    assert chosen(app)["model"] == "resnet18"
    app.switch_page(PAGE).run()
    assert not app.exception
    assert chosen(app) == before
    assert before["layer"] == "layer3.0.conv1"


def test_a_link_restores_every_choice(open_page: OpenPage) -> None:
    link = {
        "model": "demo/shapes_cnn",
        "picture": "Green moon on checks",
        "layer": "stem",
        "sort": "max",
        "count": "all",
        "scale": "channel",
        "colors": "magma",
        "channel": "7",
        "view": "over",
    }
    assert {name: str(value) for name, value in chosen(open_page(PAGE, **link)).items()} == {
        **link,
        "device": "automatic",
    }


def test_bad_values_in_a_link_fall_back(open_page: OpenPage) -> None:
    app = open_page(PAGE, **dict.fromkeys((*NAMES, "more", "weights"), "no such thing"))
    assert chosen(app) == chosen(open_page(PAGE))
    assert not app.error


def test_a_channel_that_the_layer_lacks_falls_back(open_page: OpenPage) -> None:
    app = open_page(PAGE, channel="99", layer="trunk_output.block4")
    assert chosen(app)["channel"] == 99
    app.selectbox(key="layer").set_value("stem").run()
    assert not app.exception
    assert chosen(app)["channel"] == 0


def test_a_layer_that_the_model_lacks_gives_way_to_a_start(open_page: OpenPage) -> None:
    app = open_page(PAGE, layer="trunk_output.block3")
    app.selectbox(key="model").set_value("resnet18").run()
    assert not app.exception
    assert chosen(app)["layer"] in app.selectbox(key="layer").options


def test_something_a_visitor_can_act_on_is_told_without_a_traceback(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    app.selectbox(key="model").set_value("my checkpoint").run()
    assert not app.exception
    assert [message.value for message in app.error if "No checkpoint" in message.value and "Upload" in message.value]


def test_a_folder_on_the_server_is_no_model(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "somebody" / "private").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    app = open_page(PAGE, model="transformers")
    app.text_input(key="transformers name").set_value("somebody/private").run()
    assert not app.exception
    assert any("is no name in transformers" in message.value for message in app.error)


def test_a_bug_is_not_hidden(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(PAGE)

    def broken(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("a bug, with a secret")

    monkeypatch.setattr("featviz_core.techniques.feature_maps.compute.feature_maps", broken)
    # A layer that no other test asks for: all tests of a process are one session to the cache.
    app.selectbox(key="layer").set_value("trunk_output.block1.block1-0.proj.0").run()
    assert len(app.exception) == 1
    assert "secret" not in app.exception[0].message


def test_an_uploaded_picture_is_chosen_and_stays(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    app.file_uploader(key="upload").upload("mine.png", png(), "image/png")
    app.run()
    assert not app.exception
    assert chosen(app)["picture"] == "mine.png"
    app.switch_page(HOME).run()
    app.switch_page(PAGE).run()
    assert chosen(app)["picture"] == "mine.png"


def test_a_damaged_upload_is_explained_and_not_chosen(open_page: OpenPage) -> None:
    app = open_page(PAGE)
    app.file_uploader(key="upload").upload("broken.png", png()[:200], "image/png")
    app.run()
    assert not app.exception
    assert any("broken.png" in message.value for message in app.error)
    assert chosen(app)["picture"] != "broken.png"


@pytest.mark.parametrize("layer", ["stem", "trunk_output.block4", "fc"])
def test_the_downloads_hold_what_the_page_shows(open_page: OpenPage, downloads: Downloads, layer: str) -> None:
    open_page(PAGE, layer=layer, more="Take away", sort="max", picture="Golden ring on green")
    name, data = content(downloads, ".npy")
    maps = np.load(io.BytesIO(data))
    model = fv.load_model("demo/shapes_cnn")
    with Image.open(ROOT / "assets/samples/ring.png") as picture:
        expected = fv.feature_maps(model, model.preprocess(picture), layer=layer)
    np.testing.assert_array_equal(maps, expected.maps)
    assert maps.dtype == np.float32
    assert name == f"feature_maps_demo_shapes_cnn_{layer}.npy"

    _, data = content(downloads, ".png")
    shown = expected.mosaic(channels=expected.ranked("max")[:16], tile=64, gap=2, color_map="viridis").image
    with Image.open(io.BytesIO(data)) as mosaic:
        np.testing.assert_array_equal(np.asarray(mosaic), np.asarray(shown))


@pytest.mark.parametrize(
    "link",
    [
        {},
        {"sort": "spread", "count": "64", "scale": "channel", "colors": "magma", "layer": "trunk_output.block2"},
        {"model": "resnet18", "layer": "layer1.0.relu#1"},
        {"layer": "fc", "sort": "max"},
    ],
)
def test_the_snippet_runs_and_draws_the_same(
    open_page: OpenPage, downloads: Downloads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: dict[str, str]
) -> None:
    code = open_page(PAGE, more="Take away", **link).code[-1].value
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})  # what a reader does with it
    name, data = content(downloads, ".png")
    with Image.open(tmp_path / name) as ours, Image.open(io.BytesIO(data)) as theirs:
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_the_snippet_runs_for_an_uploaded_picture(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = open_page(PAGE, more="Take away")
    app.file_uploader(key="upload").upload('my "best" picture.png', png(), "image/png")
    code = app.run().code[-1].value
    (tmp_path / 'my "best" picture.png').write_bytes(png())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
    assert list(tmp_path.glob("feature_maps_*.png"))


def test_the_second_picture_is_compared_on_one_scale(open_page: OpenPage) -> None:
    app = open_page(PAGE, more="Compare")
    assert len([box for box in app.selectbox if box.label in ("Second picture", "Second layer")]) == 2
    assert any("equal colours are equal values" in text.value for text in app.caption)


def test_a_link_brings_the_second_side_back_and_a_new_first_side_starts_anew(open_page: OpenPage) -> None:
    app = open_page(PAGE, more="Compare", second_picture=SAMPLES[3].title, second_layer="stem.0")
    assert (app.selectbox(key="second_picture").value, app.selectbox(key="second_layer").value) == (
        SAMPLES[3].title,
        "stem.0",
    )
    app.selectbox(key="picture").set_value(SAMPLES[4].title).run()
    assert app.selectbox(key="second_picture").value == SAMPLES[5 % len(SAMPLES)].title
    assert app.selectbox(key="second_layer").value == "stem.0" and not app.exception
    wrong = open_page(PAGE, more="Compare", second_picture="nowhere", second_layer="nothing")
    assert wrong.selectbox(key="second_layer").value == wrong.selectbox(key="layer").value


def test_kernels_are_shown_where_there_are_some(open_page: OpenPage) -> None:
    app = open_page(PAGE, more="Kernels", layer="stem.0")
    assert not app.info
    app.selectbox(key="layer").set_value("stem.2").run()
    assert not app.exception
