"""Logs of runs as other libraries write them, and TensorBoard's own reader to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray
from torch import nn
from torch.utils.tensorboard import SummaryWriter


def plain_run(folder: Path, *, steps: int = 40) -> None:
    """What a script without FeatViz writes: scalars in both of TensorBoard's forms, histograms, pictures, a graph."""
    writer = SummaryWriter(str(folder))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        writer.add_scalar("Loss/train", 1 / (step + 1), step)
        writer.add_scalar("Acc/val", step / steps, step, new_style=True)
    writer.add_scalar("Loss/train", float("nan"), steps)
    writer.add_scalar("Loss/train", float("inf"), steps + 1)
    writer.add_histogram("weights", torch.randn(500, generator=generator), 3)
    writer.add_image("picture", torch.rand(3, 5, 7, generator=generator), 4)
    writer.add_graph(nn.Linear(3, 2), torch.rand(1, 3))
    writer.close()


def by_tensorboard(folder: Path) -> dict[str, list[tuple[int, float, Any]]]:
    """All values of a folder by tag, as (step, wall time, array), read by TensorBoard itself."""
    found: dict[str, list[tuple[int, float, Any]]] = {}
    for file in sorted(folder.glob("*tfevents*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                content = make_ndarray(value.tensor)
                found.setdefault(value.tag, []).append((event.step, event.wall_time, content))
    return found


def event_file(folder: Path) -> Path:
    (found,) = folder.glob("*tfevents*")
    return found
