"""A run that is still growing: what is new is read, and nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from featviz_core.errors import RunError
from featviz_core.findings import Finding
from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename, RunFiles, runs_in
from featviz_core.runs.log_file import LogFile
from featviz_core.runs.roles import Wanted
from featviz_core.runs.run import Run
from featviz_core.runs.sources import EVENTS, LINES, TABLES, WANDB, Files, NoLog, Source, sources_of
from featviz_core.zip_files import shown

# By how a file's name ends: where its reader is. Imported when needed, because TensorBoard's takes a second.
_READERS = ((WANDB, "wandb_file:WandbFile"), (TABLES, "tables:Table"), (LINES, "lines:JsonLines"))
_EVENTS = "events:EventFile"


_QUIET_SECONDS = 60.0
"""How long a log has to stand still before an unfinished record at its end is damage."""


def _log(source: Source, rename: Rename) -> LogFile:
    base = source.base.lower()
    places = [place for ending, place in _READERS if base.endswith(ending)]
    module, _, name = (_EVENTS if EVENTS in base else places[0]).partition(":")
    log: LogFile = getattr(import_module(f"featviz_core.runs.{module}"), name)(source, rename)
    return log


class Follower:
    """Reads one run again and again; each `update` reads only what was written since the last.

    `find` gives the run's files as they are now.
    """

    def __init__(self, find: Callable[[], RunFiles], names: Mapping[str, Wanted] | None) -> None:
        self._find, self._names = find, names
        self._draft = Draft(find().name)
        self._logs: dict[str, LogFile] = {}

    def update(self, *, finished: bool = False) -> Run:
        """The run as it is now. `finished`: nobody writes any more, so an unfinished end is damage.

        Raises `RunError` where the log cannot be read, or is none.
        """
        for source, rename in self._find().parts:
            if source.name not in self._logs:
                self._logs[source.name] = _log(source, rename)
        newest = next(reversed(self._logs), "")
        for name, log in self._logs.items():
            log.read(self._draft, finished=finished or name != newest)
        return self._draft.run([one for log in self._logs.values() for one in log.damage()], self._names)


def follow_run(path: str | Path, *, names: Mapping[str, Wanted] | None = None) -> Follower:
    """How does a training go that is still running? `.update()` gives the `Run` so far, as often as it is called.

    Arguments and errors as for `read_run`.
    """
    return Follower(partial(only_run, path), names)


@dataclass(slots=True)
class _Known:
    """A run that was read: its files as they were then, and whether nobody seemed to write any more."""

    files: dict[str, tuple[int, int]]
    follower: Follower
    finished: bool
    run: Run | None


class FolderFollower:
    """Reads all runs in a folder again and again; each `update` reads only what was written since the last.

    A run in which nothing was written stays the same `Run`.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._found: dict[str, RunFiles] = {}
        self._known: dict[str, _Known] = {}

    def update(self) -> list[Run]:
        """The runs as they are now, by name. Raises `RunError` where there is none."""
        self._found = {found.name: found for found in all_runs(self._folder)}
        self._known = {name: self._read(name) for name in self._found}
        return at_least_one([known.run for known in self._known.values()])

    def has_grown(self) -> bool:
        """Whether anything was written since the last `update`. Raises as that does."""
        now = {found.name: _sizes(found) for found in all_runs(self._folder)}
        return now != {name: known.files for name, known in self._known.items()}

    def _read(self, name: str) -> _Known:
        files, known = _sizes(self._found[name]), self._known.get(name)
        finished = time.time() - max(changed for _, changed in files.values()) / 1e9 > _QUIET_SECONDS
        if known is not None and (known.files, known.finished) == (files, finished):
            return known
        # An end that was taken for damage, or a file that is another one now, cannot be read on.
        anew = known is None or known.finished or any(files.get(one, (0, 0)) < had for one, had in known.files.items())
        follower = Follower(lambda: self._found[name], None) if anew or known is None else known.follower
        run = as_far_as_readable(name, partial(follower.update, finished=finished))
        begun = run is not None and (finished or bool(run.scalars or run.images or run.findings))
        return _Known(files, follower, finished, run if begun else None)


def as_far_as_readable(name: str, read: Callable[[], Run]) -> Run | None:
    """One of several runs: where it cannot be read, one without values that says why; None where it is no log."""
    try:
        return read()
    except NoLog:  # other tables may lie among the runs
        return None
    except RunError as error:
        return Run(name, {}, {}, findings=(Finding("run.unreadable", "warn", error.what, error.why, "", {}, error.do),))


def at_least_one(runs: Iterable[Run | None]) -> list[Run]:
    """Those that are there. Raises `NoLog` for none."""
    found = [run for run in runs if run is not None]
    if not found:
        raise NoLog("No file here holds values of a training run.", why="No table has a column of numbers.")
    return found


def _sizes(found: RunFiles) -> dict[str, tuple[int, int]]:
    """Of each file its bytes, and when it was written last, in nanoseconds."""
    sizes = {}
    for source, _ in found.parts:
        if isinstance(source.content, Path) and source.content.exists():
            about = source.content.stat()
            sizes[source.name] = (about.st_size, about.st_mtime_ns)
    return sizes


def only_run(files: Files) -> RunFiles:
    """The one run in `files`. Raises `RunError` where there is none, or several."""
    found = all_runs(files)
    if len(found) == 1:
        return found[0]
    some = ", ".join(shown(run.name) for run in found[:5]) + (" …" if len(found) > 5 else "")
    why = f"Expected one, got {some}."
    raise RunError(f"{shown(_title(files))} holds {len(found)} runs.", why=why, do="Choose one, or use `read_runs`.")


def all_runs(files: Files) -> list[RunFiles]:
    """The runs in `files`, by name. Raises `RunError` where there is none."""
    found = [replace(run, name=run.name or _title(files)) for run in runs_in(sources_of(files))]
    if not found:
        raise RunError(
            f"{shown(_title(files))} holds no log of a training run.",
            why="Expected TensorBoard event files, a .csv, .tsv or .jsonl file, or W&B's .wandb file.",
        )
    return found


def _title(files: Files) -> str:
    """What to call a run that has no folder of its own."""
    return next(iter(files), "The upload") if isinstance(files, Mapping) else Path(files).resolve().name
