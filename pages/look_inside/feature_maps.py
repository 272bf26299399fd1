"""What does each channel of a layer see? A strip through the depth, a mosaic to click into, and two side by side."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import streamlit as st
from PIL import Image

from featviz_core import charts, drawing
from featviz_core.about import About
from featviz_core.techniques.feature_maps import DepthMap, FeatureMaps
from pages._ui import cached, layers, pickers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen

_ORDERS = ["channel", "mean", "max", "spread", "sparsity"]
_COUNTS = {"first 16": 16, "64": 64, "256": 256, "all": 2048}
_WIDTH = 560  # of the mosaic, in pixels
_SIDE = 256  # of one channel, in pixels
_CAPTION = 14  # characters below a small picture


def page() -> None:
    about = show.header("feature_maps")
    chosen = pickers.chosen()
    look = cached.look(chosen.model)
    show.subject(chosen, look)
    overview: list[DepthMap] = look.ask("depth_overview", chosen.picture)
    depth_strip(overview)
    layer = layers.pick(look.model, default=overview[min(1, len(overview) - 1)].layer.address)
    result: FeatureMaps = look.ask("feature_maps", chosen.picture, layer=layer)
    channels, style = controls(result)
    left, right = st.columns([_WIDTH + 10, 410], gap="medium")
    with left:
        channel = mosaic(result, channels, style)
    with right:
        one_channel(result, channel, style, look.model.preprocessing.cut(chosen.picture.image))
    details(about, chosen, look, result, channels, style)


def depth_strip(overview: list[DepthMap]) -> None:
    """The picture's way through the model; a click chooses the layer."""
    tiles = np.stack([drawing.resize_map(_unit(stage.energy), (64, 64)) for stage in overview])
    strip = drawing.mosaic(tiles, columns=len(tiles), gap=6, color_map="magma", low=0, high=1)

    def choose() -> None:
        if (index := _clicked("depth")) is not None:
            st.session_state["layer"] = overview[index].layer.address

    chart = charts.clickable_picture(
        strip.image,
        [strip.cell(i) for i in range(strip.count)],
        [f"{stage.layer.address}: {layers.describe(stage.layer)}" for stage in overview],
        width=min(1000, 112 * len(tiles)),
        chosen=next((i for i, s in enumerate(overview) if s.layer.address == st.session_state.get("layer")), None),
        captions=[_short(stage.layer.address) for stage in overview],
    )
    st.altair_chart(
        chart, width="content", key="depth", on_select=choose, alt="The model's stages, each as one map", theme=None
    )


def controls(result: FeatureMaps) -> tuple[list[int], dict[str, str]]:
    """Which channels in which order, and how they are coloured."""
    order_, count_, scale_, color_ = st.columns([2, 3, 2, 2])
    order = order_.selectbox(
        "Sort by",
        _ORDERS,
        key="sort",
        bind="query-params",
        help="The largest first; channel keeps the model's own order. Sparsity is the share of exact zeros.",
    )
    count = count_.segmented_control(
        "Show",
        list(_COUNTS),
        default="first 16",
        required=True,
        key="count",
        bind="query-params",
        help="How many channels the mosaic shows.",
    )
    scale = scale_.selectbox(
        "Scale",
        ["shared", "channel"],
        key="scale",
        bind="query-params",
        help="Shared colours all channels by one range, so that strong ones stand out. Channel gives each its own.",
    )
    color_map = color_.selectbox(
        "Colours",
        drawing.COLOR_MAPS,
        key="colors",
        bind="query-params",
        help="All can be read with any colour vision.",
    )
    return result.ranked(order)[: _COUNTS[count]], {"scale": scale, "color_map": color_map}


def mosaic(result: FeatureMaps, channels: list[int], style: dict[str, str]) -> int:
    """The channels as one picture; gives the one to enlarge."""
    frame = result.frame()
    tiles = result.mosaic(channels=channels, tile=_tile(len(channels)), gap=2, **style)
    channel = st.session_state.get("channel", channels[0])
    channel = channel if 0 <= channel < len(frame) else channels[0]

    def choose() -> None:
        if (index := _clicked("mosaic")) is not None and index < len(channels):
            st.session_state["channel"] = channels[index]

    chart = charts.clickable_picture(
        tiles.image,
        [tiles.cell(i) for i in range(tiles.count)],
        [f"channel {c}: mean {frame['mean'][c]:.3g}, max {frame['max'][c]:.3g}" for c in channels],
        width=_WIDTH,
        chosen=channels.index(channel) if channel in channels else None,
    )
    st.altair_chart(
        chart, width="content", key="mosaic", on_select=choose, alt="The layer's channels as a mosaic", theme=None
    )
    if style["scale"] == "shared":
        low, high = float(tiles.low.min()), float(tiles.high.max())
        st.altair_chart(charts.color_bar(low, high, style["color_map"]), width="content", alt="The colour scale")
    dead, odd = int(frame["dead"].sum()), int((~frame["finite"]).sum())
    said = f"{len(channels)} of {len(frame)} channels. Click one to enlarge it."
    said += f" **{dead} dead** for this picture (crossed out)." if dead else ""
    said += f" **{odd} with NaN or infinity** (magenta)." if odd else ""
    st.caption(said)
    return channel


