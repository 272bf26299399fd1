"""Can the map be trusted? Numbers beside it, curves, the sanity check, and regions to hide by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from featviz_core import charts
from featviz_core.demo.samples import SAMPLES
from featviz_core.drawing import Box
from featviz_core.techniques import class_activation as technique
from pages._ui import clickable, show
from pages.look_inside._class_activation.view import View, preset

_HIDE_SIDE = 400  # of the picture to click into, in pixels


def masks_of(view: View, picture_name: str) -> dict[str, NDArray[np.bool_]]:
    """Where the objects are, by class, on the bundled samples; nothing for other pictures."""
    sample = next((sample for sample in SAMPLES if sample.title == picture_name), None)
    return technique.sample_masks(sample, view.look.model.preprocessing) if sample else {}


def strip(view: View, result: technique.ClassActivation) -> None:
    """Beside the map: does it find the object where that is known, and does it find what the model uses?"""
    st.markdown("**Can this map be trusted?**")
    masks = masks_of(view, view.chosen.picture_name)
    for name in [name for name in masks if name in (result.target.label, technique.BADGE)]:
        _found(name, technique.localization(result.map, masks[name]))
    preset("check", True)
    if not st.toggle(
        "Hide and show pixels",
        key="check",
        bind="query-params",
        help="Hides the picture's pixels in the map's order, and shows them in that order, and asks the model each "
        "time. Random maps are the control.",
    ):
        return
    found = faithfulness(view, result)
    areas = (
        ("Deletion area", found.deletion_area, found.random_deletion_area, "inverse", "Smaller is better"),
        ("Insertion area", found.insertion_area, found.random_insertion_area, "normal", "Larger is better"),
    )
    for place, (title, area, random, color, text) in zip(st.columns(2), areas, strict=True):
        place.metric(
            title,
            f"{area:.2f}",
            f"{area - random:+.2f} vs. random",
            delta_color=color,
            help=f"{text}. Area under the target's probability, 0 to 1; a random map has {random:.2f}.",
        )
    st.caption(found.verdict)
    st.button(
        "Curves, and weights reset",
        icon=":material/show_chart:",
        type="tertiary",
        on_click=st.session_state.update,
        kwargs={"more": "Trust"},
        help="Opens the part Trust below: both curves, and whether the map changes when the weights are reset.",
    )


def _found(name: str, found: technique.Localization) -> None:
    hit, energy = st.columns(2)
    hit.metric(
        f"Peak in the {name}",
        "yes" if found.hit >= 0.5 else "in its box" if found.box >= 0.5 else "no",
        help="Whether the map's highest place lies in the known outline (pointing game), or at least in the box "
        "around it, as the hole of a ring does.",
    )
    energy.metric(
        f"Energy in the {name}",
        f"{found.energy:.0%}",
        f"{found.area:.0%} of the picture",
        delta_color="off",
        delta_arrow="off",
        help="The share of the map that lies in the known outline, and the outline's share of the picture: what a map "
        "that is the same everywhere reaches.",
    )


def faithfulness(view: View, result: technique.ClassActivation) -> technique.Faithfulness:
    """Deletion and insertion for the chosen map."""
    model, picture = view.look.model, view.picture

    def work(progress: show.Progress) -> technique.Faithfulness:
        images = model.preprocess(picture.image)
        return technique.deletion_insertion(model, images, result.map, target=result.target, progress=progress)

    def stop() -> None:
        st.session_state["check"] = False

    return show.slowly(("faithfulness", *_asked(view, result)), work, stop=stop)


def _asked(view: View, result: technique.ClassActivation) -> tuple[Any, ...]:
    return view.look.choice, view.picture.sha256, view.layer, result.target, view.method


def tab(view: View, result: technique.ClassActivation) -> None:
    """The curves behind the areas, and whether the map changes when the weights are reset."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        curves(view, result)
    with right:
        st.markdown("**Does it show the model, or just the picture?**")
        st.caption("The weights of a copy are reset, from the answer down. A map that stays shows the picture only.")
        if st.button("Reset the weights", icon=":material/casino:", help="Of a copy: the model itself stays as it is."):
            st.session_state["sanity"] = _asked(view, result)
        if st.session_state.get("sanity") == _asked(view, result):
            sanity(view, result)


