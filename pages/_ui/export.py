"""What a page shows, sent to a run of TensorBoard or Weights & Biases, or taken away as a zip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st

from featviz_core.errors import FeatVizError
from pages._ui import launch, show

Items = Callable[[Any], Sequence[Any]]
"""Gives what is sent, made of the `Picture`, `Table`, `Distribution` and `Graph` of the module that it gets, which is
`featviz_core.runs.export`: only imported on demand. It runs in a thread that cannot ask the session's cache."""

_EXPORT = "featviz_core.runs.export"
_TENSORBOARD, _WANDB = "TensorBoard", "Weights & Biases"


def button(items: Items, name: str) -> None:
    """A button that opens the dialog; `name` is that of the run."""
    if st.button(
        "Send to a run",
        icon=":material/ios_share:",
        key=f"send {name}",
        help="As a run for TensorBoard or Weights & Biases: pictures, tables as curves, histograms, the model's graph.",
    ):
        _dialog(items, name)


@st.dialog("Send to a run")
def _dialog(items: Items, name: str) -> None:
    to = st.segmented_control(
        "For",
        [_TENSORBOARD, _WANDB],
        default=_TENSORBOARD,
        required=True,
        key="send_to",
        help="Weights & Biases needs its package `wandb`; its run is packed offline, for `wandb sync`.",
    )
    title = _folder_name(
        st.text_input("Name of the run", name, max_chars=80, key="send_name", help="The run's folder is called so.")
    )
    project = "featviz"
    if to == _WANDB and find_spec("wandb") is None:
        st.info("The package `wandb` is not installed here: `pip install wandb`.", icon=":material/info:")
        return
    if to == _WANDB:
        project = st.text_input("Project", project, key="send_project", help="Where Weights & Biases shows the run.")
    st.download_button(
        "Download as a zip",
        lambda: _packed(items, title, {"project": project} if to == _WANDB else None),
        f"{title}.zip",
        "application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        help="Unpack it, and open it with `tensorboard --logdir`, or send it with `wandb sync`.",
    )
    folder: Path | None = launch.options().runs
    if folder is None or not folder.is_dir():
        st.caption("Started with `-- --runs FOLDER`, FeatViz can also write the run there.")
    elif st.button(
        f"Write into {folder.name}/",
        icon=":material/folder:",
        help="Writes the run into the folder that the app was started with; nothing there is replaced.",
    ):
        try:
            place = _written(items, folder, title, {"project": project, "name": title} if to == _WANDB else None)
        except FeatVizError as error:
            show.error(error)
        else:
            st.success(f"Written: {place}", icon=":material/check_circle:")


def _folder_name(text: str) -> str:
    """What a visitor typed, as the name of a folder that leads nowhere else."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text).strip(".") or "run"


def _packed(items: Items, title: str, wandb: dict[str, str] | None) -> bytes:
    export = import_module(_EXPORT)
    packed: bytes = export.as_zip(items(export), title, wandb)
    return packed


def _written(items: Items, folder: Path, title: str, wandb: dict[str, str] | None) -> str:
    export = import_module(_EXPORT)
    if wandb is None:
        return f"{folder.name}/{export.to_folder(items(export), folder / title).name}"
    export.to_wandb(items(export), folder, wandb | {"mode": "offline"})
    return f"{folder.name}/wandb"
