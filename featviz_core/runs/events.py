"""TensorBoard event files: their records' values, whichever of TensorBoard's forms they were written in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.util import tensor_util

from featviz_core.errors import RunError
from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename
from featviz_core.runs.records import FRAME, Gap, Record, records
from featviz_core.runs.run import Damage, LoggedHistogram, LoggedImage
from featviz_core.runs.sources import Source
from featviz_core.zip_files import shown


class EventFile:
    """One event file, read as far as it has grown."""

    def __init__(self, source: Source, rename: Rename) -> None:
        self._source, self._rename = source, rename
        self._place, self._read = 0, 0
        self._gaps: list[tuple[Gap, int]] = []
        self._cut: Gap | None = None
        self._plugins: dict[str, str] = {}

    def read(self, draft: Draft) -> None:
        """Put what is new in the file into `draft`."""
        self._cut = None
        with self._source.open() as file:
            for found in records(file, self._place):
                if isinstance(found, Record):
                    self._take(found, draft)
                elif found.cut:
                    self._cut = found
                else:
                    self._skip(found)

    def damage(self, *, growing: bool) -> Iterator[Damage]:
        """What could not be read. An unfinished end is none as long as the file is `growing`."""
        cut = [] if growing or self._cut is None else [(self._cut, self._read)]
        for gap, before in [*self._gaps, *cut]:
            yield Damage(shown(self._source.name), gap.place, gap.length, gap.reason, before, self._read - before)

    def _take(self, record: Record, draft: Draft) -> None:
        try:
            event = Event.FromString(record.data)
            self._put(event, record.place, draft)
        except (DecodeError, *_NOT_WHAT_IT_SAYS):
            self._skip(Gap(record.place, FRAME + len(record.data), "a record is no event that TensorBoard knows"))
        else:
            self._read += 1
            self._place = record.place + FRAME + len(record.data)

    def _skip(self, gap: Gap) -> None:
        self._place = gap.place + gap.length
        last, before = self._gaps[-1] if self._gaps else (gap, -1)
        if before == self._read:  # one piece of damage, not two
            self._gaps[-1] = Gap(last.place, self._place - last.place, last.reason), before
        else:
            self._gaps.append((gap, self._read))

    def _put(self, event: Event, place: int, draft: Draft) -> None:
        if event.HasField("summary"):
            for number, value in enumerate(event.summary.value):
                kind, tag = value.WhichOneof("value"), self._rename(value.tag)
                if kind == "simple_value":
                    draft.scalar(tag, event.step, event.wall_time, value.simple_value)
                elif kind == "histo":
                    draft.histograms.append(_of_proto(event, tag, value.histo))
                elif kind == "image":
                    load = partial(_load_image, self._source, place, number)
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
                load = partial(_load_image, self._source, place, number, index)
                name = tag if len(pictures) == 1 else f"{tag}/{index}"
                draft.images.append(LoggedImage(event.step, event.wall_time, name, int(width), int(height), load))
        elif plugin == "histograms":
            low, high, counts = np.asarray(content, np.float64).reshape(-1, 3).T
            draft.histograms.append(LoggedHistogram(event.step, event.wall_time, tag, low, high, counts))
        elif plugin in ("scalars", "") and content.size == 1 and content.dtype.kind in "fiub":
            draft.scalar(tag, event.step, event.wall_time, float(content.item()))


# What a value raises whose tensor is not what it says.
_NOT_WHAT_IT_SAYS = (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError)


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
