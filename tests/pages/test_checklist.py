"""The checklist's page: choose a case, run it, read what to mend first, take the report away."""

from __future__ import annotations

import json
import time

import pytest

from featviz_core.checklist.items import ITEMS
from pages._ui import jobs

PAGE = "pages/start/checklist.py"


def press(app, label):
    next(button for button in app.button if button.label == label).click().run()


def finish(app):
    job = jobs._jobs["".join(app.query_params["job"])]
    end = time.monotonic() + 120
    while not job.done and time.monotonic() < end:
        time.sleep(0.1)
    return app.run()


def test_the_items_stand_there_with_their_questions_before_anything_was_run(open_page):
    text = "\n".join(element.value for element in open_page(PAGE).markdown)
    for item in ITEMS.values():
        assert item.title in text
        assert item.question in text


@pytest.mark.parametrize(("case", "item"), [("case_8", "optimizer.updates"), ("healthy_cnn", None)])
def test_a_run_names_what_to_mend_first(case, item, open_page, downloads):
    app = open_page(PAGE, experiment=f"demo/{case}")
    press(app, "Run the checklist")
    finish(app)
    assert not app.exception
    report = json.loads(downloads[f"checklist_{case}.json"])
    assert report["root_cause"] == item
    if item:
        assert ITEMS[item].title in app.error[0].value
    else:
        assert "No fail" in app.success[0].value
    assert downloads[f"checklist_{case}.html"].startswith("<!doctype html>")
    press(app, "Run again")
    assert any(button.label == "Run the checklist" for button in app.button)
