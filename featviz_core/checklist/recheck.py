"""After a fix: what has to be asked again, the new report, and what changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from featviz_core.checklist.items import EXPLAINS, ITEMS
from featviz_core.checklist.report import ChecklistReport, Verdict, explained


def depending(item: str) -> tuple[str, ...]:
    """The item and all that its fail may explain, directly or through others, in the checklist's order."""
    found, new = {item}, {item}
    while new:
        new = {other for cause in new for other in EXPLAINS.get(cause, ())} - found
        found |= new
    return tuple(other for other in ITEMS if other in found)


def merged(old: ChecklistReport, new: ChecklistReport, asked: Collection[str]) -> ChecklistReport:
    """`old` with the verdicts of `new` on the `asked` items, and the causes traced anew."""
    verdicts = [new[v.id] if v.id in asked else v for v in old.items]
    failed = {v.id for v in verdicts if v.status == "fail"}
    # A cause that was mended explains nothing any more.
    verdicts = [v if v.explained_by in failed else replace(v, explained_by=None) for v in verdicts]
    return replace(new, items=explained(verdicts), judgements=old.judgements)


def changes(before: ChecklistReport, after: ChecklistReport) -> tuple[tuple[Verdict, Verdict], ...]:
    """The items that came out otherwise than before, each with its verdicts before and after."""
    return tuple(
        (old, new)
        for old, new in zip(before.items, after.items, strict=True)
        if (old.status, old.harmless) != (new.status, new.harmless)
    )
