"""Are the layers healthy? Findings first; then all layers at once, and the one that was clicked, closely."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from featviz_core import charts, layer_charts
from pages._ui import export, pickers, show
from pages.look_inside._activation_stats import compare, layer, sources, strongest
from pages.look_inside._activation_stats.view import Source, View

_SOURCES = {
    "all pictures": sources.all_pictures,
    "this picture": sources.one_picture,
    "an experiment": sources.of_experiment,
}
_SEEN = 1e-3  # share of a layer's values that makes a bin worth a row in the heat map
_MEASURES = {
    "distribution": "Where each layer's values lie: thin from smallest to largest, thick one standard deviation to "
    "either side of the mean. Logarithmic away from zero.",
    "all histograms": "Each column is one layer's histogram, on bins that all layers share; brighter where more values "
    "lie. Even in the logarithm of the size, zero in the middle.",
    "spread": "The standard deviation of each layer. A straight fall or rise over powers of ten is what to look for.",
    "dead and zero": "Channels that never get through the activation behind, and values that are exactly zero.",
    "variance ratio": "Each layer's variance over that of the layer before.",
}


def page() -> None:
    about = show.header("activation_stats")
    source = st.segmented_control(
        "Look at",
        list(_SOURCES),
        default="all pictures",
        required=True,
        key="source",
        bind="query-params",
        help="The model in the picker, on all pictures there or on the chosen one; or an experiment's own model, fresh "
        "or after some training, on its own data.",
    )
    found = _SOURCES[source](pickers.chosen())
    if found is None:
        st.divider()
        show.how_to_read(about)
        return
    view = viewed(found)
    findings(found)
    overview(view)
    layer.draw(view)
    show.tabs(
        {
            "How to read this": partial(show.how_to_read, about),
            "Compare": partial(compare.draw, view),
            "Top pictures": partial(strongest.draw, view),
            "All layers": partial(table, view),
            "Take away": partial(take_away, view),
        }
    )


def viewed(source: Source) -> View:
    """The source's layers, with the chosen one: that of the worst finding, as long as nobody chose."""
    frame = source.stats.frame().merge(source.stats.health(), on="layer")
    known = list(frame["layer"])
    if (st.session_state.get(layer.KEY) or st.query_params.get(layer.KEY)) not in known:
        where = source.stats.findings[0].where.split(", ")[0]
        st.session_state[layer.KEY] = where if where in known else known[len(known) // 2]
    return View(source, frame, st.session_state.get(layer.KEY) or st.query_params[layer.KEY])


def findings(source: Source) -> None:
    """What is wrong, or that nothing is."""
    stats = source.stats
    if stats.findings[0].severity == "ok":
        text = f"**Healthy activations** in {len(stats.layers)} layers, for {stats.pictures:,} pictures."
        st.success(text, icon=":material/check_circle:")
        return
    show.verdict(stats.findings)
    show.findings(stats.findings)


def overview(view: View) -> None:
    """All layers at once; a click chooses one."""
    measure = st.segmented_control(
        "Show",
        list(_MEASURES),
        default="distribution",
        required=True,
        key="measure",
        bind="query-params",
        help="Click on a layer in any of the charts to look at it closely below.",
    )
    st.altair_chart(
        chart(view, measure),
        key="overview",
        on_select=partial(choose, view),
        alt=f"All layers from picture to answer: {measure}",
    )
    st.caption(_MEASURES[measure])


def chart(view: View, measure: str) -> Any:
    """The chart of all layers."""
    looks = {"names": view.names, "chosen": view.address}
    if measure == "all histograms":
        seen = view.source.stats.histograms
        seen = seen[seen["share"] >= _SEEN]
        return layer_charts.heat(seen, layers=list(view.frame["layer"]), **looks)
    if measure == "spread":
        return layer_charts.course(view.frame, "std", log=True, **looks)
    if measure == "variance ratio":
        return layer_charts.course(view.frame, "variance_ratio", log=True, **looks)
    if measure == "dead and zero":
        tall = view.frame.melt("layer", ["dead_fraction", "zero_fraction"], "what", "share")
        words = {"dead_fraction": "dead channels", "zero_fraction": "zeros"}
        return layer_charts.course(
            tall.assign(what=tall["what"].map(words)), "share", color="what", percent=True, **looks
        )
    return layer_charts.spans(view.frame, **looks)


def choose(view: View) -> None:
    """Take over the layer that was clicked."""
    points = st.session_state["overview"]["selection"][charts.SELECTION]
    if points and points[0]["layer"] in set(view.frame["layer"]):
        st.session_state[layer.KEY] = points[0]["layer"]


def table(view: View) -> None:
    """All numbers of all layers."""
    share, number = (
        st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        st.column_config.NumberColumn(format="%.3g"),
    )
    columns = dict.fromkeys(("mean", "std", "min", "max", "variance_ratio", "between_fraction"), number)
    shares = dict.fromkeys(("zero_fraction", "dead_fraction", "saturated_fraction"), share)
    shown = view.frame.assign(shape=["×".join(map(str, shape or ())) for shape in view.frame["shape"]])
    st.dataframe(shown, hide_index=True, column_config=columns | shares)


def take_away(view: View) -> None:
    """The numbers as files, and the same in Python."""
    stats, stem = view.source.stats, view.source.stem

    def sent(to: Any) -> list[Any]:
        known = [(address, one.histogram) for address, one in stats.layers.items() if one.histogram is not None]
        histograms = [to.Distribution(f"activation/{name}", each.counts[1:-1], each.edges) for name, each in known]
        return [to.Table("layers", view.frame.drop(columns="shape", errors="ignore")), *histograms]

    with st.container(horizontal=True):
        st.download_button(
            "Layers as CSV",
            lambda: csv(view.frame),
            f"{stem}.csv",
            "text/csv",
            on_click="ignore",
            help="One row a layer: everything that was measured.",
        )
        st.download_button(
            "Channels as CSV",
            lambda: csv(stats.layers[view.address].channel_frame()),
            f"{stem}_{view.address}_channels.csv",
            "text/csv",
            on_click="ignore",
            help="One row a channel of the chosen layer.",
        )
        st.download_button(
            "Everything as JSON",
            lambda: stats.to_json().encode(),
            f"{stem}.json",
            "application/json",
            on_click="ignore",
            help="Layers, histograms and findings.",
        )
        export.button(sent, stem)
    view.source.code()


def csv(frame: pd.DataFrame) -> bytes:
    """A frame as a CSV file."""
    return frame.to_csv(index=False).encode()


page()
