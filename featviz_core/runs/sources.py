"""The files of runs, wherever they are: on disk, uploaded, or in an uploaded zip."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from featviz_core.errors import ExperimentError, RunError
from featviz_core.zip_files import ZipFiles, shown

MAX_FILES = 100_000
"""Most files that are looked through for logs."""

MAX_UNPACKED = 2**30
"""Most bytes that the logs in one zip may unpack to."""

Files: TypeAlias = "str | os.PathLike[str] | Mapping[str, bytes]"

EVENTS, WANDB = "tfevents", ".wandb"
TABLES, LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")


class NoLog(RunError):
    """A file that may be a log is none."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a log: `name`, with `/` between folders, as messages call it, and where its bytes are.

    `neighbour`: how to read another file of the same upload or zip by its name.
    """

    name: str
    content: Path | bytes = field(repr=False)
    neighbour: Callable[[str], bytes] | None = field(default=None, repr=False)

    @property
    def folder(self) -> str:
        """The folder it lies in, "" for none."""
        return self.name.rpartition("/")[0]

    @property
    def base(self) -> str:
        """Its name without folders."""
        return self.name.rpartition("/")[2]

    def beside(self, name: str) -> bytes | None:
        """Another file in its folder or below; None where there is none."""
        if isinstance(self.content, Path):
            folder = self.content.parent.resolve()
            place = (folder / name).resolve()
            return place.read_bytes() if place.is_relative_to(folder) and place.is_file() else None
        try:
            return None if self.neighbour is None else self.neighbour(f"{self.folder}/{name}".lstrip("/"))
        except KeyError:
            return None

    def open(self) -> BinaryIO:
        """Its bytes as a file. Raises `RunError` where it cannot be opened."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        try:
            return self.content.open("rb")
        except OSError as error:
            raise RunError(f"{shown(self.name)} cannot be read.", why=error.strerror or str(error)) from error


def is_log(name: str) -> bool:
    """Whether a file of this name may hold a log."""
    base = name.rpartition("/")[2].lower()
    return EVENTS in base or base.endswith((WANDB, *TABLES, *LINES))


def sources_of(files: Files) -> list[Source]:
    """The files that may hold logs, sorted by name, numbers by their size.

    `files`: the path of a file or folder, or uploads by name.

    Zips, among uploads or as the path, are looked into. Raises `RunError` for a path that leads nowhere, and for a
    zip that cannot be opened or could harm.
    """
    if isinstance(files, Mapping):
        found = [source for name, data in files.items() for source in _uploaded(name, data, files.__getitem__)]
    else:
        path = Path(files)
        if path.is_dir():
            found = _in_folder(path)
        elif path.is_file():
            found = _uploaded(path.name, path)
        else:
            raise RunError(f"There is no log at {path}.", why="The path leads to no file and no folder.")
    return sorted(found, key=_in_order)


def _in_order(source: Source) -> list[str | int]:
    """Numbers by their size: event files end in a time and a count, and are read in the order of their making."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", source.name))]


def _in_folder(root: Path) -> list[Source]:
    found: list[Source] = []
    seen = 0
    for folder, _, names in os.walk(root):
        seen += len(names)
        if seen > MAX_FILES:
            why = f"At most {MAX_FILES:,} files are looked through."
            raise RunError(f"{root.name} holds too many files.", why=why, do="Name the folder that holds the runs.")
        places = [Path(folder, name) for name in names if is_log(name)]
        found += [Source(place.relative_to(root).as_posix(), place) for place in places]
    return found


def _uploaded(name: str, content: bytes | Path, neighbour: Callable[[str], bytes] | None = None) -> list[Source]:
    name = name.replace("\\", "/")
    if name.lower().endswith(".zip"):
        return _in_zip(name, content)
    return [Source(name, content, neighbour)] if is_log(name) else []


def _in_zip(title: str, content: bytes | Path) -> list[Source]:
    archive = ZipFiles(content, title)
    found: list[Source] = []
    left = MAX_UNPACKED
    try:
        for name in filter(is_log, archive.names()):
            data = archive.read(name)
            left -= len(data)
            if left < 0:
                raise RunError(
                    f"The logs in {shown(title)} are too large.",
                    why=f"At most {MAX_UNPACKED / 2**30:.0f} GB are unpacked.",
                    do="Pack fewer runs, or start the app with `-- --runs FOLDER`.",
                )
            found.append(Source(name, data, archive.read))
    except ExperimentError as error:
        do = "Pack the run's folder again with an ordinary zip program, or start the app with `-- --runs FOLDER`."
        raise RunError(error.what, why=error.why, do=do) from error
    return found
