"""What does a look at a layer cost, as a share of the whole forward pass?

    python -m tests.benchmarks.bench_early_stop [MODEL ...]

For layers at about a quarter, half and all of the way, by the time at which they finish in a plain forward pass.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

import featviz_core as fv
from featviz_core.capture import record
from featviz_core.loaded_model import LoadedModel

MODELS = ("resnet18", "resnet50", "vit_b_16")
RUNS = 7


def finish_times(model: LoadedModel, images: torch.Tensor) -> dict[str, float]:
    """The share of a forward pass after which each block that can be looked at is done."""
    done: dict[str, float] = {}
    with model.borrow() as module, torch.no_grad():
        for name, inner in module.named_modules():
            inner.register_forward_hook(lambda *_, name=name: done.update({name: time.perf_counter()}))
        start = time.perf_counter()
        module(images)
        whole = time.perf_counter() - start
    blocks = {layer.name for layer in model.layers() if layer.viewable and layer.kind == "block" and layer.name}
    return {name: (at - start) / whole for name, at in done.items() if name in blocks}


def in_turn(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, run one after another so that a slow spell meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: median(found) for name, found in times.items()}


def report(name: str) -> None:
    model = fv.load_model(name)
    images = torch.randn(1, 3, *model.input_size)
    model.logits(images)
    shares = finish_times(model, images)
    chosen = {min(shares, key=lambda layer: abs(shares[layer] - goal)) for goal in (0.25, 0.5, 0.75)}
    works: dict[str, Callable[[], object]] = {layer: partial(record, model, images, layers=[layer]) for layer in chosen}
    found = in_turn({"whole": partial(model.logits, images), **works})
    print(f"{name}: whole forward {found['whole'] * 1e3:.0f} ms")
    for layer in sorted(chosen, key=lambda layer: shares[layer]):
        print(f"  {layer:32} finishes at {shares[layer]:4.0%}, a look costs {found[layer] / found['whole']:4.0%}")


if __name__ == "__main__":
    for asked in sys.argv[1:] or MODELS:
        report(asked)
