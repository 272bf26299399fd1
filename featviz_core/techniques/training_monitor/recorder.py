"""From the training loop to where the run is written: without making a GPU wait, one value for all processes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor

from featviz_core.errors import RunError
from featviz_core.runs.writing import Sink
from featviz_core.techniques.training_monitor.ranks import Alone, Ranks, Row

_WAIT_SECONDS = 0.2  # with what follows, a killed script loses less than a second
_BROKEN = (OSError, ValueError, RuntimeError)  # a full disk, a writer whose thread has died

# Kind, step, wall time and values of a row before they are fetched.
_Waiting: TypeAlias = "tuple[str, int, float, dict[str, float | Tensor]]"


class Recorder:
    """Takes the values of each step and writes them to all sinks, which `open_sinks` opens at the first value.

    Steps are written five times a second, together: so those that lie on a GPU are fetched at once.
    A sink that fails is given up with a warning: the training is worth more than its log.
    """

    def __init__(self, open_sinks: Callable[[], list[Sink]], ranks: Ranks | Alone) -> None:
        self._open_sinks, self._ranks = open_sinks, ranks
        self._sinks: list[Sink] | None = None
        self._waiting: list[_Waiting] = []
        self._written = -math.inf  # the first value opens the sinks, so that what is wrong with them is told at once

    @property
    def opened(self) -> bool:
        """Whether anything has been written."""
        return self._sinks is not None or bool(self._waiting)

    def add(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Values of one step by tag; those that are None are left out. Raises `RunError` for what is no number."""
        row = {tag: _number(tag, value) for tag, value in values.items() if value is not None}
        self._waiting.append((kind, step, time.time(), row))
        if time.monotonic() - self._written > _WAIT_SECONDS:
            self._write_rows()

    def send(self, write: Callable[[Sink], None]) -> None:
        """Write something other than a value of a step."""
        if self._sinks is None:
            self._sinks = self._open_sinks()
        for sink in list(self._sinks):
            try:
                write(sink)
            except _BROKEN as error:
                self._sinks.remove(sink)
                with suppress(*_BROKEN):  # what it has still counts
                    sink.close()
                warnings.warn(f"The run is no longer written to {type(sink).__name__}: {error}", stacklevel=3)

    def close(self) -> None:
        """Everything is written afterwards."""
        self._write_rows(finished=True)
        if self._sinks is not None:
            self.send(lambda sink: sink.close())
            self._sinks = []

    def _write_rows(self, *, finished: bool = False) -> None:
        rows = _fetched(self._waiting)
        self._waiting.clear()
        self._written = time.monotonic()
        for row in self._ranks.reduced(rows, finished=finished):
            self.send(lambda sink, row=row: sink.scalars(row.values, row.step, row.wall_time))  # type: ignore[misc]


def _number(tag: str, value: Any) -> float | Tensor:
    """One number; a tensor elsewhere than in ordinary memory is copied there, and fetched later."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            raise RunError(
                f"{tag} is no number.", why=f"Expected one value, got a tensor {tuple(value.shape)}.", do="Average it."
            )
        value = value.detach()
        if not _is_near(value):
            copied: Tensor = value.reshape(()).float().clone()
            return copied
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        why = f"Expected a number or a tensor of one, got {type(value).__name__}."
        raise RunError(f"{tag} is no number.", why=why) from error


def _is_near(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _fetched(rows: list[_Waiting]) -> list[Row]:
    """The rows with all that lies elsewhere fetched at once."""
    elsewhere = [value for _, _, _, values in rows for value in values.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack(elsewhere).tolist() if elsewhere else [])
    return [
        Row(kind, step, at, {tag: next(numbers) if isinstance(one, Tensor) else one for tag, one in values.items()})
        for kind, step, at, values in rows
    ]
