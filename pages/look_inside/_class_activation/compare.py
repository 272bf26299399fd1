"""Maps side by side: classes, layers, methods, pictures."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from featviz_core import charts
from featviz_core.techniques import class_activation as technique
from pages._ui import clickable, layers, show
from pages.look_inside._class_activation.trust import masks_of
from pages.look_inside._class_activation.view import View, caption, grid, many, one

_MOST_CLASSES = 12
_SMALL = 118  # of one of very many, in pixels


def classes(view: View, result: technique.ClassActivation) -> None:
    """The most probable classes."""
    names = view.look.model.class_names
    count_, scale_ = st.columns([2, 3], vertical_alignment="bottom")
    most = min(_MOST_CLASSES, len(names))
    count = count_.number_input("Classes", 1, most, min(6, most), key="top", help="The most probable come first.")
    one_scale = scale_.toggle(
        "One scale",
        key="one scale",
        bind="query-params",
        help="Equal colours are equal evidence. Off, each map reaches from its own lowest to its own highest value.",
    )
    top = view.look.ask("top_classes", view.picture, count=count)
    targets = tuple(names.index(name) for name, _ in top)
    found = many(view, view.picture, "classes", layers=(view.layer,), targets=targets, shared_scale=one_scale)
    tiles = [
        (caption(f"{name} {share:.1%}"), f"{name} {share:.1%}. {cam.note}", view.over(cam))
        for (name, share), cam in zip(top, found.values(), strict=True)
    ]

    def choose(index: int) -> None:
        st.session_state["target"] = top[index][0]

    labels = [name for name, _ in top]
    mine = labels.index(result.target.label) if result.target.label in labels else None
    grid(tiles, choose, key="classes", chosen=mine, alt="The evidence for each of the most probable classes")
    st.caption("Click one to explain it above. Orange frame: the class above.")


def depth(view: View, result: technique.ClassActivation) -> None:
    """How the evidence forms from layer to layer."""
    stages = view.look.ask("depth_overview", view.picture)
    order = {stage.layer.address: stage.layer.order for stage in stages}
    trace = view.look.model.trace((3, *view.look.model.input_size))
    order |= {view.layer: trace.find(view.layer).order}
    addresses = sorted(order, key=lambda address: order[address])
    st.session_state["stage"] = view.layer

    def slide() -> None:
        st.session_state["layer"] = st.session_state["stage"]

    st.select_slider(
        "From the picture to the answer",
        addresses,
        key="stage",
        on_change=slide,
        help="Move it to see the map above come together. Early layers know outlines, late ones the class.",
    )
    found = many(view, view.picture, "layers", layers=tuple(addresses), targets=(result.target,))
    tiles = [
        (caption(address), f"{address}: {layers.describe(trace.find(address))}. {cam.note}", view.over(cam))
        for address, cam in zip(addresses, found.values(), strict=True)
    ]

    def choose(index: int) -> None:
        st.session_state["layer"] = addresses[index]

    grid(tiles, choose, key="stages", chosen=addresses.index(view.layer), alt="The map at each stage of the model")


def methods(view: View, result: technique.ClassActivation) -> None:
    """All methods, and whether they agree."""
    known = technique.cam_methods()
    slow = st.toggle(
        "With the methods that ask the model hundreds of times",
        key="with slow",
        bind="query-params",
        help="Score-CAM, Ablation-CAM and their kin: seconds on a small model, minutes on a large one.",
    )
    names = tuple(name for name in known if slow or known[name].needs != "scores" or name == view.method)
    found = many(view, view.picture, "methods", layers=(view.layer,), targets=(result.target,), methods=names)
    cams = dict(zip(names, found.values(), strict=True))
    tiles = [
        (caption(name), f"{known[name].title}: {known[name].formula}. {cam.note}", view.over(cam, _SMALL))
        for name, cam in cams.items()
    ]

    def choose(index: int) -> None:
        st.session_state["method"] = names[index]

    grid(tiles, choose, key="methods", chosen=names.index(view.method), columns=7, alt="The map of each method")
    st.markdown("**Do they agree?**")
    measure = st.segmented_control(
        "Measure",
        ["correlation", "overlap"],
        default="correlation",
        required=True,
        key="measure",
        bind="query-params",
        help="Rank correlation of all places, -1 to 1; or the overlap of the brightest fifths, 0 to 1.",
    )
    frame = technique.agreement({name: cam.map for name, cam in cams.items()})
    low = -1.0 if measure == "correlation" else 0.0
    colors = "coolwarm" if measure == "correlation" else "viridis"
    chart = charts.matrix(frame, row="first", column="second", value=measure, domain=(low, 1.0), color_map=colors)
    st.altair_chart(chart, width="content", alt=f"The {measure} of each pair of methods")
    st.caption("What several methods show, and random does not, is worth believing.")


def pictures(view: View) -> None:
    """The same map for all pictures."""
    settings = (view.look.choice, view.layer, view.target, view.method)
    count = len(view.chosen.pictures)
    if st.button(f"Run on all {count} pictures", icon=":material/play_arrow:", help="The samples and your own."):
        st.session_state["batch"] = settings
    if st.session_state.get("batch") != settings:
        st.caption("Explains the same target, with the same method and layer, on every picture in the sidebar.")
        return
    rows, tiles = _all(view)
    names = list(view.chosen.pictures)

    def choose(index: int) -> None:
        st.session_state["picture"] = names[index]

    mine = names.index(view.chosen.picture_name)
    grid(tiles, choose, key="all pictures", chosen=mine, alt="The map over each picture")
    frame = pd.DataFrame(rows)
    share = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    st.dataframe(frame, hide_index=True, column_config=dict.fromkeys(("probability", "energy inside"), share))
    if sentence := _found_in_all(frame):
        st.caption(sentence)
    stem = f"class_activation_{view.method}_{view.look.model.name}".replace("/", "_")
    with st.container(horizontal=True):
        st.download_button(
            "Table as CSV", frame.to_csv(index=False), f"{stem}.csv", on_click="ignore", help="One row a picture."
        )
        sheet = clickable.sheet([image for _, _, image in tiles], columns=6, gap=6).image
        st.download_button(
            "Pictures as PNG", show.png(sheet), f"{stem}.png", on_click="ignore", help="The pictures above in one."
        )


def _found_in_all(frame: pd.DataFrame) -> str:
    """How often the map finds the object, over the pictures of which that is known; nothing where there are none."""
    known = frame[frame["energy inside"].notna()]
    if known.empty:
        return ""
    hits, boxes, energy = known["hit"].sum(), known["in box"].sum(), known["energy inside"].mean()
    return (
        f"On the {len(known)} pictures of which the object's outline is known, the map's highest place lies in the "
        f"outline on **{hits}**, in the box around it on **{boxes}**; **{energy:.0%}** of the map lies in the outline "
        "on average."
    )


def _all(view: View) -> tuple[list[dict[str, Any]], list[Any]]:
    place = st.empty()
    rows, tiles = [], []
    for number, (name, picture) in enumerate(view.chosen.pictures.items()):
        with place.container(horizontal=True, vertical_alignment="center"):
            st.progress(number / len(view.chosen.pictures), name)
            st.button(
                "Stop",
                key=f"stop batch {number}",
                on_click=st.session_state.pop,
                args=("batch", None),
                help="Ends this work.",
            )
        cam = one(view, picture)
        ((answer, probability),) = view.look.ask("top_classes", picture, count=1)
        mask = masks_of(view, name).get(cam.target.label)
        found = None if mask is None else technique.localization(cam.map, mask)
        rows.append(
            {
                "picture": name,
                "answer": answer,
                "probability": probability,
                "explained": cam.target.label,
                "score": cam.score,
                "hit": found and bool(found.hit >= 0.5),
                "in box": found and bool(found.box >= 0.5),
                "energy inside": found and found.energy,
                "note": cam.note,
            }
        )
        tiles.append(
            (caption(name), f"{name}: {answer} {probability:.1%}. {cam.note}", view.over(cam, picture=picture))
        )
    place.empty()
    return rows, tiles
