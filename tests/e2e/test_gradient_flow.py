"""The gradient flow in a real browser: findings lead to their layers, and steps show while they run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from featviz_core.demo.experiments import DEMO_EXPERIMENTS

if TYPE_CHECKING:
    from tests.e2e.app_driver import Visitor

pytestmark = pytest.mark.browser

_TRAINING = "an experiment's training"


def test_steps_show_while_they_run_and_a_finding_leads_to_its_layer(visitor: Visitor) -> None:
    visitor.opens("gradient_flow?" + urlencode({"flow": _TRAINING, "experiment": "demo/fine_tuning", "steps": 50}))
    start = visitor.page.get_by_role("button", name="Train and watch")
    start.click()
    visitor.page.get_by_text("gradient ‖g‖ so far").wait_for()
    visitor.page.get_by_role("button", name="Stop").click()
    start.wait_for()
    assert "steps of the optimiser" not in visitor.says()

    forgotten = next(name for name, card in DEMO_EXPERIMENTS.items() if card.fault == "only_head_in_optimizer")
    visitor.picks("Experiment", f"demo/{forgotten}")
    visitor.page.get_by_role("radio", name="8", exact=True).click()
    visitor.rests()
    start.click()
    visitor.page.get_by_text("The optimiser does not hold all that should learn").wait_for()
    visitor.rests()
    visitor.opens_tab("Take away")
    name, data = visitor.downloads("Everything as JSON")
    assert name.startswith("gradient_history_demo_case")
    assert len(json.loads(data)["losses"]) == 8
    visitor.page.get_by_role("button", name="0 Conv2d").click()
    visitor.page.get_by_role("heading", name="Feature maps", level=1).wait_for()
    visitor.rests()
    visitor.comes_to_see(Layer="0", Model=f"demo/{forgotten}")


def test_a_link_holds_the_class_that_the_loss_asks_for(visitor: Visitor) -> None:
    visitor.opens("gradient_flow")
    visitor.picks("Loss for", "circle")
    visitor.page.get_by_text("The gradient reaches every layer").wait_for()
    assert "towards=circle" in visitor.page.url
