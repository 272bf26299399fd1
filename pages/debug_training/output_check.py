"""Is what the model gives right? A verdict, what is wrong and what to do, and the answer to every picture."""

from __future__ import annotations

from functools import partial

import streamlit as st

from featviz_core.about import About
from featviz_core.findings import Finding
from featviz_core.techniques.output_check import ModelOutput
from pages._ui import pickers, show
from pages.debug_training._output_check import answers, sources, tabs
from pages.debug_training._output_check.view import View

_SOURCES = {"pictures": sources.pictures, "Shapes with labels": sources.shapes, "an experiment": sources.experiment}
_DRAW = {"fail": st.error, "warn": st.warning, "note": st.info}
_ICONS = {
    "ok": ":green[:material/check:]",
    "note": ":blue[:material/info:]",
    "warn": ":orange[:material/warning:]",
    "fail": ":red[:material/close:]",
}
_WORDS = {"fail": ("failure", "failures"), "warn": ("warning", "warnings"), "note": ("note", "notes")}


def page() -> None:
    about = show.header("output_check")
    source = st.segmented_control(
        "Check the output for",
        list(_SOURCES),
        default="pictures",
        required=True,
        key="source",
        bind="query-params",
        help="The pictures in the picker, with the model in the picker; the same model on pictures of the bundled data "
        "set, whose labels are known; or an experiment's own model, data and loss.",
    )
    view = _SOURCES[source](pickers.chosen())
    if view is None:
        st.divider()
        show.how_to_read(about)
        return
    verdict(view.found)
    left, right = st.columns([5, 3], gap="large")
    with left:
        findings(view.found)
        tested(view.found)
    with right:
        numbers(view.found)
    if view.found.logits.size:
        answers.draw(view)
    show.tabs(parts(view, about))


def parts(view: View, about: About) -> dict[str, partial[None]]:
    """What stands behind the tabs."""
    found = {"How to read this": partial(show.how_to_read, about)}
    if view.found.logits.size:
        found["Scores"] = partial(tabs.scores, view)
        found["Confidence"] = partial(tabs.confidence, view)
    if view.found.labelled is not None:
        found["Against labels"] = partial(tabs.against_labels, view)
    return found | {"By layer": partial(tabs.by_layer, view), "Take away": partial(tabs.take_away, view)}


def verdict(found: ModelOutput) -> None:
    """One line that says whether all is well."""
    counts = {severity: sum(f.severity == severity for f in found.findings) for severity in _WORDS}
    said = [f"{count} {_WORDS[name][count > 1]}" for name, count in counts.items() if count]
    tests = f"{len(found.tests)} tests of the model's output"
    if not counts["fail"] and not counts["warn"]:
        text = f"**Nothing wrong was found** by {tests}." + (f" {said[0].capitalize()}." if said else "")
        st.success(text, icon=":material/check_circle:")
    elif counts["fail"]:
        st.error(f"**{', '.join(said)}** from {tests}.", icon=":material/cancel:")
    else:
        st.warning(f"**{', '.join(said)}** from {tests}.", icon=":material/warning:")


def findings(found: ModelOutput) -> None:
    """What is wrong, the worst first, and what to do about it."""
    for finding in found.findings:
        if finding.severity != "ok":
            where = f"\n\nWhere: `{finding.where}`" if finding.where else ""
            remedy = f"\n\n:material/build: {finding.remedy}" if finding.remedy else ""
            _DRAW[finding.severity](f"**{finding.title}.** {finding.detail}{where}{remedy}")


def tested(found: ModelOutput) -> None:
    """Everything that was tested, with what was measured and what is healthy."""
    rows = {
        "": [_ICONS[test.severity] for test in found.tests],
        "tested": [test.title for test in found.tests],
        "measured": [_measured(test) for test in found.tests],
        "healthy": [test.evidence.get("healthy", "") for test in found.tests],
    }
    st.table(rows, hide_index=True, border="horizontal")
    if found.behaviour is not None:
        for text in found.behaviour.untested:
            st.caption(f"Not tested: {text}")


def _measured(test: Finding) -> str:
    shown = []
    for name, value in test.evidence.items():
        if name != "healthy" and value != "" and value == value:
            number = f"{value:.3g}" if isinstance(value, float) else str(value)
            shown.append(f"{name.replace('_', ' ')} {number}")
    return ", ".join(shown)


def numbers(found: ModelOutput) -> None:
    """The table that belongs at the start of every hunt for a bug."""
    rows = {
        "shape": str(found.shape),
        "mean": f"{found.mean:.4g}",
        "std": f"{found.std:.4g}",
        "min": f"{found.min:.4g}",
        "max": f"{found.max:.4g}",
        "NaN": "yes" if found.has_nan else "none",
        "infinity": "yes" if found.has_inf else "none",
    }
    if found.labelled is not None:
        rows["loss"] = f"{found.labelled.loss:.4g}"
        rows["loss of knowing nothing"] = f"{found.labelled.uniform_loss:.4g}"
        rows["accuracy"] = f"{found.labelled.accuracy:.1%}"
    rows = {name: "not known" if value.startswith("nan") else value for name, value in rows.items()}
    st.table({"the model's output": list(rows), "value": list(rows.values())}, hide_index=True, border="horizontal")


page()
