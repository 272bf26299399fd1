"""JSON lines: one object a step, `{"step": 3, "loss": {"train": 0.5}}`; what lies deeper is called `loss/train`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename
from featviz_core.runs.log_file import BadRecord, LogFile
from featviz_core.runs.records import Gap, Record
from featviz_core.runs.rows import flat, lines, put, text
from featviz_core.runs.sources import NoLog, Source
from featviz_core.zip_files import shown


class JsonLines(LogFile):
    """One file of JSON lines."""

    FAILURES = (ValueError, RecursionError)
    UNKNOWN = "a line is no JSON object"

    def __init__(self, source: Source, rename: Rename) -> None:
        super().__init__(source, rename)
        self._rows = 0

    def records(self, file: BinaryIO, place: int, *, finished: bool) -> Iterator[Record | Gap]:
        """The lines."""
        return lines(file, place, finished=finished)

    def put(self, record: Record, draft: Draft) -> None:
        """One object."""
        content = json.loads(text(record))
        if not isinstance(content, dict):
            raise BadRecord(self.UNKNOWN)
        values = {self.rename(name): value for name, value in flat(content) if not isinstance(value, dict)}
        put(values, self._rows, draft)
        self._rows += 1

    def read(self, draft: Draft, *, finished: bool) -> None:
        """As every log; raises `NoLog` for a finished file without a single number."""
        super().read(draft, finished=finished)
        if finished and not draft.series:
            why = 'Expected one JSON object a line, such as {"step": 3, "loss": 0.5}.'
            raise NoLog(f"{shown(self.source.name)} holds no log of a training run.", why=why)
