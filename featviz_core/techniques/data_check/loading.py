"""Verdicts on the loaders themselves: batches that fail, nothing at all, workers that repeat each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from featviz_core.findings import Finding
from featviz_core.techniques.data_check.collect import Seen
from featviz_core.techniques.data_check.reading import MOST_FAILURES


def loader_findings(seen: Seen, *, training: bool) -> list[Finding]:
    """What is wrong with how a split is loaded?"""
    found = _failed(seen)
    if not len(seen) and not found:
        text = "The loader gave no batch."
        remedy = "Check its data set, its sampler and `drop_last`."
        found.append(Finding("loader.empty", "fail", f"No pictures for {seen.name}", text, seen.name, {}, remedy))
    if training and seen.complete and len(seen.batch_sizes) > 1 and seen.batch_sizes[-1] == 1 < max(seen.batch_sizes):
        found.append(
            Finding(
                "loader.last_batch",
                "note",
                "The last batch holds one picture",
                "In training mode, BatchNorm over one value stops with an error, or makes it zero.",
                seen.name,
                {"batch_sizes": [max(seen.batch_sizes), 1]},
                "Use `drop_last=True` for training.",
            )
        )
    if not training and getattr(seen.loader, "drop_last", False) is True and isinstance(seen.loader, DataLoader):
        found.append(
            Finding(
                "loader.drop_last",
                "note",
                "Validation leaves pictures out",
                "`drop_last=True` drops the last, smaller batch; with shuffling, another one each time.",
                seen.name,
                {"drop_last": True, "healthy": False},
                "Use `drop_last=False` for validation.",
            )
        )
    return found + _workers(seen)


def _failed(seen: Seen) -> list[Finding]:
    if not seen.failures:
        return []
    first, number = seen.failures[0], len(seen.failures)
    entries = [entry for failure in seen.failures for entry in failure.unreadable]
    given_up = f" After {number} the loader was given up." if number >= MOST_FAILURES else ""
    blame = f" Entry {entries[0][0]} of the data set raises it." if entries else ""
    return [
        Finding(
            "loader.failed",
            "fail",
            f"{number} {'batch fails' if number == 1 else 'batches fail'} to load",
            f"Batch {first.batch}: {first.message}.{blame}{given_up}".replace("..", "."),
            seen.name,
            {
                "batches": [failure.batch for failure in seen.failures],
                "entries": [index for index, _ in entries],
                "healthy": 0,
            },
            "Read the entry by itself with `dataset[index]`; leave damaged files out, and give all pictures one size.",
        )
    ]


def _workers(seen: Seen) -> list[Finding]:
    """Each worker of an iterable data set goes through all of it, unless the data set shares it out."""
    loader: Any = seen.loader
    workers = getattr(loader, "num_workers", 0)
    if not isinstance(getattr(loader, "dataset", None), IterableDataset) or workers < 2 or not len(seen):
        return []
    _, copies = np.unique(seen.pictures.content, return_counts=True)
    if not seen.complete or (copies % workers).any():
        return []
    return [
        Finding(
            "loader.workers",
            "fail",
            f"Every picture comes {workers} times, once from each worker",
            "An iterable data set is copied into every worker, and each goes through all of it.",
            seen.name,
            {"workers": workers, "copies": int(copies.min()), "healthy": 1},
            "Share the entries out by `torch.utils.data.get_worker_info()`.",
        )
    ]
