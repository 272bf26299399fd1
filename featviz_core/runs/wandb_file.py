"""A run that Weights & Biases wrote offline: `wandb/offline-run-…/run-….wandb`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from featviz_core.errors import ExperimentError, RunError
from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename
from featviz_core.runs.log_file import BadRecord, LogFile
from featviz_core.runs.records import Gap, Record
from featviz_core.runs.rows import flat
from featviz_core.runs.run import LoggedHistogram, LoggedImage
from featviz_core.runs.sources import NoLog, Source
from featviz_core.runs.wandb_blocks import HEADER, START, wandb_records
from featviz_core.zip_files import shown

# W&B counts its own calls; who logs a step says it by one of the others, as Lightning's logger does.
_STEPS = ("step", "global_step", "trainer/global_step", "_step")


class WandbFile(LogFile):
    """One `.wandb` file. Its messages are wandb's own, so wandb has to be installed."""

    START = HEADER
    FAILURES = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
    UNKNOWN = "a record is none that wandb knows"

    def __init__(self, source: Source, rename: Rename) -> None:
        super().__init__(source, rename)
        self._message = _message_type(source)
        with source.open() as file:
            if not file.read(HEADER).startswith(START):
                why = "It does not start as wandb's files do."
                raise NoLog(f"{shown(source.name)} is no run of Weights & Biases.", why=why)

    def records(self, file: BinaryIO, place: int, **_: bool) -> Iterator[Record | Gap]:
        """W&B's records."""
        return wandb_records(file, place)

    def put(self, record: Record, draft: Draft) -> None:
        """One message: what the run is called, or what was logged at once."""
        from google.protobuf.message import DecodeError

        try:
            message = self._message.FromString(record.data)
        except DecodeError as error:
            raise BadRecord(self.UNKNOWN) from error
        if message.WhichOneof("record_type") == "run":
            draft.name = message.run.display_name or message.run.run_id or draft.name
        elif message.WhichOneof("record_type") == "history":
            self._put(message.history, draft)

    def _put(self, history: Any, draft: Draft) -> None:
        """One call of `run.log`."""
        content = _content(history.item)
        steps = [float(content.pop(name)) for name in _STEPS if isinstance(content.get(name), int | float)]
        step = int(next(filter(math.isfinite, steps), history.step.num))
        wall_time = float(content.pop("_timestamp", math.nan))
        for name, value in flat(content):
            tag = self.rename(name)
            kind = value.get("_type") if isinstance(value, Mapping) else ""
            if kind in ("image-file", "images/separated"):
                draft.images += self._images(tag, step, wall_time, value)
            elif kind == "histogram":
                counts, edges = np.array(value["values"], np.float64), np.array(value["bins"], np.float64)
                draft.histograms.append(LoggedHistogram(step, wall_time, tag, edges[:-1], edges[1:], counts))
            elif isinstance(value, float) and not name.startswith("_"):
                draft.scalar(tag, step, wall_time, value)

    def _images(self, tag: str, step: int, wall_time: float, value: Mapping[str, Any]) -> list[LoggedImage]:
        names = [value["path"]] if "path" in value else value["filenames"]
        size = int(value.get("width", 0)), int(value.get("height", 0))
        tags = [tag] if len(names) == 1 else [f"{tag}/{place}" for place in range(len(names))]
        return [
            LoggedImage(step, wall_time, tag, *size, partial(_load_image, self.source, str(name)))
            for tag, name in zip(tags, names, strict=True)
        ]


def _message_type(source: Source) -> Any:
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise RunError(
            f"{shown(source.name)} cannot be read without wandb.",
            why="It holds messages of Weights & Biases' own library, which is not installed.",
            do="Run `pip install wandb`, or export the run's charts as CSV on its page.",
        ) from error
    return vars(wandb_internal_pb2)["Record"]  # made when imported, so that no type checker knows it


def _content(items: Any) -> dict[str, Any]:
    """What was logged, by name; a value that W&B sent in parts (a picture's path, its size) put together again."""
    found: dict[str, Any] = {}
    for item in items:
        name, *deeper = item.nested_key or [item.key]
        value = json.loads(item.value_json)
        for part in reversed(deeper):
            value = {part: value}
        if isinstance(found.get(name), dict) and isinstance(value, dict):
            value = _merged(found[name], value)
        found[name] = value
    return found


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(one[name], value) if isinstance(one.get(name), dict) and isinstance(value, dict) else value
        for name, value in other.items()
    }
    return one | both


def _load_image(source: Source, name: str) -> bytes:
    """The bytes of a picture, which lies in the folder `files` beside the run's file."""
    try:
        content = source.beside(f"files/{name}")
    except ExperimentError as error:
        raise RunError(error.what, why=error.why, do=error.do) from error
    if content is None:
        why = "It is not in the run's folder, or only the run's own file was uploaded."
        raise RunError(f"The picture {shown(name)} cannot be read.", why=why)
    return content
