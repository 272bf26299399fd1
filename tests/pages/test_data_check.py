"""The data check's page: an experiment and a zip, from the button to the findings."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import featviz_core as fv
from pages._ui import export
from tests.fuzz.zips import packed, picture

PAGE = "pages/debug_training/data_check.py"
OpenPage = Callable[..., AppTest]


def finished(app: AppTest, label: str = "Check the data", seconds: float = 120) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    app.run()
    end = time.monotonic() + seconds
    while not any("wrong" in m.value or "worth a look" in m.value for m in (*app.error, *app.warning, *app.success)):
        assert time.monotonic() < end
        time.sleep(0.5)
        app.run()
    assert not app.exception, app.exception
    return app


def test_a_fault_of_an_experiment_is_found(open_page: OpenPage) -> None:
    app = finished(open_page(PAGE, experiment="demo/case_2"))
    assert any("wrong" in message.value for message in app.error)
    assert any("0 to 255" in text.value for text in app.markdown)
    for tab in [tab.label for tab in app.tabs]:
        app.session_state["more"] = tab
        app.run()
        assert not app.exception, tab


def test_the_result_is_sent_as_a_run(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, export.Items] = {}
    monkeypatch.setattr(export, "button", lambda items, name: made.__setitem__(name, items))
    app = finished(open_page(PAGE, experiment="demo/case_2"))
    app.session_state["more"] = "Take away"
    app.run()
    assert not app.exception, app.exception
    run = fv.read_run({"sent.zip": export._packed(made["data_check"], "sent", None)})
    assert {image.tag for image in run.images} == {"pictures/train", "pictures/validation"}
    assert {"batches/mean", "classes/count", "channels/mean"} <= set(run.scalars)


def test_a_zip_is_checked_and_its_damage_is_listed(open_page: OpenPage) -> None:
    app = open_page(PAGE, data="zip")
    files = {f"{name}/{i}.png": picture(color) for i, color in enumerate(("red", "tan")) for name in ("star", "moon")}
    app.file_uploader(key="data zip").upload("it.zip", packed({**files, "star/x.png": b"x"}), "application/zip")
    app.run()
    assert any("2 classes, 5 pictures" in text.value for text in app.caption)
    app = finished(app)
    assert any("cannot be read: 1" in box.label for box in app.expander)


@pytest.mark.parametrize("data", [b"no zip", packed({"../1.png": picture()}), packed({"notes.txt": b"x"})])
def test_a_bad_zip_is_told_without_a_traceback(open_page: OpenPage, data: bytes) -> None:
    app = open_page(PAGE, data="zip")
    app.file_uploader(key="data zip").upload("it.zip", data, "application/zip")
    app.run()
    assert not app.exception
    assert any("it.zip" in message.value for message in app.error)
