"""What is kept between reruns: models for the whole process, results for each session.

Models do not live in `st.cache_resource`: any browser can send Streamlit's clear-cache message and empty it for all.
"""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui import project

if TYPE_CHECKING:
    from featviz_core.images import Picture
    from featviz_core.models import LoadedModel, ModelCache

# Enough for a large vision transformer, or some twenty models of ResNet-50's size.
_MODEL_BYTES = 2 * 2**30
_RESULT_BYTES = 64 * 2**20

_lock = threading.Lock()
_models: ModelCache | None = None
_warming: threading.Thread | None = None


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model was chosen, in a form that can be a key.

    `checkpoint` is the digest of an uploaded file and `file` its name; without `name` its architecture is guessed.
    The model of an experiment has the experiment's name in `file` and its version in `experiment`.
    """

    name: str
    weights: str | None = None
    checkpoint: str | None = None
    file: str = ""
    experiment: str | None = None
    device: str = "automatic"

    @property
    def label(self) -> str:
        """What to call it: the model's name, or the uploaded file's where the model was guessed from it."""
        return self.name or self.file


@dataclass(frozen=True, slots=True)
class Upload:
    """A checkpoint, uploaded or given at the start, and, where there is one, its list of class names."""

    name: str
    data: bytes | Path
    class_names_file: str = ""
    class_names: bytes = b""


def warm_up() -> None:
    """Import torch in the background, once, so that the first picture need not wait for it."""
    global _warming
    with _lock:
        if _warming is None and not torch_is_loaded():
            _warming = threading.Thread(target=import_module, args=("featviz_core.models",), daemon=True)
            _warming.start()


def torch_is_loaded() -> bool:
    """Whether torch is there without waiting for it."""
    return "featviz_core.models" in sys.modules and (_warming is None or not _warming.is_alive())


def devices() -> tuple[str, ...]:
    """The devices that torch finds; none as long as torch is not there."""
    return import_module("featviz_core.models").devices() if torch_is_loaded() else ()


@dataclass(frozen=True, slots=True)
class Look:
    """A loaded model and the one way to ask about it."""

    choice: ModelChoice
    model: LoadedModel

    def ask(self, question: str, *pictures: Picture, **options: Any) -> Any:
        """`featviz_core.<question>(model, images, **options)`, remembered for the session.

        The key is the question, the choice of model, the pictures' SHA-256 and the options: never an array.
        """
        key = (question, self.choice, tuple(picture.sha256 for picture in pictures), tuple(sorted(options.items())))
        return _answer(key, self.model, pictures, options)


def look(choice: ModelChoice, upload: Upload | None = None) -> Look:
    """The chosen model, shared by all sessions; loaded when nobody has it yet."""
    global _models
    with nullcontext() if torch_is_loaded() else st.spinner("Starting PyTorch …"):
        core = import_module("featviz_core.models")
    with _lock:
        _models = _models or core.ModelCache(_MODEL_BYTES)
    device = core.best_device() if choice.device == "automatic" else choice.device

    def load() -> LoadedModel:
        with st.spinner(f"Loading {choice.label} …"):
            if choice.experiment is not None:
                return project.opened(project.projects()[choice.file]).model(choice.file, device=device)
            if upload is not None:
                return _load_upload(choice.name, upload, device)
            loaded: LoadedModel = core.load_model(choice.name, weights=choice.weights, device=device)
            return loaded

    choice = replace(choice, device=device)
    return Look(choice, _models.get(choice, load))


def _load_upload(name: str, upload: Upload, device: str) -> LoadedModel:
    from featviz_core import checkpoints
    from featviz_core.models import load_model

    checkpoint = checkpoints.read_checkpoint(upload.data, name=upload.name)
    names = None
    if upload.class_names:
        names = checkpoints.read_class_names(upload.class_names, name=upload.class_names_file)
    name = name or checkpoints.guess_architecture(checkpoint.state)[0]
    return load_model(name, checkpoint=checkpoint, class_names=names, device=device)


@st.cache_data(scope="session", max_entries=64, max_size=_RESULT_BYTES, show_spinner=False)
def _answer(key: tuple[Any, ...], _model: LoadedModel, _pictures: tuple[Picture, ...], _options: Any) -> Any:
    answer = getattr(import_module("featviz_core"), key[0])
    with st.spinner("Looking into the model …"):
        if not _pictures:
            return answer(_model, **_options)
        return answer(_model, _model.preprocess(*(picture.image for picture in _pictures)), **_options)
