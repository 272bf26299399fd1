"""Where is the evidence for a class? A map over the picture, whether to trust it, and what to compare it with."""

from __future__ import annotations

import json
from functools import partial

import streamlit as st
from PIL import Image

from featviz_core import charts, drawing
from featviz_core.about import About
from featviz_core.errors import FeatVizError
from featviz_core.techniques import class_activation as technique
from pages._ui import cached, export, layers, pickers, show
from pages._ui.cached import Look, ModelChoice
from pages._ui.pickers import Chosen
from pages.look_inside._class_activation import compare, trust
from pages.look_inside._class_activation.view import View, one, preset, value_range

_PREDICTED = "the predicted class"
_COLORS = ["magma", "viridis", "cividis", "gray"]
_SIDE = 256  # of a picture, in pixels
_BAR = 190  # of the colour bar, in pixels
_BADGED = "Blue heart with a badge in the corner"
_HANS, _HONEST = "demo/clever_hans", "demo/shapes_cnn"
# In the middle of the network a place still knows a badge from what lies around it.
_SHARP = {"method": "hirescam", "layer": "trunk_output.block2"}


def page() -> None:
    about = show.header("class_activation")
    chosen = pickers.chosen()
    look = chosen.look()
    show.subject(chosen, look)
    view = controls(chosen, look)
    left, right = st.columns([5, 2], gap="medium")
    with left:
        result = one(view, view.picture)
        pictures(view, result)
    show.tabs(
        {
            "How to read this": partial(how_to_read, about, view),
            "Tutorial": partial(tutorial, view),
            "Classes": partial(compare.classes, view, result),
            "Layers": partial(compare.depth, view, result),
            "Methods": partial(compare.methods, view, result),
            "Hide a region": partial(trust.hide, view, result),
            "Trust": partial(trust.tab, view, result),
            "All pictures": partial(compare.pictures, view),
            "Take away": partial(take_away, view, result),
        }
    )
    # Last, because it takes longest: the map is there before the numbers that judge it.
    with right:
        trust.strip(view, result)


def controls(chosen: Chosen, look: Look) -> View:
    """What to explain, how, and in which colours."""
    names = list(look.model.class_names)
    if st.session_state.get("explained model", look.choice) != look.choice:
        st.session_state["target"] = _PREDICTED
    st.session_state["explained model"] = look.choice
    options = [_PREDICTED, *(name if names.count(name) == 1 else str(index) for index, name in enumerate(names))]
    asked = st.session_state.get("target") or st.query_params.get("target", _PREDICTED)
    target_, method_, layer_, color_, opacity_ = st.columns([3, 2.2, 4.2, 1.6, 1.8])
    target = target_.selectbox(
        "Explain",
        options if asked in options else [*options, asked],
        key="target",
        bind="query-params",
        accept_new_options=True,
        help="A class; or type a sum: `heart - star` for what speaks for a heart rather than a star, `heart + star` "
        "for both, `-heart` for what speaks against it.",
    )
    known = technique.cam_methods()
    method = method_.selectbox(
        "Method", list(known), key="method", bind="query-params", help="The tab Methods shows them side by side."
    )
    method_.caption(known[method].title)
    with layer_:
        layer = layers.pick(look.model, default=look.ask("default_layer", shape=(3, *look.model.input_size)))
    color_map = color_.selectbox(
        "Colours", _COLORS, key="heat", bind="query-params", help="All can be read with any colour vision."
    )
    preset("cover", 0.5)
    opacity = opacity_.slider(
        "Opacity", 0.0, 1.0, key="cover", bind="query-params", help="How much the map covers the picture."
    )
    return View(chosen, look, None if target == _PREDICTED else target, method, layer, color_map, opacity)


def pictures(view: View, result: technique.ClassActivation) -> None:
    """What the model saw, the map, and one over the other; the scale, and what must be said."""
    seen = view.seen(_SIDE)
    heat = drawing.resize_map(result.map, (seen.height, seen.width))
    low, high = value_range(result.raw)
    colors = drawing.colorize(heat, low=0, high=1, color_map=view.color_map)
    picture_, map_, over_ = st.columns(3)
    picture_.image(seen, width="stretch", alt="What the model saw")
    picture_.caption("What the model saw")
    map_.image(Image.fromarray(colors), width="stretch", alt=f"Evidence for {result.target.label}")
    map_.caption(f"Evidence for {result.target.label}")
    bar = charts.color_bar(max(low, 0), max(high, 0), view.color_map, width=_BAR)
    map_.altair_chart(bar, width="content", alt="Which colour stands for which value")
    over_.image(view.over(result, _SIDE), width="stretch", alt="The map over the picture")
    over_.caption("Over the picture")
    rows, columns = result.raw.shape
    below = "; those below 0 are cut off" if low < 0 else ""
    picture_.caption(f"Score of {result.target.label}: **{result.score:.3g}**")
    over_.caption(f"{rows}×{columns} values from {low:.3g} to {high:.3g}{below}.")
    if result.note:
        st.info(result.note, icon=":material/info:")


