"""How fast is a mosaic of many channels, beside one matplotlib subplot for each?

python -m tests.benchmarks.bench_mosaic
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from statistics import median

import matplotlib as mpl
import numpy as np

from featviz_core.drawing import mosaic

mpl.use("agg")

from matplotlib import pyplot as plt

CASES = ((64, 56, 5), (512, 14, 2), (2048, 7, 1))  # channels, side, runs of matplotlib


def ours(maps: np.ndarray) -> None:
    mosaic(maps, tile=max(16, maps.shape[1])).image.save(io.BytesIO(), "PNG", compress_level=1)


def subplots(maps: np.ndarray) -> None:
    side = int(np.ceil(len(maps) ** 0.5))
    figure, axes = plt.subplots(side, side, figsize=(8, 8))
    for axis, channel in zip(axes.flat, maps, strict=False):
        axis.imshow(channel)
        axis.axis("off")
    figure.savefig(io.BytesIO(), format="png")
    plt.close(figure)


def seconds(draw: Callable[[np.ndarray], None], maps: np.ndarray, runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        draw(maps)
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    print(f"{'channels':>8} {'ours':>10} {'matplotlib':>11} {'ratio':>7}   (to a PNG in memory, medians)")
    for channels, side, runs in CASES:
        maps = np.random.default_rng(0).standard_normal((channels, side, side)).astype(np.float32)
        ours(maps)
        mine, theirs = seconds(ours, maps, 9), seconds(subplots, maps, runs)
        print(f"{channels:8d} {mine * 1e3:8.1f} ms {theirs * 1e3:8.0f} ms {theirs / mine:6.0f}x")


if __name__ == "__main__":
    main()
