"""How much does the data check add to loading the pictures, and does memory stay flat?

    python -m tests.benchmarks.bench_data_check [--pictures 1000 10000 50000] [--workers 0]

Writes 500 JPEG files of 224×224 (Shapes, enlarged) into a temporary folder. Every picture is decoded from one of them,
then rolled, mirrored and recoloured by its number, so that no two are equal; that is part of "loading" on both sides.
Each size runs in a process of its own: first the loader alone, then the check.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import normalize, to_tensor

import featviz_core as fv
from featviz_core.demo.shapes import draw

FILES, SIDE, BATCH = 500, 224, 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Jpegs(Dataset[tuple[Tensor, int]]):
    """`count` pictures from the files in a folder, each changed in its own way."""

    def __init__(self, folder: Path, count: int) -> None:
        self.files = sorted(folder.glob("*.jpg"))
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        turn, number = divmod(index, len(self.files))
        with Image.open(self.files[number]) as image:
            pixels = np.asarray(image.convert("RGB"))
        pixels = np.roll(pixels, (turn * 53 % SIDE, turn * 89 % SIDE), axis=(0, 1))[:, :: -1 if turn % 2 else 1]
        return normalize(to_tensor(pixels[:, :, np.roll([0, 1, 2], turn % 3)]), MEAN, STD, inplace=True), number % 8


def write_files(folder: Path) -> None:
    """Draw the pictures, enlarge them and add noise, as a camera would."""
    rng = np.random.default_rng(0)
    for number in range(FILES):
        large = Image.fromarray(draw("train", number).image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        noisy = np.asarray(large) + rng.normal(0, 6, (SIDE, SIDE, 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


def peak() -> float:
    """The most memory this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def processor() -> float:
    """Seconds of processor time that this process and its finished workers have used."""
    return sum(os.times()[:4])


def measure(folder: Path, count: int, workers: int) -> None:
    """Print one line of the table."""
    torch.set_num_threads(1)
    loader = DataLoader(Jpegs(folder, count), BATCH, shuffle=True, num_workers=workers)
    fv.check_dataloader(loader, num_batches=1)  # imports what it needs
    began, used = time.perf_counter(), processor()
    for _ in loader:
        pass
    alone, alone_used, before = time.perf_counter() - began, processor() - used, peak()
    began, used = time.perf_counter(), processor()
    check = fv.check_dataloader(loader, num_batches=None, normalization=(MEAN, STD))
    near = check.seconds["near duplicates"]
    taken, taken_used = time.perf_counter() - began - near, processor() - used - near
    findings = ", ".join(finding.code for finding in check.findings)
    print(
        f"{count:8,d} {alone:7.1f} s {taken:7.1f} s {taken / alone:8.2f}x {alone_used:7.1f} s {taken_used:7.1f} s "
        f"{taken_used / alone_used:8.2f}x {near:9.2f} s {before:6.0f} MB {peak():7.0f} MB   {findings}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name))
        print(f"{'':8} {'wall clock':^30} {'processor':^30} {'near':>10} {'memory':>20}")
        columns = ("loading", "check", "ratio") * 2
        print(f"{'pictures':>8}", *(f"{name:>9}" for name in columns), f"{'duplicates':>11} {'before':>9} {'peak':>10}")
        for count in options.pictures:
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(Path(name), count, options.workers)
            )
            process.start()
            process.join()


if __name__ == "__main__":
    main()
