"""One type for every verdict: what was found, where, by which numbers, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "note", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict.

    `code` never changes (`attention.uniform`), so that texts can; `where` names layers or items; `evidence` holds the
    numbers with their healthy range; `remedy` says what to do, empty where there is nothing to do.
    """

    code: str
    severity: Severity
    title: str
    detail: str = ""
    where: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""
