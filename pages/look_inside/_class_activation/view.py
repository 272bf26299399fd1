"""What was chosen on the page of class activation maps, and how to ask for maps and draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from featviz_core.images import Picture
from featviz_core.techniques import class_activation as technique
from pages._ui import clickable, layers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen

TILE = 140  # of one picture of many, in pixels


@dataclass(frozen=True, slots=True)
class View:
    """What was chosen: the picture, the model, what to explain, and how to draw it."""

    chosen: Chosen
    look: Look
    target: str | None
    method: str
    layer: str
    color_map: str
    opacity: float

    @property
    def picture(self) -> Picture:
        """The chosen picture."""
        return self.chosen.picture

    def seen(self, side: int, picture: Picture | None = None) -> Image.Image:
        """What the model saw, with a longer side of `side` pixels."""
        image = self.look.model.preprocessing.cut((picture or self.picture).image)
        factor = side / max(image.size)
        return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)

    def over(self, result: technique.ClassActivation, side: int = TILE, picture: Picture | None = None) -> Image.Image:
        """A map over the picture."""
        return result.overlay(self.seen(side, picture), self.opacity, self.color_map)


def one(view: View, picture: Picture) -> technique.ClassActivation:
    """The chosen map for a picture."""
    return next(iter(many(view, picture, "map", targets=(view.target,), layers=(view.layer,)).values()))


def many(view: View, picture: Picture, what: str, **options: Any) -> dict[Any, technique.ClassActivation]:
    """Maps for all combinations of `options`; those that ask the model often show how far they are."""
    options = {"methods": (view.method,)} | options
    known = technique.cam_methods()
    if all(known[name].needs != "scores" for name in options["methods"]):
        return view.look.ask("class_activations", picture, **options)
    work = partial(technique.class_activations, view.look.model, view.look.model.preprocess(picture.image), **options)

    def stop() -> None:
        st.session_state["with slow"] = False
        if known[view.method].needs == "scores":
            st.session_state["method"] = "gradcam"

    key = (what, view.look.choice, picture.sha256, *sorted(options.items()))
    return show.slowly(key, lambda progress: work(progress=progress), stop=stop)


def grid(
    tiles: Sequence[tuple[str, str, Image.Image]],
    choose: Callable[[int], None],
    *,
    key: str,
    chosen: int | None = None,
    columns: int = 6,
    alt: str,
) -> None:
    """Pictures to click. Each tile: its caption, what hovering says, and the picture."""
    sheet = clickable.sheet([image for _, _, image in tiles], columns=min(columns, len(tiles)))
    clickable.tiles(
        sheet,
        [name for _, name, _ in tiles],
        choose,
        key=key,
        width=sheet.image.width,
        chosen=chosen,
        captions=[caption for caption, _, _ in tiles],
        alt=alt,
    )


def caption(text: str) -> str:
    """`text`, short enough to stand below a tile."""
    return layers.short(text) if "." in text and " " not in text else text if len(text) <= 22 else text[:21] + "…"


def preset(key: str, value: object) -> None:
    """Start the control `key` with `value`, unless a link brings another."""
    if key not in st.session_state and key not in st.query_params:
        st.session_state[key] = value


def value_range(values: NDArray[Any]) -> tuple[float, float]:
    """The lowest and highest finite value; zeros where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
