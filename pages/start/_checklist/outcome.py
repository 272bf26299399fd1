"""What to mend first, what changed since the last time, and the report to take away."""

from __future__ import annotations

import streamlit as st

from featviz_core.checklist.items import ITEMS
from featviz_core.checklist.recheck import changes
from featviz_core.checklist.report import ChecklistReport
from pages.start._checklist import runs
from pages.start._checklist.subjects import Subject
from pages.start._checklist.texts import ICONS, escaped


def draw(subject: Subject, report: ChecklistReport) -> None:
    """The headline, the difference, the downloads."""
    show = st.error if report.failed else st.success
    show(escaped(report.headline()), icon=":material/flag:" if report.failed else ":material/check:")
    _difference(subject, report)
    name = subject.name.removeprefix("demo/").partition(".")[0].replace(":", "_").replace("+", "_")
    with st.container(horizontal=True, vertical_alignment="center"):
        for form, ending, mime, write in (
            ("HTML", "html", "text/html", report.to_html),
            ("Markdown", "md", "text/markdown", report.to_markdown),
            ("JSON", "json", "application/json", report.to_json),
        ):
            st.download_button(
                form,
                write(),
                f"checklist_{name}.{ending}",
                mime,
                icon=":material/download:",
                on_click="ignore",
                help=f"The whole report as {form}, with your own verdicts.",
            )
        st.caption(f"{report.seconds:.1f} s")


def _difference(subject: Subject, report: ChecklistReport) -> None:
    """Items that came out otherwise than the time before."""
    before = runs.before(subject)
    if before is None:
        return
    changed = [(old, new) for old, new in changes(before, report) if old.status != "not_run" or new.status == "fail"]
    if not changed:
        st.caption("Since the last time, nothing came out otherwise.")
        return
    st.markdown("**Since the last time**")
    for old, new in changed:
        st.markdown(f"{ICONS[old.status]} → {ICONS[new.status]} {ITEMS[new.id].title}: {escaped(new.summary)}")


def command_line(subject: Subject) -> None:
    """The same without the app."""
    st.caption("The same on the command line, with an exit code for automatic checks:")
    budget = "" if subject.budget == "quick" else f" --budget {subject.budget}"
    st.code(f"python -m featviz_core checklist {subject.name}{budget} --html report.html", language="bash")
