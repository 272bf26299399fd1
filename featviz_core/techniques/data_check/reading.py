"""Going through a loader without leaving a trace in it, past batches that fail, knowing which pictures come."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

MOST_FAILURES = 20
"""Batches that may fail before a loader is given up."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A batch that raised: its number, what was raised in one line, and which entries of the data set are to blame."""

    batch: int
    message: str
    unreadable: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """A batch as it came: `content`, the `indices` of its pictures in the data set where known, `seconds` waited."""

    batch: int
    content: Any
    indices: NDArray[np.int64] | None
    seconds: float


class _Watched:
    """A sampler that remembers what it drew, in order."""

    def __init__(self, sampler: Any, drawn: deque[Any]) -> None:
        self.sampler, self.drawn = sampler, drawn

    def __iter__(self) -> Iterator[Any]:
        for drawn in self.sampler:
            self.drawn.append(drawn)
            yield drawn


def walk(loader: Iterable[Any], *, limit: int | None) -> Generator[Delivered | Failure]:
    """The first `limit` batches of `loader` (all for None), with the failing ones in between.

    A loader is given up after `MOST_FAILURES`. Its generators are put back afterwards; its persistent workers are
    not used.
    """
    with _shadow(loader) as (shadow, drawn):
        number, failures = 0, 0
        source: Iterator[Any] | None = None
        try:
            while number != limit and failures < MOST_FAILURES:
                began = time.perf_counter()
                try:
                    source = iter(shadow) if source is None else source
                    content = next(source)
                except StopIteration:
                    return
                except Exception as error:  # noqa: BLE001 - whatever the user's data set raises is what we report
                    failures += 1
                    yield Failure(number, last_line(error), _blame(loader, _next(drawn)))
                    if source is None:
                        return
                else:
                    yield Delivered(number, content, _indices(_next(drawn)), time.perf_counter() - began)
                number += 1
        finally:
            del source  # stops the loader's workers


@contextmanager
def _shadow(loader: Any) -> Iterator[tuple[Any, deque[Any] | None]]:
    """A loader of the same parts whose sampler is watched; None where nobody can know what it draws."""
    if not isinstance(loader, DataLoader):
        yield loader, None
        return
    shadow, drawn = copy.copy(loader), deque[Any]()
    # A loader refuses to have its sampler changed, and this is a copy that nobody else sees.
    name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
    vars(shadow).update({name: _Watched(getattr(loader, name), drawn), "_iterator": None})
    known = getattr(loader, "in_order", True) and not isinstance(loader.dataset, IterableDataset)
    generators = [(generator, generator.get_state()) for generator in _generators(loader)]
    try:
        yield shadow, drawn if known else None
    finally:
        for generator, state in generators:
            generator.set_state(state)


def _generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    batches = loader.batch_sampler
    owners = (loader, loader.sampler, batches, getattr(batches, "sampler", None))
    found = {id(g): g for owner in owners if isinstance(g := getattr(owner, "generator", None), torch.Generator)}
    return list(found.values())


def _next(drawn: deque[Any] | None) -> Any:
    return drawn.popleft() if drawn else None


def _indices(drawn: Any) -> NDArray[np.int64] | None:
    try:
        return np.atleast_1d(np.asarray(drawn, np.int64))
    except (TypeError, ValueError):  # a sampler may draw anything that its data set understands
        return None


def last_line(error: BaseException) -> str:
    """What an exception says, without the traceback that loader workers put into it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return text if "Traceback" in str(error) and text else f"{type(error).__name__}: {text or 'no message'}"


def _blame(loader: Any, drawn: Any) -> tuple[tuple[int, str], ...]:
    """Which entries of a failed batch raise on their own? None do where putting them together failed."""
    indices = _indices(drawn) if drawn is not None else None
    found: list[tuple[int, str]] = []
    for index in () if indices is None else indices.tolist():
        try:
            loader.dataset[index]
        except Exception as error:  # noqa: BLE001 - as above
            found.append((index, last_line(error)))
    return tuple(found)
