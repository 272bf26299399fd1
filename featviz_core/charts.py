"""Tidy frames to Altair charts; the only place that imports Altair.

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
_FRAME_COLOR = "#D55E00"
_CAPTION_COLOR = "#80858F"  # readable on white and on black
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
        .mark_rect(filled=False, stroke=_FRAME_COLOR, strokeWidth=3)
        .encode(**corners),
        # Not quite invisible: marks without any opacity get no clicks.
        alt.Chart(tiles)
        .mark_rect(fillOpacity=0.001, cursor="pointer", stroke="white", strokeOpacity=0.35 if outlined else 0)
        .encode(**corners, tooltip=alt.Tooltip("name:N", title=None))
        .add_params(alt.selection_point(name=SELECTION, fields=["index"], on="click", empty=False)),
    ]
    if captions:
        below = tiles.tail(len(captions)).assign(caption=list(captions))
        label = alt.Chart(below).mark_text(align="left", baseline="top", dy=4, fontSize=11, color=_CAPTION_COLOR)
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
) -> alt.Chart:
    """A matrix of `shape`, drawn in `image`, from the top left, with axes that name some `rows` and `columns`."""
    height = round(width * shape[0] / shape[1])
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


def over_depth(
    frame: pd.DataFrame, value: str, *, order: Sequence[str], names: Sequence[str], chosen: str, height: int = 240
) -> alt.LayerChart:
    """A number for each head of each layer, `order` first to last with short `names`, and the mean of each layer as a
    line. Clicking a point selects it: `clicked` holds its `layer` and `head`; the layer `chosen` is marked."""
    shown = frame.dropna(subset=[value]).copy()
    shown["place"] = shown["layer"].map({address: place for place, address in enumerate(order)})
    label = " : ".join(f"datum.value == {place} ? {json.dumps(name)}" for place, name in enumerate(names))
    x = alt.X(
        "place:Q",
        title=None,
        scale=alt.Scale(domain=[-0.5, len(order) - 0.5], nice=False),
        axis=alt.Axis(
            values=list(range(len(order))), labelExpr=f"{label} : ''", labelAngle=-40, grid=False, labelOverlap=True
        ),
    )
    y = alt.Y(f"{value}:Q", title=None)
    now = pd.DataFrame({"place": [order.index(chosen)]})
    layers = [
        alt.Chart(now).mark_rule(color=_FRAME_COLOR, strokeWidth=10, opacity=0.18).encode(x=x),
        alt.Chart(shown).mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y=f"mean({value}):Q"),
        alt.Chart(shown)
        .mark_point(filled=True, size=60, opacity=0.75, cursor="pointer")
        .encode(x=x, y=y, tooltip=["layer", "head", alt.Tooltip(value, format=".3g")])
        .add_params(alt.selection_point(name=SELECTION, fields=["layer", "head"], on="click", empty=False)),
    ]
    chart: alt.LayerChart = alt.layer(*layers).properties(height=height).configure_view(strokeWidth=0)
    return chart
