"""Tidy frames to Altair charts; the only place that imports Altair.

Colours and fonts are left to the page's theme. Every chart that can be clicked names its selection `clicked`.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
from PIL import Image

from featviz_core.drawing import Box, color_table, data_url

SELECTION = "clicked"
_FRAME_COLOR = "#D55E00"
_CAPTION_COLOR = "#80858F"  # readable on white and on black
_CAPTION_HEIGHT = 20
_BAR_HEIGHT = 52  # with the numbers below it


def clickable_picture(
    image: Image.Image,
    boxes: Sequence[Box],
    names: Sequence[str],
    *,
    width: int,
    chosen: int | None = None,
    captions: Sequence[str] = (),
) -> alt.LayerChart:
    """One picture made of tiles, `width` pixels wide: hovering names a tile, clicking selects it.

    `boxes` are the tiles in pixels of `image`; the selection `clicked` holds the tile's `index`; the tile `chosen`
    is framed; `captions` stand below the tiles of the last row.
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
        .mark_rect(fillOpacity=0.001, cursor="pointer")
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
        )
        .properties(width=width, height=_BAR_HEIGHT)
        .configure_view(strokeWidth=0)
    )
    return chart
