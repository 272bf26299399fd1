"""What there is to see of a verdict, as Altair charts for the page; reports have their own drawings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from featviz_core.checklist.exhibits import Bars, Curves, Exhibit, Histogram, Matrix, Range

_HEALTHY = "#2E9E6B"
_HEIGHT = 220
_ROW = 18


def exhibit(shown: Exhibit) -> alt.Chart | alt.LayerChart:
    """The chart of curves, bars, a histogram or a matrix, with the healthy range behind it."""
    return _DRAWN[type(shown)](shown)


def _curves(shown: Curves) -> alt.LayerChart:
    rows = [
        {"curve": name, shown.x: step, "value": value}
        for name, values in shown.curves.items()
        for step, value in enumerate(values)
        if math.isfinite(value) and (value > 0 or not shown.log)
    ]
    lines = (
        alt.Chart(pd.DataFrame(rows, columns=["curve", shown.x, "value"]))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X(f"{shown.x}:Q", axis=alt.Axis(grid=False, format=",d", tickMinStep=1)),
            y=alt.Y("value:Q", title=None, scale=_scale(shown.log, zero=False), axis=_numbers()),
            color=alt.Color("curve:N", sort=list(shown.curves), title=None, legend=alt.Legend(orient="top")),
            tooltip=["curve", shown.x, alt.Tooltip("value", format=".3g")],
        )
    )
    return _on_healthy(lines, shown.healthy, "y", shown.log).properties(height=_HEIGHT)


def _bars(shown: Bars) -> alt.LayerChart:
    rows = [
        {"name": name, "value": value}
        for name, value in shown.values.items()
        if math.isfinite(value) and (value > 0 or not shown.log)
    ]
    points = (
        alt.Chart(pd.DataFrame(rows, columns=["name", "value"]))
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            x=alt.X("value:Q", title=None, scale=_scale(shown.log, zero=not shown.log), axis=_numbers()),
            y=alt.Y("name:N", sort=list(shown.values), title=None, axis=alt.Axis(labelLimit=220, grid=True)),
            tooltip=["name", alt.Tooltip("value", format=".3g")],
        )
    )
    return _on_healthy(points, shown.healthy, "x", shown.log).properties(height=alt.Step(_ROW))


def _histogram(shown: Histogram) -> alt.LayerChart:
    rows = [
        {"from": low, "to": high, "count": count, "of": name}
        for name, counts in shown.counts.items()
        for low, high, count in zip(shown.edges[:-1], shown.edges[1:], counts, strict=True)
    ]
    steps = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(opacity=0.6)
        .encode(
            x=alt.X("from:Q", title=None, axis=_numbers()),
            x2="to:Q",
            y=alt.Y("count:Q", title=None, stack=None, axis=alt.Axis(tickCount=4)),
            color=alt.Color("of:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["of", "from", "to", "count"],
        )
    )
    return _on_healthy(steps, shown.healthy, "x", False).properties(height=_HEIGHT)


def _matrix(shown: Matrix) -> alt.Chart:
    rows = [
        {"row": row, "column": column, "value": value}
        for row, values in zip(shown.rows, shown.values, strict=True)
        for column, value in zip(shown.columns, values, strict=True)
    ]
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_rect()
        .encode(
            x=alt.X("column:N", sort=list(shown.columns), title=None),
            y=alt.Y("row:N", sort=list(shown.rows), title=None),
            color=alt.Color("value:Q", title=None),
            tooltip=["row", "column", alt.Tooltip("value", format=".3g")],
        )
    )
    return chart


_DRAWN: dict[type, Callable[[Any], alt.Chart | alt.LayerChart]] = {
    Curves: _curves,
    Bars: _bars,
    Histogram: _histogram,
    Matrix: _matrix,
}


def _on_healthy(chart: alt.Chart, healthy: Range | None, along: str, log: bool) -> alt.LayerChart:
    """The chart on a band for what is healthy; a side that is open has no edge."""
    layers: list[alt.Chart] = [chart]
    limits = [limit for limit in healthy or () if limit is not None and (limit > 0 or not log)]
    if len(limits) == 2:
        band = alt.Chart(pd.DataFrame({"low": [limits[0]], "high": [limits[1]]})).mark_rect(
            opacity=0.12, color=_HEALTHY
        )
        place = (
            band.encode(x="low:Q", x2="high:Q")
            if along == "x"
            else band.encode(y=alt.Y("low:Q", title=None), y2="high:Q")
        )
        layers.insert(0, place)
    elif limits:
        rule = alt.Chart(pd.DataFrame({"limit": limits})).mark_rule(color=_HEALTHY, strokeDash=[4, 3])
        layers.append(rule.encode(x="limit:Q") if along == "x" else rule.encode(y="limit:Q"))
    layered: alt.LayerChart = alt.LayerChart(layer=layers)
    return layered


def _scale(log: bool, *, zero: bool) -> alt.Scale:
    return alt.Scale(type="log") if log else alt.Scale(zero=zero)


def _numbers() -> alt.Axis:
    return alt.Axis(tickCount=4, format=".3~g")
