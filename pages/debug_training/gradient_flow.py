"""Does the gradient reach every layer, and does every parameter move? A picture, or an experiment's own training."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages._ui import show
from pages.debug_training._gradient_flow import of_experiment, of_picture

_SOURCES = {"a picture": of_picture.draw, "an experiment's training": of_experiment.draw}


def page() -> None:
    about = show.header("gradient_flow")
    source = st.segmented_control(
        "Follow the gradient of",
        list(_SOURCES),
        default="a picture",
        required=True,
        key="flow",
        bind="query-params",
        help="The loss of the picture in the picker, for the model in the picker; or a few real training steps of an "
        "experiment, with its own data, loss, optimiser and loop.",
    )
    parts = _SOURCES[source]()
    if parts is None:
        st.divider()
        show.how_to_read(about)
    else:
        show.tabs({"How to read this": partial(show.how_to_read, about)} | parts)


page()
