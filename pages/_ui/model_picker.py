"""The model picker: bundled models, torchvision's architectures, and where their weights come from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import streamlit as st

from featviz_core import weights as published
from featviz_core.demo.models import DEMO_MODELS
from featviz_core.errors import CheckpointError, FeatVizError, ModelError, WeightsError
from featviz_core.zoo import ZOO, ZooWeights, zoo_weights
from pages._ui import launch, project
from pages._ui.cached import ModelChoice, Upload
from pages._ui.project import Project

_DEMO = {f"demo/{name}": card for name, card in DEMO_MODELS.items()}
_MINE = "my checkpoint"
_FRESH = "freshly initialised"
_FILE = "a checkpoint file"
_CACHED = "published, on this machine"
_CHECKPOINT_MB = 500
# Optional packages that bring models of their own, each with a name to start from.
_HUBS = {
    hub: start
    for hub, start in (("timm", "resnet18"), ("transformers", "google/vit-base-patch16-224"))
    if find_spec(hub) is not None
}
# What the browser may ask for: a name, never a path on the server.
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Picked:
    """The model that was picked, and why it cannot be used yet where that is so."""

    choice: ModelChoice
    upload: Upload | None = None
    problem: FeatVizError | None = None


def draw() -> Picked:
    """Draw the picker and give what was picked."""
    own, chosen = _own(), _chosen_on_a_page()
    name = st.selectbox(
        "Model",
        list(dict.fromkeys([*own, *_given(), *_DEMO, *chosen, _MINE, *ZOO, *_HUBS])),
        key="model",
        bind="query-params",
        help="The demo models are trained and need no network. The others are torchvision's architectures: type to "
        "search among them. With a checkpoint of your own, the architecture is read from the file.",
    )
    if name in own | chosen:
        return _from_experiment((own | chosen)[name])
    if name in _given():
        st.caption("The checkpoint that the app was started with.")
        return _given()[name]
    if name in _DEMO:
        st.caption(_DEMO[name].description)
        return Picked(ModelChoice(name))
    if name == _MINE:
        return _checkpoint(None)
    if name in _HUBS:
        return _from_hub(name)
    entry = ZOO[name]
    st.caption(f"{entry.family} · {entry.parameters / 1e6:,.1f} million parameters")
    source = st.selectbox(
        "Weights",
        [_FRESH, *(weights.name for weights in entry.weights), _FILE],
        key="weights",
        bind="query-params",
        help="Fresh weights show the architecture; published ones are downloaded once; a file is your own training.",
    )
    if source == _FRESH:
        return Picked(ModelChoice(name))
    return _checkpoint(name) if source == _FILE else _published(zoo_weights(name, source))


def _own() -> dict[str, Project]:
    """The experiment that the app was started with, unless it cannot be opened: then the frame says why."""
    own = project.given()
    return {own.name: own} if own and not isinstance(project.attempt(own), FeatVizError) else {}


def _chosen_on_a_page() -> dict[str, Project]:
    """The demo experiment that was chosen to be debugged."""
    name = st.session_state.get("experiment") or st.query_params.get("experiment", "")
    return {name: found} if (found := project.demos().get(name)) else {}


def _from_experiment(picked: Project) -> Picked:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(picked.about)
        st.button(
            "Load again",
            icon=":material/refresh:",
            type="tertiary",
            on_click=project.load_again,
            args=(picked,),
            help="Makes the experiment anew. This happens by itself when its file is saved, but not for other files "
            "that it imports.",
        )
    return Picked(ModelChoice("", file=picked.name, experiment=picked.version))


@cache
def _given() -> dict[str, Picked]:
    """The checkpoint that the app was started with, by the name it has in the picker."""
    path: Path | None = launch.options().checkpoint
    if path is None:
        return {}
    digest = hashlib.sha256(f"{path.resolve()} {path.stat().st_mtime_ns} {path.stat().st_size}".encode()).hexdigest()
    return {path.name: Picked(ModelChoice("", checkpoint=digest, file=path.name), Upload(path.name, path))}


def _from_hub(hub: str) -> Picked:
    name = st.text_input(
        f"Name in {hub}",
        _HUBS[hub],
        key=f"{hub} name",
        bind="query-params",
        help=f"As {hub} names it. Its weights are taken from this machine only: download them with {hub} first.",
    )
    source = st.selectbox(
        "Weights",
        [_FRESH, _CACHED],
        key=f"{hub} weights",
        bind="query-params",
        help="Fresh weights show the architecture; published ones have to be on this machine already.",
    )
    choice = ModelChoice(f"{hub}/{name.strip()}", weights="DEFAULT" if source == _CACHED else None)
    # A folder of that name would be taken for the model.
    if not _HUB_NAME.fullmatch(name.strip()) or Path(name.strip()).exists():
        return Picked(choice, problem=ModelError(f"'{name[:80]}' is no name in {hub}.", do=f"Try {_HUBS[hub]}."))
    return Picked(choice)


def _published(weights: ZooWeights) -> Picked:
    choice = ModelChoice(weights.model, weights=weights.name)
    accuracy = f" · {weights.accuracy:.1f} % top-1 on ImageNet" if weights.accuracy else ""
    memory = published.memory_bytes(ZOO[weights.model], weights) / 2**20
    st.caption(f"{weights.megabytes:,.0f} MB{accuracy} · needs {memory:,.0f} MB of memory to load")
    if weights.note:
        st.caption(weights.note)
    here = published.is_cached(weights)
    label = "Download again" if here else f"Download {weights.megabytes:,.0f} MB"
    wanted = st.button(
        label,
        icon=":material/download:",
        type="tertiary" if here else "primary",
        help="Kept in PyTorch's own folder, so other programs find it too. Its checksum is verified.",
    )
    if wanted and (failure := _download(weights, again=here)) is not None:
        return Picked(choice, problem=failure)
    if here:
        return Picked(choice)
    problem = WeightsError(
        f"The weights {weights.name} of {weights.model} are not on this machine yet.",
        why=f"They take {weights.megabytes:,.0f} MB and have to be downloaded once.",
        do="Press Download in the sidebar, or choose a demo model or fresh weights, which need no network.",
    )
    return Picked(choice, problem=problem)


def _download(weights: ZooWeights, *, again: bool) -> WeightsError | None:
    """Fetch the weights while a bar shows how far it is; gives what went wrong."""
    place = st.empty()
    with place.container():
        bar = st.progress(0.0, f"Asking for {weights.filename} …")
        # Any click starts a new run, which ends this one at the next step of the bar: the button needs no handler.
        st.button("Cancel", help="Stops the download; nothing of it is kept.")

    def progress(done: float, text: str) -> None:
        bar.progress(min(done, 1.0), text)

    try:
        published.download(weights, again=again, progress=progress)
    except WeightsError as error:
        place.empty()
        return error
    st.rerun()
    return None


def _checkpoint(architecture: str | None) -> Picked:
    file = st.file_uploader(
        "Checkpoint",
        type=["safetensors", "pth", "pt", "bin"],
        key="checkpoint",
        max_upload_size=_CHECKPOINT_MB,
        help="A .safetensors file or a saved state_dict. Files that would run code are refused. For more than "
        f"{_CHECKPOINT_MB} MB start the app with `-- --checkpoint FILE`.",
    )
    names = st.file_uploader(
        "Class names",
        type=["txt", "json"],
        key="class names",
        max_upload_size=1,
        help="One name a line, or a JSON list. Without it, classes are numbered.",
    )
    if file is None:
        what = CheckpointError("No checkpoint was given yet.", do="Upload one in the sidebar.")
        return Picked(ModelChoice(architecture or _MINE), problem=what)
    data = file.getvalue()
    upload = Upload(file.name, data, names.name if names else "", names.getvalue() if names else b"")
    digest = _digest(file.file_id, data) + hashlib.sha256(upload.class_names).hexdigest()
    return Picked(ModelChoice(architecture or "", checkpoint=digest, file=file.name), upload)


def _digest(file_id: str, data: bytes) -> str:
    """The SHA-256 of an upload, worked out once: half a gigabyte takes half a second."""
    known: dict[str, str] = st.session_state.setdefault("upload digests", {})
    if file_id not in known:
        known[file_id] = hashlib.sha256(data).hexdigest()
    return known[file_id]
