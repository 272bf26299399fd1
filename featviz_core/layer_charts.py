"""Charts over the layers or parameters of a network, first to last, and over the steps of a training."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from featviz_core.charts import CAPTION_COLOR, FRAME_COLOR, SELECTION


def _axis(layers: Sequence[str], names: Sequence[str], place: str = "place") -> alt.X:
    """Places 0, 1, … of `layers` from left to right, labelled with short `names` as far as there is room."""
    label = " : ".join(f"datum.value == {place} ? {json.dumps(name)}" for place, name in enumerate(names))
    axis = alt.Axis(
        values=list(range(len(layers))), labelExpr=f"{label} : ''", labelAngle=-40, grid=False, labelOverlap=True
    )
    return alt.X(f"{place}:Q", title=None, scale=alt.Scale(domain=[-0.5, len(layers) - 0.5], nice=False), axis=axis)


def _targets(frame: pd.DataFrame, tooltip: Sequence[str], chosen: str) -> list[alt.Chart]:
    """The layer `chosen` marked, and a strip over each layer that can be clicked: `clicked` holds its `layer`."""
    x = {"x": alt.X("from:Q"), "x2": "to:Q", "y": alt.value(0), "y2": alt.value("height")}
    strips = frame.assign(**{"from": frame["place"] - 0.5, "to": frame["place"] + 0.5})
    hints = [alt.Tooltip(name, format=".3g") if frame[name].dtype.kind in "fi" else name for name in tooltip]
    return [
        alt.Chart(strips[strips["layer"] == chosen]).mark_rect(color=FRAME_COLOR, opacity=0.18).encode(**x),
        # Not quite invisible: marks without any opacity get no clicks.
        alt.Chart(strips)
        .mark_rect(fillOpacity=0.001, cursor="pointer")
        .encode(**x, tooltip=hints)
        .add_params(alt.selection_point(name=SELECTION, fields=["layer"], on="click", empty=False)),
    ]


def spans(frame: pd.DataFrame, *, names: Sequence[str], chosen: str, height: int = 320) -> alt.LayerChart:
    """Where the values of each `layer` lie, first to last: a thin line from `min` to `max`, a thick one of `std` to
    either side of the `mean`, which is the point. The scale is logarithmic away from zero. Layers can be clicked."""
    shown = frame.assign(place=range(len(frame)), low=frame["mean"] - frame["std"], high=frame["mean"] + frame["std"])
    numbers = ("mean", "std", "min", "max")
    spreads = shown.loc[shown["std"] > 0, "std"]
    near = float(spreads.min()) if len(spreads) else 1.0
    ticks = _powers(float(shown["min"].min()), float(shown["max"].max()), near)
    width = max(2, min(12, 500 // max(1, len(frame))))
    axis, scale = alt.Axis(format=".3~g", values=ticks), alt.Scale(type="symlog", constant=near)
    base = alt.Chart(shown).encode(x=_axis(shown["layer"].tolist(), names))
    back, front = _targets(shown, ["layer", "type", *numbers], chosen)
    layers = [
        back,
        base.mark_bar(size=1.5).encode(y=alt.Y("min:Q", title=None, scale=scale, axis=axis), y2="max:Q"),
        base.mark_bar(size=width, opacity=0.5).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(filled=True, size=4 * width, opacity=1, color=FRAME_COLOR).encode(
            y=alt.Y("mean:Q", scale=scale)
        ),
        front,
    ]
    chart: alt.LayerChart = alt.LayerChart(layer=layers).properties(height=height)
    return chart


def _powers(low: float, high: float, near: float) -> list[float]:
    """Zero and the powers of ten from `near` on, as far as `low` and `high` reach; at most six to a side."""
    if not np.isfinite([low, high, near]).all():
        return [0.0]
    first, last = np.ceil(np.log10(near)), np.ceil(np.log10(max(-low, high, near)))
    sizes = 10.0 ** np.arange(first, last + 1, max(1, round((last - first) / 6)))
    return [value for size in sizes for value in (-size, size) if low <= value <= high] + [0.0]


def course(
    frame: pd.DataFrame,
    value: str,
    *,
    names: Sequence[str],
    chosen: str,
    color: str | None = None,
    log: bool = False,
    percent: bool = False,
    height: int = 260,
) -> alt.LayerChart:
    """How `value` goes from `layer` to layer, a line for each `color`; layers can be clicked. A `log` scale leaves out
    what is not above zero; `percent` is for shares."""
    order = list(dict.fromkeys(frame["layer"]))
    place = {layer: number for number, layer in enumerate(order)}
    shown = frame.assign(place=frame["layer"].map(place)).dropna(subset=[value])
    shown = shown[shown[value] > 0] if log else shown
    scale = alt.Scale(type="log") if log else alt.Scale(domain=[0, 1]) if percent else alt.Scale(zero=False)
    form = "%" if percent else ".3~g"
    y = alt.Y(f"{value}:Q", title=None, scale=scale, axis=alt.Axis(format=form, tickCount=5))
    line = alt.Chart(shown).encode(x=_axis(order, names), y=y)
    if color is not None:
        colors = list(dict.fromkeys(frame[color]))
        line = line.encode(color=alt.Color(f"{color}:N", sort=colors, title=None, legend=alt.Legend(orient="top")))
    strips = frame.drop_duplicates("layer").assign(place=range(len(order)))
    back, front = _targets(strips, ["layer", value], chosen)
    points = line.mark_line(strokeWidth=1.5, opacity=0.7, point=alt.OverlayMarkDef(size=30))
    chart: alt.LayerChart = alt.LayerChart(layer=[back, points, front]).properties(height=height)
    return chart


def heat(
    frame: pd.DataFrame, *, layers: Sequence[str], names: Sequence[str], chosen: str, height: int = 320
) -> alt.LayerChart:
    """The histograms of all `layers` at once: of each the `share` of values between `low` and `high`. Bins are drawn
    at one height each, small ones near zero in the middle. Layers can be clicked."""
    bins = sorted(set(zip(frame["low"], frame["high"], strict=True)))
    row = {bin_: place for place, bin_ in enumerate(bins)}
    rows = [row[bin_] for bin_ in zip(frame["low"], frame["high"], strict=True)]
    place = {layer: number for number, layer in enumerate(layers)}
    shown = frame.assign(place=frame["layer"].map(place), bottom=rows, top=[number + 1 for number in rows])
    shown = shown.assign(**{"from": shown["place"] - 0.5, "to": shown["place"] + 0.5})
    marks = range(0, len(bins), max(1, len(bins) // 8))
    label = " : ".join(f"datum.value == {at} ? {json.dumps(_bin_name(*bins[at]))}" for at in marks)
    axis = alt.Axis(values=list(marks), labelExpr=f"{label} : ''", grid=False, labelOverlap=False)
    y_scale = alt.Scale(domain=[0, len(bins)], nice=False)
    shades = alt.Scale(type="sqrt", scheme="viridis")
    cells = (
        alt.Chart(shown)
        .mark_rect()
        .encode(
            x=_axis(layers, names, "from"),
            x2="to:Q",
            y=alt.Y("bottom:Q", title=None, scale=y_scale, axis=axis),
            y2="top:Q",
            color=alt.Color("share:Q", scale=shades, legend=None),
            # Without it, the background shines through between the cells.
            stroke=alt.Stroke("share:Q", scale=shades, legend=None),
        )
    )
    strips = pd.DataFrame({"layer": list(layers), "place": range(len(layers))})
    back, front = _targets(strips, ["layer"], chosen)
    frame_ = back.mark_rect(filled=False, stroke=FRAME_COLOR, strokeWidth=2, opacity=1)
    chart: alt.LayerChart = alt.LayerChart(layer=[cells, frame_, front]).properties(height=height)
    return chart


def _bin_name(low: float, high: float) -> str:
    return "0" if low < 0 < high else "−∞" if low == float("-inf") else f"{low:.2g}"


def over_depth(
    frame: pd.DataFrame, value: str, *, order: Sequence[str], names: Sequence[str], chosen: str, height: int = 240
) -> alt.LayerChart:
    """A number for each head of each layer, `order` first to last with short `names`, and the mean of each layer as a
    line. Clicking a point selects it: `clicked` holds its `layer` and `head`; the layer `chosen` is marked."""
    shown = frame.dropna(subset=[value]).copy()
    shown["place"] = shown["layer"].map({address: place for place, address in enumerate(order)})
    x = _axis(order, names)
    y = alt.Y(f"{value}:Q", title=None)
    now = pd.DataFrame({"place": [order.index(chosen)]})
    layers = [
        alt.Chart(now).mark_rule(color=FRAME_COLOR, strokeWidth=10, opacity=0.18).encode(x=x),
        alt.Chart(shown).mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y=f"mean({value}):Q"),
        alt.Chart(shown)
        .mark_point(filled=True, size=60, opacity=0.75, cursor="pointer")
        .encode(x=x, y=y, tooltip=["layer", "head", alt.Tooltip(value, format=".3g")])
        .add_params(alt.selection_point(name=SELECTION, fields=["layer", "head"], on="click", empty=False)),
    ]
    chart: alt.LayerChart = alt.layer(*layers).properties(height=height).configure_view(strokeWidth=0)
    return chart


_ROW = 17  # of a parameter, in pixels


def _rows(order: Sequence[str]) -> alt.Y:
    """A row for each name, from top to bottom, all of them labelled."""
    axis = alt.Axis(labelLimit=300, labelOverlap=False, labelFlush=False, ticks=False)
    # The whole domain, so that a row without anything in it keeps its place.
    return alt.Y("name:N", scale=alt.Scale(domain=list(order)), title=None, axis=axis)


def parameter_bars(frame: pd.DataFrame, values: Sequence[str], *, log: bool = False, title: str = "") -> alt.LayerChart:
    """A row for each `name`, first to last, with a bar for each of `values`, the longest first. Where `note` says why
    there is no bar, it stands in its place. With `log`, bars begin below the smallest value; else at the zero line."""
    numbers = frame[list(values)].to_numpy(float)
    positive = numbers[np.isfinite(numbers) & (numbers > 0)]
    log = log and positive.size > 0
    powers = [int(np.floor(np.log10(positive.min()) - 0.2)), int(np.ceil(np.log10(positive.max())))] if log else [0, 0]
    ticks = [10.0**power for power in range(powers[0], powers[1] + 1, 1 + (powers[1] - powers[0]) // 9)]
    low = ticks[0] if log else 0.0
    scale = alt.Scale(type="log", domain=[low, 10.0 ** powers[1]]) if log else alt.Scale(domainMin=0)
    axis = alt.Axis(orient="top", format="~e" if log else ".3~g", **({"values": ticks} if log else {"tickCount": 6}))
    long = frame.melt(["name", "note"], list(values), "measure", "value").replace([np.inf, -np.inf], np.nan)
    long = long.dropna(subset=["value"])
    long = (long[long["value"] > 0] if log else long).assign(start=low)
    y = _rows(frame["name"].tolist())
    x = alt.X("start:Q", scale=scale, axis=axis, title=title)
    hints = [alt.Tooltip("name:N"), alt.Tooltip("measure:N"), alt.Tooltip("value:Q", format=".3g")]
    color = alt.Color("measure:N", sort=list(values), title=None, legend=alt.Legend(orient="top"))
    bars_ = [
        alt.Chart(long[long["measure"] == value])
        .mark_bar(cornerRadiusEnd=2, height=_ROW - 5 - 4 * place)
        .encode(y=y, x=x, x2="value:Q", color=color, tooltip=hints)
        for place, value in enumerate(values)
    ]
    noted = frame[frame["note"] != ""].assign(start=low)
    notes = alt.Chart(noted).mark_text(align="left", dx=6, fontSize=11, color=FRAME_COLOR)
    zero = alt.Chart(pd.DataFrame({"start": [low]})).mark_rule(color=CAPTION_COLOR).encode(x=x)
    layers = [*bars_, zero, notes.encode(y=y, x=x, text="note:N")]
    chart: alt.LayerChart = alt.LayerChart(layer=layers).properties(height=alt.Step(_ROW))
    return chart


def over_steps(
    frame: pd.DataFrame, value: str, *, title: str = "", domain: tuple[float, float], apart: int = 1
) -> alt.Chart:
    """How `value` of each `name`, a row each, goes on from `step` to step, which are so far `apart`: a logarithmic
    scale of colours over `domain`. What is not above zero stays empty."""
    order = list(frame["name"].unique())
    shown = frame[np.isfinite(frame[value]) & (frame[value] > 0)]
    middle = float(np.sqrt(domain[0] * domain[1]))
    chart: alt.Chart = (
        alt.Chart(shown.assign(start=shown["step"] - apart / 2, end=shown["step"] + apart / 2))
        .mark_rect()
        .encode(
            x=alt.X(
                "start:Q",
                title="step",
                scale=alt.Scale(domain=[-apart / 2, int(frame["step"].max()) + apart / 2], nice=False),
                axis=alt.Axis(grid=False, tickMinStep=1, format="d", orient="top"),
            ),
            x2="end:Q",
            y=_rows(order),
            color=alt.Color(
                f"{value}:Q",
                title=title,
                scale=alt.Scale(type="log", scheme="viridis", domain=list(domain), clamp=True),
                legend=alt.Legend(orient="bottom", format=".1~e", gradientLength=260, values=[*domain, middle]),
            ),
            tooltip=["name", "step", alt.Tooltip(f"{value}:Q", format=".3g")],
        )
        .properties(height=alt.Step(_ROW))
    )
    return chart
