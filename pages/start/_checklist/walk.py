"""The guided walk: five stages of three items, each with its question, its verdict and what stands behind it."""

from __future__ import annotations

import streamlit as st

from featviz_core.checklist.guide import GUIDES, STAGE_REASONS, START
from featviz_core.checklist.items import ITEMS, STAGES, Item
from featviz_core.checklist.recheck import depending
from featviz_core.checklist.report import GRADES, JUDGED, NOT_ASKED, ChecklistReport, Judgement, Verdict, evidence_rows
from pages._ui import menu
from pages.start._checklist import exhibits, runs
from pages.start._checklist.subjects import Subject
from pages.start._checklist.texts import ICONS, escaped


def stage(subject: Subject, name: str, report: ChecklistReport | None) -> None:
    """A stage's heading with its button, and its items."""
    items = [item for item in ITEMS.values() if item.stage == name]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(STAGES[name], anchor=False, width="stretch")
        st.button(
            "Run this stage",
            key=f"run {name}",
            icon=":material/play_arrow:",
            type="tertiary",
            on_click=runs.begin,
            args=(subject, [item.id for item in items]),
            help="These three items only. What the others found stays.",
        )
    st.caption(STAGE_REASONS[name])
    for item in items:
        verdict = report[item.id] if report is not None else None
        with st.expander(_title(item, verdict), expanded=_needs_reading(verdict)):
            _inside(subject, item, verdict)


def so_far(verdicts: list[Verdict]) -> None:
    """What is known while the others are still being looked at."""
    known = {verdict.id: verdict for verdict in verdicts}
    for item in ITEMS.values():
        if item.id in known:
            st.markdown(_title(item, known[item.id]))


def by_hand() -> None:
    """The fifteen items without an experiment: what to look at, and one's own verdict."""
    said = runs.judgements(None)
    done = sum(judgement.status is not None for judgement in said.values())
    st.progress(done / len(ITEMS), f"{done} of {len(ITEMS)} items judged")
    st.markdown("The code below goes on from these lines:")
    st.code(START, language="python")
    for name, title in STAGES.items():
        st.subheader(title, anchor=False)
        st.caption(STAGE_REASONS[name])
        for item in ITEMS.values():
            if item.stage == name:
                judged = said.get(item.id)
                icon = ICONS[(judged.status if judged else None) or "not_run"]
                with st.expander(f"{icon} **{item.title}** {item.question}"):
                    _guide(item)
                    _own_verdict(None, item)


def _title(item: Item, verdict: Verdict | None) -> str:
    if verdict is None or verdict.summary == NOT_ASKED:
        return f"{ICONS['not_run']} **{item.title}** :gray[{item.question}]"
    because = f" :gray[Explained by {ITEMS[verdict.explained_by].title}.]" if verdict.explained_by else ""
    harmless = " :gray-badge[harmless here]" if verdict.harmless else ""
    return f"{ICONS[verdict.status]} **{item.title}** {escaped(verdict.summary)}{because}{harmless}"


def _needs_reading(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.status == "fail" and not verdict.explained_by


def _inside(subject: Subject, item: Item, verdict: Verdict | None) -> None:
    st.markdown(f":gray[{item.question}]")
    if verdict is not None:
        _evidence(verdict)
    if verdict is None or verdict.status == "not_run":
        _guide(item)
    elif verdict.status == "pass":
        st.caption(f"Healthy: {GUIDES[item.id].healthy}")
    _own_verdict(subject, item)
    with st.container(horizontal=True, vertical_alignment="center"):
        wrong = verdict is not None and verdict.status in ("warn", "fail")
        st.button(
            "Mended? Check again" if wrong else "Run this item",
            key=f"run {item.id}",
            icon=":material/refresh:" if wrong else ":material/play_arrow:",
            on_click=runs.begin,
            args=(subject, depending(item.id) if wrong else [item.id]),
            help="Runs this item and all that depend on it, and shows what came out otherwise."
            if wrong
            else "Runs this item only. What the others found stays.",
        )
        _deep_link(subject, item, verdict)


def _evidence(verdict: Verdict) -> None:
    """The numbers and pictures, what was tried, what it means and what to do."""
    if verdict.grade is not None:
        st.markdown(f"Certainty: **{verdict.grade}**, {GRADES[verdict.grade]}.")
    wrong = verdict.status in ("warn", "fail")
    if wrong:
        st.markdown(f"**What it means.** {GUIDES[verdict.id].means}")
        if verdict.remedy:
            st.markdown(f"**What to do.** {verdict.remedy}")
        if verdict.fix:
            st.code(verdict.fix, language="python")
    numbers, drawn = st.columns([2, 3], gap="large") if verdict.exhibits else (st.container(), None)
    with numbers:
        rows = [row for row in evidence_rows(verdict) if row[0] != "trace"]
        if rows:
            table = dict(zip(("", "measured", "healthy"), map(list, zip(*rows, strict=True)), strict=True))
            st.table({name: column for name, column in table.items() if any(column)}, hide_index=True)
        if trace := verdict.evidence.get("trace"):
            st.code(trace, language=None)
        exhibits.trials(verdict.trials)
    if drawn is not None:
        with drawn:
            for exhibit in verdict.exhibits:
                exhibits.draw(exhibit)


def _guide(item: Item) -> None:
    """How to look at it oneself."""
    guide = GUIDES[item.id]
    st.markdown(f"**Healthy.** {guide.healthy}\n\n**Otherwise.** {guide.means}")
    st.markdown("**Look:**\n" + "\n".join(f"- {step}" for step in guide.look))
    st.code(guide.code, language="python")


def _own_verdict(subject: Subject | None, item: Item) -> None:
    """A person's verdict and note beside what was measured."""
    known = runs.judgements(subject).get(item.id, Judgement())
    about = subject.spec if subject else "by hand"
    keys = f"judged {about} {item.id}", f"note {about} {item.id}"

    def keep() -> None:
        runs.judge(subject, item.id, Judgement(st.session_state[keys[0]], st.session_state[keys[1]].strip()))

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "Your own verdict",
            list(JUDGED),
            default=known.status,
            format_func=lambda status: f"{ICONS[status]} {JUDGED[status]}",
            key=keys[0],
            on_change=keep,
            help="Stands beside the measured one, here and in the report.",
        )
        st.text_input(
            "Note", known.note, key=keys[1], on_change=keep, max_chars=300, help="Why you think so.", width="stretch"
        )


def _deep_link(subject: Subject, item: Item, verdict: Verdict | None) -> None:
    guide = GUIDES[item.id]
    query = {**guide.query, **(verdict.query if verdict is not None else {})}
    if not subject.expected:  # the pickers know no drills
        query["experiment"] = subject.name
    page = menu.page_of(guide.page)
    st.page_link(
        page,
        label=f"Look at it on the page {guide.page.replace('_', ' ')}",
        icon=":material/arrow_forward:",
        query_params=query,
    )
