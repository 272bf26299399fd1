"""One layer closely: its histogram, its channels, and the way to its feature maps."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from featviz_core import charts
from pages._ui import layers, menu
from pages.look_inside._activation_stats import strongest
from pages.look_inside._activation_stats.view import View

# Not `layer`, as on the pages that can show any: what is chosen among these need not be there.
KEY = "of"


def draw(view: View) -> None:
    """Everything about the chosen layer."""
    stats = view.source.stats.layers[view.address]
    row = view.frame.set_index("layer").loc[view.address]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Layer",
            list(view.frame["layer"]),
            key=KEY,
            bind="query-params",
            help="Or click on a layer in the charts above.",
        )
        st.caption(f"{row['type']} · {layers.describe(stats.layer)}")
        if stats.layer.viewable:
            _feature_maps(view)
    numbers = {
        "mean": f"{row['mean']:.3g}",
        "std": f"{row['std']:.3g}",
        "min … max": f"{row['min']:.3g} … {row['max']:.3g}",
        "zeros": f"{row['zero_fraction']:.1%}",
        "dead channels": f"{row['dead_fraction']:.1%}",
    }
    if row["saturated_fraction"] == row["saturated_fraction"]:
        numbers[f"{row['activation']} saturated"] = f"{row['saturated_fraction']:.1%}"
    if bad := int(row["nan_count"] + row["inf_count"]):
        numbers["NaN or infinity"] = f"{bad:,}"
    for place, (name, value) in zip(st.columns(len(numbers)), numbers.items(), strict=True):
        place.metric(name, value)
    left, right = st.columns(2, gap="large")
    with left:
        _histogram(view)
    with right:
        _channels(view)


def _feature_maps(view: View) -> None:
    """The way to the layer's feature maps, on the same model."""
    page = next(menu.PAGES.glob("*/feature_maps.py"), None)
    if page is None:
        return
    label, icon, link = "Open in feature maps", ":material/grid_view:", view.source.link | {"layer": view.address}
    if "experiment" in link:
        # In a tab of its own: within a session, what stands in the model picker counts more than an address.
        about = "Opens a new tab on the experiment's model, as it is before any training."
        st.link_button(label, f"{page.stem}?{urlencode(link)}", icon=icon, type="tertiary", help=about)
    else:
        st.page_link(page, label=label, icon=icon, query_params=link)


def _histogram(view: View) -> None:
    stats = view.source.stats.layers[view.address]
    log = st.toggle(
        "Log scale",
        key="log values",
        bind="query-params",
        help="Logarithmic away from zero, to both sides: shows tails that a linear axis hides.",
    )
    bins = stats.bins(even=not log)
    if bins.empty:
        st.info("No value of this layer is a number.", icon=":material/block:")
        return
    st.altair_chart(charts.bins(bins, log=log), alt=f"Histogram of {view.address}")
    after = f" Behind it: {stats.activation.type} (`{stats.activation.layer}`)." if stats.activation else ""
    st.caption(f"From a sample of {stats.sampled:,} values, evenly over all pictures and places.{after}")


def _channels(view: View) -> None:
    channels = view.source.stats.layers[view.address].channel_frame()
    channels["state"] = channels["dead"].map({True: "dead", False: "alive"})
    shown = channels[["channel", "mean", "std", "max", "between", "state"]]
    st.markdown("**Each channel's mean and spread**")
    chart = charts.dots(shown, "mean", "std", color="state" if channels["dead"].any() else None)
    alt = "Mean and standard deviation of each channel"
    st.altair_chart(chart, key="channels", on_select=_choose_channel, alt=alt)
    dead = channels.loc[channels["dead"], "channel"].tolist()
    said = f"{len(channels):,} channels, exact numbers over all pictures. Click on one for its top pictures, below."
    if dead:
        said += f" Dead: {', '.join(map(str, dead[:20]))}{' …' if len(dead) > 20 else '.'}"
    st.caption(said)


def _choose_channel() -> None:
    points = st.session_state["channels"]["selection"][charts.SELECTION]
    if points:
        st.session_state[strongest.FIRST] = int(points[0]["channel"])
