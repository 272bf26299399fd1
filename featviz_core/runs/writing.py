"""Where a run is written to, and TensorBoard's log directories as one such place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from PIL import Image

from featviz_core.errors import RunError
from featviz_core.runs.run import LoggedHistogram

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

FLUSH_SECONDS = 0.3
"""How often what was written goes to the file: a killed script loses at most this."""


class Sink(Protocol):
    """A place that a run is written to. `wall_time` is in seconds since 1970."""

    def scalars(self, values: Mapping[str, float], step: int, wall_time: float) -> None:
        """Values of one step by tag; NaN and infinity are values too."""

    def histogram(self, histogram: LoggedHistogram) -> None:
        """One histogram."""

    def image(self, tag: str, image: Image.Image, step: int, wall_time: float, caption: str = "") -> None:
        """One picture."""

    def table(self, tag: str, frame: pd.DataFrame) -> None:
        """A small table with names and numbers."""

    def graph(self, graph: GraphDef) -> None:
        """The model's graph."""

    def model_file(self, path: Path, name: str) -> None:
        """A file with the model's weights."""

    def flush(self) -> None:
        """Wait until what was written is on its way."""

    def close(self) -> None:
        """Everything is where it belongs afterwards."""


class TensorBoardSink:
    """A TensorBoard log directory, by PyTorch's own `SummaryWriter`.

    `purge_step`: the run is taken up again there, so that what was written for this and later steps is out of date.
    Raises `RunError` where the folder cannot be written to.
    """

    def __init__(self, logdir: Path, *, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            # A long queue: a slow disk should not hold up the training.
            self._writer: Any = SummaryWriter(
                str(logdir), max_queue=100_000, flush_secs=FLUSH_SECONDS, purge_step=purge_step
            )
        except OSError as error:
            raise _not_writable(logdir, error) from error

    def scalars(self, values: Mapping[str, float], step: int, wall_time: float) -> None:
        """All values of a step in one record, which costs a third of one record each."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        parts = [Summary.Value(tag=tag, simple_value=_in_single(value)) for tag, value in values.items()]
        self._writer.file_writer.add_summary(Summary(value=parts), step, wall_time)

    def histogram(self, histogram: LoggedHistogram) -> None:
        """The bins as they are, but for empty ones at both ends."""
        filled = np.flatnonzero(histogram.counts > 0)
        if not len(filled):
            return
        inner = slice(filled[0], filled[-1] + 1)
        low, high, counts = histogram.low[inner], histogram.high[inner], histogram.counts[inner]
        centers = (low + high) / 2
        self._writer.add_histogram_raw(
            histogram.tag,
            min=low[0],
            max=high[-1],
            num=int(counts.sum()),
            sum=float((centers * counts).sum()),
            sum_squares=float((centers**2 * counts).sum()),
            bucket_limits=high.tolist(),
            bucket_counts=counts.tolist(),
            global_step=histogram.step,
            walltime=histogram.wall_time,
        )

    def image(self, tag: str, image: Image.Image, step: int, wall_time: float, caption: str = "") -> None:  # noqa: ARG002
        """A PNG; TensorBoard shows no captions."""
        pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(tag, pixels, step, walltime=wall_time, dataformats="HWC")

    def table(self, tag: str, frame: pd.DataFrame) -> None:
        """A text, which TensorBoard shows as a table."""
        lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
        lines += [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        self._writer.add_text(tag, "\n".join(f"| {' | '.join(line)} |" for line in lines))

    def graph(self, graph: GraphDef) -> None:
        """TensorBoard's page "Graphs"."""
        from tensorboard.compat.proto.config_pb2 import RunMetadata

        self._writer.file_writer.add_graph((graph, RunMetadata()))

    def model_file(self, path: Path, name: str) -> None:
        """TensorBoard keeps no files; the file lies where it is."""

    def flush(self) -> None:
        """Wait for the writer's thread, whose checksums take the interpreter's time."""
        self._writer.flush()

    def close(self) -> None:
        """Write the rest to the file."""
        self._writer.close()


def _in_single(value: float) -> float:
    """TensorBoard keeps 32 bits, and what is too large for them becomes infinite rather than an error."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


@contextmanager
def free_folder(logdir: Path) -> Iterator[Path]:
    """`logdir`, or `logdir-2`, `logdir-3` …: the first that holds no run yet, and is no other script's meanwhile.

    Inside of its `with`, a run has to be begun there. Raises `RunError` where there can be no folder.
    """
    with ExitStack() as claim:
        try:
            free = _claimed(logdir, claim)
        except OSError as error:
            raise _not_writable(logdir, error) from error
        yield free


def _claimed(logdir: Path, claim: ExitStack) -> Path:
    for number in itertools.count(1):
        free = logdir if number == 1 else logdir.with_name(f"{logdir.name}-{number}")
        if _holds_run(free):
            continue
        free.mkdir(parents=True, exist_ok=True)
        mark = free / ".begins"
        with suppress(FileExistsError):
            mark.touch(exist_ok=False)
            claim.callback(mark.unlink)
            if not _holds_run(free):  # another one may have begun between
                break
            claim.close()
    return free


def _holds_run(folder: Path) -> bool:
    return any(folder.glob("*tfevents*"))


def _not_writable(logdir: Path, error: OSError) -> RunError:
    why = error.strerror or str(error)
    return RunError(f"No run can be written to {logdir}.", why=why, do="Name a folder of your own.")


def written_histogram(step: int, wall_time: float, tag: str, counts: Any, edges: Any) -> LoggedHistogram:
    """A histogram from `counts (B,)` and `edges (B + 1,)`."""
    edges = np.asarray(edges, np.float64)
    return LoggedHistogram(step, wall_time, tag, edges[:-1], edges[1:], np.asarray(counts, np.float64))
