"""One file of a run, read as far as it has grown; what cannot be read is passed over and noted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from featviz_core.runs.draft import Draft
from featviz_core.runs.layout import Rename
from featviz_core.runs.records import Gap, Record
from featviz_core.runs.run import Damage
from featviz_core.runs.sources import Source
from featviz_core.zip_files import shown


class BadRecord(ValueError):
    """A record that cannot be used; the message says why."""


class LogFile(ABC):
    """A file of records. A format says where its records are, and what is in one.

    `START`: where the first record is; `FAILURES`: what its libraries raise for a record that is not what it says, a
    `ValueError` always; `UNKNOWN`: what to call such a record.
    """

    START: ClassVar[int] = 0
    FAILURES: ClassVar[tuple[type[Exception], ...]]
    UNKNOWN: ClassVar[str]

    def __init__(self, source: Source, rename: Rename) -> None:
        self.source, self.rename = source, rename
        self._place, self._count = self.START, 0
        self._gaps: list[tuple[Gap, int]] = []

    @abstractmethod
    def records(self, file: BinaryIO, place: int, *, finished: bool) -> Iterator[Record | Gap]:
        """Everything in `file` from `place` on, in order. `finished`: nobody writes any more."""

    @abstractmethod
    def put(self, record: Record, draft: Draft) -> None:
        """Put what is in a record into `draft`. Raises `BadRecord` or one of `FAILURES`."""

    def read(self, draft: Draft, *, finished: bool) -> None:
        """Put what is new in the file into `draft`. `finished`: nobody writes any more, so a cut end is damage."""
        with self.source.open() as file:
            for found in self.records(file, self._place, finished=finished):
                if isinstance(found, Record):
                    self._take(found, draft)
                elif finished or not found.cut:
                    self._pass(found)

    def damage(self) -> list[Damage]:
        """What could not be read so far."""
        name = shown(self.source.name)
        return [
            Damage(name, gap.place, gap.length, gap.reason, before, self._count - before) for gap, before in self._gaps
        ]

    def start_again(self) -> None:
        """The file is another one now."""
        self._place, self._count = self.START, 0
        self._gaps.clear()

    def _take(self, record: Record, draft: Draft) -> None:
        try:
            self.put(record, draft)
        except self.FAILURES as error:
            reason = str(error) if isinstance(error, BadRecord) else self.UNKNOWN
            self._pass(Gap(record.place, record.end - record.place, reason))
        else:
            self._count += 1
            self._place = record.end

    def _pass(self, gap: Gap) -> None:
        """What lies side by side is one piece of damage."""
        last, before = self._gaps[-1] if self._gaps else (gap, -1)
        if before == self._count:
            self._gaps[-1] = Gap(last.place, gap.end - last.place, last.reason), before
        else:
            self._gaps.append((gap, self._count))
        self._place = gap.end
