"""What the model says to each picture: all of them to click on, and one with its most probable classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image, ImageOps

from pages._ui import clickable
from pages.debug_training._output_check.view import View

_MOST = 60  # pictures to click on
_ACROSS = 9
_SIDE = 58  # of a picture, in pixels
_BORDER = 3
_RIGHT, _WRONG, _NEITHER = "#009E73", "#CC79A7", "#80858F"
_ORDERS = ("as given", "least sure first", "wrong first")


def draw(view: View) -> None:
    """Pictures on the left, the chosen one on the right."""
    frame = view.found.frame()
    st.subheader("What it says to each picture", anchor=False)
    left, right = st.columns([_ACROSS * (_SIDE + 2 * _BORDER + 4) + 10, 370], gap="medium")
    with left:
        _all(view, frame)
    with right:
        _one(view, frame.iloc[view.chosen])


def _all(view: View, frame: pd.DataFrame) -> None:
    labelled = "right" in frame
    order = st.segmented_control(
        "Order",
        _ORDERS if labelled else _ORDERS[:2],
        default=_ORDERS[0],
        required=True,
        key="order" if labelled else "order without labels",
        bind="query-params" if labelled else None,
        help="Least sure first: by the probability of the answer. Wrong first: of those, the surest first.",
    )
    shown = _ordered(frame, order)[:_MOST]
    tiles = [_tile(view.pictures[index], _color(frame, index)) for index in shown]
    sheet = clickable.sheet(tiles, columns=min(_ACROSS, len(tiles)), gap=4)
    clickable.tiles(
        sheet,
        [_said(view, frame.iloc[index]) for index in shown],
        lambda place: view.choose(shown[place]),
        key="answers",
        width=sheet.image.width,
        chosen=shown.index(view.chosen) if view.chosen in shown else None,
        alt="The pictures that were checked",
    )
    borders = "A green border is right, a pink one wrong. " if labelled else ""
    st.caption(f"{len(shown)} of {len(frame)} pictures. {borders}Click one for its scores.")


def _ordered(frame: pd.DataFrame, order: str) -> list[int]:
    if order == "wrong first":
        sorted_ = frame.sort_values(["right", "confidence"], ascending=[True, False], kind="stable")
    elif order == "least sure first":
        sorted_ = frame.sort_values("confidence", kind="stable", na_position="first")
    else:
        sorted_ = frame
    return [int(index) for index in sorted_["picture"]]


def _color(frame: pd.DataFrame, index: int) -> str:
    if "right" not in frame or not frame["target"][index]:
        return _NEITHER
    return _RIGHT if frame["right"][index] else _WRONG


def _tile(picture: Image.Image, color: str) -> Image.Image:
    square = ImageOps.pad(picture.convert("RGB"), (_SIDE, _SIDE), color="#80858F")
    return ImageOps.expand(square, _BORDER, color)


def _said(view: View, row: pd.Series) -> str:
    answer = f"{row['predicted']} {row['confidence']:.0%}" if row["predicted"] else "not a number"
    label = f", labelled {row['target']}" if row.get("target") else ""
    return f"{view.names[int(row['picture'])]}: {answer}{label}"


def _one(view: View, row: pd.Series) -> None:
    index = int(row["picture"])
    picture, text = st.columns([1, 2], vertical_alignment="center")
    picture.image(view.pictures[index], width="stretch", alt=view.names[index])
    text.markdown(f"**{view.names[index]}**")
    if row.get("target"):
        text.markdown(("Right" if row["right"] else "Wrong") + f": labelled **{row['target']}**.")
    largest = np.log(max(2, view.found.logits.shape[1]))
    text.caption(f"Entropy {row['entropy']:.2f} of at most {largest:.2f} nats.")
    top = view.found.top(6)
    shown = top.loc[top["picture"] == index, ["name", "probability", "score"]]
    share = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    number = st.column_config.NumberColumn(format="%.3g")
    st.dataframe(shown, hide_index=True, column_config={"probability": share, "score": number})
