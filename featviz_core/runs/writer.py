"""Writing a run as a TensorBoard log, so that nothing is lost when the script ends in a bad way."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

FLUSH_SECONDS = 0.5
"""How often what was written goes to the file: a killed script loses at most this."""


def summary_writer(logdir: str | Path, *, purge_step: int | None = None) -> SummaryWriter:
    """A `SummaryWriter` whose queue goes to the file twice a second."""
    return SummaryWriter(str(logdir), max_queue=10_000, flush_secs=FLUSH_SECONDS, purge_step=purge_step)
