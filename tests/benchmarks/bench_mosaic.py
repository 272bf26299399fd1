"""How fast is a mosaic of many channels, beside one matplotlib subplot for each?

python -m tests.benchmarks.bench_mosaic
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import matplotlib as mpl
import numpy as np

import featviz_core as fv
from featviz_core.demo.samples import SAMPLES
from featviz_core.drawing import mosaic, resize_map
from featviz_core.images import read_picture

mpl.use("agg")

from matplotlib import pyplot as plt

CASES = ((64, 56, 5), (512, 14, 2), (2048, 7, 1))  # channels, side, runs of matplotlib


def ours(maps: np.ndarray, *, png: bool) -> None:
    image = mosaic(maps, tile=max(16, maps.shape[1])).image
    if png:
        image.save(io.BytesIO(), "PNG", compress_level=1)


def subplots(maps: np.ndarray, *, png: bool) -> None:
    side = int(np.ceil(len(maps) ** 0.5))
    figure, axes = plt.subplots(side, side, figsize=(8, 8))
    for axis, channel in zip(axes.flat, maps, strict=False):
        axis.imshow(channel)
        axis.axis("off")
    if png:
        figure.savefig(io.BytesIO(), format="png")
    else:
        figure.canvas.draw()
    plt.close(figure)


def seconds(draw: Callable[[np.ndarray], None], maps: np.ndarray, runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        draw(maps)
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    model = fv.load_model("demo/shapes_cnn")
    picture = model.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image)
    real = fv.feature_maps(model, picture, layer="trunk_output.block2").maps[0]  # 64 channels
    print(f"{'channels':>8} {'until':>7} {'ours':>10} {'matplotlib':>11} {'ratio':>7}   (medians)")
    for channels, side, runs in CASES:
        maps = resize_map(np.tile(real, (channels // len(real), 1, 1)), (side, side))
        for png in (False, True):
            mine, theirs = (seconds(partial(draw, png=png), maps, n) for draw, n in ((ours, 9), (subplots, runs)))
            until = "PNG" if png else "pixels"
            print(f"{channels:8d} {until:>7} {mine * 1e3:8.1f} ms {theirs * 1e3:8.0f} ms {theirs / mine:6.0f}x")


if __name__ == "__main__":
    main()
