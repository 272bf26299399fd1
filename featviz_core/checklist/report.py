"""What a checklist found, and its written forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from featviz_core.checklist.exhibits import Exhibit, Trial
from featviz_core.checklist.items import EXPLAINS, ITEMS

Status = Literal["pass", "warn", "fail", "not_run"]
Grade = Literal["proven", "statistical", "heuristic"]

SCHEMA = 1
SIGNS: dict[str, str] = {"pass": "✓", "warn": "!", "fail": "✗", "not_run": "–"}
GRADES: dict[str, str] = {
    "proven": "shown by something that holds without exception",
    "statistical": "outside of what healthy training runs give",
    "heuristic": "a rule of thumb",
}
NOT_ASKED = "Not asked for."
NOT_JUDGED = "Could not be judged"
JUDGED: dict[str, str] = {"pass": "right", "warn": "doubtful", "fail": "wrong"}


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
class Judgement:
    """What a person says of one item: their own verdict, None where they only left a note."""

    status: Literal["pass", "warn", "fail"] | None = None
    note: str = ""

    def __str__(self) -> str:
        said = JUDGED[self.status] if self.status else ""
        return ": ".join(filter(None, (said, self.note)))


@dataclass(frozen=True, slots=True)
class ChecklistReport:
    """The fifteen verdicts in the checklist's order, and how long they took.

    `subject` says of what, as far as somebody said so; `judgements` are those of a person, by item.
    """

    items: tuple[Verdict, ...]
    seconds: float
    subject: str = ""
    judgements: Mapping[str, Judgement] = field(default_factory=dict)

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
        if counts["not_run"] == len(self.items):
            by_hand = [judgement.status for judgement in self.judgements.values() if judgement.status]
            return f"Judged by hand: {len(by_hand)} of {len(self.items)} items, {by_hand.count('fail')} of them wrong."
        return f"No fail: {counts['pass']} passed, {counts['warn']} with a warning, {counts['not_run']} not run."

    def to_json(self) -> str:
        """The report for programs, schema 1; `judgements` is there only where somebody judged."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "seconds": round(self.seconds, 2),
            "root_cause": self.root_cause,
            "items": [_for_programs(v) for v in self.items],
        }
        if self.judgements:
            content["judgements"] = {item: asdict(judgement) for item, judgement in self.judgements.items()}
        return json.dumps(content, indent=2, ensure_ascii=False, default=_plain)

    def to_markdown(self) -> str:
        """The report for a pull request."""
        from featviz_core.checklist.report_markdown import written

        return written(self)

    def to_html(self) -> str:
        """The report as one page that needs nothing else, with its charts and pictures."""
        from featviz_core.checklist.report_html import written

        return written(self)

    def stage(self, stage: str) -> list[Verdict]:
        """The verdicts of one stage."""
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