def one_channel(result: FeatureMaps, channel: int, style: dict[str, str], seen: Image.Image) -> None:
    """One channel beside the picture, over it, and in numbers."""
    frame = result.frame()
    title_, view_ = st.columns([2, 3], vertical_alignment="bottom")
    channel = title_.number_input(
        "Channel", 0, len(frame) - 1, channel, key="channel", bind="query-params", help="Or click a tile."
    )
    view = view_.segmented_control(
        "View",
        ["beside", "over"],
        default="beside",
        required=True,
        key="view",
        bind="query-params",
        help="The channel next to what the model saw, or laid over it.",
    )
    values = result.maps[0, channel]
    color_map = style["color_map"]
    low, high = result.value_range() if style["scale"] == "shared" else (None, None)
    if view == "over":
        opacity = st.slider("Opacity", 0.0, 1.0, 0.6, key="opacity", help="How much the channel covers the picture.")
        over = drawing.overlay(_enlarged(seen), values, opacity=opacity, color_map=color_map, low=low, high=high)
        st.image(over, width="stretch", alt=f"Channel {channel} over the picture")
    else:
        tile = drawing.mosaic(values[None], tile=_SIDE, low=low, high=high, color_map=color_map)
        pair = st.columns(2)
        pair[0].image(_fit(tile.image), width="stretch", alt=f"Channel {channel}")
        pair[1].image(_enlarged(seen), width="stretch", alt="What the model saw")
    row = frame.iloc[channel]
    for place, name in zip(st.columns(4), ("mean", "max", "spread", "sparsity"), strict=True):
        place.metric(name, f"{row[name]:.0%}" if name == "sparsity" else f"{row[name]:.3g}")
    if row["dead"]:
        st.warning("This channel gives one value everywhere for this picture.", icon=":material/block:")


def details(
    about: About, chosen: Chosen, look: Look, result: FeatureMaps, channels: list[int], style: dict[str, str]
) -> None:
    """The rest, each drawn only when it is open."""
    parts = {
        "How to read this": partial(how_to_read, about),
        "Compare": partial(compare, chosen, look, result, channels, style),
        "Kernels": partial(kernels, look, result, channels),
        "All channels": partial(table, result),
        "Take away": partial(take_away, chosen, result, channels, style),
    }
    for tab, draw in zip(
        st.tabs(list(parts), key="more", bind="query-params", on_change="rerun"), parts.values(), strict=True
    ):
        with tab:
            if tab.open:
                draw()


def how_to_read(about: About) -> None:
    from featviz_core.techniques.feature_maps import example_maps

    text, looks = st.columns([5, 6], gap="large")
    with text:
        show.how_to_read(about)
    with looks:
        for place, example in zip(st.columns(3), example_maps(), strict=True):
            tiles = example.maps.mosaic(channels=list(range(16)), tile=48, columns=4, gap=2)
            place.image(tiles.image, width="stretch", alt=f"{example.title}: {example.text}")
            place.markdown(f"**{example.title}.** {example.text}")


