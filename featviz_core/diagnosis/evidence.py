"""How a rule says what it saw: a finding whose evidence names the curve and the steps, which a chart can mark."""

from __future__ import annotations

from typing import Any

from featviz_core.diagnosis.curves import Curve
from featviz_core.findings import Finding, Severity


def seen(
    code: str,
    severity: Severity,
    title: str,
    detail: str,
    *,
    on: Curve | str,
    between: tuple[float, float],
    remedy: str = "",
    **numbers: Any,
) -> Finding:
    """A finding on the curve `on`, between two steps; `numbers` are what it rests on."""
    tag = on if isinstance(on, str) else on.tag
    place = (int(between[0]), int(between[1]))
    return Finding(f"curve.{code}", severity, title, detail, tag, {"steps": place, **numbers}, remedy)


def number(value: float) -> float:
    """Three digits: more say nothing about a curve."""
    return float(f"{value:.3g}")
