"""Does the brightest place of each method's map lie on the object? `python -m tests.benchmarks.cam.faithfulness`

    [--pictures 500] [--model demo/shapes_cnn] [--methods gradcam layercam ...]

Shapes pictures that no model has seen, one object each, and the demo model that knows them: the pointing game by the
outline (`hit`) and by the box around it (`box`), and the mean share of the map's sum that lies on the object
(`energy`). The second line says what places at random reach; the hits of each class come last, because the middle of a
ring is not on the ring. Ends with 1 where Grad-CAM does not point into the box on 95 % of the pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import count

import numpy as np
import torch

import featviz_core as fv
from featviz_core.demo.shapes import CLASS_NAMES, Picture, draw
from featviz_core.models import LoadedModel
from featviz_core.techniques.class_activation import localization
from featviz_core.techniques.class_activation.truth import box_around

# What takes a minute for ten pictures is left out unless asked for.
SLOW = ("sscam", "iscam")


def unseen(pictures: int) -> list[Picture]:
    """The first pictures of the test split with one object."""
    drawn = (draw("test", index) for index in count())
    single = (picture for picture in drawn if not picture.two_objects)
    return [next(single) for _ in range(pictures)]


def as_input(model: LoadedModel, picture: Picture) -> torch.Tensor:
    from PIL import Image

    return model.preprocess(Image.fromarray(picture.image))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--model", default="demo/shapes_cnn")
    parser.add_argument("--methods", nargs="+", default=[name for name in fv.cam_methods() if name not in SLOW])
    options = parser.parse_args()
    model = fv.load_model(options.model)
    pictures = unseen(options.pictures)
    inputs = [as_input(model, picture) for picture in pictures]
    right = np.mean([int(model.logits(x).argmax()) == p.label for x, p in zip(inputs, pictures, strict=True)])
    area = np.mean([picture.masks[0].mean() for picture in pictures])
    box = np.mean([box_around(picture.masks[0]).mean() for picture in pictures])
    print(f"{options.model}: {len(pictures)} unseen pictures, {right:.1%} correct.")
    print(f"Objects cover {area:.1%} of the picture, their boxes {box:.1%}.\n")
    print(f"{'method':20} {'hit':>6} {'box':>6} {'energy':>6} {'blank':>5} {'ms':>7}  hit, by class")
    boxes = {method: row(model, method, inputs, pictures) for method in options.methods}
    return int(boxes.get("gradcam", 1.0) < 0.95)


def row(model: LoadedModel, method: str, inputs: list[torch.Tensor], pictures: list[Picture]) -> float:
    """Print a line of the table; the share of peaks in the box."""
    start = time.perf_counter()
    try:
        maps = [
            fv.class_activation(model, image, target=picture.label, method=method).map
            for image, picture in zip(inputs, pictures, strict=True)
        ]
    except fv.FeatVizError as error:
        print(f"{method:20} {error}", flush=True)
        return 0.0
    spent = (time.perf_counter() - start) / len(maps) * 1000
    found = [localization(m, picture.masks[0]) for m, picture in zip(maps, pictures, strict=True)]
    hit, box, energy = (float(np.mean([getattr(one, name) for one in found])) for name in ("hit", "box", "energy"))
    blank = sum(not m.any() for m in maps)
    of_class = [[one.hit for one, p in zip(found, pictures, strict=True) if p.label == k] for k in range(8)]
    by_class = " ".join(f"{name} {np.mean(n):.0%}" for name, n in zip(CLASS_NAMES, of_class, strict=True) if n)
    print(f"{method:20} {hit:6.1%} {box:6.1%} {energy:6.1%} {blank:5} {spent:7.1f}  {by_class}", flush=True)
    return box


if __name__ == "__main__":
    sys.exit(main())
