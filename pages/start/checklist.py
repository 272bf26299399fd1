"""The debug checklist: choose what to look at, walk the fifteen items on fresh copies of it, mend what comes first."""

from __future__ import annotations

import streamlit as st

from featviz_core.checklist.items import STAGES
from pages._ui import jobs
from pages.start._checklist import outcome, runs, subjects, walk


def page() -> None:
    st.title("Debug checklist", anchor=False)
    st.markdown(":gray[Why doesn't it train? Fifteen items, in the order in which a mistake is best looked for.]")
    subject = subjects.choose()
    if subject is None:
        walk.by_hand()
        return
    working = runs.working(subject)
    report = runs.report_of(subject)
    with st.container(horizontal=True, vertical_alignment="center"):
        if working is None:
            runs.start(subject, report)
        subjects.reveal(subject)
    if working is not None:
        jobs.answer(working, walk.so_far)
    elif report is not None:
        subjects.judge_drill(subject, report)
        outcome.draw(subject, report)
    if working is None:
        for stage in STAGES:
            walk.stage(subject, stage, report)
        outcome.command_line(subject)


page()
