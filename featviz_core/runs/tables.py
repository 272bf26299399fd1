"""CSV logs: Lightning's and Keras' loggers', exports of W&B and TensorBoard, `Run.frame()`, and one's own."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from typing import BinaryIO

from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename
from featviz_core.runs.log_file import BadRecord, LogFile
from featviz_core.runs.records import Gap, Record
from featviz_core.runs.rows import MISSING, Cell, lines, number, put, text
from featviz_core.runs.sources import NoLog, Source
from featviz_core.zip_files import shown

_DELIMITERS = (",", ";", "\t")
_LONGEST = 2**20  # bytes of a header
_BOUND = re.compile(r"__(MIN|MAX)$")
# In the name of a file that TensorBoard exports.
_EXPORTED = re.compile(r"^run-.*?-tag-(.+)\.csv$")


class Table(LogFile):
    """One table; read again from its start once its header changes, as Lightning's does when a new name is logged."""

    FAILURES = (ValueError, OverflowError, csv.Error)
    UNKNOWN = "a line does not fit the table"

    def __init__(self, source: Source, rename: Rename) -> None:
        super().__init__(source, rename)
        self.start_again()

    def records(self, file: BinaryIO, place: int, *, finished: bool) -> Iterator[Record | Gap]:
        """The lines."""
        return lines(file, place, finished=finished)

    def put(self, record: Record, draft: Draft) -> None:
        """The header, or one row."""
        if not self._columns:
            self._read_header(record)
        else:
            put(self._row_of(self._cells(text(record))), self._rows, draft)
            self._rows += 1

    def read(self, draft: Draft, *, finished: bool) -> None:
        """As every log; raises `NoLog` for a finished table without a column of numbers."""
        if self._is_rewritten():
            draft.series.clear()
            self.start_again()
        super().read(draft, finished=finished)
        if finished and not draft.series:
            why = "Expected a CSV table with a line of names and columns of numbers."
            raise NoLog(f"{shown(self.source.name)} holds no log of a training run.", why=why)

    def start_again(self) -> None:
        """The table is another one now."""
        super().start_again()
        self._header, self._delimiter, self._columns = b"", ",", list[str]()
        self._numeric = set[str]()
        self._rows = 0

    def _is_rewritten(self) -> bool:
        with self.source.open() as file:
            return file.read(len(self._header)) != self._header

    def _read_header(self, record: Record) -> None:
        self._header = record.data
        self._delimiter, columns = _split(text(record))
        self._columns = _unique(_without_run(_from_file_name(columns, self.source.base)))

    def _cells(self, line: str) -> dict[str, Cell]:
        """The cells of one line by column. Raises `BadRecord` for a line that does not fit the header."""
        fields = next(csv.reader([line], delimiter=self._delimiter))
        if len(fields) != len(self._columns):
            raise BadRecord(f"a line has {len(fields)} fields where the header has {len(self._columns)}")
        cells = {name: number(field) for name, field in zip(self._columns, fields, strict=True) if name}
        for name, cell in cells.items():
            if isinstance(cell, float):
                self._numeric.add(name)
            elif name in self._numeric and cell.lower() not in MISSING:
                raise BadRecord(f"{shown(cell[:40])!r} in column {shown(name[:40])!r} is no number")
        return {name: cell for name, cell in cells.items() if isinstance(cell, float) or cell.lower() not in MISSING}

    def _row_of(self, cells: dict[str, Cell]) -> dict[str, Cell]:
        """The cells by tag. A table in long form, such as `Run.frame()`, says the tag in a column of its own."""
        if "tag" in self._columns and "value" in self._columns:
            tag, value = cells.pop("tag", ""), cells.pop("value", math.nan)  # pandas leaves NaN out
            return {**cells, self.rename(str(tag)): value}
        bounds = {name for name in cells if _BOUND.search(name) and cells[name] == cells.get(_BOUND.sub("", name))}
        tags = {name: self.rename(name) for name in cells if name not in bounds}
        return {tag: cells[name] for name, tag in tags.items() if tag}


def _from_file_name(names: list[str], file: str) -> list[str]:
    """TensorBoard exports one value a file, and says in the file's name which."""
    if [name.lower() for name in names] != ["wall time", "step", "value"]:
        return names
    found = _EXPORTED.match(file)
    return [*names[:2], found.group(1) if found else file.rpartition(".")[0]]


def _without_run(names: list[str]) -> list[str]:
    """W&B exports columns such as `my-run - loss`, each with `__MIN` and `__MAX`: the run's name says nothing where all
    are of one run."""
    if not any(_BOUND.search(name) for name in names):
        return names
    one = len(_runs_named(names)) == 1
    return [name.rpartition(" - ")[2] if one and " - " in name else name for name in names]


def _runs_named(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(" - ")[0] for name in names if " - " in name))


def exported_runs(source: Source) -> list[str]:
    """The runs whose columns stand beside each other in what W&B exports of a chart; none in another table."""
    with source.open() as file:
        line = file.readline(_LONGEST)
    try:
        _, names = _split(text(Record(0, len(line), line)))
    except csv.Error:
        return []
    return _runs_named(names) if any(_BOUND.search(name) for name in names) else []


def _split(header: str) -> tuple[str, list[str]]:
    """What stands between the names in a table's first line, and the names."""
    delimiter = max(_DELIMITERS, key=header.count)
    return delimiter, [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]


def _unique(names: list[str]) -> list[str]:
    return [name if name not in names[:place] else f"{name}.{place}" for place, name in enumerate(names)]
