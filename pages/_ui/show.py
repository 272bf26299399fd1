"""What every page looks like: its head, its errors, how to read it, and what to take away."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import streamlit as st

import featviz_core
from featviz_core.about import About
from featviz_core.catalog import abouts
from featviz_core.errors import FeatVizError
from featviz_core.findings import Finding
from pages._ui import project

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from pages._ui.cached import Look
    from pages._ui.pickers import Chosen

Progress = Callable[[float, str], None]
Part = Callable[[], None]
_MOST_KEPT = 32  # slow answers


def header(slug: str) -> About:
    """The page's title and the question it answers."""
    about = abouts()[slug]
    st.title(about.title, anchor=False)
    st.markdown(f":gray[{about.question}]")
    return about


def subject(chosen: Chosen, look: Look) -> None:
    """What is being looked at: the model's answer to the picture, and what was noted of the model."""
    answers = look.ask("top_classes", chosen.picture)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(":gray[The model's answer:]", width="content")
        for rank, (name, probability) in enumerate(answers):
            label = f"{name} {probability:.1%}" if probability == probability else f"{name}: not a number"
            st.badge(label, color="primary" if rank == 0 else "gray", help="Softmax probability of this class.")
    for note in look.model.notes:
        st.caption(note)


@st.dialog("What the model saw", width="large")
def model_input(chosen: Chosen) -> None:
    """The chosen picture on its way into the chosen model."""
    from featviz_core.seen import model_input

    try:
        look = chosen.look()
        with st.spinner("Asking the model …"):
            found = model_input(look.model, chosen.picture.image)
    except FeatVizError as problem:
        error(problem)
        return
    height, width = look.model.input_size
    before, after = st.columns(2)
    before.markdown("**Your picture.** The model sees the bright part.")
    before.image(_boxed(chosen.picture.image, found.box), width=380, alt="Your picture")
    after.markdown(f"**What the model saw:** {width}×{height} pixels.")
    after.image(found.seen, width=380, alt="What the model saw")
    st.markdown("\n".join(f"1. {step}" for step in found.steps))
    st.table(found.channels.round(3), hide_index=True, border="horizontal")
    st.markdown("**Would it answer the same if the usual mistakes were made?**")
    percent = found.answers["probability"].map("{:.1%}".format)
    st.table(found.answers.assign(probability=percent), hide_index=True, border="horizontal")
    st.caption("An answer that gets better under a mistake says that the model was trained with it.")


def _boxed(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """`image` with what lies outside of `box` dimmed."""
    from PIL import Image

    left, top, right, bottom = (round(edge) for edge in box)
    dimmed = Image.blend(image, Image.new("RGB", image.size, "gray"), 0.7)
    dimmed.paste(image.crop((left, top, right, bottom)), (left, top))
    return dimmed


def error(error: FeatVizError) -> None:
    """What happened, why, what to do, and the user's own lines that led there."""
    st.error("\n\n".join(part for part in (f"**{error.what}**", error.why, error.do) if part), icon=":material/error:")
    if trace := getattr(error, "trace", ""):
        st.code(trace, language="python", wrap_lines=True)


def verdict(findings: Sequence[Finding]) -> None:
    """All findings in one line: how many are wrong, and how many worth a look."""
    wrong, doubtful = (sum(finding.severity == severity for finding in findings) for severity in ("fail", "warn"))
    if wrong:
        more = f", {doubtful} more {'is' if doubtful == 1 else 'are'} worth a look" if doubtful else ""
        st.error(f"**{wrong} {'thing is' if wrong == 1 else 'things are'} wrong**{more}.", icon=":material/error:")
    elif doubtful:
        text = f"**{doubtful} {'thing is' if doubtful == 1 else 'things are'} worth a look**; nothing is plainly wrong."
        st.warning(text, icon=":material/warning:")
    else:
        st.success("**Nothing is wrong** that these checks can see.", icon=":material/check_circle:")


def findings(findings: Sequence[Finding]) -> None:
    """Findings one below the other: what, where, by which numbers, and what to do about it."""
    for finding in findings:
        icon, color = _SEVERITIES[finding.severity]
        with st.container(border=True):
            where = f" :gray[· {finding.where}]" if finding.where else ""
            st.markdown(f":{color}[{icon}] **{finding.title}**{where}")
            if finding.detail:
                st.markdown(finding.detail)
            if finding.remedy:
                st.markdown(f":material/build: {finding.remedy}")
            if finding.evidence:
                st.caption(
                    " · ".join(f"{name.replace('_', ' ')}: {_short(value)}" for name, value in finding.evidence.items())
                )


_SEVERITIES = {
    "fail": (":material/error:", "red"),
    "warn": (":material/warning:", "orange"),
    "note": (":material/info:", "blue"),
    "ok": (":material/check_circle:", "green"),
}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value)) or "none"
    return str(value)


