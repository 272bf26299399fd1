"""Several processes train one model: what each of them saw becomes one value, which the first of them writes.

Values go through the processes' key-value store and not through a collective operation: those wait for every process,
so a monitor that only some of them call (a validation on the first one) would stop the training for good.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch.distributed as dist

from featviz_core.runs import tags

_PATIENCE = 5.0
"""How many seconds the others have to report a step, before it is written without them."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Row:
    """Values of one step by tag; `kind`: which of the monitor's calls they come from."""

    kind: str
    step: int
    wall_time: float
    values: dict[str, float]


class Alone:
    """One process: its values are the values."""

    writes = True

    def reduced(self, rows: list[Row], *, finished: bool) -> list[Row]:  # noqa: ARG002
        """The rows to write now."""
        return rows


class Ranks:
    """The mean over all processes of losses and accuracies; of everything else, what the first process says.

    A process that has not reported a step for five seconds is no longer waited for, in calls of that kind.
    """

    def __init__(self) -> None:
        # Monitors are told apart by their number: every process makes its monitors in the same order.
        store = dist.distributed_c10d._get_default_store()
        self._store = dist.distributed_c10d.PrefixStore(f"featviz-monitor-{next(_numbers)}", store)
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self._sent = 0
        self._received = dict.fromkeys(range(1, self._world), 0)
        self._waiting: list[tuple[float, Row]] = []
        self._others: dict[int, dict[tuple[str, int], Row]] = {rank: {} for rank in self._received}
        self._silent: set[tuple[str, int]] = set()

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the run."""
        return self._rank == 0

    def reduced(self, rows: list[Row], *, finished: bool) -> list[Row]:
        """The rows to write now: those that every process has reported. `finished`: there will be no more."""
        if not self.writes:
            self._report(rows)
            return []
        now = time.monotonic()
        self._waiting.extend((now, row) for row in rows)
        self._receive()
        ready = self._ready()
        while finished and self._waiting:
            time.sleep(0.02)
            self._receive()
            ready += self._ready()
        return ready

    def _report(self, rows: Iterable[Row]) -> None:
        try:
            self._store.set(f"{self._rank}/{self._sent}", json.dumps([asdict(row) for row in rows]))
            self._sent += 1
        except RuntimeError:
            pass  # the first process has ended, and the store with it

    def _receive(self) -> None:
        for rank, others in self._others.items():
            while self._store.check([key := f"{rank}/{self._received[rank]}"]):
                for content in json.loads(self._store.get(key)):
                    row = Row(**content)
                    others[row.kind, row.step] = row
                    self._silent.discard((row.kind, rank))
                self._store.delete_key(key)
                self._received[rank] += 1

    def _ready(self) -> list[Row]:
        """Rows that every process has reported. Of one kind they come in order; one kind does not wait for another."""
        ready, left, held = [], [], set()
        for since, row in self._waiting:
            missing = [rank for rank, others in self._others.items() if (row.kind, row.step) not in others]
            awaited = {(row.kind, rank) for rank in missing} - self._silent
            if row.kind in held or (awaited and time.monotonic() - since < _PATIENCE):
                held.add(row.kind)
                left.append((since, row))
            else:
                self._silent |= awaited
                ready.append(self._mean(row))
        self._waiting = left
        return ready

    def _mean(self, row: Row) -> Row:
        reports = [others.pop((row.kind, row.step), None) for others in self._others.values()]
        values = dict(row.values)
        for tag in row.values:
            if tag.startswith((tags.LOSS, tags.ACCURACY)):
                seen = [row.values[tag], *(one.values[tag] for one in reports if one and tag in one.values)]
                values[tag] = math.fsum(seen) / len(seen) if all(map(math.isfinite, seen)) else sum(seen) / len(seen)
        return Row(row.kind, row.step, row.wall_time, values)


def ranks() -> Ranks | Alone:
    """How many processes train here? Asked once, when the monitor is made."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return Ranks() if several else Alone()
