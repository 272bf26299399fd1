"""Where runs come from: made up ones, uploads, and the folder that the app was started with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from featviz_core.diagnosis import diagnose
from featviz_core.errors import FeatVizError
from featviz_core.runs import FolderFollower, Run, read_runs, roles_of
from featviz_core.techniques.training_monitor.made_up import made_up, made_up_runs
from pages._ui import launch
from pages.debug_training._training_monitor import train
from pages.debug_training._training_monitor.view import Opened

TRAIN_HERE = "train here"
_MOST_KEPT = 12
_RECORD = """\
import featviz_core as fv

with fv.TrainingMonitor("runs/first", model, optimizer) as monitor:
    for epoch in range(epochs):
        for images, targets in loader:
            ...  # the step, as it always was
            monitor.update(loss=loss, accuracy=accuracy)
        monitor.validate(loss=validation_loss, accuracy=validation_accuracy)
"""
_POLL_SECONDS = 3.0


def made_up_ones() -> list[Run]:
    """Runs that nobody trained, to see what the page does."""
    st.caption("These curves come from formulas, not from a training: to see what this page says of a run.")
    return [made_up(name) for name in made_up_runs()]


def uploads() -> list[Run]:
    """Uploaded logs, kept in memory for this session only."""
    files = st.file_uploader(
        "Logs of one or more runs",
        accept_multiple_files=True,
        key="logs",
        help="TensorBoard event files, CSV (Lightning, Keras, W&B's export), JSON lines, W&B's .wandb files, or a zip "
        "of a folder of runs. Nothing is written to disk.",
    )
    if not files:
        st.markdown("A script of your own writes such a run, which TensorBoard opens too:")
        st.code(_RECORD, language="python")
        return []
    content = {_unique(index, [file.name for file in files]): file for index, file in enumerate(files)}
    key = ("uploads", tuple(file.file_id for file in files))
    return _kept(key, lambda: read_runs({name: file.getvalue() for name, file in content.items()}))


def _unique(index: int, names: list[str]) -> str:
    """Two files of one name are two runs."""
    return names[index] if names.index(names[index]) == index else f"{index + 1}/{names[index]}"


def folder() -> list[Run]:
    """The runs below the folder that the app was started with, as they are now."""
    place: Path = launch.options().runs
    kept: dict[Path, FolderFollower] = st.session_state.setdefault("followed folders", {})
    follower = kept.setdefault(place, FolderFollower(place))
    st.session_state["folder read"] = math.inf
    if st.toggle(
        "Follow",
        True,
        key="follow",
        bind="query-params",
        help="Draws what is written meanwhile, and new runs, every few seconds.",
    ):
        _watch(follower)
    with st.spinner("Reading the logs …"):
        runs = follower.update()
    st.session_state["folder read"] = time.monotonic()
    return runs


@st.fragment(run_every=_POLL_SECONDS)
def _watch(follower: FolderFollower) -> None:
    # Not in the run that reads, which would begin again and again.
    if time.monotonic() - st.session_state["folder read"] <= _POLL_SECONDS / 2:
        return
    try:
        grown = follower.has_grown()
    except FeatVizError:  # the page itself says why
        grown = True
    if grown:
        st.rerun()


SOURCES: dict[str, Callable[[], list[Run]]] = {
    "made-up runs": made_up_ones,
    TRAIN_HERE: train.runs,
    "your files": uploads,
    "your runs folder": folder,
}


def _kept(key: Hashable, read: Callable[[], list[Run]]) -> list[Run]:
    """What was read, as long as the session lasts: a run has no form that a cache could copy cheaply."""
    kept: dict[Hashable, list[Run]] = st.session_state.setdefault("runs", {})
    if key not in kept:
        with st.spinner("Reading the logs …"):
            kept[key] = read()
        while len(kept) > _MOST_KEPT:
            kept.pop(next(iter(kept)))
    return kept[key]


def opened(run: Run, by_hand: Mapping[str, Any]) -> Opened:
    """The run with the roles that its tags were given by hand, and its diagnosis; both remembered."""
    kept: dict[Hashable, tuple[Run, Opened]] = st.session_state.setdefault("diagnosed runs", {})
    key = (id(run), tuple(sorted(by_hand.items())))
    if key not in kept:
        named = replace(run, roles=roles_of(run.scalars, by_hand)) if by_hand else run
        # The run itself is kept too, so that no other can get its id.
        kept[key] = (run, Opened(named, diagnose(named.frame(), named.roles)))
        while len(kept) > _MOST_KEPT:
            kept.pop(next(iter(kept)))
    return kept[key][1]


def chosen(runs: list[Run]) -> list[Run]:
    """Those that are ticked, also beside new ones; the first one at the start."""
    names = [run.name for run in runs]
    if len(runs) < 2:
        st.session_state["runs shown"] = names
        return runs
    before = [name for name in st.session_state.get("runs shown", []) if name in names]
    picked = st.pills(
        "Runs",
        names,
        selection_mode="multi",
        default=before or names[:1],
        key=f"shown {hash(tuple(names))}",
        help="Several runs are drawn into the same charts, each in a colour of its own.",
    )
    st.session_state["runs shown"] = picked
    return [run for run in runs if run.name in picked]