def curves(view: View, result: technique.ClassActivation) -> None:
    if not st.session_state.get("check", True):
        st.info("Turn on *Hide and show pixels* beside the map to see its curves.")
        return
    found = faithfulness(view, result)
    st.markdown("**Deletion and insertion**")
    frame = found.frame()
    titles = {"deletion": "Hide from the brightest down", "insertion": "Show from the brightest down"}
    for place, (curve, title) in zip(st.columns(2), titles.items(), strict=True):
        place.caption(f"{title}: probability of {result.target.label}")
        points = frame[frame["curve"] == curve]
        chart = charts.lines(points, "fraction", "probability", color="map", title="share of pixels")
        place.altair_chart(chart, alt=f"The {curve} curve of this map and of random ones")
    st.caption(f"{found.verdict} Hidden pixels are replaced by the picture blurred beyond recognition.")


def sanity(view: View, result: technique.ClassActivation) -> None:
    """The map again and again while the weights are reset."""
    model = view.look.model

    def work(progress: show.Progress) -> technique.RandomizationCheck:
        images, options = model.preprocess(view.picture.image), {"layer": view.layer, "method": view.method}
        return technique.randomization_check(model, images, target=result.target, progress=progress, **options)

    found: technique.RandomizationCheck = show.slowly(
        ("sanity", *_asked(view, result)), work, stop=partial(st.session_state.pop, "sanity", None)
    )
    st.markdown(found.verdict)
    st.table(found.stages.round(2), hide_index=True, border="horizontal")


def hide(view: View, result: technique.ClassActivation) -> None:
    """Click parts of the picture away and see what the model says then."""
    left, right = st.columns([_HIDE_SIDE + 20, 560], gap="large")
    with right:
        cells_, by_ = st.columns(2)
        cells = cells_.segmented_control(
            "Cells", [4, 8, 16], default=8, required=True, key="cells", help="How many across and down."
        )
        by = by_.segmented_control(
            "Replace by",
            ["blurred", "mean"],
            default="blurred",
            required=True,
            key="replace by",
            help="The picture blurred beyond recognition, or its mean colour.",
        )
    shown = (view.picture.sha256, cells)
    if st.session_state.get("hidden in") != shown:
        st.session_state["hidden in"], st.session_state["hidden cells"] = shown, ()
    hidden: tuple[int, ...] = st.session_state["hidden cells"]
    boxes = _cells(view.look.model.input_size, cells)
    found: technique.HiddenRegion = view.look.ask(
        "hidden_region_score", view.picture, boxes=tuple(boxes[i] for i in hidden), target=result.target, baseline=by
    )
    clicks: int = st.session_state.setdefault("hiding clicks", 0)

    def toggle(index: int) -> None:
        st.session_state["hidden cells"] = tuple(sorted({*hidden} ^ {index}))
        st.session_state["hiding clicks"] = clicks + 1

    with left, st.container(key="cells-to-hide", height=_HIDE_SIDE + 10, border=False):
        clickable.boxes(
            found.picture(view.look.model.preprocessing),
            boxes,
            [f"Row {i // cells + 1}, column {i % cells + 1}" for i in range(len(boxes))],
            toggle,
            # A new key for each click: a chart does not report a second click on the same place.
            key=f"cells {clicks}",
            width=_HIDE_SIDE,
            outlined=True,
            alt="The picture in cells that can be hidden",
        )
    with right:
        _answer(view, found, hidden)


def _cells(size: tuple[int, int], count: int) -> list[Box]:
    """`count` by `count` cells (left, top, right, bottom) of a picture of `size` (H, W), row by row."""
    rows, columns = (np.linspace(0, side, count + 1).round().astype(int).tolist() for side in size)
    return [
        (columns[x], rows[y], columns[x + 1], rows[y + 1]) for y in range(len(rows) - 1) for x in range(len(rows) - 1)
    ]


def _answer(view: View, found: technique.HiddenRegion, hidden: tuple[int, ...]) -> None:
    before, after, answer = st.columns(3)
    before.metric(f"{found.target.label} before", f"{found.before:.1%}", help="Softmax probability.")
    after.metric(
        f"{found.target.label} now", f"{found.after:.1%}", f"{found.after - found.before:+.1%}" if hidden else None
    )
    answer.metric("The model's answer now", view.look.model.class_name(found.answer_after))
    st.caption(f"Score {found.score_before:.3g} before, {found.score_after:.3g} now, with {len(hidden)} cells hidden.")
    if hidden and st.button("Show everything again", icon=":material/refresh:", help="Forgets the hidden cells."):
        st.session_state["hidden cells"] = ()
        st.rerun()
    if not hidden:
        st.info("Click a cell of the picture to hide it, and again to bring it back.", icon=":material/touch_app:")
