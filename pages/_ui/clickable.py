"""Pictures with parts that can be clicked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st
from PIL import Image

from featviz_core import charts
from featviz_core.drawing import Box, Mosaic


def tiles(
    mosaic: Mosaic,
    names: Sequence[str],
    choose: Callable[[int], None],
    *,
    key: str,
    width: int,
    chosen: int | None = None,
    captions: Sequence[str] = (),
    alt: str,
) -> None:
    """A mosaic whose tiles can be clicked: `choose(index)` is called before the page runs again."""
    cells = [mosaic.cell(index) for index in range(mosaic.count)]
    boxes(mosaic.image, cells, names, choose, key=key, width=width, chosen=chosen, captions=captions, alt=alt)


def boxes(
    image: Image.Image,
    parts: Sequence[Box],
    names: Sequence[str],
    choose: Callable[[int], None],
    *,
    key: str,
    width: int,
    chosen: int | None = None,
    captions: Sequence[str] = (),
    outlined: bool = False,
    alt: str,
) -> None:
    """A picture with parts that can be clicked: `choose(index)` is called before the page runs again."""

    def clicked() -> None:
        points = st.session_state[key]["selection"][charts.SELECTION]
        if points and points[0]["index"] < len(names):
            choose(int(points[0]["index"]))

    chart = charts.clickable_picture(
        image, parts, names, width=width, chosen=chosen, captions=captions, outlined=outlined
    )
    st.altair_chart(chart, width="content", key=key, on_select=clicked, alt=alt, theme=None)


def sheet(pictures: Sequence[Image.Image], *, columns: int, gap: int = 26) -> Mosaic:
    """Pictures of one size as a single one, to be clicked; the gap leaves room for captions."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGBA", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    none = np.zeros(len(pictures))
    laid_out = Mosaic(canvas, len(pictures), columns, rows, (width, height), gap, none, none)
    for index, picture in enumerate(pictures):
        canvas.paste(picture, laid_out.cell(index)[:2])
    return laid_out
