"""The debug checklist: choose an experiment, run the fifteen items on fresh copies of it, read what to mend first."""

from __future__ import annotations

import streamlit as st

from featviz_core.checklist.items import ITEMS, STAGES, Item
from featviz_core.checklist.report import ChecklistReport, Verdict, evidence_rows
from pages._ui import jobs, pickers
from pages._ui.project import Project

_RUN = "featviz_core.checklist.runner:check_file"
_BUDGETS = ("quick", "full")
_ICONS = {
    "pass": ":green[:material/check_circle:]",
    "warn": ":orange[:material/warning:]",
    "fail": ":red[:material/cancel:]",
    "not_run": ":gray[:material/radio_button_unchecked:]",
}
_GRADES = {
    "proven": "shown by something that holds without exception",
    "statistical": "outside of the range of healthy training runs",
    "heuristic": "a rule of thumb",
}


def page() -> None:
    st.title("Debug checklist", anchor=False)
    st.markdown(":gray[Why doesn't it train? Fifteen items, in the order in which a mistake is best looked for.]")
    with st.container(horizontal=True, gap="medium"):
        with st.container(width=420):
            project = pickers.experiment()
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
    key = ("checklist", project.name, project.version, budget, pickers.chosen().device)
    report: ChecklistReport | None = jobs.ask(
        key,
        _RUN,
        project.spec,
        start="Run the checklist",
        help="Makes the experiment anew in a process of its own, as often as it takes; nothing of yours is changed.",
        budget=budget,
        device=_device(),
    )
    if report is not None:
        outcome(report, key, project)
    for stage, title in STAGES.items():
        st.subheader(title, anchor=False)
        for item in ITEMS.values():
            if item.stage == stage:
                line(item, report[item.id] if report is not None else None)
    st.caption("The same on the command line, with an exit code for automatic checks:")
    st.code(f"python -m featviz_core checklist {project.name} --html report.html", language="bash")


def _device() -> str:
    """The chosen device; where it is left to FeatViz, the CPU: the numbers of a checklist should not depend on it."""
    device = pickers.chosen().device
    return "cpu" if device == "automatic" else device


def outcome(report: ChecklistReport, key: tuple[str, ...], project: Project) -> None:
    """What to mend first, and the report to take away."""
    show = st.error if report.failed else st.success
    show(report.headline(), icon=":material/flag:" if report.failed else ":material/check:")
    if report.root_cause is not None:
        st.markdown(f"**What to do.** {report[report.root_cause].remedy}")
    name = project.name.removeprefix("demo/").partition(".")[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        for form, ending, mime, text in (
            ("HTML", "html", "text/html", report.to_html()),
            ("Markdown", "md", "text/markdown", report.to_markdown()),
            ("JSON", "json", "application/json", report.to_json()),
        ):
            st.download_button(
                form,
                text,
                f"checklist_{name}.{ending}",
                mime,
                icon=":material/download:",
                on_click="ignore",
                help=f"The whole report as {form}.",
            )
        st.button(
            "Run again",
            icon=":material/refresh:",
            on_click=jobs.again,
            args=(key,),
            help="Forgets this report. A changed file is read anew.",
        )
        st.caption(f"{report.seconds:.1f} s")


def line(item: Item, verdict: Verdict | None) -> None:
    """One item: its question before it was run, afterwards its verdict, with the evidence to open."""
    if verdict is None:
        st.markdown(f":gray[:material/radio_button_unchecked:] **{item.title}** :gray[{item.question}]")
        return
    because = f" :gray[Explained by {ITEMS[verdict.explained_by].title}.]" if verdict.explained_by else ""
    harmless = " :gray-badge[harmless here]" if verdict.harmless else ""
    text = f"{_ICONS[verdict.status]} **{item.title}** {_escaped(verdict.summary)}{because}{harmless}"
    if verdict.grade is None and not verdict.evidence:
        st.markdown(text)
        return
    with st.expander(text, expanded=verdict.status == "fail" and not verdict.explained_by):
        st.markdown(f":gray[{item.question}]")
        if verdict.grade is not None:
            st.markdown(f"Certainty: **{verdict.grade}**, {_GRADES[verdict.grade]}.")
        rows = [row for row in evidence_rows(verdict) if row[0] != "trace"]
        if rows:
            columns = map(list, zip(*rows, strict=True))
            st.table(dict(zip(("", "measured", "healthy"), columns, strict=True)), hide_index=True)
        if trace := verdict.evidence.get("trace"):
            st.code(trace, language=None)
        if verdict.remedy and verdict.status in ("warn", "fail"):
            st.markdown(f"**What to do.** {verdict.remedy}")


def _escaped(text: str) -> str:
    """Text of the user's own, such as layer names, that must not be taken for Markdown."""
    return text.replace("_", "\\_").replace("*", "\\*").replace("[", "\\[").replace("$", "\\$")


page()
