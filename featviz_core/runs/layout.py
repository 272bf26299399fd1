"""Which files belong to one run.

For TensorBoard, a folder with event files is a run. Two writers spread one over several folders, and mean one run:
Keras writes `train` and `validation` beside each other, and `SummaryWriter.add_scalars("Loss", {"train": ...})` writes
`Loss` into a folder `Loss_train`. W&B exports a file for each chart, with all runs that the chart shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeAlias

from featviz_core.runs.sources import EVENTS, TABLES, Source

Rename: TypeAlias = Callable[[str], str]

_KERAS = {"train", "validation"}


@dataclass(frozen=True, slots=True)
class RunFiles:
    """One run's files in the order in which they are read, each with what its tags are called in the run."""

    name: str
    parts: tuple[tuple[Source, Rename], ...]


def runs_in(sources: Iterable[Source]) -> list[RunFiles]:
    """The runs among these files, by name."""
    folders: dict[str, list[Source]] = {}
    runs: list[RunFiles] = []
    exported: dict[str, list[tuple[Source, Rename]]] = {}
    for source in sources:
        if EVENTS in source.base.lower():
            folders.setdefault(source.folder, []).append(source)
        elif len(beside := _exported_runs(source)) > 1:
            for run in beside:
                name = f"{source.folder}/{run}".lstrip("/")
                exported.setdefault(name, []).append((source, partial(_of_run, run)))
        else:
            runs.append(RunFiles(source.name, ((source, _unchanged),)))
    owners: dict[str, list[tuple[Source, Rename]]] = {}
    for folder, files in folders.items():
        owner, rename = _owner(folder, folders)
        owners.setdefault(owner, []).extend((source, rename) for source in files)
    exported = {f"{name} (exported)" if name in owners else name: parts for name, parts in exported.items()}
    runs += [RunFiles(name, tuple(parts)) for name, parts in (owners | exported).items()]
    return sorted(runs, key=lambda run: run.name)


def _exported_runs(source: Source) -> list[str]:
    from featviz_core.runs.tables import exported_runs

    return exported_runs(source) if source.base.lower().endswith(TABLES) else []


def _of_run(run: str, column: str) -> str:
    """A column's tag without the name of its run; empty where that is another one."""
    owner, between, tag = column.rpartition(" - ")
    return column if not between else tag if owner == run else ""


def _owner(folder: str, folders: dict[str, list[Source]]) -> tuple[str, Rename]:
    """The folder whose run this folder's files belong to, and what their tags are called there."""
    parent, _, own = folder.rpartition("/")
    beside = {other.rpartition("/")[2] for other in folders if other.rpartition("/")[0] == parent and other}
    if parent not in folders:
        return (parent, partial(_in_front, own)) if beside == _KERAS else (folder, _unchanged)
    tag = _first_tag(folders[folder][0]) if folder else ""
    return (parent, partial(_behind, own)) if tag and own.startswith(_as_folder(tag)) else (folder, _unchanged)


def _first_tag(source: Source) -> str:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    from featviz_core.runs.records import Record, records

    with source.open() as file, suppress(DecodeError):
        for found in islice(records(file), 10):
            event = Event.FromString(found.data) if isinstance(found, Record) else Event()
            for value in event.summary.value:
                return str(value.tag)
    return ""


def _as_folder(tag: str) -> str:
    return tag.replace("/", "_") + "_"


def _unchanged(tag: str) -> str:
    return tag


def _in_front(split: str, tag: str) -> str:
    return f"{split}/{tag}"


def _behind(folder: str, tag: str) -> str:
    start = _as_folder(tag)
    return f"{tag}/{folder.removeprefix(start)}" if folder.startswith(start) else f"{folder}/{tag}"
