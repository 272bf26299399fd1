"""What does each channel of a layer see? A strip through the depth, a mosaic to click into, and two side by side."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from featviz_core import charts, drawing
from featviz_core.about import About
from featviz_core.techniques import feature_maps as technique
from pages._ui import clickable, export, layers, pickers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen

_COUNTS = {"first 16": 16, "64": 64, "256": 256, "all": 2048}
_WIDTH = 560  # of the mosaic, in pixels
_SIDE = 256  # of one channel, in pixels


def page() -> None:
    about = show.header("feature_maps")
    chosen = pickers.chosen()
    look = chosen.look()
    show.subject(chosen, look)
    overview: list[technique.DepthMap] = look.ask("depth_overview", chosen.picture)
    depth_strip(overview)
    layer = layers.pick(look.model, default=overview[min(1, len(overview) - 1)].layer.address)
    result: technique.FeatureMaps = look.ask("feature_maps", chosen.picture, layer=layer)
    frame = result.frame()
    channels, style = controls(result)
    left, right = st.columns([_WIDTH + 10, 410], gap="medium")
    with right:
        channel = one_channel(result, frame, style, look.model.preprocessing.cut(chosen.picture.image))
    with left:
        mosaic(result, frame, channels, style, channel)
    show.tabs(
        {
            "How to read this": partial(how_to_read, about),
            "Compare": partial(compare, chosen, look, result, channels, style),
            "Kernels": partial(kernels, look, layer, channels, channel),
            "All channels": partial(table, frame),
            "Take away": partial(take_away, chosen, result, channels, style),
        }
    )


def depth_strip(overview: list[technique.DepthMap]) -> None:
    """The picture's way through the model; a click chooses the layer."""
    if not overview:
        return
    addresses = [stage.layer.address for stage in overview]
    tiles = np.stack([drawing.resize_map(_unit(stage.energy), (64, 64)) for stage in overview])
    layer = st.session_state.get("layer")

    def choose(index: int) -> None:
        st.session_state["layer"] = addresses[index]

    clickable.tiles(
        drawing.mosaic(tiles, columns=len(tiles), gap=6, color_map="magma", low=0, high=1),
        [f"{stage.layer.address}: {layers.describe(stage.layer)}" for stage in overview],
        choose,
        key="depth",
        width=min(1000, 112 * len(tiles)),
        chosen=addresses.index(layer) if layer in addresses else None,
        captions=[layers.short(address) for address in addresses],
        alt="The model's stages from picture to answer, each as one map",
    )


