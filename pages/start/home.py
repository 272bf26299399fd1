"""The home page: what this is, where to start for each symptom, and a live look at each technique."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from featviz_core import catalog
from featviz_core.about import About
from pages._ui import cached, menu

if TYPE_CHECKING:
    from PIL import Image


def page() -> None:
    st.title("What did my model learn? Why doesn't it train?", anchor=False)
    st.markdown(
        "FeatViz opens a PyTorch image model up. The bundled model is trained, needs no network and is one click away. "
        "Then choose your own model and pictures on the left: they stay chosen on every page, and the address in your "
        "browser brings anybody back to what you see."
    )
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            "**It doesn't train?** Fifteen checks on your own model, data and loop, from data to convergence: what is "
            "wrong first, the proof, and the fix.",
            width="stretch",
        )
        st.page_link("pages/start/checklist.py", label="**Start with the checklist**", icon=":material/checklist:")
    abouts = list(catalog.abouts().values())
    across = min(2, len(abouts))
    for start in range(0, len(abouts), across):
        for place, about in zip(st.columns(across), abouts[start : start + across], strict=False):
            with place, st.container(border=True):
                card(about)


def card(about: About) -> None:
    """A technique: a live result, the question it answers, and when to open it."""
    picture, text = st.columns([2, 3], gap="medium")
    with picture:
        # Only while PyTorch starts in the background does the picture ask again by itself.
        st.fragment(live_result, run_every=None if cached.torch_is_loaded() else 1.0)(about.slug)
    with text:
        st.subheader(about.title, anchor=False)
        st.markdown(about.question)
        st.markdown("Open it when:\n" + "\n".join(f"- {symptom}" for symptom in about.symptoms))
        st.page_link(menu.page_of(about.slug), label=f"**Open {about.title.lower()}**", icon=about.icon)


def live_result(slug: str) -> None:
    if not cached.torch_is_loaded():
        st.caption("Starting PyTorch …")
        return
    picture = preview(slug)
    if picture is not None:
        st.image(picture, width="stretch", alt=f"{slug}: a live result on the demo model")


@st.cache_data(show_spinner=False)
def preview(slug: str) -> Image.Image | None:
    return catalog.preview(slug)


page()