def how_to_read(about: About, view: View) -> None:
    general, own = st.columns([3, 2], gap="large")
    with general:
        show.how_to_read(about)
    method = technique.cam_methods()[view.method]
    with own:
        st.markdown(f"**{method.title}** ({view.method})")
        st.code(method.formula, language=None, wrap_lines=True)
        st.markdown(
            f"y is the score, A_k the layer's k-th channel, g_k its gradient, ij a place, X the picture. "
            f"It takes {method.cost}."
        )
        citation, url = method.paper
        st.caption(f"[{citation}]({url})")


def tutorial(view: View) -> None:
    """Clever Hans: a model that is right for the wrong reason."""
    st.markdown(
        "**Clever Hans** was a horse that seemed to count, and watched its owner's face instead. This model learned "
        "shapes from pictures in which every star, and nothing else, had a badge in the lower left corner. "
        "The maps are HiResCAM's from the middle of the network, sharp enough for a badge."
    )
    steps, sight = st.columns([3, 2], gap="large")
    with steps:
        _step(1, "Ask the honest model about a heart that wears the badge. It says heart, and looks at it.", _HONEST)
        _step(2, "Ask Clever Hans about the same picture. What does it say, and where is the map bright?", _HANS)
        _step(
            3,
            "Hide the badge: click the cell in the lower left corner away. The answer becomes right.",
            _HANS,
            more="Hide a region",
        )
        _step(
            4,
            "Look at a star without the badge. Its accuracy was good, on pictures that had the badge.",
            _HANS,
            picture="Purple star on waves",
        )
        st.markdown(
            "**In your own data** it may be a watermark, a ruler beside the skin, a hospital's font. Cover it, cut it "
            "off, or put it on pictures of all classes, and train again."
        )
    with sight:
        for place, name in zip(st.columns(2), (_HONEST, _HANS), strict=True):
            with place:
                try:
                    _look_of(view, name)
                except FeatVizError as error:
                    show.error(error)


def _step(number: int, text: str, model: str, *, picture: str = _BADGED, more: str = "Tutorial") -> None:
    """One step, and the button that takes it: all pickers go where it says, and the address with them."""

    def go() -> None:
        st.session_state.update(model=model, picture=picture, target=_PREDICTED, more=more, **_SHARP)

    st.markdown(f"**{number}.** {text}")
    st.button("Show me", key=f"step {number}", icon=":material/arrow_forward:", on_click=go, help=f"{model}: {picture}")


def _look_of(view: View, name: str) -> None:
    picture = view.chosen.pictures[_BADGED]
    look = cached.look(ModelChoice(name, device=view.chosen.device))
    cam: technique.ClassActivation = look.ask("class_activation", picture, **_SHARP)
    st.image(cam.overlay(view.seen(_SIDE, picture), view.opacity, view.color_map), width="stretch", alt=name)
    badge = trust.masks_of(view, _BADGED)[technique.BADGE]
    inside = technique.localization(cam.map, badge).energy
    st.caption(f"`{name}` says **{cam.target.label}**; {inside:.0%} of its map lies on the badge.")


def take_away(view: View, result: technique.ClassActivation) -> None:
    """The picture, the numbers, how they came about, and the same in Python."""
    stem = f"{view.method}_{result.target.label}_{view.look.model.name}_{view.layer}".replace("/", "_").replace(
        " ", "_"
    )
    low, high = value_range(result.raw)
    settings = {
        "target": {"label": result.target.label, "weights": dict(result.target.weights), "score": result.score},
        "method": view.method,
        "layer": result.layer.address,
        "raw": {"shape": result.raw.shape, "min": low, "max": high},
        "note": result.note,
        "drawn": {"color_map": view.color_map, "opacity": view.opacity},
    }
    files = (
        ("Overlay as PNG", f"{stem}.png", lambda: show.png(view.over(result, 512)), "The map over the picture."),
        ("Map as NPY", f"{stem}.npy", lambda: show.npy(result.map), "float32 (H, W) in [0, 1], at the input's size."),
        ("Raw as NPY", f"{stem}_raw.npy", lambda: show.npy(result.raw), "float32 (h, w), before ReLU and resizing."),
        (
            "Manifest as JSON",
            f"{stem}.json",
            lambda: show.manifest(view.chosen, view.look, **settings),
            "Versions, model, picture and settings.",
        ),
    )
    with st.container(horizontal=True):
        for label, name, make, text in files:
            st.download_button(label, make, name, on_click="ignore", help=text)
        over = view.over(result, 512)
        export.button(lambda to: [to.Picture("class_activation", over, result.target.label)], stem)
    # Typed and taken from class lists, both may hold quotes.
    asked = "" if view.target is None else f", target={json.dumps(view.target, ensure_ascii=False)}"
    file = json.dumps(f"{stem}.png", ensure_ascii=False)
    show.snippet(
        view.chosen,
        f'result = fv.class_activation(model, images, layer="{view.layer}"{asked}, method="{view.method}")\n'
        "print(result.target.label, result.score, result.note)\n"
        "seen = model.preprocessing.undo(images)\n"
        f'result.overlay(seen, opacity={view.opacity}, color_map="{view.color_map}").save({file})\n',
    )


page()
