"""Scripts that crash, are killed, or train in several processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import featviz_core as fv
from tests.runs.trainer import net, step

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, subprocess.Popen[str]]]]:
    """All scripts at once: most of their time goes into imports."""
    folder = tmp_path_factory.mktemp("scripts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = {}
    for name, kind, own in (("crash", "crashing", {}), ("kill", "endless", {}), ("0", "rank", {}), ("1", "rank", {})):
        (folder / kind).mkdir(exist_ok=True)
        if kind == "rank":
            own = {"RANK": name, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        running[name] = subprocess.Popen(
            [sys.executable, "-m", "tests.runs.trainer", kind, str(folder / kind)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    yield folder, running
    for process in running.values():
        process.kill()
        process.communicate()


def test_a_killed_script_loses_less_than_a_second_and_can_be_watched(
    scripts: tuple[Path, dict[str, subprocess.Popen[str]]],
) -> None:
    folder, process = scripts[0] / "endless" / "run", scripts[1]["kill"]
    assert process.stdout is not None
    times = [float(process.stdout.readline())]
    time.sleep(1)
    watching = fv.follow_run(folder)
    seen = [len(watching.update().scalars["loss/train"])]
    while times[-1] < times[0] + 2.5:
        times.append(float(process.stdout.readline()))
    growing = watching.update()
    seen.append(len(growing.scalars["loss/train"]))
    killed = time.time()
    process.send_signal(signal.SIGKILL)
    times += [float(line) for line in process.stdout.read().splitlines() if line]
    run = fv.read_run(folder)
    kept = len(run.scalars["loss/train"])
    assert kept >= sum(at < killed - 1 for at in times)
    assert 0 < seen[0] < seen[1] <= kept
    assert not growing.damage
    assert run.scalars["loss/train"].steps.tolist() == list(range(kept))
    for damage in run.damage:  # the last record may be cut
        assert damage.after == 0


def test_a_crashed_script_loses_nothing(scripts: tuple[Path, dict[str, subprocess.Popen[str]]]) -> None:
    folder, running = scripts
    _, errors = running["crash"].communicate(timeout=SECONDS)
    assert errors.strip().endswith("RuntimeError: in the loop")
    run = fv.read_run(folder / "crashing" / "run")
    assert run.scalars["loss/train"].steps.tolist() == list(range(30))
    assert run.scalars["gradient/0.weight"].steps.tolist() == [0, 5, 10, 15, 20, 25]
    assert not run.damage


def test_two_processes_write_one_run(scripts: tuple[Path, dict[str, subprocess.Popen[str]]]) -> None:
    folder, running = scripts[0] / "rank", scripts[1]
    for name in ("0", "1"):
        _, errors = running[name].communicate(timeout=SECONDS)
        assert running[name].returncode == 0, errors
    reports = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert not (folder / "run-of-1").exists()
    run = fv.read_run(folder / "run-of-0")
    mean = np.mean([report["losses"] for report in reports], axis=0)
    np.testing.assert_allclose(run.scalars["loss/train"].values, mean, rtol=1e-6)
    assert run.scalars["loss/train"].steps.tolist() == list(range(40))
    assert set(run.scalars["accuracy/train"].values) == {0.5}
    np.testing.assert_allclose(run.scalars["lr"].values, 0.1, rtol=1e-6)
    # The first validation was the first process's own, the second that of both.
    assert run.scalars["loss/validation"].values.tolist() == [10.0, 10.5]
    assert run.scalars["gradient/0.weight"].steps.tolist() == [0, 10, 20, 30]
    assert reports[0]["modes"] == [True, True]
    assert reports[0]["weights"] == reports[1]["weights"]
    np.testing.assert_allclose(
        np.concatenate([np.ravel(w) for w in reports[0]["weights"]]), _in_one_process(), atol=1e-6
    )


def _in_one_process() -> np.ndarray:
    """The weights after the same training with both processes' gradients averaged by hand."""
    model, optimizer = net()
    idle = torch.optim.SGD(model.parameters(), lr=0.0)
    for number in range(40):
        gradients = []
        for rank in range(2):
            step(model, idle, 1000 * rank + number)
            gradients.append([p.grad.clone() for p in model.parameters()])
        for parameter, *both in zip(model.parameters(), *gradients, strict=True):
            parameter.grad = torch.stack(both).mean(0)
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
