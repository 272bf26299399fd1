"""What do activation statistics cost, and does their memory grow?

    python -m tests.benchmarks.bench_activation_stats

All convolutions and linear layers of ResNet-50 on a batch of 16 against the bare forward pass, in turn; then the
process's memory over 200 batches.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import featviz_core as fv

PAIRS = 9
BATCHES = 200


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def cost() -> None:
    """The median of the ratios of pairs: a busy machine slows both alike."""
    model = fv.load_model("resnet50")
    images = torch.randn(16, 3, 224, 224)
    runs = (lambda: model.logits(images), lambda: fv.activation_stats(model, images))
    for run in runs:
        run()
    ratios, bare = [], []
    for turn in range(PAIRS):
        both = [seconds(run) for run in (runs if turn % 2 else runs[::-1])]
        plain, looking = both if turn % 2 else both[::-1]
        ratios.append(looking / plain)
        bare.append(plain)
    shown = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(
        f"statistics: {statistics.median(ratios):.3f} × the bare forward of {statistics.median(bare):.2f} s ({shown})"
    )


def memory() -> None:
    """What the process holds after the 20th and after the 200th batch."""
    model = fv.load_model("demo/shapes_cnn")
    held: list[float] = []

    def batches() -> Iterator[Tensor]:
        for number in range(BATCHES):
            if number in (20, BATCHES - 1):
                held.append(_resident())
            yield torch.randn(8, 3, 128, 128)

    fv.activation_stats(model, batches())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory: {held[0]:.0f} MB after 20 batches, {held[1]:.0f} MB after {BATCHES}; {peak:.0f} MB at most")


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads())
    memory()
    cost()
