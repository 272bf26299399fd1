"""The reports of a session: what is asked for, what came back, and what changed since the time before."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import replace
from typing import Any

import streamlit as st

from featviz_core.checklist.items import ITEMS
from featviz_core.checklist.recheck import merged
from featviz_core.checklist.report import ChecklistReport, Judgement
from pages._ui import jobs
from pages.start._checklist.subjects import Subject

_KIND = "checklist"
_RUN = "featviz_core.checklist.runner:check_file"


def begin(subject: Subject, items: Collection[str] | None = None) -> None:
    """Ask for all items, or for some."""
    number = st.session_state["checklist runs"] = st.session_state.get("checklist runs", 0) + 1
    asked = tuple(items) if items is not None else None
    options: dict[str, Any] = {"budget": subject.budget, "device": subject.device, "items": asked}
    jobs.begin((_KIND, subject.key, asked, number), _RUN, subject.spec, **options)


def working(subject: Subject) -> Hashable:
    """The key of the run that goes on for this subject; None where there is none."""
    return jobs.running(_KIND, subject.key)


def report_of(subject: Subject) -> ChecklistReport | None:
    """The newest report, with what a person says of it; None before the first run."""
    _take_answers()
    found: list[ChecklistReport] = _kept().get(subject.key, [])
    return replace(found[-1], subject=subject.name, judgements=judgements(subject)) if found else None


def before(subject: Subject) -> ChecklistReport | None:
    """The report of the time before, to compare with."""
    found = _kept().get(subject.key, [])
    return found[-2] if len(found) > 1 else None


def start(subject: Subject, report: ChecklistReport | None) -> None:
    """The button that runs everything."""
    st.button(
        "Run the checklist" if report is None else "Run all again",
        type="primary" if report is None else "secondary",
        icon=":material/play_arrow:" if report is None else ":material/refresh:",
        on_click=begin,
        args=(subject,),
        help="Makes the experiment anew in a process of its own, as often as it takes; nothing of yours is changed. "
        "A changed file is read anew.",
    )


def judgements(subject: Subject | None) -> dict[str, Judgement]:
    """A person's own verdicts by item, as far as there are any."""
    kept: dict[tuple[Hashable, str], Judgement] = st.session_state.get("checklist judgements", {})
    about = subject.spec if subject else None
    return {item: kept[about, item] for item in ITEMS if (about, item) in kept}


def judge(subject: Subject | None, item: str, judgement: Judgement) -> None:
    """Keep a person's own verdict; an empty one is forgotten."""
    kept = st.session_state.setdefault("checklist judgements", {})
    about = subject.spec if subject else None
    if str(judgement):
        kept[about, item] = judgement
    else:
        kept.pop((about, item), None)


def _kept() -> dict[Hashable, list[ChecklistReport]]:
    kept: dict[Hashable, list[ChecklistReport]] = st.session_state.setdefault("checklist reports", {})
    return kept


def _take_answers() -> None:
    """Put what came back since the last look into the reports: a run of some items into the report of all."""
    for key, report in jobs.answers(_KIND).items():
        taken = st.session_state.setdefault("checklist taken", set())
        if key in taken:
            continue
        taken.add(key)
        _, about, asked, _number = key  # type: ignore[misc]
        reports = _kept().setdefault(about, [])
        new = merged(reports[-1], report, asked) if asked is not None and reports else report
        _kept()[about] = [*reports[-1:], new]
