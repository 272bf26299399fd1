"""What the checklist looks at: an experiment, a fire drill, or nothing but what a person sees for themselves."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import streamlit as st

from featviz_core.checklist.items import ITEMS
from featviz_core.checklist.report import ChecklistReport
from featviz_core.demo.experiments import DEMO_EXPERIMENTS, drill
from pages._ui import pickers

_EXPERIMENT, _DRILL, _BY_HAND = "An experiment", "Fire drill", "By hand"
_KINDS = {
    _EXPERIMENT: "Your own, or a demo whose mistake is for you to find.",
    _DRILL: "Pick a mistake, put it into a healthy demo, and watch the checklist find it.",
    _BY_HAND: "No experiment: what to look at in your own code, and a list to tick off.",
}
_BUDGETS = ("quick", "full")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at and how: `spec` as for `open_experiment`; `expected` is the item that should name a drill's
    mistake."""

    name: str
    spec: str
    version: str
    budget: str
    device: str
    expected: str = ""

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What its report is remembered by, whatever version its file is in."""
        return (self.spec, self.budget, self.device)


def choose() -> Subject | None:
    """Draw the choice, and give it; None for judging by hand."""
    kind = st.segmented_control(
        "Look at",
        list(_KINDS),
        default=_EXPERIMENT,
        required=True,
        key="look",
        bind="query-params",
        help="  \n".join(f"**{name}**: {what}" for name, what in _KINDS.items()),
    )
    if kind == _BY_HAND:
        return None
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        if kind == _DRILL:
            name, spec, version, expected = _drill()
        else:
            with st.container(width=420):
                project = pickers.experiment()
            name, spec, version, expected = project.name, project.spec, project.version, ""
        budget = st.segmented_control(
            "Budget",
            _BUDGETS,
            default=_BUDGETS[0],
            required=True,
            key="budget",
            bind="query-params",
            help="How much is looked at: quick takes seconds for a small network, full looks at ten times the labels "
            "and twice the steps.",
        )
    return Subject(name, spec, version, str(budget), _device(), expected)


def _device() -> str:
    """The chosen device; where it is left to FeatViz, the CPU: the numbers of a checklist should not depend on it."""
    device = pickers.chosen().device
    return "cpu" if device == "automatic" else device


def _drill() -> tuple[str, str, str, str]:
    with st.spinner("Reading the catalogue of mistakes …"):
        faults: dict[str, Any] = import_module("featviz_core.demo.faults").FAULTS
        setups: dict[str, Any] = import_module("featviz_core.demo.setups").SETUPS
    fault = st.selectbox(
        "Mistake",
        list(faults),
        format_func=lambda name: faults[name].title,
        key="mistake",
        bind="query-params",
        width=520,
        help=f"One of {len(faults)}. It is put into a copy of the healthy demo.",
    )
    fitting = [name for name, setup in setups.items() if setup.network in faults[fault].networks]
    setup = st.selectbox(
        "Healthy demo",
        fitting,
        format_func=lambda name: setups[name].name,
        key="setup",
        width=260,
        help="Network, optimiser and data set. Only those are listed in which the mistake can be made.",
    )
    spec = f"demo/{drill(setup, fault)}"
    return spec, spec, "", faults[fault].item


def reveal(subject: Subject) -> None:
    """For a demo case: what is wrong with it, when asked for."""
    card = DEMO_EXPERIMENTS.get(subject.spec.removeprefix("demo/"))
    if card is None or not card.fault:
        return
    key = f"reveal {card.name}"
    if not st.session_state.get(key):
        st.button(
            "Reveal the mistake",
            icon=":material/visibility:",
            on_click=lambda: st.session_state.update({key: True}),
            help="Try to find it first: run the checklist, or look with the techniques' pages.",
        )
        return
    fault = import_module("featviz_core.demo.faults").FAULTS[card.fault]
    st.info(f"{fault.title} It belongs to **{ITEMS[fault.item].title}**.", icon=":material/lightbulb:")


def judge_drill(subject: Subject, report: ChecklistReport) -> None:
    """For a fire drill: whether the checklist found the mistake."""
    if not subject.expected:
        return
    warned = next((v.id for v in report.items if v.status == "warn" and not v.explained_by), None)
    named = report.root_cause or warned
    expected = ITEMS[subject.expected].title
    if named == subject.expected:
        harmless = " It does no measurable harm in this set-up." if report[named].harmless else ""
        st.success(f"Found: **{expected}** names it first.{harmless}", icon=":material/target:")
    elif named is None and any(v.status == "not_run" for v in report.items):
        st.info(f"Not found so far. **{expected}** is the item that should name it.", icon=":material/target:")
    else:
        told = f"**{ITEMS[named].title}** is named first" if named else "nothing is named"
        st.warning(f"**{expected}** should name it, but {told}.", icon=":material/target:")
