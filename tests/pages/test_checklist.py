"""The checklist's page: run a case whole or in part, read what to mend first, judge, take the report away."""

from __future__ import annotations

import json
import time

from featviz_core.checklist.guide import GUIDES
from featviz_core.checklist.items import ITEMS
from pages._ui import jobs

PAGE = "pages/start/checklist.py"


def press(app, label, number=0):
    return [button for button in app.button if button.label == label][number].click().run()


def finish(app):
    job = jobs._jobs["".join(app.query_params["job"])]
    end = time.monotonic() + 120
    while not job.done and time.monotonic() < end:
        time.sleep(0.1)
    app.run()
    assert not app.exception
    return app


def titles(app):
    return "\n".join(expander.label for expander in app.expander)


def test_the_items_stand_there_with_their_questions_before_anything_was_run(open_page):
    text = titles(open_page(PAGE))
    for item in ITEMS.values():
        assert item.title in text
        assert item.question in text


def test_a_run_names_what_to_mend_first_and_the_case_can_be_revealed(open_page, downloads):
    app = open_page(PAGE, experiment="demo/case_8")
    press(app, "Run this stage", number=3)
    finish(app)
    report = json.loads(downloads["checklist_case_8.json"])
    assert report["root_cause"] == "optimizer.updates"
    assert ITEMS["optimizer.updates"].title in app.error[0].value
    assert "The books of all parameters" in downloads["checklist_case_8.html"]
    assert not app.info
    press(app, "Reveal the mistake")
    assert "holds the head only" in app.info[0].value


def test_a_stage_is_run_alone_and_one_s_own_verdict_stands_beside_it(open_page, downloads):
    app = open_page(PAGE, experiment="demo/healthy_cnn")
    press(app, "Run this stage", number=1)
    finish(app)
    report = json.loads(downloads["checklist_healthy_cnn.json"])
    ran = {item["id"] for item in report["items"] if item["status"] != "not_run"}
    assert ran == {"model.output_shape", "model.finite", "model.init"}
    press(app, "Run this item")  # range of the pictures
    finish(app)
    report = json.loads(downloads["checklist_healthy_cnn.json"])
    assert {item["id"] for item in report["items"] if item["status"] == "pass"} == {"data.range", *ran}
    next(note for note in app.text_input if note.label == "Note").input("looked at eight of them").run()
    assert json.loads(downloads["checklist_healthy_cnn.json"])["judgements"]["data.range"]["note"].startswith("looked")


def test_a_fire_drill_says_whether_the_mistake_was_found(open_page):
    app = open_page(PAGE, look="Fire drill", mistake="A weight is not a number.")
    press(app, "Run this stage", number=1)
    finish(app)
    assert any("Found" in success.value for success in app.success)


def test_by_hand_there_is_what_to_look_at_and_nothing_to_run(open_page):
    app = open_page(PAGE, look="By hand")
    assert not any(button.label.startswith("Run") for button in app.button)
    shown = "\n".join(element.value for element in app.markdown)
    assert all(guide.look[0] in shown for guide in GUIDES.values())
    judged = next(control for control in app.button_group if control.label == "Your own verdict")
    judged.set_value("pass").run()
    assert not app.exception
    assert [expander.label for expander in app.expander if "check_circle" in expander.label] == [app.expander[0].label]