def controls(result: technique.FeatureMaps) -> tuple[list[int], dict[str, str]]:
    """Which channels in which order, and how they are coloured."""
    order_, count_, scale_, color_ = st.columns([2, 3, 2, 2])
    order = order_.selectbox(
        "Sort by",
        technique.ORDERS,
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


def mosaic(
    result: technique.FeatureMaps, frame: pd.DataFrame, channels: list[int], style: dict[str, str], channel: int
) -> None:
    """The channels as one picture; a click chooses the one to enlarge."""
    tiles = result.mosaic(channels=channels, tile=_tile(len(channels)), gap=2, **style)

    def choose(index: int) -> None:
        st.session_state["channel"] = channels[index]

    clickable.tiles(
        tiles,
        [f"channel {c}: mean {frame['mean'][c]:.3g}, max {frame['max'][c]:.3g}" for c in channels],
        choose,
        key="mosaic",
        width=_WIDTH,
        chosen=channels.index(channel) if channel in channels else None,
        alt="The layer's channels as a mosaic",
    )
    dead, odd = int(frame["dead"].sum()), int((~frame["finite"]).sum())
    said = f"{len(channels)} of {len(frame)} channels. Click one to enlarge it."
    said += f" **{dead} dead** for this picture (crossed out)." if dead else ""
    said += f" **{odd} with NaN or infinity** (magenta)." if odd else ""
    st.caption(said)
    if style["scale"] == "shared":
        low, high = float(tiles.low.min()), float(tiles.high.max())
        st.altair_chart(charts.color_bar(low, high, style["color_map"]), width="content", alt="The colour scale")


def one_channel(result: technique.FeatureMaps, frame: pd.DataFrame, style: dict[str, str], seen: Image.Image) -> int:
    """Choose one channel; see it beside the picture or over it, and in numbers."""
    if st.session_state.get("channel", 0) >= len(frame):
        st.session_state["channel"] = 0
    channel_, view_ = st.columns([2, 3], vertical_alignment="bottom")
    channel = channel_.number_input(
        "Channel", 0, len(frame) - 1, key="channel", bind="query-params", help="By number, or click a tile."
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
    values, color_map = result.maps[0, channel], style["color_map"]
    low, high = result.value_range() if style["scale"] == "shared" else (None, None)
    if view == "over":
        opacity = st.slider("Opacity", 0.0, 1.0, 0.6, key="opacity", help="How much the channel covers the picture.")
        over = drawing.overlay(_large(seen), values, opacity=opacity, color_map=color_map, low=low, high=high)
        st.image(over, width="stretch", alt=f"Channel {channel} over the picture")
    else:
        alone = drawing.mosaic(values[None], low=low, high=high, color_map=color_map).image
        left, right = st.columns(2)
        left.image(_large(alone, Image.Resampling.NEAREST), width="stretch", alt=f"Channel {channel}")
        right.image(_large(seen), width="stretch", alt="What the model saw")
    row = frame.iloc[channel]
    for place, name in zip(st.columns(4), ("mean", "max", "spread", "sparsity"), strict=True):
        place.metric(name, f"{row[name]:.0%}" if name == "sparsity" else f"{row[name]:.3g}")
    if row["dead"]:
        st.warning("This channel gives one value everywhere for this picture.", icon=":material/block:")
    return int(channel)


def how_to_read(about: About) -> None:
    text, looks = st.columns([5, 6], gap="large")
    with text:
        show.how_to_read(about)
    with looks, st.spinner("Drawing examples …"):
        for place, example in zip(st.columns(3), technique.example_maps(), strict=True):
            tiles = example.maps.mosaic(channels=list(range(16)), tile=48, columns=4, gap=2)
            place.image(tiles.image, width="stretch", alt=f"{example.title}: {example.text}")
            place.markdown(f"**{example.title}.** {example.text}")


def compare(
    chosen: Chosen, look: Look, result: technique.FeatureMaps, channels: list[int], style: dict[str, str]
) -> None:
    """Two pictures, or two layers, on one scale."""
    addresses = layers.addresses(look.model)
    picture_, layer_ = st.columns(2)
    with picture_:
        picture = pickers.second_picture(chosen, help="What to compare with; the same picture when you compare layers.")
    pickers.start_beside("second_layer", result.layer.address, result.layer.address, addresses)
    layer = layer_.selectbox(
        "Second layer",
        addresses,
        key="second_layer",
        bind="query-params",
        help="What to compare with; the same layer when you compare pictures.",
    )
    other: technique.FeatureMaps = look.ask("feature_maps", chosen.pictures[picture], layer=layer)
    scale: dict[str, float] = {}
    if style["scale"] == "shared":
        ranges = (result.value_range(), other.value_range())
        scale = {"low": min(low for low, _ in ranges), "high": max(high for _, high in ranges)}
    titles = (f"{chosen.picture_name} · {result.layer.address}", f"{picture} · {layer}")
    for place, title, maps in zip(st.columns(2, gap="medium"), titles, (result, other), strict=True):
        shown = [c for c in channels if c < maps.maps.shape[1]] or [0]
        tiles = maps.mosaic(channels=shown, tile=_tile(len(shown)), gap=2, **style, **scale)
        place.markdown(f"**{title}**")
        place.image(tiles.image, width="stretch", alt=title)
    st.caption(
        "The same channels on both sides" + (", on one scale: equal colours are equal values." if scale else ".")
    )


def kernels(look: Look, layer: str, channels: list[int], channel: int) -> None:
    """The weights of a convolution, where they can be looked at."""
    found = look.ask("kernels", layer=layer)
    if found is None:
        st.info("This layer has no kernels to look at. Choose a convolution with kernels larger than 1×1.")
    elif found.colored:
        st.caption("What each channel looks for in red, green and blue, in the mosaic's order; mid-grey is zero.")
        tiles = [Image.fromarray(found.rgb(c)).resize((56, 56), Image.Resampling.NEAREST) for c in channels]
        st.image(tiles, caption=[str(c) for c in channels], width=56)
    else:
        inputs = found.weights[channel]
        largest = float(np.abs(inputs).max()) or 1.0
        st.caption(f"The kernel of channel {channel}, one tile for each of its {len(inputs)} inputs; grey is zero.")
        drawn = drawing.mosaic(inputs, tile=36, gap=3, low=-largest, high=largest, color_map="coolwarm", columns=24)
        st.image(drawn.image, alt=f"The kernel of channel {channel}")


def table(frame: pd.DataFrame) -> None:
    share = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    st.dataframe(frame, hide_index=True, column_config={"sparsity": share})


def take_away(chosen: Chosen, result: technique.FeatureMaps, channels: list[int], style: dict[str, str]) -> None:
    """The mosaic, the numbers, and the same in Python."""
    stem = f"feature_maps_{chosen.model.label}_{result.layer.address}".replace("/", "_")

    def numbers() -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, result.maps)
        return buffer.getvalue()

    def picture() -> bytes:
        return show.png(result.mosaic(channels=channels, tile=64, gap=2, **style).image)

    model, seen = chosen.look().model, chosen.picture.image

    def sent(to: Any) -> list[Any]:
        from featviz_core.runs import model_graph

        mosaic = result.mosaic(channels=channels, tile=64, gap=2, **style).image
        graph = to.Graph(model_graph(model, model.preprocess(seen)))
        return [to.Picture("mosaic", mosaic), to.Table("channels", result.frame()), graph]

    with st.container(horizontal=True):
        st.download_button(
            "Mosaic as PNG", picture, f"{stem}.png", "image/png", on_click="ignore", help="The channels shown above."
        )
        st.download_button(
            "Values as NPY", numbers, f"{stem}.npy", on_click="ignore", help="All channels: float32 (1, C, h, w)."
        )
        export.button(sent, stem)
    listed = f"list(range({len(channels)}))" if channels == list(range(len(channels))) else str(channels)
    options = "".join(f', {name}="{value}"' for name, value in style.items())
    show.snippet(
        chosen,
        f'result = fv.feature_maps(model, images, layer="{result.layer.address}")\n'
        "print(result.frame())\n"
        f"result.mosaic(channels={listed}, tile=64, gap=2{options}).image.save({json.dumps(stem + '.png')})\n",
    )


def _tile(count: int) -> int:
    return max(8, int(_WIDTH / count**0.5) - 2)


def _unit(energy: np.ndarray) -> np.ndarray:
    finite = np.nan_to_num(energy, nan=0, posinf=0, neginf=0)
    return (finite - finite.min()) / (np.ptp(finite) or 1)


def _large(image: Image.Image, resampling: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    factor = max(1, _SIDE / max(image.size))
    return image.resize((round(image.width * factor), round(image.height * factor)), resampling)


page()
