"""What the two sources share: findings that lead to their layers, bars for all parameters, tables, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from featviz_core import layer_charts
from featviz_core.findings import Finding
from featviz_core.techniques.gradient_flow import GradientFlow
from pages._ui import export, menu, show

_NOTES = {"reached": "", "frozen": "frozen", "detached": "cut off from the loss", "unused": "never runs"}
_MEAN, _MAX, _RATIO = "mean |g|", "max |g|", "‖g‖/‖w‖"
_ROWS = 34  # that are shown without scrolling
_SCROLLED = 640  # pixels
_MOST_LINKS = 6


def findings(found: Sequence[Finding], flow: GradientFlow, known: Sequence[str], *, model: str | None = None) -> None:
    """Each finding, and the way to its layers' feature maps, as far as they are `known` there; `model` is the name of
    the model that they are of, where that is not the one in the picker."""
    types = {parameter.layer: parameter.type for parameter in flow.parameters}
    for number, finding in enumerate(found):
        named = finding.evidence.get("layers", ())
        numbers = {name: value for name, value in finding.evidence.items() if name != "layers"}
        show.findings([replace(finding, evidence=numbers)])
        shown = [layer for layer in named if layer in known][:_MOST_LINKS]
        if shown:
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.markdown(":gray[Feature maps of]", width="content")
                for layer in shown:
                    _way(f"`{layer}` {types[layer]}", layer, model, key=f"way {number} {layer}")


def _way(label: str, layer: str, model: str | None, *, key: str) -> None:
    """A link would do, but cannot change the model in the picker."""

    def choose() -> None:
        if model is not None:
            st.session_state["model"] = model

    icon, text = ":material/grid_view:", "Opens the page of feature maps at this layer."
    if st.button(label, type="tertiary", icon=icon, help=text, on_click=choose, key=key):
        st.switch_page(menu.page_of("feature_maps"), query_params={"layer": layer})


def bars(found: GradientFlow) -> None:
    """The article's chart: mean and maximum of |gradient| for each parameter, in network order."""
    log = st.toggle(
        "Logarithmic scale",
        key="log",
        bind="query-params",
        help="Shows gradients that differ by many orders of magnitude. Zero has no place on it.",
    )
    frame = labelled(found).rename(columns={"mean_abs": _MEAN, "max_abs": _MAX})
    title = "|gradient|, from the first layer (top) to the last"
    chart = layer_charts.parameter_bars(frame, [_MAX, _MEAN], log=log, title=title)
    scrolled(chart, len(frame), "Mean and largest absolute gradient of each parameter")


def ratios(found: GradientFlow) -> None:
    """How large each gradient is for the weight that it is to change."""
    frame = labelled(found).rename(columns={"ratio": _RATIO})
    chart = layer_charts.parameter_bars(frame, [_RATIO], log=True, title="‖g‖/‖w‖")
    scrolled(chart, len(frame), "Norm of each parameter's gradient relative to that of the parameter")
    st.caption("Times the learning rate, this is the share by which a step of plain SGD would change the parameter.")


def scrolled(chart: object, rows: int, alt: str) -> None:
    """A chart of many rows, in a frame of its own where it is too high for the page."""
    if rows > _ROWS:
        with st.container(height=_SCROLLED):
            st.altair_chart(chart, width="stretch", alt=alt)
    else:
        st.altair_chart(chart, width="stretch", alt=alt)


def labelled(found: GradientFlow) -> pd.DataFrame:
    """The frame with a `name` for each row, and a `note` where there is no bar to be seen."""
    frame = found.frame()
    notes = frame["state"].map(_NOTES)
    notes = notes.mask((frame["state"] == "reached") & (frame["max_abs"] == 0), "exactly zero")
    notes = notes.mask((frame["nan_count"] > 0) | (frame["inf_count"] > 0), "not finite")
    return frame.assign(name=frame["parameter"], note=notes)


def by_layer(found: GradientFlow) -> None:
    """The norm of all of a layer's parameters together."""
    frame = found.layers()
    frame["layer"] = frame["layer"].replace("", "the model itself")
    number = st.column_config.NumberColumn(format="%.3g")
    config = dict.fromkeys(("norm", "weight_norm", "ratio"), number)
    config["parameters"] = st.column_config.NumberColumn(format="localized")
    st.dataframe(frame, hide_index=True, column_config=config)


def table(found: GradientFlow) -> None:
    """Every number."""
    frame = found.frame().drop(columns="layer")
    frame["shape"] = frame["shape"].map(lambda shape: "×".join(map(str, shape)))
    number, share = st.column_config.NumberColumn(format="%.3g"), st.column_config.NumberColumn(format="percent")
    config = dict.fromkeys(("mean_abs", "max_abs", "norm", "weight_norm", "ratio"), number)
    config |= {"zero_fraction": share, "dead_fraction": share}
    st.dataframe(frame, hide_index=True, column_config=config)
    st.caption("Zero fraction: values that are exactly zero. Dead fraction: outputs all of whose values are.")


def downloads(found: GradientFlow, stem: str, *, of: str = "Parameters") -> None:
    """Numbers `of` what, as files."""
    with st.container(horizontal=True):
        st.download_button(
            f"{of} as CSV",
            lambda: found.frame().to_csv(index=False).encode(),
            f"{stem}.csv",
            "text/csv",
            on_click="ignore",
            help="One row a parameter: mean, maximum, norm, ratio, zeros, state.",
        )
        st.download_button(
            f"{of} as JSON",
            lambda: found.to_json().encode(),
            f"{stem}.json",
            "application/json",
            on_click="ignore",
            help="Numbers and findings.",
        )
        export.button(lambda to: [to.Table("gradients", found.frame())], stem)
