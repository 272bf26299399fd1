"""The training monitor: what it writes is read back."""

from __future__ import annotations

import math
from pathlib import Path

import featviz_core as fv
from featviz_core.runs import Role


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with fv.TrainingMonitor(tmp_path) as monitor:
        for step in range(20):
            monitor.update(loss=1 / (step + 1), accuracy=step / 20, lr=0.5)
        monitor.validate(loss=0.25, accuracy=math.nan)
    run = fv.read_run(tmp_path)
    assert run.scalars["loss/train"].steps.tolist() == list(range(20))
    assert run.scalars["lr"].values.tolist() == [0.5] * 20
    assert math.isnan(run.scalars["accuracy/validation"].values[0])
    assert run.roles["loss/validation"] == Role("loss", "validation")
    assert not run.damage
