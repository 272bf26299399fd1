"""What a checklist found, and its three written forms."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from featviz_core.checklist.exhibits import Exhibit, Trial
from featviz_core.checklist.items import EXPLAINS, ITEMS, STAGES

Status = Literal["pass", "warn", "fail", "not_run"]
Grade = Literal["proven", "statistical", "heuristic"]

SCHEMA = 1
SIGNS: dict[str, str] = {"pass": "✓", "warn": "!", "fail": "✗", "not_run": "–"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item.

    `grade` says how certain it is, None where not run; `evidence` holds numbers, with their healthy range where they
    have one (`exhibits.measured`); `harmless`: a proven mistake without measurable effect here; `explained_by`: the
    item whose fail explains this one. `remedy` says what to do and `fix` shows it, a few lines of Python; `exhibits`
    are to be looked at, `trials` are the short experiments that confirmed it. `query` opens the technique's page on
    the evidence, such as `{"layer": "features.3"}`.
    """

    id: str
    status: Status
    summary: str
    grade: Grade | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""
    harmless: bool = False
    explained_by: str | None = None
    fix: str = ""
    exhibits: tuple[Exhibit, ...] = ()
    trials: tuple[Trial, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The item's name."""
        return ITEMS[self.id].title


@dataclass(frozen=True, slots=True)
class ChecklistReport:
    """The fifteen verdicts in the checklist's order, and how long they took."""

    items: tuple[Verdict, ...]
    seconds: float

    def __getitem__(self, item_id: str) -> Verdict:
        return next(verdict for verdict in self.items if verdict.id == item_id)

    @property
    def root_cause(self) -> str | None:
        """The first item to mend: the first fail that no other fail explains."""
        return next((v.id for v in self.items if v.status == "fail" and v.explained_by is None), None)

    @property
    def failed(self) -> bool:
        """Whether any item failed."""
        return any(verdict.status == "fail" for verdict in self.items)

    def headline(self) -> str:
        """The outcome in one sentence."""
        if self.root_cause is not None:
            return f"Mend this first: {self[self.root_cause].title}. {self[self.root_cause].summary}"
        counts = {status: sum(v.status == status for v in self.items) for status in ("pass", "warn", "not_run")}
        return f"No fail: {counts['pass']} passed, {counts['warn']} with a warning, {counts['not_run']} not run."

    def to_json(self) -> str:
        """The report for programs, schema 1."""
        items = [_for_programs(v) for v in self.items]
        content = {"schema": SCHEMA, "seconds": round(self.seconds, 2), "root_cause": self.root_cause, "items": items}
        return json.dumps(content, indent=2, ensure_ascii=False, default=_plain)

    def to_markdown(self) -> str:
        """The report for a pull request."""
        lines = ["# Debug checklist", "", self.headline(), ""]
        for stage, title in STAGES.items():
            lines += [f"## {title}", "", "| | item | outcome | certainty |", "|---|---|---|---|"]
            for v in self._of(stage):
                said = v.summary + (f" Explained by {ITEMS[v.explained_by].title}." if v.explained_by else "")
                lines.append(f"| {SIGNS[v.status]} | {v.title} | {_cell(said)} | {v.grade or 'not run'} |")
            lines.append("")
        for v in self.items:
            if v.remedy and v.status in ("warn", "fail"):
                lines += [f"### {v.title}", "", *_evidence_lines(v), "", v.remedy, ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """The report as one page that needs nothing else."""
        rows: list[str] = []
        for stage, title in STAGES.items():
            rows.append(f'<tr class="stage"><th colspan="3">{html.escape(title)}</th></tr>')
            rows += [_row(v) for v in self._of(stage)]
        return _PAGE.format(
            headline=html.escape(self.headline()),
            kind="fail" if self.failed else "pass",
            rows="\n".join(rows),
            seconds=f"{self.seconds:.1f}",
        )

    def _of(self, stage: str) -> list[Verdict]:
        return [verdict for verdict in self.items if ITEMS[verdict.id].stage == stage]


def explained(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts, each fail and warning with the failed item that explains it, traced back to the first one."""
    failed = {verdict.id for verdict in verdicts if verdict.status == "fail"}

    def origin(item: str, seen: frozenset[str] = frozenset()) -> str | None:
        causes = [cause for cause, others in EXPLAINS.items() if item in others and cause in failed - seen - {item}]
        return (origin(causes[0], seen | {item}) or causes[0]) if causes else None

    def explain(v: Verdict) -> Verdict:
        if v.status == "pass" or (v.status == "not_run" and v.explained_by is None):
            return v
        nearest = v.explained_by
        return replace(v, explained_by=(origin(nearest) or nearest) if nearest else origin(v.id))

    return tuple(map(explain, verdicts))


def _for_programs(v: Verdict) -> dict[str, Any]:
    """The documented keys. What is only to be looked at stays out; what was tried is evidence."""
    tried = {"tried": [asdict(trial) for trial in v.trials]} if v.trials else {}
    return {
        "id": v.id,
        "title": v.title,
        "status": v.status,
        "grade": v.grade,
        "harmless": v.harmless,
        "summary": v.summary,
        "evidence": {**v.evidence, **tried},
        "remedy": "\n\n".join(filter(None, (v.remedy, v.fix))),
        "explained_by": v.explained_by,
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value[:8]) + (" …" if len(value) > 8 else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return str(value)


def evidence_rows(verdict: Verdict) -> list[tuple[str, str, str]]:
    """The evidence in words: what was measured, its value, and where it is healthy, empty where nobody said."""
    rows: list[tuple[str, str, str]] = []
    for name, value in verdict.evidence.items():
        if isinstance(value, Mapping) and set(value) == {"value", "healthy"}:
            rows.append((name.replace("_", " "), _shown(value["value"]), _healthy(value["healthy"])))
        else:
            rows.append((name.replace("_", " "), _shown(value), ""))
    return rows


def _healthy(limits: Any) -> str:
    if not isinstance(limits, list | tuple):
        return _shown(limits)
    low, high = limits
    if low is None:
        return f"at most {_shown(high)}"
    return f"at least {_shown(low)}" if high is None else f"{_shown(low)} to {_shown(high)}"


def _evidence_lines(verdict: Verdict) -> list[str]:
    return [
        f"- {name}: {value}" + (f" (healthy: {healthy})" if healthy else "")
        for name, value, healthy in evidence_rows(verdict)
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(v: Verdict) -> str:
    details = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(f'{value} (healthy: {healthy})' if healthy else value)}</dd>"
        for name, value, healthy in evidence_rows(v)
    )
    remedy = f'<p class="remedy">{html.escape(v.remedy)}</p>' if v.remedy and v.status in ("warn", "fail") else ""
    because = f"<p>Explained by: {html.escape(ITEMS[v.explained_by].title)}</p>" if v.explained_by else ""
    grade = v.grade or "not run"
    return (
        f'<tr class="{v.status}"><td class="sign">{SIGNS[v.status]}</td><td>{html.escape(v.title)}'
        f"<small>{grade}{', harmless here' if v.harmless else ''}</small></td>"
        f"<td><p>{html.escape(v.summary)}</p>{because}{remedy}"
        f"{f'<dl>{details}</dl>' if details else ''}</td></tr>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Debug checklist</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --line: #8884; --pass: #1a7f4b; --warn: #a66a00; --fail: #c5283d; }}
@media (prefers-color-scheme: dark) {{ :root {{ --pass: #4cc38a; --warn: #e0a33a; --fail: #ff6b7d; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ margin-bottom: .25rem }} .headline {{ border-left: .3rem solid var(--{kind}); padding: .5rem 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td {{ vertical-align: top; border-top: 1px solid var(--line); padding: .5rem }}
.stage th {{ text-align: left; padding: 1.5rem .5rem .25rem }} .sign {{ font-weight: bold; width: 1.5rem }}
td:nth-child(2) {{ width: 13rem; font-weight: 600 }} small {{ display: block; font-weight: normal; opacity: .7 }}
p {{ margin: 0 0 .35rem }} .remedy {{ white-space: pre-wrap }}
.pass .sign {{ color: var(--pass) }} .warn .sign {{ color: var(--warn) }} .fail .sign {{ color: var(--fail) }}
.not_run {{ opacity: .65 }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; margin: .25rem 0; font-size: .9em }}
dt {{ opacity: .7 }} dd {{ margin: 0; overflow-wrap: anywhere }}
</style></head><body>
<h1>Debug checklist</h1>
<p class="headline">{headline}</p>
<table>{rows}</table>
<p><small>Worked out in {seconds} s by FeatViz, on fresh copies of the experiment.</small></p>
</body></html>
"""
