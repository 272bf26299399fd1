"""The training monitor in a real browser: a training that goes on while its owner is elsewhere."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING

import pytest

import featviz_core as fv

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser

_STEP = re.compile(r"Epoch \d+ of 500, step (\d+)")


def step_of(visitor: Visitor) -> int:
    visitor.page.get_by_text(_STEP).first.wait_for()
    found = _STEP.search(visitor.says())
    assert found
    return int(found[1])


def test_a_training_goes_on_elsewhere_and_leaves_a_run(visitor: Visitor) -> None:
    page = visitor.page
    visitor.opens("training_monitor?look_at=train+here&experiment=demo%2Fhealthy_cnn&epochs=500")
    page.get_by_role("button", name="Start training").click()
    before = step_of(visitor)
    visitor.clicks_link("Data check")
    visitor.clicks_link("Training monitor")
    after = step_of(visitor)
    assert after > before

    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused.").wait_for()
    page.reload()
    page.get_by_text("Paused.").wait_for()
    assert step_of(visitor) >= after
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="healthy_cnn-1 as a zip").wait_for()
    visitor.rests()
    name, data = visitor.downloads("healthy_cnn-1 as a zip")
    assert name == "healthy_cnn-1.zip"
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    run = fv.read_run({name: data})
    assert len(run.scalars["loss/train"]) >= after
    assert "It was stopped after" in visitor.says()
