"""Where the data comes from: an experiment's loaders, a folder given at the start, or a zip from the browser."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from featviz_core.picture_folders import LAYOUT, PictureFolders, open_picture_folders
from pages._ui import jobs, launch, pickers, show
from pages._ui.project import Project

if TYPE_CHECKING:
    from featviz_core.techniques.data_check.from_folders import FolderCheck
    from featviz_core.techniques.data_check.result import DataCheck

_EXPERIMENT, _FOLDER, _ZIP = "experiment", "folder", "zip"
_ZIP_MB = 500
_PACKAGE = "featviz_core.techniques.data_check"
START = "Check the data"


@dataclass(frozen=True, slots=True)
class Checked:
    """A finished check, and the files that never got into it."""

    check: DataCheck
    unreadable: tuple[Any, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be checked: an experiment, or class folders (`data`: a zip's bytes, or a path), under `name`."""

    key: Hashable
    name: str
    project: Project | None = None
    data: bytes | Path = b""

    def check(self, num_batches: int | None, *, judged: bool) -> Checked | None:
        """The result, once somebody pressed the button."""
        key = ("data check", self.key, num_batches, judged)
        explained = "Works in a process of its own: it can be stopped, and goes on while you look at other pages."
        if self.project is not None:
            found: DataCheck | None = jobs.ask(
                key,
                f"{_PACKAGE}.compute:check_experiment_data",
                self.project.spec,
                num_batches=num_batches,
                model=judged,
                start=START,
                help=explained,
            )
            return Checked(found) if found is not None else None
        chosen = pickers.chosen()
        look = chosen.look()
        made: FolderCheck | None = jobs.ask(
            (*key, look.choice),
            f"{_PACKAGE}.from_folders:check_picture_folders",
            self.data,
            name=self.name,
            preprocessing=look.model.preprocessing,
            num_batches=num_batches,
            judge=_judge(chosen) if judged else None,
            start=START,
            help=explained,
        )
        return Checked(made.check, made.unreadable, made.skipped) if made is not None else None


def pick() -> Source | None:
    """Draw the choice of data; None where there is none yet."""
    given: Path | None = launch.options().data
    kinds = [_EXPERIMENT, *([_FOLDER] if given else []), _ZIP]
    left, right = st.columns([2, 5], gap="medium")
    kind = left.segmented_control(
        "Data",
        kinds,
        default=_FOLDER if given and launch.options().experiment is None else _EXPERIMENT,
        required=True,
        key="data",
        bind="query-params",
        help="An experiment's own loaders; a zip of class folders from your machine; or the folder that the app was "
        "started with (`-- --data FOLDER`).",
    )
    with right:
        if kind == _EXPERIMENT:
            project = pickers.experiment()
            return Source((project.spec, project.version), project.name, project)
        if kind == _FOLDER and given is not None:
            return _listed(Source((str(given), given.stat().st_mtime_ns), given.name, data=given))
        return _uploaded()


def can_be_judged(source: Source) -> bool:
    """Whether there is a model whose features can judge the labels."""
    return source.project is not None or pickers.chosen().model.experiment is None


def _uploaded() -> Source | None:
    file = st.file_uploader(
        "A zip of class folders",
        type=["zip"],
        key="data zip",
        max_upload_size=_ZIP_MB,
        help=f"{LAYOUT[0].upper()}{LAYOUT[1:]}. At most {_ZIP_MB} MB. Nothing in it is run, and nothing is written to "
        "disk; it is kept in memory for this session only.",
    )
    if file is None:
        st.caption(f"Expected are {LAYOUT}.")
        return None
    return _listed(Source(file.file_id, file.name, data=file.getvalue()))


def _listed(source: Source) -> Source:
    """The source, after saying what is in it. Raises `FeatVizError` where that is nothing to be checked."""
    kept: dict[Hashable, PictureFolders] = st.session_state.setdefault("listed folders", {})
    if source.key not in kept:
        kept.clear()
        with st.spinner(f"Looking into {source.name} …"):
            kept[source.key] = open_picture_folders(source.data, name=source.name)
    folders = kept[source.key]
    parts = [f"{show.count(len(folders.of('train')), 'picture')} for training"]
    if folders.held_out is not None:
        parts.append(f"{len(folders.of(folders.held_out)):,} for {folders.held_out}")
    skipped = f", {show.count(len(folders.skipped), 'other file')}" if folders.skipped else ""
    classes = show.count(len(folders.class_names), "class", "classes")
    st.caption(f"{source.name}: {classes}, {' and '.join(parts)}{skipped}.")
    return source


def _judge(chosen: pickers.Chosen) -> dict[str, Any]:
    """What makes the picked model once more in another process."""
    upload = chosen.picked.upload
    made: dict[str, Any] = {"name": chosen.look().model.name, "weights": chosen.model.weights}
    return made | ({"checkpoint": upload.data} if upload is not None else {})
