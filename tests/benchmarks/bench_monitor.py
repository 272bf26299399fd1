"""What does the training monitor cost, at its default schedule? `python -m tests.benchmarks.bench_monitor
[--seconds N] [CASE ...]`

Two equal trainings take turns step by step on one thread, so that a busy machine slows both alike; one of them has a
monitor, and validates with it every 100 steps. What is given is the ratio of their times, first looks, graph and
pictures included.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import featviz_core as fv
from featviz_core.techniques.training_monitor import inspector
from tests.woken import woken

LIMIT = 1.03
EPOCH = 100


def tiny() -> nn.Module:
    """Steps of a few milliseconds: all that counts is what an update costs."""
    blocks = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(4)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def shapes() -> nn.Module:
    with fv.load_model("demo/shapes_cnn").borrow() as module:
        return module


CASES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "tiny": (tiny, 16, 32),
    "shapes_cnn": (shapes, 32, 128),
    "resnet18": (lambda: woken("resnet18", size=224), 8, 224),
    "vit_b_16": (lambda: woken("vit_b_16", size=224), 2, 224),
}


@dataclass
class Training:
    """One of the two trainings, with the time that it took."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    monitor: fv.TrainingMonitor | None = None
    seconds: float = 0.0

    def step(self, images: torch.Tensor, targets: torch.Tensor, *, last: bool) -> None:
        started = time.perf_counter()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(images), targets)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if self.monitor is not None:
            self.monitor.update(loss=value, accuracy=0.5)
            if last:
                self.monitor.validate(loss=value, accuracy=0.5)
        self.seconds += time.perf_counter() - started


def measure(name: str, seconds: float) -> float:
    make, count, size = CASES[name]
    images, targets = torch.rand(count, 3, size, size), torch.arange(count) % 8
    trainings = []
    for _ in range(2):
        torch.manual_seed(0)
        model = copy.deepcopy(make()).train().requires_grad_()
        trainings.append(Training(model, torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)))
    for training in trainings:
        training.step(images, targets, last=False)  # warms up
        training.seconds = 0.0
    plain, watched = trainings
    # The budget is a share of the time on the clock, in which two trainings run here.
    inspector._SHARE /= 2
    with tempfile.TemporaryDirectory() as folder:
        watched.monitor = fv.TrainingMonitor(Path(folder, "run"), watched.model, watched.optimizer)
        steps = 0
        while plain.seconds < seconds:
            steps += 1
            for training in trainings if steps % 2 else reversed(trainings):
                training.step(images, targets, last=steps % EPOCH == 0)
        started = time.perf_counter()
        watched.monitor.close()
        watched.seconds += time.perf_counter() - started
        run = fv.read_run(Path(folder, "run"))
    inspector._SHARE *= 2
    looks = len(
        {step for tag, one in run.scalars.items() if tag.startswith("gradient/") for step in one.steps.tolist()}
    )
    ratio = watched.seconds / plain.seconds
    same = all(map(torch.equal, plain.model.state_dict().values(), watched.model.state_dict().values()))
    print(
        f"{name:12} {steps:6} steps of {plain.seconds / steps * 1e3:7.1f} ms  {looks:4} looks  "
        f"{len(run.images):3} pictures  ratio {ratio:.4f} {'ok' if ratio <= LIMIT else f'ABOVE {LIMIT}'}  "
        f"weights {'equal' if same else 'DIFFERENT'}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--seconds", type=float, default=60, help="of training without the monitor")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.cases or CASES:
        measure(name, arguments.seconds)


if __name__ == "__main__":
    main()
