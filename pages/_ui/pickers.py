"""The shared pickers: model, picture and device. The frame draws them on every page, so a choice stays chosen.

Options are shown and written into the URL as they are, so that a link reads like the code: `?model=resnet18`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import streamlit as st

from featviz_core.demo.models import ASSETS
from featviz_core.demo.samples import SAMPLES
from featviz_core.errors import FeatVizError
from featviz_core.images import EXTENSIONS, Picture, read_picture
from pages._ui import cached, model_picker, project, show
from pages._ui.cached import Look, ModelChoice
from pages._ui.model_picker import Picked
from pages._ui.project import Project

_PICTURE_MB = 20
_MOST_UPLOADS = 24


@dataclass(frozen=True, slots=True)
class Chosen:
    """What stands in the pickers: the model, the picture to look at, and all pictures there are, by name."""

    picked: Picked
    device: str
    picture_name: str
    pictures: dict[str, Picture]

    @property
    def picture(self) -> Picture:
        """The picture to look at."""
        return self.pictures[self.picture_name]

    @property
    def model(self) -> ModelChoice:
        """The model, on the chosen device."""
        return replace(self.picked.choice, device=self.device)

    def look(self) -> Look:
        """The loaded model. Raises the `FeatVizError` that keeps it from being used."""
        if self.picked.problem is not None:
            raise self.picked.problem
        return cached.look(self.model, self.picked.upload)

    @property
    def path(self) -> str:
        """Where the picture lies, seen from the project's folder; for an upload, its own name."""
        found = next((sample.path for sample in SAMPLES if sample.title == self.picture_name), None)
        return found.relative_to(ASSETS.parent).as_posix() if found else self.picture.name


def draw() -> None:
    """Draw the pickers; the frame calls this once in every run."""
    picked = model_picker.draw()
    pictures = _of_experiments(picked) | _samples() | _uploads()
    name = st.selectbox(
        "Picture",
        list(pictures),
        key="picture",
        bind="query-params",
        help="What the model looks at. Type to search; add your own below.",
    )
    picture = pictures[name]
    st.image(picture.image, width="stretch", alt=f"The chosen picture: {name}")
    for note in picture.notes:
        st.caption(note)
    asked = st.button(
        "What the model saw",
        icon=":material/visibility:",
        type="tertiary",
        help="The picture after preprocessing, in numbers, and the answer under the usual preprocessing mistakes.",
    )
    _add_pictures()
    st.session_state["chosen"] = Chosen(picked, _device(), name, pictures)
    if asked:
        show.model_input(chosen())


def chosen() -> Chosen:
    """What stands in the pickers in this run."""
    found: Chosen = st.session_state["chosen"]
    return found


def second_picture(chosen: Chosen, *, help: str) -> str:
    """Draw the picker of a picture to compare the chosen one with, and give its name; kept in the URL."""
    names, first = list(chosen.pictures), chosen.picture_name
    start_beside("second_picture", first, names[(names.index(first) + 1) % len(names)], names)
    picked: str = st.selectbox("Second picture", names, key="second_picture", bind="query-params", help=help)
    return picked


def start_beside(key: str, first: str, default: str, options: Sequence[str]) -> None:
    """Let the control `key`, one side of a comparison, begin with `default`, and again each time when the other side,
    `first`, changes; but with what a link says."""
    changed = st.session_state.get(f"beside {key}", first) != first
    st.session_state[f"beside {key}"] = first
    if changed or (st.session_state.get(key) or st.query_params.get(key)) not in options:
        st.session_state[key] = default


def experiment() -> Project:
    """Draw the experiment picker, for the pages that debug one, and give what was picked; kept in the URL."""
    known = project.projects()
    name = st.selectbox(
        "Experiment",
        list(known),
        key="experiment",
        bind="query-params",
        help="What is debugged: a model with its data, loss and optimiser. Start the app with `-- --experiment FILE` "
        "for your own. Each demo case carries one famous mistake.",
    )
    st.caption(known[name].about)
    return known[name]


def _of_experiments(picked: Picked) -> dict[str, Picture]:
    """Pictures from the loaders of the picked experiment, and of the one that the app was started with."""
    chosen = [project.projects()[picked.choice.file]] if picked.choice.experiment is not None else []
    own = project.given()
    found = [project.attempt(one) for one in [*chosen, *([own] if own and own not in chosen else [])]]
    return {
        name: picture for one in found if not isinstance(one, FeatVizError) for name, picture in one.pictures.items()
    }


@cache
def _samples() -> dict[str, Picture]:
    return {sample.title: read_picture(sample.path.read_bytes(), name=sample.title) for sample in SAMPLES}


def _uploads() -> dict[str, Picture]:
    kept: dict[str, Picture] = st.session_state.setdefault("uploads", {})
    return kept


def _add_pictures() -> None:
    st.file_uploader(
        "Your own pictures",
        type=[extension.removeprefix(".") for extension in EXTENSIONS],
        accept_multiple_files=True,
        max_upload_size=_PICTURE_MB,
        key="upload",
        on_change=_take_uploads,
        help=f"At most {_PICTURE_MB} MB each. Kept in memory for this session only; nobody else sees them.",
    )
    with st.popover("Use the webcam", icon=":material/photo_camera:", width="stretch", on_change="rerun") as camera:
        if camera.open:
            st.camera_input(
                "Take a picture", key="webcam", on_change=_take_photo, help="The browser asks for permission first."
            )
    for error in st.session_state.pop("upload errors", []):
        show.error(error)


def _take_uploads() -> None:
    for file in st.session_state["upload"]:
        _keep(file.getvalue(), file.name)


def _take_photo() -> None:
    if st.session_state["webcam"] is not None:
        _keep(st.session_state["webcam"].getvalue(), "Webcam")


def _keep(data: bytes, name: str) -> None:
    """Keep a new picture for the session and choose it, or note why it cannot be read."""
    kept = _uploads()
    try:
        picture = read_picture(data, name=name)
    except FeatVizError as error:
        st.session_state.setdefault("upload errors", []).append(error)
        return
    if any(picture.sha256 == other.sha256 for other in kept.values()):
        return
    unique, number = name, 2
    while unique in kept or unique in _samples():
        unique, number = f"{name} ({number})", number + 1
    kept[unique] = picture
    st.session_state["picture"] = unique
    while len(kept) > _MOST_UPLOADS:
        kept.pop(next(iter(kept)))


def _device() -> str:
    return st.selectbox(
        "Device",
        ["automatic", *cached.devices()],
        key="device",
        bind="query-params",
        help="Where the model runs. Automatic takes a GPU where PyTorch finds one, else the CPU.",
    )
