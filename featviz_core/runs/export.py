"""Results as a run that TensorBoard or Weights & Biases opens: pictures, tables, distributions, a model's graph.

items = [export.Picture("maps", maps.mosaic().image), export.Table("layers", stats.frame())]
export.to_folder(items, "runs/look")                                      # tensorboard --logdir runs
export.to_wandb(items, "runs", {"project": "shapes", "mode": "offline"})
export.as_zip(items, "look")                                              # bytes, to download
"""

from __future__ import annotations

import io
import tempfile
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from PIL import Image

from featviz_core.errors import RunError
from featviz_core.runs.sources import MAX_UNPACKED
from featviz_core.runs.wandb_writer import WandbSink
from featviz_core.runs.writing import Sink, TensorBoardSink, free_folder, written_histogram

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture, which came up at `step`."""

    tag: str
    image: Image.Image
    caption: str = ""
    step: int = 0

    def write(self, sink: Sink, wall_time: float) -> None:
        """As an image."""
        sink.image(self.tag, self.image, self.step, wall_time, self.caption)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A chart's data or a result's `.frame()`: kept as a table; each column of numbers is a curve as well.

    `x`: the column of whole numbers that the curves go over; left out, the number of the row.
    """

    tag: str
    frame: pd.DataFrame
    x: str | None = None

    def write(self, sink: Sink, wall_time: float) -> None:
        """As a table and as scalars `tag/column`."""
        numbers = self.frame.select_dtypes(["number", "bool"])
        steps = np.arange(len(self.frame)) if self.x is None else self.frame[self.x].to_numpy()
        columns = [name for name in numbers.columns if name != self.x]
        for step, row in zip(steps, numbers[columns].to_numpy(np.float64), strict=True):
            values = {f"{self.tag}/{name}": float(value) for name, value in zip(columns, row, strict=True)}
            sink.scalars(values, int(step), wall_time)
        sink.table(self.tag, self.frame)


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """A histogram: `counts (B,)` between `edges (B + 1,)`."""

    tag: str
    counts: ArrayLike
    edges: ArrayLike
    step: int = 0

    def write(self, sink: Sink, wall_time: float) -> None:
        """As a histogram."""
        sink.histogram(written_histogram(self.step, wall_time, self.tag, self.counts, self.edges))


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A model's graph, from `model_graph`."""

    graph: GraphDef = field(repr=False)

    def write(self, sink: Sink, wall_time: float) -> None:  # noqa: ARG002
        """As the run's graph."""
        sink.graph(self.graph)


Item: TypeAlias = Picture | Table | Distribution | Graph


def to_folder(items: Iterable[Item], folder: str | Path) -> Path:
    """Write `items` as a TensorBoard run, and say where: `folder`, or one beside it if that holds a run already.

    Raises `RunError` where nothing can be written.
    """
    with free_folder(Path(folder)) as place:
        sink = TensorBoardSink(place)
    _write(items, sink)
    return place


def to_wandb(items: Iterable[Item], folder: str | Path, arguments: Mapping[str, Any]) -> None:
    """Write `items` as a run of Weights & Biases. `arguments`: of `wandb.init`, such as `project`, `name` and `mode`;
    its files on this machine go to `folder`. Raises `RunError` where wandb is missing or does not start the run."""
    _write(items, WandbSink(Path(folder), arguments, alone=True))


def as_zip(items: Iterable[Item], name: str, wandb: Mapping[str, Any] | None = None) -> bytes:
    """A zip with `items` as a TensorBoard run in a folder `name`, or as an offline run of Weights & Biases for
    `wandb sync`, where `wandb` gives arguments of `wandb.init`. Raises `RunError` as the others do."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "run")
        if wandb is None:
            to_folder(items, place)
        else:
            to_wandb(items, place, {"name": name, **wandb, "mode": "offline"})
        return zipped(place, name)


def zipped(folder: str | Path, name: str = "") -> bytes:
    """A run's folder as a zip, in a folder `name`, else its own. Links are left out, and W&B's diary of this machine.

    Raises `RunError` where there is nothing to pack, and for more than 1 GB.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file() and _belongs(path.relative_to(root), root))
    size = sum(path.stat().st_size for path in files)
    if not files:
        raise RunError(f"There is no run at {root}.", why="The folder has no files.")
    if size > MAX_UNPACKED:
        why = f"It has {size / 2**30:.1f} GB; at most {MAX_UNPACKED / 2**30:.0f} GB are packed."
        raise RunError(f"The run {root.name} is too large to be downloaded.", why=why, do="Copy its folder.")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, f"{name or root.name}/{path.relative_to(root).as_posix()}")
    return packed.getvalue()


def _belongs(path: Path, root: Path) -> bool:
    diary = path.parent.name == "logs" and path.suffix == ".log"
    return not diary and not any((root / part).is_symlink() for part in (path, *path.parents))


def _write(items: Iterable[Item], sink: Sink) -> None:
    wall_time = time.time()
    try:
        for item in items:
            item.write(sink, wall_time)
    finally:
        sink.close()
