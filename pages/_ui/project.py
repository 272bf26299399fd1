"""The experiments that can be chosen: the one that the app was started with, and the demos.

An experiment is opened once for all sessions, and again when its file was saved anew. The browser only ever names one:
where it lies, the server knows.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from featviz_core.demo.experiments import DEMO_EXPERIMENTS
from featviz_core.errors import FeatVizError
from pages._ui import launch

if TYPE_CHECKING:
    from featviz_core.experiment_model import OpenedExperiment

_DEMO = "demo/"
_lock = threading.Lock()
_opened: dict[str, tuple[str, OpenedExperiment | FeatVizError]] = {}
_times_again: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Project:
    """An experiment by the name it has in the pickers. `spec` says where it is, as for `open_experiment`; `version`
    is another after each change of its file, so that both together can be a key; `about` says what it is."""

    name: str
    spec: str
    version: str
    about: str = ""


def projects() -> dict[str, Project]:
    """All experiments by name, the one that the app was started with first."""
    own = given()
    return ({own.name: own} if own else {}) | demos()


def demos() -> dict[str, Project]:
    """The demo experiments by name."""
    return {
        f"{_DEMO}{card.name}": Project(
            f"{_DEMO}{card.name}", f"{_DEMO}{card.name}", "", f"{card.title}. {card.description}"
        )
        for card in DEMO_EXPERIMENTS.values()
    }


def given() -> Project | None:
    """The experiment that the app was started with: `demos` has it where it is one of them."""
    spec: str | None = launch.options().experiment
    if spec is None:
        return None
    return demos().get(spec) or Project(Path(spec).name, spec, _version(spec), "What the app was started with.")


def attempt(project: Project) -> OpenedExperiment | FeatVizError:
    """The opened experiment, or why it cannot be opened; tried once for each version of its file."""
    with _lock:
        known = _opened.get(project.name)
        if known is None or known[0] != project.version:
            with st.spinner(f"Opening {project.name} …"):
                known = _opened[project.name] = (project.version, _open(project.spec))
        return known[1]


def opened(project: Project) -> OpenedExperiment:
    """The opened experiment. Raises the `FeatVizError` that says why it cannot be."""
    found = attempt(project)
    if isinstance(found, FeatVizError):
        raise found
    return found


def problem() -> FeatVizError | None:
    """Why the experiment that the app was started with cannot be used, if that is so."""
    own = given()
    found = attempt(own) if own else None
    return found if isinstance(found, FeatVizError) else None


def load_again(project: Project) -> None:
    """Open it anew for everybody: a file that it imports, or its data, may have changed."""
    _times_again[project.spec] = _times_again.get(project.spec, 0) + 1


def _open(spec: str) -> OpenedExperiment | FeatVizError:
    try:
        found: OpenedExperiment = import_module("featviz_core.experiment_model").open_for_looking(spec)
    except FeatVizError as error:
        return error
    return found


def _version(spec: str) -> str:
    """Changes when the file is saved: `spec` may name a function after the file."""
    path = next((path for path in (Path(spec), Path(spec.rpartition(":")[0])) if path.is_file()), None)
    stat = path.stat() if path else None
    content = (spec, _times_again.get(spec, 0), *((stat.st_mtime_ns, stat.st_size) if stat else ()))
    return hashlib.sha256(repr(content).encode()).hexdigest()
