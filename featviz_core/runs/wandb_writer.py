"""Weights & Biases as a place that a run is written to, where `wandb` is installed and asked for."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from featviz_core.errors import RunError
from featviz_core.runs.run import LoggedHistogram
from featviz_core.runs.wandb_blocks import last_records

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

_PATIENCE = 30.0  # seconds for wandb's process to write the end of a run

_ALONE: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_save_requirements": False,
}


class WandbSink:
    """A run of Weights & Biases. `arguments`: of `wandb.init`, such as `project`, `name` and `mode="offline"`; its own
    files go to `folder` unless they say otherwise. `alone`: only what is written to it belongs to the run, nothing of
    this process, whose console and machine W&B would watch too.

    Raises `RunError` where wandb is missing, or does not start the run.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any], *, alone: bool = False) -> None:
        try:
            import wandb
        except ImportError as error:
            why = "Weights & Biases' own library is not installed."
            raise RunError("The run cannot be written to Weights & Biases.", why=why, do="pip install wandb") from error
        self._wandb = wandb
        folder.mkdir(parents=True, exist_ok=True)
        try:
            own = {"settings": wandb.Settings(**_ALONE)} if alone else {}
            self._run = wandb.init(**{"dir": str(folder), "reinit": "create_new", **own, **arguments})
            # W&B drops what comes late; the run's own step may go back, and is what charts are drawn over.
            self._run.define_metric("step", hidden=True)
            self._run.define_metric("*", step_metric="step")
        except (wandb.Error, TypeError, ValueError) as error:
            do = 'Run `wandb login`, or keep the run on this machine with "mode": "offline".'
            raise RunError(
                "Weights & Biases does not start the run.", why=" ".join(str(error).split()), do=do
            ) from error

    def scalars(self, values: Mapping[str, float], step: int, wall_time: float) -> None:
        """Metrics of one step; wandb's own clock says when."""
        self._log(dict(values), step, wall_time)

    def histogram(self, histogram: LoggedHistogram) -> None:
        """The bins as they are."""
        edges = np.array([*histogram.low, histogram.high[-1]])
        content = self._wandb.Histogram(np_histogram=(histogram.counts, edges))
        self._log({histogram.tag: content}, histogram.step, histogram.wall_time)

    def image(self, tag: str, image: Image.Image, step: int, wall_time: float, caption: str = "") -> None:
        """A picture with its caption."""
        self._log({tag: self._wandb.Image(image, caption=caption or None)}, step, wall_time)

    def table(self, tag: str, frame: pd.DataFrame) -> None:
        """A table; what it cannot hold, such as shapes, is told as text."""
        plain = frame.map(lambda value: value if isinstance(value, int | float | str | bool) else str(value))
        self._run.log({tag: self._wandb.Table(dataframe=plain)})  # belongs to no step

    def graph(self, graph: GraphDef) -> None:
        """The graph as a file of the run: wandb draws none that it has not watched grow."""
        place = Path(self._run.dir) / "graph.pbtxt"
        place.write_text(str(graph))
        self._run.save(str(place), base_path=str(place.parent), policy="now")

    def model_file(self, path: Path, name: str) -> None:
        """The file as an artifact of the type "model"."""
        artifact = self._wandb.Artifact(name, type="model")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def flush(self) -> None:
        """wandb writes in a process of its own."""

    def close(self) -> None:
        """End the run; waits until it is written, and sent where it is online."""
        self._run.finish()
        if self._run.offline:
            _await_end(Path(self._run.settings.sync_file))

    def _log(self, content: dict[str, Any], step: int, wall_time: float) -> None:
        self._run.log({**content, "step": step, "_timestamp": wall_time})


def _await_end(file: Path) -> None:
    """wandb asks its process to close the file, and does not wait: until then the end is missing, or all of it."""
    end = time.monotonic() + _PATIENCE
    while not _has_ended(file):
        if time.monotonic() > end:
            warnings.warn(f"Weights & Biases has not written all of {file.name}.", stacklevel=3)
            return
        time.sleep(0.02)


def _has_ended(file: Path) -> bool:
    from wandb.proto import wandb_internal_pb2

    message = vars(wandb_internal_pb2)["Record"]
    with file.open("rb") as content:
        kinds = [message.FromString(record.data).WhichOneof("record_type") for record in last_records(content)]
    return "exit" in kinds
