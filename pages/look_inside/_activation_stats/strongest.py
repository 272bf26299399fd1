"""The pictures that each channel of a layer answers to most, cut to the part that it saw."""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st
from PIL import Image

from featviz_core.demo.samples import SAMPLES
from featviz_core.demo.shapes import CLASS_NAMES
from featviz_core.demo.shapes import draw as draw_shape
from featviz_core.images import Picture, picture_from_image
from featviz_core.techniques.activation_stats import TopPictures
from pages._ui import clickable, jobs
from pages._ui.cached import Look
from pages._ui.pickers import Chosen
from pages._ui.project import Project
from pages.look_inside._activation_stats.view import Strongest, View

FIRST = "first"
"""The key of the first channel to show."""

_SHAPES = 64  # numbers of the test split; those that the sample pictures show are left out
_CHANNELS = 8  # of them at once
_SIDE = 96  # of a crop, in pixels
_WORK = "featviz_core.techniques.activation_stats.of_experiment:experiment_top_pictures"


def of_pictures(chosen: Chosen, look: Look, address: str) -> Strongest:
    """All pictures in the picker, and for the demo models some of the data that they know."""
    given = list(chosen.pictures.values())
    if look.model.class_names == CLASS_NAMES:
        with st.spinner("Drawing pictures …"):
            given += _shapes()
    found: TopPictures = look.ask("top_pictures", *given, layer=address)
    return Strongest(found, [look.model.preprocessing.cut(picture.image) for picture in given])


@cache
def _shapes() -> list[Picture]:
    shown = {index for sample in SAMPLES for row in sample.indices for index in row}
    drawn = {index: draw_shape("test", index) for index in range(_SHAPES) if index not in shown}
    return [picture_from_image(Image.fromarray(one.image), f"Shapes, test {n}") for n, one in drawn.items()]


def of_experiment(project: Project, options: dict[str, Any], address: str) -> Strongest | None:
    """The pictures of an experiment's loader; None until they were looked at."""
    found: Any = jobs.ask(
        ("top pictures", project.name, project.version, address, *sorted(options.items())),
        _WORK,
        project.spec,
        start=f"Find the top pictures of {address}",
        help="Makes the experiment anew in a process of its own.",
        layer=address,
        **options,
    )
    if found is None:
        return None
    top, pictures = found
    return Strongest(top, [Image.fromarray(picture) for picture in pictures])


def draw(view: View) -> None:
    """A row of crops for each of some channels of the chosen layer, strongest first."""
    if not view.source.stats.layers[view.address].layer.viewable:
        st.info("This layer gives nothing that lies on the picture.", icon=":material/layers_clear:")
        return
    seen = view.source.strongest(view.address)
    if seen is None:
        return
    count = len(seen.found.scores)
    if st.session_state.get(FIRST, 0) >= count:
        st.session_state[FIRST] = 0
    first = st.number_input(
        "First channel", 0, count - 1, key=FIRST, bind="query-params", width=160, help="By number; the next follow."
    )
    st.caption(
        f"The pictures of {len(seen.pictures):,} to which each channel of `{view.address}` answers most, cut to the "
        "part that its strongest place depends on; below, the value there."
    )
    for channel in range(int(first), min(count, int(first) + _CHANNELS)):
        _row(seen, channel)


def _row(seen: Strongest, channel: int) -> None:
    top = seen.found
    crops = [
        _crop(seen.pictures[number], tuple(box))
        for number, box in zip(top.pictures[channel], top.boxes[channel], strict=True)
    ]
    st.image(
        clickable.sheet(crops, columns=len(crops), gap=6).image,
        caption=f"channel {channel}: " + " · ".join(f"{score:.3g}" for score in top.scores[channel]),
        width=(_SIDE + 6) * len(crops) - 6,
        alt=f"The top pictures of channel {channel}",
    )


def _crop(picture: Image.Image, box: tuple[int, ...]) -> Image.Image:
    left, top, right, bottom = (int(edge) for edge in box)
    return picture.crop((left, top, right, bottom)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
