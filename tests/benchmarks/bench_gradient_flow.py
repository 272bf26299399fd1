"""How much more does the gradient flow take than the bare forward and backward pass? `python -m
tests.benchmarks.bench_gradient_flow [--rounds N]`

Both take turns on one thread, so that a busy machine slows them alike; what is given is the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

import featviz_core as fv
from tests.woken import waking_pictures, woken

# Model, pictures, side in pixels.
CASES = (("resnet18", 8, 224), ("resnet50", 16, 224), ("mobilenet_v3_small", 16, 224), ("swin_t", 4, 224))
LIMIT = 1.15


def bare(module: nn.Module, images: Tensor, targets: Tensor) -> None:
    """What everybody writes, on a copy that nobody else uses."""
    module.zero_grad()
    functional.cross_entropy(module(images), targets).backward()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name, count, size in CASES:
        module, images = woken(name, size=size), waking_pictures(count, size)
        targets = torch.arange(count)
        ratios, plain = [], []
        for place in range(rounds + 1):
            reference = seconds(partial(bare, module, images, targets))
            ours = seconds(partial(fv.gradient_flow, module, images, targets))
            if place:  # the first round warms up
                ratios.append(ours / reference)
                plain.append(reference)
        ratio = statistics.median(ratios)
        said = f"{name:20} {count:3} pictures  bare {statistics.median(plain):6.2f} s  ratio {ratio:.3f}"
        print(
            said, f"({min(ratios):.3f} to {max(ratios):.3f})", "ok" if ratio <= LIMIT else f"ABOVE {LIMIT}", flush=True
        )


if __name__ == "__main__":
    main()
