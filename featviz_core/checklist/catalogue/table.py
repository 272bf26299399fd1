"""Figures over the rows of a catalogue: the matrix fault × item, rates with Wilson's intervals, and times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from featviz_core.checklist.catalogue.run import Row
from featviz_core.checklist.items import ITEMS

_Z = 1.96  # of a normal distribution, for 95 %


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson, JASA 22, 1927); (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    rate, z = hits / count, _Z**2 / count
    middle = (rate + z / 2) / (1 + z)
    half = _Z / (1 + z) * math.sqrt(rate * (1 - rate) / count + z / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def matrix(rows: Sequence[Row]) -> pd.DataFrame:
    """How often each item was named first, by the item that should have been; "nothing" where none was."""
    faulty = [row for row in rows if row.fault]
    counted = pd.crosstab(
        pd.Series([row.item for row in faulty], name="should name it"),
        pd.Series([row.named or "nothing" for row in faulty], name="names it"),
    )
    known = [item for item in (*ITEMS, "nothing") if item in counted.columns]
    return counted.reindex(index=[item for item in ITEMS if item in counted.index], columns=known)


def summary(rows: Sequence[Row]) -> str:
    """The catalogue's figures in words."""
    faulty = [row for row in rows if row.fault]
    harmful, latent = ([r for r in faulty if r.harmful is wanted] for wanted in (True, False))
    healthy = [row for row in rows if not row.fault]
    lines = [
        _rate("faults that do harm, reported", sum(row.reported for row in harmful), len(harmful)),
        _rate("  of these, with the right item first", sum(row.named == row.item for row in harmful), len(harmful)),
        _rate("  of these, as the root cause of a fail", sum(r.root_cause == r.item for r in harmful), len(harmful)),
        _rate("faults without measurable harm, reported", sum(row.reported for row in latent), len(latent)),
        _rate("healthy set-ups with a fail", sum(bool(row.fails) for row in healthy), len(healthy)),
    ]
    if healthy:
        warnings = sum(len(row.warns) for row in healthy)
        lines.append(f"warnings for a healthy set-up: {warnings / len(healthy):.2f} ({warnings} in {len(healthy)})")
    seconds = sorted(row.seconds for row in rows)
    if seconds:
        lines.append(f"seconds for a checklist: middle {seconds[len(seconds) // 2]:.0f}, longest {seconds[-1]:.0f}")
    return "\n".join(lines)


def misses(rows: Sequence[Row]) -> str:
    """The rows that went otherwise than they should, one a line."""
    wrong = [row for row in rows if (row.named != row.item if row.fault else row.reported)]
    return "\n".join(map(_told, sorted(wrong, key=lambda row: row.case)))


def _told(row: Row) -> str:
    found = f"fails {', '.join(row.fails) or '-'}, warns {', '.join(row.warns) or '-'}"
    return (
        f"{row.case}: {row.item or 'healthy'} -> {row.named or 'nothing'} ({found}, harm {row.harm:.2f}) {row.summary}"
    )


def _rate(name: str, hits: int, count: int) -> str:
    low, high = wilson(hits, count)
    share = f"{100 * hits / count:.0f} %" if count else "-"
    return f"{name}: {hits} of {count}, {share} (95 %: {100 * low:.0f} to {100 * high:.0f} %)"
