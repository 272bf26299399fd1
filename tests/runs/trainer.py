"""Training scripts of their own process: `python -m tests.runs.trainer KIND FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import featviz_core as fv


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    loss = functional.cross_entropy(
        model(torch.rand(4, 3, 8, 8, generator=generator)), torch.randint(3, (4,), generator=generator)
    )
    loss.backward()
    optimizer.step()
    return loss


def net() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def crashing(folder: Path) -> None:
    """An error in the loop of a script that never closes its monitor."""
    model, optimizer = net()
    monitor = fv.TrainingMonitor(folder / "run", model, optimizer, every=5)
    for number in range(30):
        monitor.update(loss=step(model, optimizer, number))
    raise RuntimeError("in the loop")


def endless(folder: Path) -> None:
    """Trains until it is killed, and says when each step was written down."""
    model, optimizer = net()
    monitor = fv.TrainingMonitor(folder / "run", model, optimizer)
    for number in range(1_000_000):
        monitor.update(loss=step(model, optimizer, number % 100))
        print(time.time(), flush=True)
        time.sleep(0.002)


def rank(folder: Path) -> None:
    """One of two processes with other data each; the first epoch is validated by the first process only."""
    from featviz_core.techniques.training_monitor import ranks

    ranks._PATIENCE = 1.0
    torch.distributed.init_process_group("gloo")
    own = torch.distributed.get_rank()
    bare, _ = net()
    model = nn.parallel.DistributedDataParallel(bare)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, modes = [], []
    with fv.TrainingMonitor(folder / f"run-of-{own}", model, optimizer, every=10) as monitor:
        for epoch in range(2):
            for number in range(20):
                model.train()
                loss = step(model, optimizer, 1000 * own + 20 * epoch + number)
                monitor.update(loss=loss, accuracy=float(own))
                losses.append(float(loss.detach()))
            if own == 0 or epoch:
                monitor.validate(loss=10.0 + own)
            modes.append(model.training)
    report = {"losses": losses, "modes": modes, "weights": [p.tolist() for p in bare.parameters()]}
    (folder / f"rank-{own}.json").write_text(json.dumps(report))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    {"crashing": crashing, "endless": endless, "rank": rank}[sys.argv[1]](Path(sys.argv[2]))
