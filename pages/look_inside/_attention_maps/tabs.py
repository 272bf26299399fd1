"""The tabs of the attention page: the matrix itself, explanations through all layers, statistics, and what to keep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from featviz_core import charts, drawing, layer_charts
from featviz_core.catalog import abouts
from featviz_core.errors import ModelError
from featviz_core.techniques import attention_maps as technique
from pages._ui import export, layers, show
from pages.look_inside._attention_maps.view import AVERAGE, View

_MATRIX = 560  # in pixels
_SIDE = 196
_PREDICTED = "the predicted class"
_RESIDUAL = 0.8  # with 0.5, what other tokens gathered drowns the class token's own row
_MEASURES = {
    "spread": "Entropy, as a share of the largest possible: 1 looks at all tokens alike, 0 at a single one.",
    "distance": "How far a place looks, in pixels of the model's input.",
    "class_share": "Attention on the class token, over all queries.",
    "top_share": "Attention on the one token that gets most of it, over all queries.",
    "top_value": "What that token adds, relative to the mean of all: near 0 where attention is parked in a sink.",
    "similarity": "Correlation with the most similar other head of the layer: 1 is a duplicate.",
    "output": "Length of what the head adds to the layer's output: near 0 is a dead head.",
}


def matrix(view: View) -> None:
    """The article's heat map: which query looks at which key."""
    layout = view.layer.layout
    weights = view.of_head(view.weights())
    names = layout.query_names()
    if layout.windows is None:
        rows, columns = _ticks(names, layout.grid[1]), _ticks(layout.key_names(), layout.grid[1])
        titles = ("query (row,column)", "key (row,column)")
    else:
        window = int(layout.window_of()[view.query])
        number = st.number_input(
            "Window",
            0,
            len(layout.windows) - 1,
            window,
            key=f"window {view.layer.address} {view.query}",
            help="Tokens look only at those of their own window. Starts at the window of the chosen query.",
            width=180,
        )
        places = layout.windows[int(number)]
        real = places[places >= 0]
        weights = weights[real][:, places >= 0]
        rows = columns = _ticks([names[place] for place in real], (layout.window or (1, 1))[1])
        titles = (f"query in window {number}", "key")
    low, high = st.columns([_MATRIX + 90, 300], gap="large")
    with low:
        top = float(np.quantile(weights, 0.995)) or 1.0
        colors = drawing.colorize(weights, low=0.0, high=top, color_map=view.color_map)
        factor = max(1, _MATRIX // weights.shape[1])
        image = Image.fromarray(colors.repeat(factor, axis=0).repeat(factor, axis=1))
        chart = charts.named_matrix(image, rows, columns, shape=weights.shape, width=_MATRIX, titles=titles)
        st.altair_chart(chart, width="content", alt="Attention of each query to each key")
    with high:
        st.altair_chart(charts.color_bar(0.0, top, view.color_map), width="content", alt="The colour scale")
        st.caption(
            f"{weights.shape[0]} queries × {weights.shape[1]} keys, "
            + ("averaged over all heads." if view.head == AVERAGE else f"head {view.head}.")
            + " Each row is what one query sees. Upright lines are tokens that everybody looks at; a diagonal is "
            "tokens that look at themselves or their neighbours."
        )


def _ticks(names: list[str], step: int) -> dict[int, str]:
    """The prefix tokens, and the first token of each row, or of every few rows."""
    places = [i for i, name in enumerate(names) if "," in name]
    before = {i: name for i, name in enumerate(names) if "," not in name}
    step *= max(1, len(places) // (step * 16))
    # The first place stands right beside the class token, where two names would overlap.
    return before | {i: names[i] for i in places[step if before else 0 :: step]}


def through_all_layers(view: View) -> None:
    """Rollout, relevance and the like side by side, with Grad-CAM for comparison; what there is of them for layers
    that cannot be multiplied."""
    names = list(view.look.model.class_names)
    joined = technique.share_one_grid(layer.layout for layer in view.overview.layers)
    target_, *ways_ = st.columns([3, 3, 2, 2], gap="medium")
    target = _target(target_, names)
    ways = _ways(*ways_) if joined else {}
    tiles = {"class token" if view.layer.layout.prefix else "last layer": _last(view)}
    try:
        found: technique.Explanations = view.look.ask(
            "attention_explanations", view.chosen.picture, target=target, **ways
        )
        tiles |= found.maps
    except ModelError as error:
        st.info(f"{error.what} {error.why}", icon=":material/info:")
    if "class_activation" in abouts():
        cam = view.look.ask("class_activation", view.chosen.picture, target=target, method="gradcam")
        tiles["Grad-CAM"] = cam.map
    _side_by_side(view, tiles)
    of_class = f"**{_PREDICTED if target is None else names[target]}**"
    plain = "averaged over heads, is the plain look without the layers before it"
    st.caption(
        f"For {of_class}: gradient rollout, relevance, LeGrad and Grad-CAM. Each map has its own scale; only Grad-CAM "
        f"is smoothed. The class token's row of the last layer, {plain}. Maps that disagree are a reason for doubt, "
        "not a choice of the prettiest."
        if joined
        else f"The attention that each place of the last layer gets, {plain}, and knows no class; beside it Grad-CAM "
        f"for {of_class}."
    )


def _target(place: Any, names: list[str]) -> int | None:
    """The class to explain; None for the model's own answer."""
    target = place.selectbox(
        "Class",
        [_PREDICTED, *names],
        key="target",
        bind="query-params",
        help="What relevance, gradient rollout, LeGrad and Grad-CAM explain. Rollout itself knows no class.",
    )
    return None if target == _PREDICTED else names.index(target)


def _ways(fusion_: Any, discard_: Any, residual_: Any) -> dict[str, Any]:
    """How rollout goes through the layers."""
    fusion = fusion_.segmented_control(
        "Heads",
        technique.FUSIONS,
        default="mean",
        required=True,
        key="fusion",
        bind="query-params",
        help="How rollout makes one matrix of all heads of a layer.",
    )
    discard = discard_.slider(
        "Discard", 0.0, 0.9, 0.0, 0.1, key="discard", bind="query-params", help="Share of the smallest weights to drop."
    )
    residual = residual_.slider(
        "Residual",
        0.0,
        1.0,
        _RESIDUAL,
        0.1,
        key="residual",
        bind="query-params",
        help="Share of the skip connection. Abnar and Zuidema take 0.5; Kobayashi et al. measured about 0.8 in BERT.",
    )
    return {"fusion": fusion, "discard": discard, "residual": residual}


def _last(view: View) -> np.ndarray:
    return view.overview.maps[view.overview.layers[-1].address].mean(axis=0)


def _side_by_side(view: View, tiles: dict[str, np.ndarray]) -> None:
    size = (_SIDE, round(_SIDE * view.picture.height / view.picture.width))
    seen = view.picture.resize(size)
    items = [("the picture", seen)]
    for name, values in tiles.items():
        laid = view.blocks(values, size) if values.shape[0] < 64 else values
        name = name if np.ptp(values) else f"{name}: zero everywhere"
        items.append((name, drawing.overlay(seen, laid, opacity=0.65, color_map=view.color_map)))
    for start in range(0, len(items), 4):
        for place, (name, image) in zip(st.columns(4), items[start : start + 4], strict=False):
            place.image(image, caption=name, width=_SIDE, alt=f"{name} over the picture")


def numbers(view: View) -> None:
    """Head statistics over the depth, and as a table."""
    frame = view.overview.frame
    measures = [name for name in _MEASURES if frame[name].notna().any()]
    measure = st.segmented_control(
        "Statistic",
        measures,
        default="spread",
        required=True,
        format_func=lambda name: name.replace("_", " "),
        key="statistic",
        bind="query-params",
        help="A point for each head of each layer; the line is the layer's mean.",
    )
    st.caption(_MEASURES[measure])
    order = [layer.address for layer in view.overview.layers]
    short = _short(order)
    chart = layer_charts.over_depth(frame, measure, order=order, names=short, chosen=view.layer.address)

    def choose() -> None:
        points = st.session_state["depth chart"]["selection"][charts.SELECTION]
        if points:
            st.session_state["layer"] = points[0]["layer"]
            st.session_state["head"] = str(points[0]["head"])

    st.altair_chart(
        chart,
        width="stretch",
        key="depth chart",
        on_select=choose,
        selection_mode=charts.SELECTION,
        alt=f"{measure} of each head, by layer",
    )
    shown = frame.replace("", None).dropna(axis="columns", how="all")
    st.dataframe(shown, hide_index=True, height=320, column_config=_columns())
    for finding in view.overview.findings:
        st.markdown(f"**{finding.title}.** {finding.detail} {finding.remedy}\n\n:gray[{finding.where}]")


def _columns() -> dict[str, Any]:
    """How the columns of the table are written."""
    shares = {
        name: st.column_config.ProgressColumn(name.replace("_", " "), format="percent", min_value=0, max_value=1)
        for name in ("spread", "class_share", "top_share")
    }
    forms = {"entropy": "%.2f", "distance": "%.0f px", "top_value": "%.2f", "similarity": "%.2f", "output": "%.3g"}
    numbers = {name: st.column_config.NumberColumn(name.replace("_", " "), format=form) for name, form in forms.items()}
    return shares | numbers | {"top_token": "top token"}


def _short(addresses: list[str]) -> list[str]:
    """What tells each address from the others: `encoder.layers.encoder_layer_3.self_attention` becomes `3`."""
    split = [address.split(".") for address in addresses]
    columns = list(zip_longest(*split, fillvalue=""))
    kept = [_without_common(column) for column in columns if len(set(column)) > 1]
    return [layers.short(".".join(part for part in parts if part)) for parts in zip(*kept, strict=True)] or addresses


def _without_common(words: Sequence[str]) -> list[str]:
    """Words without what all of them begin or end with, but for whole numbers."""
    if any(word.isdecimal() for word in words):
        return list(words)
    start = _alike(words)
    end = _alike([word[start:][::-1] for word in words])
    return [word[start : len(word) - end] for word in words]


def _alike(words: Sequence[str]) -> int:
    """How many letters all words begin with."""
    shortest = min(len(word) for word in words)
    return next((i for i, letters in enumerate(zip(*words, strict=False)) if len(set(letters)) > 1), shortest)


def take_away(view: View) -> None:
    """The pictures, the numbers, and the same in Python."""
    address = view.layer.address
    stem = f"attention_{view.chosen.model.label}_{address}".replace("/", "_")

    # A download is made in a thread of its own, which cannot ask the session's cache.
    maps, looks, heat, seen = view.maps(), view.looks(), view.heat(), view.picture

    def mosaic() -> Image.Image:
        return drawing.mosaic(looks, tile=128, gap=4, scale="channel", color_map=view.color_map).image

    def heads() -> bytes:
        return show.png(mosaic())

    settings = {
        "layer": address,
        "head": view.head,
        "query": view.layer.layout.query_names()[view.query],
        "measure": view.measure,
        "weights": {"shape": maps.weights[address].shape},
        "drawn": {"color_map": view.color_map},
    }

    def over() -> bytes:
        size = (512, round(512 * seen.height / seen.width))
        laid = view.blocks(heat, size)
        return show.png(drawing.overlay(seen.resize(size), laid, opacity=0.65, color_map=view.color_map))

    with st.container(horizontal=True):
        st.download_button(
            "On the picture as PNG", over, f"{stem}.png", "image/png", on_click="ignore", help="As above."
        )
        st.download_button(
            "All heads as PNG", heads, f"{stem}_heads.png", "image/png", on_click="ignore", help="As above."
        )
        st.download_button(
            "Weights as NPY",
            lambda: show.npy(maps.weights[address]),
            f"{stem}.npy",
            on_click="ignore",
            help="float32 (1, heads, queries, keys); each row sums to 1.",
        )
        st.download_button(
            "Head statistics as CSV",
            lambda: view.overview.frame.to_csv(index=False).encode(),
            f"attention_{view.chosen.model.label}_heads.csv".replace("/", "_"),
            on_click="ignore",
            help="All layers and heads.",
        )
        st.download_button(
            "Manifest as JSON",
            lambda: show.manifest(view.chosen, view.look, **settings),
            f"{stem}.json",
            on_click="ignore",
            help="Versions, model, picture and settings.",
        )
        export.button(lambda to: [to.Picture("heads", mosaic()), to.Table("heads", view.overview.frame)], stem)
    _same_in_python(view)


def _same_in_python(view: View) -> None:
    address, rollout = view.layer.address, ""
    if len({layer.layout.grid for layer in view.overview.layers}) == 1 and view.layer.layout.windows is None:
        rollout = f"print(fv.attention_maps(model, images).rollout(residual={_RESIDUAL})[0])  # all layers, (h, w)\n"
    show.snippet(
        view.chosen,
        f'result = fv.attention_maps(model, images, layers=["{address}"])\n'
        f'print(result.weights["{address}"].shape)  # (1, heads, queries, keys)\n'
        f'print(result.looks("{address}", query={view.query}).mean(axis=0))  # (h, w)\n'
        f"print(result.frame())\n{rollout}",
    )
