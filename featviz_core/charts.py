"""Tidy frames to Altair charts. Only modules that are called after charts import Altair.

Colours and fonts are left to the page's theme. Every chart that can be clicked names its selection `clicked`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image

from featviz_core.drawing import Box, color_table, colorize, data_url

SELECTION = "clicked"
FRAME_COLOR = "#D55E00"
CAPTION_COLOR = "#80858F"  # readable on white and on black
_CAPTION_HEIGHT = 20
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue
_BAR_HEIGHT = 52  # with the numbers below it


def clickable_picture(
    image: Image.Image,
    boxes: Sequence[Box],
    names: Sequence[str],
    *,
    width: int,
    chosen: int | None = None,
    captions: Sequence[str] = (),
    outlined: bool = False,
) -> alt.LayerChart:
    """One picture made of tiles, `width` pixels wide: hovering names a tile, clicking selects it.

    `boxes` are the tiles in pixels of `image`; the selection `clicked` holds the tile's `index`; the tile `chosen`
    is framed; `captions` stand below the last tiles, or below all of them where the picture leaves room; `outlined`
    draws the borders of all tiles.
    """
    scale = width / image.width
    height = image.height * scale
    bottom = height + (_CAPTION_HEIGHT if captions else 0)
    tiles = pd.DataFrame([[v * scale for v in box] for box in boxes], columns=["left", "top", "right", "bottom"])
    tiles["index"], tiles["name"] = range(len(boxes)), list(names)
    x = alt.X("left:Q", scale=alt.Scale(domain=[0, width], nice=False), axis=None)
    y = alt.Y("top:Q", scale=alt.Scale(domain=[bottom, 0], nice=False), axis=None)
    corners = {"x": x, "y": y, "x2": "right:Q", "y2": "bottom:Q"}
    whole = pd.DataFrame({"left": [0], "top": [0], "right": [width], "bottom": [height], "url": [data_url(image)]})
    layers = [
        alt.Chart(whole).mark_image(aspect=False).encode(**corners, url="url:N"),
        alt.Chart(tiles[tiles["index"] == chosen])
        .mark_rect(filled=False, stroke=FRAME_COLOR, strokeWidth=3)
        .encode(**corners),
        # Not quite invisible: marks without any opacity get no clicks.
        alt.Chart(tiles)
        .mark_rect(fillOpacity=0.001, cursor="pointer", stroke="white", strokeOpacity=0.35 if outlined else 0)
        .encode(**corners, tooltip=alt.Tooltip("name:N", title=None))
        .add_params(alt.selection_point(name=SELECTION, fields=["index"], on="click", empty=False)),
    ]
    if captions:
        below = tiles.tail(len(captions)).assign(caption=list(captions))
        label = alt.Chart(below).mark_text(align="left", baseline="top", dy=4, fontSize=11, color=CAPTION_COLOR)
        layers.append(label.encode(x=x, y=alt.Y("bottom:Q"), text="caption:N"))
    # Without padding, one unit of the scales is one pixel of the chart. A plain 0 would be taken for "not set".
    chart: alt.LayerChart = (
        alt.layer(*layers)
        .properties(width=width, height=round(bottom), padding=dict.fromkeys(("left", "right", "top", "bottom"), 0))
        .configure(background="transparent")
        .configure_view(strokeWidth=0)
    )
    return chart


def color_bar(low: float, high: float, color_map: str, *, width: int = 220) -> alt.Chart:
    """Which colour stands for which value, from `low` to `high`."""
    table = color_table(color_map)
    high = high if high > low else low + 1
    colors = ["#{:02x}{:02x}{:02x}".format(*table[i]) for i in range(0, 256, 5)]
    step = (high - low) / len(colors)
    frame = pd.DataFrame({"from": [low + i * step for i in range(len(colors))], "color": colors})
    frame["to"] = frame["from"] + step
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X(
                "from:Q",
                scale=alt.Scale(domain=[low, high], nice=False),
                axis=alt.Axis(title=None, values=[low, (low + high) / 2, high], format=".3~g", grid=False, ticks=False),
            ),
            x2="to:Q",
            color=alt.Color("color:N", scale=None),
            # Without it, the background shines through between the steps.
            stroke=alt.Stroke("color:N", scale=None),
        )
        .properties(width=width, height=_BAR_HEIGHT)
        .configure_view(strokeWidth=0)
    )
    return chart


def lines(frame: pd.DataFrame, x: str, y: str, *, color: str, title: str = "", height: int = 260) -> alt.Chart:
    """How shares `y` change with shares `x`, both 0 to 1, with a line for each value of `color` in its own order."""
    order = list(frame[color].unique())
    share = alt.Scale(domain=[0, 1])
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=2)
        .encode(
            x=alt.X(f"{x}:Q", title=title, scale=share, axis=alt.Axis(format="%", grid=False, tickCount=4)),
            y=alt.Y(f"{y}:Q", title=None, scale=share, axis=alt.Axis(format="%", tickCount=4)),
            color=alt.Color(f"{color}:N", sort=order, title=None, legend=alt.Legend(orient="top", symbolType="stroke")),
            strokeDash=alt.StrokeDash(f"{color}:N", sort=order, legend=None),
            tooltip=[color, alt.Tooltip(x, format=".0%"), alt.Tooltip(y, format=".1%")],
        )
        .properties(height=height)
    )
    return chart


def matrix(
    frame: pd.DataFrame, *, row: str, column: str, value: str, domain: tuple[float, float], color_map: str = "viridis"
) -> alt.LayerChart:
    """A value for each pair of names, as colour and as number; what is not a number stays empty."""
    order = list(frame[row].unique())
    colors = colorize(frame[value].to_numpy(float)[None], low=domain[0], high=domain[1], color_map=color_map)[0]
    shown = frame.assign(
        fill=["#{:02x}{:02x}{:02x}".format(*color) for color in colors],
        ink=["#1B1F2A" if color @ _BRIGHTNESS > 130 else "#FFFFFF" for color in colors],
    ).dropna(subset=[value])
    axes = [
        alt.Axis(ticks=False, domain=False, labelOverlap=False, labelLimit=160, labelAngle=angle) for angle in (-40, 0)
    ]
    base = alt.Chart(shown).encode(
        x=alt.X(f"{column}:N", sort=order, title=None, axis=axes[0]),
        y=alt.Y(f"{row}:N", sort=order, title=None, axis=axes[1]),
        tooltip=[row, column, alt.Tooltip(value, format=".2f")],
    )
    layers = [
        base.mark_rect().encode(color=alt.Color("fill:N", scale=None)),
        base.mark_text(fontSize=11).encode(
            text=alt.Text(f"{value}:Q", format=".2f"), color=alt.Color("ink:N", scale=None)
        ),
    ]
    chart: alt.LayerChart = alt.LayerChart(layer=layers).properties(width=alt.Step(46), height=alt.Step(26))
    return chart


def named_matrix(
    image: Image.Image,
    rows: dict[int, str],
    columns: dict[int, str],
    *,
    shape: tuple[int, int],
    width: int,
    titles: tuple[str, str],
    height: int | None = None,
) -> alt.Chart:
    """A matrix of `shape`, drawn in `image`, from the top left, with axes that name some `rows` and `columns`.

    Its cells are squares unless a `height` is given, of which the axis above takes a part.
    """
    height = height or round(width * shape[0] / shape[1])
    whole = pd.DataFrame({"left": [0], "top": [0], "right": [shape[1]], "bottom": [shape[0]], "url": [data_url(image)]})

    def axis(names: dict[int, str], title: str, orient: str, angle: int) -> alt.Axis:
        label = " : ".join(f"datum.value == {index + 0.5} ? {json.dumps(name)}" for index, name in names.items())
        return alt.Axis(
            title=title,
            orient=orient,  # type: ignore[arg-type]
            values=[index + 0.5 for index in names],
            labelExpr=f"{label} : ''",
            labelAngle=angle,
            labelOverlap=False,
            grid=False,
        )

    x = alt.X("left:Q", scale=alt.Scale(domain=[0, shape[1]], nice=False), axis=axis(columns, titles[1], "top", -60))
    y = alt.Y("top:Q", scale=alt.Scale(domain=[shape[0], 0], nice=False), axis=axis(rows, titles[0], "left", 0))
    chart: alt.Chart = (
        alt.Chart(whole)
        .mark_image(aspect=False)
        .encode(x=x, y=y, x2="right:Q", y2="bottom:Q", url="url:N")
        .properties(width=width, height=height)
        .configure_view(strokeWidth=0)
    )
    return chart


def histogram(
    frame: pd.DataFrame,
    value: str,
    *,
    domain: tuple[float, float],
    color: str | None = None,
    title: str = "",
    bins: int = 20,
    height: int = 260,
) -> alt.Chart:
    """How many rows have which `value`, in even `bins` from one end of `domain` to the other, stacked by `color`."""
    binned = alt.Bin(extent=list(domain), step=(domain[1] - domain[0]) / bins, nice=False)
    x_axis = alt.Axis(grid=False, values=np.linspace(*domain, 5).tolist(), format=".2~f", labelFlush=True)
    encoding: dict[str, alt.X | alt.Y | alt.Color | list[alt.Tooltip]] = {
        "x": alt.X(f"{value}:Q", bin=binned, title=title, axis=x_axis, scale=alt.Scale(domain=list(domain))),
        "y": alt.Y("count():Q", title=None, axis=alt.Axis(tickMinStep=1, tickCount=4, format="d")),
        "tooltip": [alt.Tooltip(f"{value}:Q", bin=binned, title=title), alt.Tooltip("count():Q", title="pictures")],
    }
    if color is not None:
        order = list(frame[color].unique())
        encoding["color"] = alt.Color(f"{color}:N", sort=order, title=None, legend=alt.Legend(orient="top"))
    chart: alt.Chart = alt.Chart(frame).mark_bar(binSpacing=1).encode(**encoding).properties(height=height)
    return chart


def bars(frame: pd.DataFrame, name: str, value: str, *, color: str, format: str = ",d", height: int = 240) -> alt.Chart:
    """A bar for each `name`, in its own order, side by side for each value of `color`."""
    order, colors = list(frame[name].unique()), list(frame[color].unique())
    axis = alt.Axis(title=None, labelAngle=-40 if len(order) > 10 else 0, labelLimit=120)
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X(f"{name}:N", sort=order, axis=axis),
            xOffset=alt.XOffset(f"{color}:N", sort=colors),
            y=alt.Y(f"{value}:Q", title=None, axis=alt.Axis(format=format, tickCount=4)),
            color=alt.Color(f"{color}:N", sort=colors, title=None, legend=alt.Legend(orient="top")),
            tooltip=[name, color, alt.Tooltip(value, format=format)],
        )
        .properties(height=height)
    )
    return chart


def spans(frame: pd.DataFrame, name: str, *, color: str, height: int = 240) -> alt.LayerChart:
    """Where the values of each `name` lie, side by side for each `color`: a thin line from `min` to `max`, a thick one
    of `std` to either side of the `mean`, which is the point."""
    order, colors = list(frame[name].unique()), list(frame[color].unique())
    shown = frame.assign(low=frame["mean"] - frame["std"], high=frame["mean"] + frame["std"])
    numbers = ("mean", "std", "min", "max")
    base = alt.Chart(shown).encode(
        x=alt.X(f"{name}:N", sort=order, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset(f"{color}:N", sort=colors),
        color=alt.Color(f"{color}:N", sort=colors, title=None, legend=alt.Legend(orient="top")),
        tooltip=[name, color, *(alt.Tooltip(number, format=".3g") for number in numbers)],
    )
    layers = [
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("min:Q", title=None), y2="max:Q"),
        base.mark_rule(strokeWidth=9, opacity=0.45).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(y="mean:Q"),
    ]
    chart: alt.LayerChart = alt.LayerChart(layer=layers).properties(height=height)
    return chart


def course(frame: pd.DataFrame, x: str, y: str, *, color: str, title: str = "", height: int = 260) -> alt.Chart:
    """How `y` goes on with `x`, a line for each value of `color` in its own order."""
    order = list(frame[color].unique())
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=16), strokeWidth=2)
        .encode(
            x=alt.X(f"{x}:Q", title=title, axis=alt.Axis(grid=False, format=",d", tickMinStep=1)),
            y=alt.Y(f"{y}:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, format=".3~g")),
            color=alt.Color(f"{color}:N", sort=order, title=None, legend=alt.Legend(orient="top")),
            tooltip=[color, alt.Tooltip(x, format=",d"), alt.Tooltip(y, format=".3g")],
        )
        .properties(height=height)
    )
    return chart


def presence(frame: pd.DataFrame, *, title: str = "") -> alt.Chart:
    """How many pictures of each `name` come between `first` and `last`: the more, the darker."""
    order = list(frame.sort_values("label")["name"].unique())
    chart: alt.Chart = (
        alt.Chart(frame.assign(end=frame["last"] + 1))
        .mark_rect()
        .encode(
            x=alt.X("first:Q", title=title, axis=alt.Axis(grid=False, format=",d"), scale=alt.Scale(nice=False)),
            x2="end:Q",
            y=alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=120)),
            opacity=alt.Opacity("count:Q", legend=None, scale=alt.Scale(domainMin=0, range=[0.05, 1])),
            tooltip=["name", "first", "last", "count"],
        )
        .properties(height=alt.Step(16))
    )
    return chart


def bins(frame: pd.DataFrame, *, color: str | None = None, log: bool = False, height: int = 240) -> alt.Chart:
    """A histogram of bins of any width: `density` between `low` and `high`, laid over each other for each `color`.
    With `log`, the x axis is logarithmic away from zero."""
    scale = alt.Scale(type="symlog", constant=0.01) if log else alt.Scale(nice=False, zero=False)
    chart = (
        alt.Chart(frame)
        .mark_rect(opacity=0.55 if color else 0.85)
        .encode(
            x=alt.X("low:Q", title=None, scale=scale, axis=alt.Axis(grid=False, format=".3~g", tickCount=6)),
            x2="high:Q",
            y=alt.Y("density:Q", title=None, axis=alt.Axis(tickCount=4, format=".2~g")),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip(name, format=".3g") for name in ("low", "high", "count", "share")],
        )
        .properties(height=height)
    )
    if color is not None:
        colors = list(dict.fromkeys(frame[color]))
        chart = chart.encode(color=alt.Color(f"{color}:N", sort=colors, title=None, legend=alt.Legend(orient="top")))
    found: alt.Chart = chart
    return found


def dots(frame: pd.DataFrame, x: str, y: str, *, color: str | None = None, height: int = 240) -> alt.Chart:
    """A point for each row, clickable: `clicked` holds its `channel`."""
    numbers = [alt.Tooltip(name, format=".3g") if frame[name].dtype.kind == "f" else name for name in frame.columns]
    chart = (
        alt.Chart(frame)
        .mark_point(filled=True, size=36, opacity=0.7, cursor="pointer")
        .encode(
            x=alt.X(
                f"{x}:Q",
                title=x,
                axis=alt.Axis(grid=False, tickCount=5),
                scale=alt.Scale(zero=False, padding=8),
            ),
            y=alt.Y(f"{y}:Q", title=y, axis=alt.Axis(tickCount=4, format=".3~g")),
            tooltip=numbers,
        )
        .properties(height=height)
        .add_params(alt.selection_point(name=SELECTION, fields=["channel"], on="click", empty=False))
    )
    if color is not None:
        chart = chart.encode(color=alt.Color(f"{color}:N", title=color, legend=alt.Legend(orient="top")))
    found: alt.Chart = chart
    return found
