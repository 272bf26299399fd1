"""Feature maps of all torchvision classification models at their first, middle and last stage.

    python -m tests.zoo_walk [NAME ...]

prints a line for each model and ends with 1 when one fails. The largest need about 4 GB of memory.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from torch import nn

from featviz_core.capture import layers_of
from featviz_core.techniques.feature_maps import FeatureMaps, feature_maps
from featviz_core.zoo import ZOO
from tests.woken import size_of, stages, waking_pictures, woken


def walk(module: nn.Module, size: int) -> list[FeatureMaps]:
    """The maps at three stages of a woken model."""
    images = waking_pictures(1, size)
    trace = layers_of(module, tuple(images.shape[1:]))
    return [feature_maps(module, images, layer=layer.address) for layer in stages(trace)]


def wrong_with(maps: FeatureMaps) -> str:
    """What is wrong with a layer's maps; empty where nothing is."""
    if maps.maps.ndim != 4 or maps.maps.shape[2] * maps.maps.shape[3] < 2:
        return f"{maps.layer.address} has the shape {maps.maps.shape}"
    if not np.isfinite(maps.maps).all():
        return f"{maps.layer.address} is not finite"
    if maps.dead().all():
        return f"{maps.layer.address} is constant"
    return ""


def main(names: list[str]) -> int:
    """Walk the models of these names, or all, smallest first; how many failed."""
    failed = 0
    for name in names or sorted(ZOO, key=lambda name: ZOO[name].parameters):
        start = time.perf_counter()
        try:
            results = walk(woken(name), size_of(name))
            line = "; ".join(filter(None, map(wrong_with, results)))
            shapes = " ".join(f"{maps.layer.address}{list(maps.maps.shape[1:])}" for maps in results)
        except Exception as error:  # noqa: BLE001 - the walk goes on and reports every model
            line, shapes = f"{type(error).__name__}: {error}", ""
        failed += bool(line)
        print(
            f"{'FAILED' if line else 'ok':6} {name:22} {time.perf_counter() - start:6.1f} s  {line or shapes}",
            flush=True,
        )
    print(f"{len(names or ZOO) - failed} of {len(names or ZOO)} models are all right.")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
