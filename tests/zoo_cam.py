"""Every torchvision classification model, woken, under three methods of class activation maps.

    python -m tests.zoo_cam [NAME ...]

prints a line for each model and ends with 1 when one fails. The largest need about 4 GB of memory.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import featviz_core as fv
from featviz_core.zoo import ZOO
from tests.woken import size_of, waking_pictures, woken

METHODS = ("gradcam", "layercam", "eigencam")


def wrong_with(name: str) -> str:
    """What is wrong with the maps of one model; empty where nothing is."""
    size = size_of(name)
    found = fv.class_activations(woken(name), waking_pictures(1, size), methods=METHODS)
    wrong = []
    for (layer, _target, method), result in found.items():
        if result.map.shape != (size, size) or not np.isfinite(result.map).all():
            wrong.append(f"{method} at {layer}: the map is not finite at {size}×{size}")
        if not np.isfinite(result.raw).all() or np.ptp(result.raw) == 0:
            wrong.append(f"{method} at {layer}: the raw map is constant or not finite")
    return "; ".join(wrong)


def main(names: list[str]) -> int:
    wrong = 0
    for name in names or ZOO:
        start = time.perf_counter()
        said = wrong_with(name)
        wrong += bool(said)
        print(f"{name:24} {time.perf_counter() - start:6.1f} s  {said or 'ok'}", flush=True)
    print(f"{wrong} models with something wrong.")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
