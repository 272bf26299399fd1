"""How fast are class activation maps, beside grad-cam, torchcam and captum? `python -m tests.benchmarks.cam`

    [--threads 1 2] [--repeats 7] [--methods gradcam ...] [--slow]

One 224×224 picture: the Grad-CAM family on a ResNet-50, the rest on a ResNet-18. Each row is a process of its own, in
which the map and some bare forward passes without gradients take turns: milliseconds are the median of the maps, in
brackets the median of their ratios, and MiB what the process gained at most. `--slow` adds SS-CAM and IS-CAM, which
take minutes. Ends with the goals, and with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

import featviz_core as fv
from featviz_core.models import LoadedModel
from tests.benchmarks.cam.contenders import CONTENDERS, bare, contenders_of

SIZE = 224
FAMILY = ("gradcam", "gradcam++", "xgradcam", "hirescam", "gradcam_elementwise", "layercam")
QUICK = ("smooth_gradcam++", "eigencam", "eigengradcam", "fem", "fullgrad", "cam")
LONG = ("scorecam", "ablationcam")  # seconds to a minute each, so a few runs will do
SLOW = ("sscam", "iscam")
_AROUND = 4  # forward passes before each map, and as many after it


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: who makes which map where."""

    model: str
    layer: str
    method: str
    contender: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians: milliseconds, times a bare forward pass; and the memory gained at most, in MiB."""

    ms: float
    forwards: float
    mib: float


def rows(methods: list[str]) -> Iterator[Row]:
    """The table, in the order in which it is measured."""
    for method in methods:
        model = "resnet50" if method in FAMILY else "resnet18"
        yield from (Row(model, "layer4", method, contender) for contender in contenders_of(method))
        if method == "ablationcam":
            yield from (Row(model, "layer2", method, contender) for contender in contenders_of(method))
        if method == "scorecam":
            # 64 channels instead of 512: what the memory depends on.
            yield Row(model, "layer1", method, "featviz")
    if "gradcam" in methods:
        yield Row("resnet18", "layer1 … layer4", "gradcam", "grid")


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(run: Callable[[], None], forward: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Median seconds of `run`, and the median of its ratios to the forward passes around it."""
    run()
    spent, ratios = [], []
    for _ in range(repeats):
        around = [seconds(forward) for _ in range(_AROUND)]
        spent.append(seconds(run))
        around += [seconds(forward) for _ in range(_AROUND)]
        ratios.append(spent[-1] / median(around))
    return median(spent), median(ratios)


def prepared(name: str) -> tuple[LoadedModel, torch.Tensor]:
    from tests.woken import wake, waking_pictures

    model = fv.load_model(name)
    wake(model.module, 64)
    return model, waking_pictures(1, SIZE)


def peak_memory() -> float:
    """The most memory that the process has held since `forget_peak`, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def here(row: Row, repeats: int, threads: int) -> Measured:
    """Measure one row in this process."""
    torch.set_num_threads(threads)
    model, image = prepared(row.model)
    bare(model, image, "", "")
    forget_peak()
    before = peak_memory()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        spent, forwards = in_turns(
            lambda: CONTENDERS[row.contender](model, image, row.method, row.layer),
            lambda: bare(model, image, "", ""),
            repeats,
        )
    return Measured(spent * 1000, forwards, peak_memory() - before)


def elsewhere(row: Row, repeats: int, threads: int) -> Measured | None:
    """Measure one row in a process of its own; None where it fails, which is printed."""
    if row.method in (*LONG, *SLOW):
        repeats = min(repeats, 3 if row.method in LONG else 1)
    job = json.dumps([row.model, row.layer, row.method, row.contender, repeats, threads])
    command = [sys.executable, "-m", "tests.benchmarks.cam", "--one", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{row.method} {row.contender} failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


Table = dict[Row, Measured]


def goals(table: Table) -> Iterator[tuple[str, bool]]:
    """What the project promises, with what was measured; goals whose rows were not measured are left out."""

    def found(method: str, contender: str = "featviz", layer: str = "layer4") -> Measured | None:
        wanted = (m for r, m in table.items() if (r.method, r.contender, r.layer) == (method, contender, layer))
        return next(wanted, None)

    for method in FAMILY:
        if ours := found(method):
            yield f"{method}: {ours.forwards:.2f} bare forwards (at most 1.15)", ours.forwards <= 1.15
    for layer, least in (("layer4", 60), ("layer2", 2)):
        ours, theirs = found("ablationcam", layer=layer), found("ablationcam", "grad_cam", layer)
        if ours and theirs:
            # Times a forward pass of the same process, so that a machine that slows down meanwhile does no harm.
            factor = theirs.forwards / ours.forwards
            yield (
                f"Ablation-CAM at {layer}: {factor:.1f} times faster than grad-cam (at least {least})",
                factor >= least,
            )
    for peer in ("grad_cam", "torchcam"):
        ours, theirs = found("scorecam"), found("scorecam", peer)
        if ours and theirs:
            share = ours.forwards / theirs.forwards
            yield f"Score-CAM: {share:.2f} of {peer}'s time (at most 1)", share <= 1
    many, few = found("scorecam"), found("scorecam", layer="layer1")
    if many and few:
        factor = many.mib / few.mib
        yield f"Score-CAM: {factor:.2f} times the memory for 8 times the channels (at most 1.25)", factor <= 1.25
    if maps := found("gradcam", "grid", "layer1 … layer4"):
        yield f"All stages, five classes: {maps.forwards:.2f} bare forwards (at most 6)", maps.forwards <= 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=[*FAMILY, *QUICK, *LONG])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        *row, repeats, threads = json.loads(options.one)
        measured = here(Row(*row), repeats, threads)
        print(json.dumps([measured.ms, measured.forwards, measured.mib]))
        return 0
    missed = 0
    for threads in options.threads:
        print(f"\n{SIZE}×{SIZE}, {threads} thread{'s' if threads > 1 else ''}")
        table: Table = {}
        for row in rows([*options.methods, *(SLOW if options.slow else ())]):
            if measured := elsewhere(row, options.repeats, threads):
                table[row] = measured
                where = f"{row.method:20} {row.model} {row.layer:16} {row.contender:9}"
                print(f"{where} {measured.ms:10.1f} ms ({measured.forwards:7.2f} forwards) {measured.mib:6.0f} MiB")
                sys.stdout.flush()
        print(f"\nGoals, {threads} thread{'s' if threads > 1 else ''}")
        for text, reached in goals(table):
            missed += not reached
            print(f"{'reached' if reached else 'MISSED '}  {text}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
