"""Damaged checkpoints by the thousand: `python -m tests.fuzz.checkpoints --count 20000`.

Each must give tensors that can be loaded into a small net, or a `CheckpointError` with words in it, soon and in bounded
memory. Checkpoint `index` of seed `s` comes from `damaged(s, index)` again.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import io
import sys
import time
import traceback
import warnings
from random import Random

import safetensors.torch
import torch
from torch import nn

from featviz_core.checkpoints import fit_checkpoint, read_checkpoint
from featviz_core.errors import CheckpointError
from tests.fuzz.images import Summary, _peak_mb
from tests.fuzz.mutate import mutate

_ENDS = 1200  # a zip file's directory lies at its end


class Net(nn.Module):
    """A residual net in small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.bn1(self.conv1(images)).relu()
        logits: torch.Tensor = self.fc((first + self.conv2(first)).mean((2, 3)))
        return logits


def _saved(value: object, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _seeds() -> tuple[bytes, ...]:
    torch.manual_seed(0)
    state = Net().state_dict()
    wrapped = {"model": {f"module.{key}": value.half() for key, value in state.items()}, "classes": [*"abcde"], "n": 3}
    head = {**state, "fc.weight": torch.ones(2, 4), "fc.bias": torch.ones(2)}
    files = [_saved(value, zipped=zipped) for value in (state, wrapped, head) for zipped in (True, False)]
    return (*files, safetensors.torch.save(state), safetensors.torch.save(head))


SEEDS = _seeds()
STARTS = tuple(seed[:size] for seed in SEEDS for size in (16, 200))
_NET = Net()


def damaged(seed: int, index: int) -> bytes:
    """Bytes number `index` of the series `seed`; a third of the time the damage lies near the end."""
    rng = Random(f"{seed}/{index}")
    data = rng.choice(SEEDS)
    kept = data[:-_ENDS] if rng.random() < 1 / 3 else b""
    return kept + mutate(data[len(kept) :], rng, others=SEEDS)


def run(count: int, *, seed: int = 0) -> Summary:
    """Read `count` damaged checkpoints, and fit those that survive."""
    summary = Summary()
    before = _peak_mb()
    for index in range(count):
        data = damaged(seed, index)
        start = time.perf_counter()
        try:
            checkpoint = read_checkpoint(data, name="it")
            assert checkpoint.state
            module, report = fit_checkpoint(copy.deepcopy(_NET), checkpoint)
            assert module.eval()(torch.zeros(1, 3, 4, 4)).shape == (1, report.num_classes)
            assert all(note and len(note) < 400 for note in (*checkpoint.notes, *report.notes))
            summary.read += 1
        except CheckpointError as error:
            summary.refused[error.what[:60]] += 1
            if not (error.what and error.do) or len(str(error)) > 1000:
                summary.crashes.append((index, f"a message with a part missing, or too long: {error!r}"))
        except Exception:  # noqa: BLE001 - finding these is what this is for
            summary.crashes.append((index, traceback.format_exc()))
        summary.slowest = max(summary.slowest, (time.perf_counter() - start, index))
        summary.count += 1
    summary.memory_growth_mb = _peak_mb() - before
    return summary


def main() -> int:
    """Run a series, print its summary, and say by the exit code whether nothing crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    summary = run(options.count, seed=options.seed)
    print(f"{summary.count} damaged checkpoints in {time.perf_counter() - start:.0f} s, seed {options.seed}")
    print(f"  read      {summary.read}")
    for what, times in summary.refused.most_common(25):
        print(f"  refused   {times:6}  {what}")
    print(f"  slowest   {summary.slowest[0]:.2f} s (index {summary.slowest[1]})")
    print(f"  memory    {summary.memory_growth_mb:.0f} MB above the start at most")
    print(f"  crashes   {len(summary.crashes)}")
    for index, text in summary.crashes[:20]:
        print(f"--- index {index}\n{text}")
    return 1 if summary.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
