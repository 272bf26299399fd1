"""What every page looks like: its head, its errors, how to read it, and what to take away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from featviz_core.about import About
from featviz_core.catalog import abouts
from featviz_core.errors import FeatVizError

if TYPE_CHECKING:
    from pages._ui.cached import Look
    from pages._ui.pickers import Chosen


def header(slug: str) -> About:
    """The page's title and the question it answers."""
    about = abouts()[slug]
    st.title(about.title, anchor=False)
    st.markdown(f":gray[{about.question}]")
    return about


def subject(chosen: Chosen, look: Look) -> None:
    """What is being looked at: the model's answer to the picture."""
    answers = look.ask("top_classes", chosen.picture)
    with st.container(horizontal=True, vertical_alignment="center"):
        for rank, (name, probability) in enumerate(answers):
            label = f"{name} {probability:.1%}" if probability == probability else f"{name}: not a number"
            st.badge(label, color="primary" if rank == 0 else "gray", help="The model's answer, as softmax probability")
    for note in look.model.notes:
        st.caption(note)


def error(error: FeatVizError) -> None:
    """What happened, why, and what to do."""
    st.error("\n\n".join(part for part in (f"**{error.what}**", error.why, error.do) if part), icon=":material/error:")


def how_to_read(about: About) -> None:
    """What healthy and unhealthy look like, and where it comes from."""
    for paragraph in about.how_to_read:
        st.markdown(paragraph)
    for citation, url in about.references:
        st.caption(f"[{citation}]({url})")


def snippet(chosen: Chosen, lines: str) -> None:
    """The same result without the app: `lines` go on from `model` and `images`."""
    choice = chosen.model
    where = f'"{chosen.path}"'
    weights = f', weights="{choice.weights}"' if choice.weights else ""
    weights += f', checkpoint="{choice.checkpoint_name}"' if choice.checkpoint else ""
    st.code(
        "from PIL import Image\n\n"
        "import featviz_core as fv\n\n"
        f'model = fv.load_model("{choice.name}"{weights})\n'
        f"images = model.preprocess(Image.open({where}))\n" + lines,
        language="python",
    )
