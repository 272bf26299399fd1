"""How long does it take to read a long log whole? `python -m tests.benchmarks.bench_read_run [--steps N]`

Beside it TensorBoard's own `EventAccumulator`, as it comes (which keeps 10,000 points of each tag) and told to keep
all; and the same values as CSV and as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import featviz_core as fv

TAGS = ("loss/train", "accuracy/train", "lr")


def write(folder: Path, steps: int) -> np.ndarray:
    """The same values `(steps, tags)` in all forms."""
    values = np.random.default_rng(0).random((steps, len(TAGS))).astype(np.float32)
    for name in ("events", "csv", "lines"):
        (folder / name).mkdir()
    writer = SummaryWriter(str(folder / "events"), max_queue=1000)
    with (folder / "csv" / "log.csv").open("w") as table, (folder / "lines" / "log.jsonl").open("w") as lines:
        table.write(f"step,{','.join(TAGS)}\n")
        for step, row in enumerate(values.tolist()):
            for tag, value in zip(TAGS, row, strict=True):
                writer.add_scalar(tag, value, step)
            table.write(f"{step},{','.join(map(repr, row))}\n")
            lines.write(json.dumps({"step": step, **dict(zip(TAGS, row, strict=True))}) + "\n")
    writer.close()
    return values


def accumulated(folder: Path, guidance: dict[str, int] | None) -> int:
    reader = EventAccumulator(str(folder), size_guidance=guidance).Reload()
    return sum(len(reader.Scalars(tag)) for tag in TAGS)


def report(name: str, read: Callable[[], int], total: int) -> None:
    started = time.perf_counter()
    found = read()
    seconds = time.perf_counter() - started
    print(f"{name:34} {seconds:7.2f} s  {found:9,} of {total:,} values", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = write(folder, steps)
        fv.read_run(folder / "events")  # imports
        report("EventAccumulator, as it comes", lambda: accumulated(folder / "events", None), values.size)
        report(
            "EventAccumulator, told to keep all", lambda: accumulated(folder / "events", {"scalars": 0}), values.size
        )
        for form in ("events", "csv", "lines"):
            report(f"fv.read_run, {form}", lambda form=form: len(fv.read_run(folder / form).frame()), values.size)
            run = fv.read_run(folder / form)
            for column, tag in enumerate(TAGS):
                assert np.array_equal(run.scalars[tag].values.astype(np.float32), values[:, column])
                assert np.array_equal(run.scalars[tag].steps, np.arange(steps))
        following = fv.follow_run(folder / "events")
        report("fv.follow_run, first look", lambda: len(following.update().frame()), values.size)
        report("fv.follow_run, nothing new", lambda: len(following.update().frame()), values.size)


if __name__ == "__main__":
    main()
