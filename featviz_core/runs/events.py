"""TensorBoard event files: their records' values, whichever of TensorBoard's forms they were written in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.util import tensor_util

from featviz_core.errors import RunError
from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename
from featviz_core.runs.log_file import LogFile
from featviz_core.runs.records import Gap, Record, records
from featviz_core.runs.run import LoggedHistogram, LoggedImage
from featviz_core.runs.sources import Source
from featviz_core.zip_files import shown


class EventFile(LogFile):
    """One event file."""

    FAILURES = (DecodeError, ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError)
    UNKNOWN = "a record is no event that TensorBoard knows"

    def __init__(self, source: Source, rename: Rename) -> None:
        super().__init__(source, rename)
        self._plugins: dict[str, str] = {}

    def records(self, file: BinaryIO, place: int, **_: bool) -> Iterator[Record | Gap]:
        """TensorBoard's records."""
        return records(file, place)

    def put(self, record: Record, draft: Draft) -> None:
        """One event: values of one step, a graph, or a sign that the run was taken up again."""
        event, place = Event.FromString(record.data), record.place
        if event.HasField("summary"):
            for number, value in enumerate(event.summary.value):
                kind, tag = value.WhichOneof("value"), self.rename(value.tag)
                if kind == "simple_value":
                    draft.scalar(tag, event.step, event.wall_time, value.simple_value)
                elif kind == "histo":
                    draft.histograms.append(_of_proto(event, tag, value.histo))
                elif kind == "image":
                    load = partial(_load_image, self.source, place, number)
                    size = value.image.width, value.image.height
                    draft.images.append(LoggedImage(event.step, event.wall_time, tag, *size, load))
                elif kind == "tensor":
                    self._put_tensor(tag, event, number, place, draft)
        elif event.HasField("graph_def"):
            draft.graph = True
        elif event.HasField("session_log") and event.session_log.status == SessionLog.START:
            draft.restart(event.step)

    def _put_tensor(self, tag: str, event: Event, number: int, place: int, draft: Draft) -> None:
        """A value in TensorBoard's newer form: what it is, its tag's first record says."""
        value = event.summary.value[number]
        plugin = self._plugins.setdefault(tag, value.metadata.plugin_data.plugin_name)
        content = tensor_util.make_ndarray(value.tensor)
        if plugin == "images":
            width, height, *pictures = content.ravel()
            for index in range(len(pictures)):
                load = partial(_load_image, self.source, place, number, index)
                name = tag if len(pictures) == 1 else f"{tag}/{index}"
                draft.images.append(LoggedImage(event.step, event.wall_time, name, int(width), int(height), load))
        elif plugin == "histograms":
            low, high, counts = np.asarray(content, np.float64).reshape(-1, 3).T
            draft.histograms.append(LoggedHistogram(event.step, event.wall_time, tag, low, high, counts))
        elif plugin in ("scalars", "") and content.size == 1 and content.dtype.kind in "fiub":
            draft.scalar(tag, event.step, event.wall_time, float(content.item()))


def _of_proto(event: Event, tag: str, histogram: Any) -> LoggedHistogram:
    """A histogram in TensorBoard's older form: without the empty bins at both ends, whose limits may be infinite."""
    counts = np.array(histogram.bucket, np.float64)
    limits = np.array(histogram.bucket_limit, np.float64)
    filled = np.flatnonzero(counts > 0)
    first, last = (filled[0], filled[-1]) if len(filled) else (0, -1)
    inner = limits[first:last]
    low, high = np.array([histogram.min, *inner]), np.array([*inner, histogram.max])
    counts = counts[first : last + 1]
    if len(counts) and len(counts) != len(low):
        raise ValueError("as many limits as bins")
    return LoggedHistogram(event.step, event.wall_time, tag, low[: len(counts)], high[: len(counts)], counts)


def _load_image(source: Source, place: int, number: int, index: int | None = None) -> bytes:
    """The bytes of a picture that lies in the record at `place`."""
    with source.open() as file:
        found = next(records(file, place), None)
    if not isinstance(found, Record):
        why = "The file has changed since it was read."
        raise RunError(f"A picture in {shown(source.name)} cannot be read.", why=why, do="Read the run again.")
    value = Event.FromString(found.data).summary.value[number]
    content: bytes = value.image.encoded_image_string if index is None else value.tensor.string_val[2 + index]
    return content
