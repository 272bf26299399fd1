"""A checklist's report as Markdown: a table for each stage, and the evidence of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from featviz_core.checklist.items import ITEMS, STAGES
from featviz_core.checklist.report import SIGNS, ChecklistReport, Verdict, evidence_rows


def written(report: ChecklistReport) -> str:
    """The report for a pull request."""
    lines = ["# Debug checklist", "", report.headline(), ""]
    lines += [report.subject, ""] if report.subject else []
    for stage, title in STAGES.items():
        lines += [f"## {title}", "", "| | item | outcome | certainty |", "|---|---|---|---|"]
        lines += [_row(report, v) for v in report.stage(stage)]
        lines.append("")
    for v in report.items:
        if v.status in ("warn", "fail"):
            lines += [f"### {v.title}", "", *_details(v), ""]
    return "\n".join(lines)


def _row(report: ChecklistReport, v: Verdict) -> str:
    said = v.summary + (f" Explained by {ITEMS[v.explained_by].title}." if v.explained_by else "")
    if judgement := report.judgements.get(v.id):
        said += f" By hand: {judgement}"
    grade = (v.grade or "not run") + (", harmless here" if v.harmless else "")
    return f"| {SIGNS[v.status]} | {v.title} | {_cell(said)} | {grade} |"


def _details(v: Verdict) -> Iterator[str]:
    for name, value, healthy in evidence_rows(v):
        if "\n" in value:
            yield f"- {name}:\n\n```\n{value}\n```"
        else:
            yield f"- {name}: {value}" + (f" (healthy: {healthy})" if healthy else "")
    for trial in v.trials:
        figures = f"{trial.figure} {trial.before:.4g} before, {trial.after:.4g} after"
        yield f"- tried {trial.name} ({trial.changed}): {figures}"
    if v.remedy:
        yield f"\n{v.remedy}"
    if v.fix:
        yield f"\n```python\n{v.fix}\n```"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