def compare(chosen: Chosen, look: Look, result: FeatureMaps, channels: list[int], style: dict[str, str]) -> None:
    """Two pictures, or two layers, on one scale."""
    names = list(chosen.pictures)
    layer_names = [layer.address for layer in look.model.layers() if layer.viewable and layer.name]
    picture_, layer_ = st.columns(2)
    other = picture_.selectbox(
        "Second picture", names, index=names.index(chosen.picture.name), key="second picture", help="Or the same one."
    )
    second = layer_.selectbox(
        "Second layer",
        layer_names,
        index=layer_names.index(result.layer.address),
        key="second layer",
        help="Or the same one.",
    )
    found: FeatureMaps = look.ask("feature_maps", chosen.pictures[other], layer=second)
    shown = [c for c in channels if c < found.maps.shape[1]] or [0]
    ranges = (result.value_range(), found.value_range())
    shared = {"low": min(low for low, _ in ranges), "high": max(high for _, high in ranges)}
    scale = shared if style["scale"] == "shared" else {}
    titles = (f"{chosen.picture.name} · {result.layer.address}", f"{other} · {second}")
    for place, title, maps in zip(st.columns(2, gap="medium"), titles, (result, found), strict=True):
        place.markdown(f"**{title}**")
        tiles = maps.mosaic(channels=shown, tile=_tile(len(shown)), gap=2, **style, **scale)
        place.image(tiles.image, width="stretch", alt=title)
    st.caption("The same channels on both sides, on one scale: equal colours are equal values." if scale else "")


def kernels(look: Look, result: FeatureMaps, channels: list[int]) -> None:
    found = look.ask("kernels", layer=result.layer.address)
    if found is None:
        st.info("This layer has no kernels that can be looked at: choose a convolution with kernels larger than 1×1.")
    elif found.colored:
        st.caption("What each channel looks for in red, green and blue; mid-grey is zero. In the mosaic's order.")
        tiles = [Image.fromarray(found.rgb(c)).resize((56, 56), Image.Resampling.NEAREST) for c in channels]
        st.image(tiles, caption=[str(c) for c in channels], width=56)
    else:
        channel = st.session_state["channel"]
        inputs = found.weights[channel]
        st.caption(f"The kernel of channel {channel}, one tile for each of its {len(inputs)} inputs; white is zero.")
        largest = float(np.abs(inputs).max()) or 1.0
        tiles_ = drawing.mosaic(inputs, tile=36, gap=3, low=-largest, high=largest, color_map="coolwarm", columns=24)
        st.image(tiles_.image, alt=f"Kernels of channel {channel}")


def table(result: FeatureMaps) -> None:
    st.dataframe(
        result.frame(),
        hide_index=True,
        column_config={"sparsity": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)},
    )


def take_away(chosen: Chosen, result: FeatureMaps, channels: list[int], style: dict[str, str]) -> None:
    stem = f"feature_maps_{chosen.model.name.replace('/', '_')}_{result.layer.address}"

    def picture() -> bytes:
        buffer = io.BytesIO()
        result.mosaic(channels=channels, tile=64, gap=2, **style).image.save(buffer, "PNG")
        return buffer.getvalue()

    def numbers() -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, result.maps)
        return buffer.getvalue()

    with st.container(horizontal=True):
        st.download_button(
            "Mosaic as PNG", picture, f"{stem}.png", "image/png", on_click="ignore", help="The channels shown above"
        )
        st.download_button(
            "Values as NPY", numbers, f"{stem}.npy", on_click="ignore", help="All channels: float32 (1, C, h, w)"
        )
    options = ", ".join(f'{name}="{value}"' for name, value in style.items())
    show.snippet(
        chosen,
        f'result = fv.feature_maps(model, images, layer="{result.layer.address}")\n'
        "print(result.frame())\n"
        f'result.mosaic(channels={_listed(channels)}, tile=64, {options}).image.save("{stem}.png")\n',
    )


def _listed(channels: list[int]) -> str:
    return f"list(range({len(channels)}))" if channels == list(range(len(channels))) else str(channels)


def _clicked(chart: str) -> int | None:
    points = st.session_state[chart]["selection"][charts.SELECTION]
    return int(points[0]["index"]) if points else None


def _tile(count: int) -> int:
    return max(8, int(_WIDTH / count**0.5) - 2)


def _unit(energy: np.ndarray) -> np.ndarray:
    finite = np.nan_to_num(energy, nan=0, posinf=0, neginf=0)
    return (finite - finite.min()) / (np.ptp(finite) or 1)


def _short(address: str) -> str:
    """The end of a layer's address, as many whole names as fit below a small picture."""
    names = address.split(".")
    fitting = next((end for i in range(len(names)) if len(end := ".".join(names[i:])) <= _CAPTION), names[-1])
    return fitting if len(fitting) <= _CAPTION else "…" + fitting[1 - _CAPTION :]


def _fit(image: Image.Image) -> Image.Image:
    factor = _SIDE / max(image.size)
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.NEAREST)


def _enlarged(seen: Image.Image) -> Image.Image:
    factor = max(1, 2 * _SIDE // max(seen.size))
    return seen.resize((seen.width * factor, seen.height * factor), Image.Resampling.BILINEAR)


page()
