"""What a training script keeps: a monitor that writes down how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from featviz_core.runs.writer import summary_writer


class TrainingMonitor:
    """How does my training go? Writes a run that TensorBoard and FeatViz can open while it grows.

    `update` after every step, `validate` after every epoch. Tags: `loss/train`, `accuracy/train`, `loss/validation`,
    `accuracy/validation`, `lr`.
    """

    def __init__(
        self, logdir: str | Path, model: nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._writer = summary_writer(logdir)
        self.step = 0

    def update(self, *, loss: Any = None, accuracy: Any = None, lr: float | None = None) -> None:
        """One training step is done."""
        if lr is None and self._optimizer is not None:
            lr = self._optimizer.param_groups[0]["lr"]
        self._scalars({"loss/train": loss, "accuracy/train": accuracy, "lr": lr})
        self.step += 1

    def validate(self, *, loss: Any = None, accuracy: Any = None) -> None:
        """One validation is done."""
        self._scalars({"loss/validation": loss, "accuracy/validation": accuracy})

    def close(self) -> None:
        """Everything is on disk afterwards."""
        self._writer.close()

    def _scalars(self, values: dict[str, Any]) -> None:
        for tag, value in values.items():
            if value is not None:
                self._writer.add_scalar(tag, float(value), self.step)

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
