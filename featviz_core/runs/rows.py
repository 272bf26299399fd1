"""Logs of one row a line, as tables and JSON lines are: which column is the step, which the time, what is a value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, BinaryIO

from featviz_core.runs.draft import Draft
from featviz_core.runs.log_file import BadRecord
from featviz_core.runs.records import Gap, Record

STEPS = ("step", "global_step", "trainer/global_step", "_step", "iteration", "iter", "epoch")
TIMES = ("wall_time", "wall time", "_timestamp", "timestamp")
MISSING = ("", "none", "null", "n/a")
_MOST = 2**63

Cell = float | str


def lines(file: BinaryIO, place: int, *, finished: bool) -> Iterator[Record | Gap]:
    """The lines of a text file from `place` on that say something. One without an end may still be written, unless
    the file is `finished`."""
    file.seek(place)
    for line in file:
        end = place + len(line)
        if not finished and not line.endswith(b"\n"):
            yield Gap(place, len(line), "the file ends in the middle of a line", cut=True)
        elif line.strip(b"\0 \r\n"):
            yield Record(place, end, line)
        place = end


def text(line: Record) -> str:
    """A line's text, without what ends it."""
    return line.data.decode("utf-8" if line.place else "utf-8-sig", "replace").rstrip("\r\n")


def number(text: str) -> Cell:
    """A cell's content: a number where it is one, NaN and infinity included."""
    try:
        return float(text)
    except ValueError:
        return text.strip()


def put(row: Mapping[str, Cell], number_of_row: int, draft: Draft) -> None:
    """Put a row's numbers into `draft`: for the first of `STEPS` that it has, else for the number of the row.

    Raises `BadRecord` where the step is no number.
    """
    keys = {name.lower(): name for name in row}
    step = next((_step(row[keys[name]]) for name in STEPS if name in keys), number_of_row)
    wall_time = next((_time(row[keys[name]]) for name in TIMES if name in keys), math.nan)
    for name, value in row.items():
        key = name.lower()
        if isinstance(value, float) and (key == "epoch" or key not in STEPS + TIMES) and not key.startswith("_"):
            draft.scalar(name, step, wall_time, value)


def _step(value: Cell) -> int:
    if isinstance(value, str) or not abs(value) < _MOST:
        raise BadRecord(f"the step {value!r} is no number of a step")
    return int(value)


def _time(value: Cell) -> float:
    try:
        return value if isinstance(value, float) else datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan


def flat(content: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Any]]:
    """An object's values, with what lies deeper as `outer/inner`; what W&B marks with a `_type` stays whole."""
    for name, value in content.items():
        if isinstance(value, Mapping) and "_type" not in value:
            yield from flat(value, f"{front}{name}/")
        elif isinstance(value, Mapping):
            yield front + name, value
        elif isinstance(value, int | float):
            yield front + name, float(value)
        elif isinstance(value, str):  # JSON has no NaN, so some loggers write "NaN"
            yield front + name, number(value)
