"""The layer picker that techniques share: any layer by name, or from the tree of modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

if TYPE_CHECKING:
    from featviz_core.models import LoadedModel
    from featviz_core.trace import Layer


_SHORT = 14  # characters


def pick(model: LoadedModel, *, default: str) -> str:
    """The address of the layer to look at; kept in the URL as `layer`."""
    known = addresses(model)
    # The default comes from the session's state, because the widget itself must have none: Streamlit leaves what a
    # widget starts with out of the URL, and a link would lose the first layer.
    if (st.session_state.get("layer") or st.query_params.get("layer")) not in known:
        st.session_state["layer"] = default
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen: str = st.selectbox(
            "Layer",
            known,
            index=None,
            key="layer",
            bind="query-params",
            help="Any layer by its name in the code: type a part of it. `#1` marks the first of several calls.",
        )
        with st.popover("Tree", icon=":material/account_tree:", on_change="rerun", help="All layers as a tree") as tree:
            if tree.open:
                _tree(model.layers())
    layer = model.trace(model.input_shape).find(chosen)
    st.caption(f"{layer.type} · {describe(layer)}")
    return chosen


def addresses(model: LoadedModel) -> list[str]:
    """The layers that can be looked at."""
    return [layer.address for layer in model.layers() if layer.viewable and layer.name]


def short(address: str) -> str:
    """The end of a layer's address, as many whole names as fit below a small picture."""
    names = address.split(".")
    ends = [".".join(names[start:]) for start in range(len(names))]
    end = next((end for end in ends if len(end) <= _SHORT), names[-1])
    return end if len(end) <= _SHORT else "…" + end[1 - _SHORT :]


def describe(layer: Layer) -> str:
    """A layer's output and size in a few words: `64 channels of 32×32 · 36,864 parameters`."""
    shape = layer.shape or ()
    layout = layer.layout
    if layout is None:
        output = "×".join(map(str, shape))
    elif layout.kind == "vector":
        output = f"{shape[1]} numbers"
    elif layout.kind == "tokens":
        extra = f" and {layout.prefix} more" if layout.prefix else ""
        output = f"{shape[-1]} channels of {layout.grid[0]}×{layout.grid[1]} tokens{extra}"
    elif layout.kind == "windows":
        height, width = (side * layout.window for side in layout.grid)
        output = f"{shape[-1]} channels of {height}×{width}, in windows of {layout.window}×{layout.window}"
    elif layout.kind == "channels_last":
        output = f"{shape[3]} channels of {shape[1]}×{shape[2]}"
    else:
        output = f"{shape[1]} channels of {shape[2]}×{shape[3]}"
    return f"{output} · {layer.parameters:,} parameters"


def _tree(layers: Sequence[Layer]) -> None:
    rows = [layer for layer in layers if layer.name]
    frame = pd.DataFrame(
        {
            "layer": ["\u2003" * (layer.depth - 1) + layer.address.rsplit(".", 1)[-1] for layer in rows],
            "type": [layer.type for layer in rows],
            "kind": [layer.kind for layer in rows],
            "output": ["×".join(map(str, layer.shape[1:])) if layer.shape else "never called" for layer in rows],
            "parameters": [layer.parameters for layer in rows],
        }
    )
    st.caption("Choose a row to look at that layer. The magnifier above the table searches.")

    def choose() -> None:
        picked = st.session_state["layer tree"]["selection"]["rows"]
        if picked and rows[picked[0]].viewable:
            st.session_state["layer"] = rows[picked[0]].address

    st.dataframe(
        frame,
        key="layer tree",
        hide_index=True,
        width=640,
        height=420,
        on_select=choose,
        selection_mode="single-row",
        column_config={"parameters": st.column_config.NumberColumn(format="localized")},
    )
