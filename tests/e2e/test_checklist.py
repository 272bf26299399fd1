"""The checklist in a real browser: a stage is run, its report opened, and a fire drill finds what was put in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from featviz_core.demo.faults import FAULTS

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser


def test_a_stage_is_run_and_the_report_opens_as_a_page_of_its_own(visitor: Visitor) -> None:
    visitor.opens("checklist?" + urlencode({"experiment": "demo/case_8"}))
    visitor.page.locator(".st-key-run-optimizer button").first.click()
    visitor.page.get_by_text("Mend this first: Parameters update").first.wait_for(timeout=120_000)
    visitor.rests()
    name, html = visitor.downloads("HTML")
    assert name == "checklist_case_8.html"
    visitor.page.get_by_role("button", name="Reveal the mistake").click()
    visitor.page.get_by_text("The optimiser holds the head only.").wait_for()
    visitor.page.set_content(html.decode())
    visitor.page.get_by_text("The books of all parameters").wait_for()
    assert visitor.page.locator("details").count() == 15


def test_a_fire_drill_finds_what_was_put_in(visitor: Visitor) -> None:
    visitor.opens("checklist?" + urlencode({"look": "Fire drill", "mistake": FAULTS["negative_loss"].title}))
    visitor.page.locator(".st-key-run-loss button").first.click()
    visitor.page.get_by_text("Found: First loss names it first.").wait_for(timeout=120_000)
    visitor.page.get_by_role("button", name="Mended? Check again").first.wait_for()