def count(number: int, one: str, several: str = "") -> str:
    """ "1 picture", "1,024 pictures"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def tabs(parts: Mapping[str, Part]) -> None:
    """The rest of a page, each part drawn only while it is open; which one is kept in the URL as `more`."""
    for tab, draw in zip(
        st.tabs(list(parts), key="more", bind="query-params", on_change="rerun"), parts.values(), strict=True
    ):
        with tab:
            if tab.open:
                draw()


def how_to_read(about: About) -> None:
    """What healthy and unhealthy look like, and where it comes from."""
    for paragraph in about.how_to_read:
        st.markdown(paragraph)
    for citation, url in about.references:
        st.caption(f"[{citation}]({url})")


def png(image: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def slowly(key: tuple[object, ...], work: Callable[[Progress], Any], *, stop: Callable[[], None]) -> Any:
    """What `work(progress)` gives, remembered for the session by `key`; a bar shows how far it is.

    A click anywhere ends the run at the next step of the bar; `stop` says what must change for it not to start again.
    """
    kept: dict[tuple[object, ...], Any] = st.session_state.setdefault("slow answers", {})
    if key not in kept:
        place = st.empty()
        with place.container(horizontal=True, vertical_alignment="center"):
            bar = st.progress(0.0, "Looking into the model …")
            st.button("Stop", key=f"stop {key[0]}", icon=":material/stop:", on_click=stop, help="Ends this work.")
        kept[key] = work(lambda done, text: bar.progress(min(done, 1.0), text) and None)
        place.empty()
        while len(kept) > _MOST_KEPT:
            kept.pop(next(iter(kept)))
    return kept[key]


def npy(values: NDArray[Any]) -> bytes:
    """An array as an NPY file."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def manifest(chosen: Chosen, look: Look, **settings: Any) -> bytes:
    """How a result came about, as a JSON file: versions, model, picture, preprocessing and `settings`."""
    packages = ("torch", "torchvision", "numpy", "pillow")
    content = {
        "versions": {"featviz": featviz_core.__version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "model": asdict(look.choice),
        "picture": {"name": chosen.picture_name, "sha256": chosen.picture.sha256},
        "preprocessing": look.model.preprocessing.describe(),
    }
    return json.dumps(content | settings, indent=2, ensure_ascii=False).encode()


def snippet(chosen: Chosen, lines: str) -> None:
    """The same result without the app: `lines` go on from `model` and `images`."""
    if chosen.model.experiment is not None:
        _experiment_snippet(chosen, lines)
        return
    options = f', weights="{chosen.model.weights}"' if chosen.model.weights else ""
    # File names are the visitor's: they may hold quotes.
    options += f", checkpoint={json.dumps(chosen.model.file, ensure_ascii=False)}" if chosen.model.file else ""
    st.code(
        "from PIL import Image\n\n"
        "import featviz_core as fv\n\n"
        f'model = fv.load_model("{chosen.look().model.name}"{options})\n'
        f"images = model.preprocess(Image.open({json.dumps(chosen.path, ensure_ascii=False)}))\n{lines}",
        language="python",
    )


def _experiment_snippet(chosen: Chosen, lines: str) -> None:
    name, picture = json.dumps(chosen.model.file, ensure_ascii=False), json.dumps(chosen.path, ensure_ascii=False)
    from_loader = chosen.picture_name in project.opened(project.projects()[chosen.model.file]).pictures
    image = f"opened.pictures[{picture}].image" if from_loader else f"Image.open({picture})"
    st.code(
        ("" if from_loader else "from PIL import Image\n\n")
        + "from featviz_core.experiment_model import open_for_looking\n"
        "import featviz_core as fv\n\n"
        f"opened = open_for_looking({name})\n"
        f"model = opened.model({name})\n"
        f"images = model.preprocess({image})\n{lines}",
        language="python",
    )
