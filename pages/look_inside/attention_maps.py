"""Where does a transformer look? Every head of every layer, on the picture and as numbers."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import streamlit as st
from PIL import Image

from featviz_core import drawing
from featviz_core.demo.models import weights_path
from featviz_core.drawing import Box
from featviz_core.techniques import attention_maps as technique
from pages._ui import clickable, menu, pickers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen
from pages.look_inside._attention_maps import tabs
from pages.look_inside._attention_maps.view import AVERAGE, View

_VIT = "demo/shapes_vit"
_OVERVIEW = 430  # width of all layers and heads, in pixels
_PICTURE = 448
_TILE = (14, 100)  # least and most width of one head in the overview
_MOST_CELLS = 28  # to click on, across and down
_COLORS = ["magma", "viridis", "cividis", "gray"]


def page() -> None:
    about = show.header("attention_maps")
    chosen = pickers.chosen()
    look = chosen.look()
    show.subject(chosen, look)
    if not look.ask("attention_layers", shape=(3, *look.model.input_size)):
        no_attention(look)
        return
    overview: technique.AttentionOverview = look.ask("attention_overview", chosen.picture)
    view = controls(chosen, look, overview)
    left, right = st.columns([_OVERVIEW + 20, _PICTURE + 40], gap="medium")
    with left:
        all_heads(view)
    with right:
        on_picture(view)
    heads(view)
    parts = {
        "How to read this": partial(show.how_to_read, about),
        "Query × key": partial(tabs.matrix, view),
        "Through all layers": partial(tabs.through_all_layers, view),
        "Heads in numbers": partial(tabs.numbers, view),
        "Take away": partial(tabs.take_away, view),
    }
    show.tabs(parts)


def no_attention(look: Look) -> None:
    """One sentence for a model without attention, and where to go from here."""
    st.info(
        f"{look.choice.label} has no attention layers, so there are no attention maps to show.", icon=":material/hub:"
    )

    def choose() -> None:
        st.session_state["model"] = _VIT

    with st.container(horizontal=True, vertical_alignment="center"):
        cam = next(menu.PAGES.glob("*/class_activation.py"), None)
        if cam is not None:
            st.page_link(
                cam, label="**See where it looks with class activation maps**", icon=":material/center_focus_strong:"
            )
        if weights_path(_VIT.removeprefix("demo/")).is_file():
            st.button(
                "Choose the demo transformer",
                on_click=choose,
                icon=":material/hub:",
                help="A small vision transformer that is bundled and trained: ?model=demo/shapes_vit",
            )


def controls(chosen: Chosen, look: Look, overview: technique.AttentionOverview) -> View:
    """Which layer, which head, which token looks, and how it is drawn."""
    layer_, head_, query_, measure_, color_ = st.columns([6, 2, 2, 3, 2])
    known = [layer.address for layer in overview.layers]
    _fall_back("layer", known, known[-1])
    address = layer_.selectbox(
        "Layer", known, key="layer", bind="query-params", help="The layers that attend, from first to last."
    )
    layer = next(layer for layer in overview.layers if layer.address == address)
    names, options = layer.layout.query_names(), [AVERAGE, *(str(head) for head in range(layer.heads))]
    _fall_back("head", options, AVERAGE)
    head = head_.selectbox(
        "Head", options, key="head", bind="query-params", help="One head, or the average of all heads of the layer."
    )
    middle = layer.layout.query_at(layer.layout.grid[0] // 2, layer.layout.grid[1] // 2)
    _fall_back("query", names, "class" if "class" in names else names[min(middle, len(names) - 1)])
    query = query_.selectbox(
        "Query",
        names,
        key="query",
        bind="query-params",
        help="The token that looks: the class token, or a place as row,column. Or click on the picture.",
    )
    measure = measure_.segmented_control(
        "Show",
        ["attention", "× value"],
        default="attention",
        required=True,
        key="measure",
        bind="query-params",
        help="Attention alone, or times the length of what each token can add (Kobayashi et al.): a token that is "
        "looked at but has nothing to say fades.",
    )
    color_map = color_.selectbox(
        "Colours", _COLORS, key="heat", bind="query-params", help="All can be read with any colour vision."
    )
    return View(chosen, look, overview, layer, head, names.index(query), measure, color_map)


def _fall_back(key: str, options: list[str], default: str) -> None:
    # A default that is not the first option has to come from the session's state, or Streamlit warns of two defaults.
    if (st.session_state.get(key) or st.query_params.get(key)) not in options:
        st.session_state[key] = default


def all_heads(view: View) -> None:
    """Layers × heads, each as a small map on its own scale; a click chooses both."""
    layers = view.overview.layers
    across = max(layer.heads for layer in layers)
    side = int(np.clip(min(_OVERVIEW / across, max(_PICTURE / len(layers), 28)) - 3, *_TILE))
    tiles, names = [], []
    for layer in layers:
        maps = view.overview.maps[layer.address]
        for head in range(across):
            tiles.append(_tile(maps[head], side, view.color_map) if head < layer.heads else _empty(side))
            names.append(f"{layer.address}, head {head}" if head < layer.heads else "")

    def choose(index: int) -> None:
        if names[index]:
            st.session_state["layer"] = layers[index // across].address
            st.session_state["head"] = str(index % across)

    sheet = clickable.sheet(tiles, columns=across, gap=3)
    chosen = None
    if view.head != AVERAGE:
        chosen = [layer.address for layer in layers].index(view.layer.address) * across + int(view.head)
    st.markdown("**All layers and heads**")
    clickable.tiles(
        sheet, names, choose, key="all heads", width=sheet.image.width, chosen=chosen, alt="All layers and heads"
    )
    seen = "where the class token looks" if view.layer.layout.prefix else "how much attention each place gets"
    st.caption(f"A row for each layer, first to last; a column for each head: {seen}, on its own scale. Click one.")
    for finding in view.overview.findings:
        draw = {"warn": st.warning, "fail": st.error}.get(finding.severity, st.caption)
        draw(f"**{finding.title}.** {finding.detail}")


def _tile(values: np.ndarray, side: int, color_map: str) -> Image.Image:
    colors = drawing.colorize(values, low=float(values.min()), high=float(values.max()), color_map=color_map)
    return Image.fromarray(colors).resize(
        (side, side), Image.Resampling.BILINEAR if values.shape[0] > side else Image.Resampling.NEAREST
    )


def _empty(side: int) -> Image.Image:
    return Image.new("RGBA", (side, side))


def on_picture(view: View) -> None:
    """What the chosen token sees, over the picture; clicking a place lets that place look."""
    layout, heat = view.layer.layout, view.heat()
    width, height = view.picture.size
    size = (_PICTURE, round(_PICTURE * height / width))
    places, boxes = _cells(layout.grid, size)
    names = [f"{row},{column}: {heat[row, column]:.3g}" for row, column in places]
    place = layout.place_of(view.query)
    chosen = None
    if place is not None:
        rows, columns = (min(side, _MOST_CELLS) for side in layout.grid)
        chosen = place[0] * rows // layout.grid[0] * columns + place[1] * columns // layout.grid[1]

    def choose(index: int) -> None:
        st.session_state["query"] = "{},{}".format(*places[index])

    who = f"head {view.head}" if view.head != AVERAGE else f"all {view.layer.heads} heads on average"
    st.markdown(f"**Where {view.query_name} looks** · {who}")
    opacity = st.session_state.get("attention opacity", 0.65)
    drawn = drawing.overlay(
        view.picture.resize(size), view.blocks(heat, size), opacity=opacity, color_map=view.color_map
    )
    if layout.queries == 1 or not layout.on_picture:
        st.image(drawn, width=size[0], alt="What the query sees")
        return
    clickable.boxes(
        drawn, boxes, names, choose, key="on picture", width=size[0], chosen=chosen, alt="The picture: click a place"
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        for name in layout.prefix[:5]:
            st.button(f"From the {name} token", on_click=_let_look, args=(name,), help="Show what this token looks at.")
        st.slider(
            "Opacity", 0.0, 1.0, 0.65, key="attention opacity", help="How much the map covers the picture.", width=200
        )
    st.caption("Click a place to see where it looks; the framed one looks now." + _off_picture(view))


def _cells(grid: tuple[int, int], size: tuple[int, int]) -> tuple[list[tuple[int, int]], list[Box]]:
    """Places of a token grid, as many as can be clicked on, with their boxes on a picture of `size`."""
    counts = [min(side, _MOST_CELLS) for side in grid]
    places = [
        ((np.arange(count) + 0.5) * side / count).astype(int).tolist() for count, side in zip(counts, grid, strict=True)
    ]
    below, right = (
        np.linspace(0, length, count + 1).round().astype(int).tolist()
        for count, length in zip(counts, size[::-1], strict=True)
    )
    cells = list(product(range(counts[0]), range(counts[1])))
    boxes = [(right[column], below[row], right[column + 1], below[row + 1]) for row, column in cells]
    return [(places[0][row], places[1][column]) for row, column in cells], boxes


def _let_look(name: str) -> None:
    st.session_state["query"] = name


def _off_picture(view: View) -> str:
    """How much of the row lies on prefix tokens, which no picture shows."""
    shares = [f"{share:.0%} on the {name} token" for name, share in view.on_prefix()]
    return f" Besides the picture: {', '.join(shares)}." if shares else ""


def heads(view: View) -> None:
    """All heads of the layer for the chosen token; a click chooses one."""
    maps = view.looks()
    columns = min(len(maps), 8)
    side = min(150, 1000 // columns - 8)
    seen = view.picture.resize((side, side))
    tiles = [drawing.overlay(seen, view.blocks(m, (side, side)), opacity=0.8, color_map=view.color_map) for m in maps]

    def choose(index: int) -> None:
        st.session_state["head"] = str(index)

    st.markdown(f"**Every head of this layer, from {view.query_name}**")
    sheet = clickable.sheet(tiles, columns=columns, gap=8)
    clickable.tiles(
        sheet,
        [f"head {head}" for head in range(len(maps))],
        choose,
        key="heads",
        width=sheet.image.width,
        chosen=None if view.head == AVERAGE else int(view.head),
        alt="Every head of the layer",
    )
    row = view.statistics()
    metrics = [("entropy", "{:.0%}", row["spread"], "Of the largest possible: 100 % looks at all tokens alike.")]
    metrics.append(("distance", "{:.0f} px", row["distance"], "Mean distance between a place and what it looks at."))
    metrics.append(("class share", "{:.0%}", row["class_share"], "Attention on the class token, over all queries."))
    metrics.append(("top token", "{:.0%}", row["top_share"], "Attention on the one token that gets most of it."))
    metrics.append(("similarity", "{:.2f}", row["similarity"], "Correlation with the most similar other head."))
    real = [metric for metric in metrics if metric[2] == metric[2]]
    for place, (name, form, value, text) in zip(st.columns(len(metrics)), real, strict=False):
        place.metric(name, form.format(round(value, 2) + 0), help=text)  # + 0: no minus before zero


page()
