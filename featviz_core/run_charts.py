"""The curves of training runs as Altair charts: they can be hovered over, and a span of the x axis can be chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

SPAN = "span"
"""The selection that holds the chosen part of the x axis, as `{"x": [first, last]}`."""

_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00", "#7A7A7A")
_MARKS = {"fail": "#D0342C", "warn": "#E69F00", "note": "#56B4E9", "ok": "#009E73"}
_QUIET = "#80858F"  # readable on white and on black
_FEW = 60  # values of a curve that are shown as points too
_DASHES = {
    "training": [1, 0],
    "rate": [1, 0],
    "validation": [5, 3],
    "training, evaluated": [2, 2],
    "test": [8, 3, 2, 3],
}


def colors_of(runs: Sequence[str]) -> dict[str, str]:
    """A colour for each run, which it keeps whatever others are shown."""
    return {run: _PALETTE[place % len(_PALETTE)] for place, run in enumerate(runs)}


def curves(
    frame: pd.DataFrame,
    *,
    title: str,
    by: str,
    colors: Mapping[str, str],
    axis: str = "step",
    log_x: bool = False,
    log_y: bool = False,
    percent: bool = False,
    bests: pd.DataFrame | None = None,
    bands: pd.DataFrame | None = None,
    height: int = 260,
) -> alt.LayerChart:
    """Curves of one quantity over `axis`, from `frame` (`x value run split tag kind`), in `colors` `by` "run" or
    "split"; by run, dashes tell the splits apart.

    `bests` (`x value label`) are ringed; `bands` (`from to severity title`) are what findings rest on. Places that are
    no number stand as crosses at the bottom. Dragging over the chart chooses a `span`.
    """
    x = alt.X(
        "x:Q",
        title=axis,
        scale=alt.Scale(type="log") if log_x else alt.Scale(nice=False, zero=False),
        axis=alt.Axis(grid=False, tickCount=5, format="~s", labelFlush=True),
    )
    form = "%" if percent else "~e" if log_y else ".3~g"
    scale = alt.Scale(type="log") if log_y else alt.Scale(zero=False)
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, format=form))
    color = alt.Color(f"{by}:N", scale=alt.Scale(domain=list(colors), range=list(colors.values())), legend=None)
    place: dict[str, Any] = {"x": x, "y": y}
    front_kind = "smooth" if (frame["kind"] == "smooth").any() else "raw"
    front, raw, lost = (frame[frame["kind"] == kind] for kind in (front_kind, "raw", "lost"))
    line = alt.Chart(front).encode(**place, color=color, detail="tag:N")
    if by == "run":
        dashes = alt.Scale(domain=list(_DASHES), range=list(_DASHES.values()))
        line = line.encode(strokeDash=alt.StrokeDash("split:N", legend=None, scale=dashes))
    layers: list[alt.Chart] = [] if bands is None or bands.empty else [_bands(bands)]
    if front_kind == "smooth":
        faint = alt.Chart(raw).mark_line(strokeWidth=1, opacity=0.22)
        layers.append(faint.encode(**place, color=color, detail="tag:N"))
    span = alt.selection_interval(name=SPAN, encodings=["x"])
    layers.append(line.mark_line(strokeWidth=1.8).add_params(span))
    few = front[front.groupby(["run", "tag"])["x"].transform("size") <= _FEW]
    layers.append(alt.Chart(few).mark_point(filled=True, size=22, opacity=0.9).encode(**place, color=color))
    if not lost.empty:
        layers.append(_lost(lost, x))
    if bests is not None and not bests.empty:
        rings = alt.Chart(bests).mark_point(size=110, strokeWidth=2, color=_QUIET, opacity=1)
        layers.append(rings.encode(**place, tooltip=["label"]))
    hints = [
        *("run:N", alt.Tooltip("split:N", title="of"), alt.Tooltip("x:Q", title=axis, format=",.6~g")),
        alt.Tooltip("value:Q", title=title, format=".2%" if percent else ".5~g"),
    ]
    layers.append(_hover(alt.Chart(front).encode(**place, color=color), hints))
    chart: alt.LayerChart = alt.LayerChart(layer=layers).properties(height=height)
    return chart


def _hover(points: alt.Chart, hints: list[Any]) -> alt.Chart:
    """The point next to the pointer, with its values."""
    near = alt.selection_point(name="near", on="pointerover", nearest=True, empty=False)
    shown = alt.condition(near, alt.value(1), alt.value(0))
    chart: alt.Chart = points.mark_point(filled=True, size=50).encode(opacity=shown, tooltip=hints).add_params(near)
    return chart


def _lost(lost: pd.DataFrame, x: alt.X) -> alt.Chart:
    crosses = alt.Chart(lost).mark_point(shape="cross", angle=45, filled=True, size=60, opacity=0.9)
    hints = ["run", "split", alt.Tooltip("x:Q", title="no number at", format=",.6~g")]
    found: alt.Chart = crosses.encode(x=x, y=alt.value("height"), color=alt.value(_MARKS["fail"]), tooltip=hints)
    return found


def _bands(bands: pd.DataFrame) -> alt.Chart:
    # Filled, not coloured: charts share one scale of colours, and that is the curves'.
    scale = alt.Scale(domain=list(_MARKS), range=list(_MARKS.values()))
    fill = alt.Fill("severity:N", scale=scale, legend=None)
    # The edge shows a place of a single step.
    edge = alt.Stroke("severity:N", scale=scale, legend=None)
    chart: alt.Chart = (
        alt.Chart(bands)
        .mark_rect(fillOpacity=0.13, strokeOpacity=0.5, strokeWidth=1)
        .encode(x="from:Q", x2="to:Q", fill=fill, stroke=edge, tooltip=[alt.Tooltip("title:N", title="seen here")])
    )
    return chart


def ridges(frame: pd.DataFrame, *, height: int = 320) -> alt.Chart:
    """A distribution over the steps: of each `step` the `share` of the values between `low` and `high`; darker where
    more of them are. `next` is the step up to which it stands."""
    shades = alt.Scale(type="sqrt", scheme="viridis")
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X(
                "step:Q", title="step", scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(grid=False, format="~s")
            ),
            x2="next:Q",
            y=alt.Y("low:Q", title=None, scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(format=".3~g")),
            y2="high:Q",
            color=alt.Color("density:Q", scale=shades, legend=None),
            # Without it, the background shines through between the cells.
            stroke=alt.Stroke("density:Q", scale=shades, legend=None),
            tooltip=["step", *(alt.Tooltip(name, format=".3g") for name in ("low", "high", "share"))],
        )
        .properties(height=height)
    )
    return chart


def rate_test(frame: pd.DataFrame, marks: pd.DataFrame, *, height: int = 320) -> alt.LayerChart:
    """The loss (`loss`, and `smooth`) over the learning rate `rate`, logarithmic; `marks` (`rate label`) are rules."""
    x = alt.X(
        "rate:Q",
        title="learning rate",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(grid=False, format="~e", tickCount=8),
    )
    # What happens before the loss shoots up is what there is to see.
    low, start = float(np.nanmin(frame["loss"])), float(np.nanmedian(frame["loss"][:20]))
    domain = [low - 0.1 * (start - low), start + max(start - low, 0.05 * abs(start))]
    y = alt.Y("loss:Q", title="loss", scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickCount=4))
    line = alt.Chart(frame).encode(x=x)
    hints = [alt.Tooltip("rate:Q", format=".2e"), alt.Tooltip("smooth:Q", title="loss, smoothed", format=".4g")]
    rules = alt.Chart(marks).encode(x="rate:Q", color=alt.Color("label:N", legend=alt.Legend(orient="top", title=None)))
    layers = [
        line.mark_line(opacity=0.25, strokeWidth=1, clip=True).encode(y=y),
        line.mark_line(strokeWidth=2, clip=True).encode(y="smooth:Q", tooltip=hints),
        rules.mark_rule(strokeWidth=2).encode(tooltip=["label", alt.Tooltip("rate:Q", format=".2e")]),
    ]
    chart: alt.LayerChart = alt.LayerChart(layer=layers).properties(height=height)
    return chart
