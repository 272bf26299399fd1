"""Does the brightest place of each method's map lie on the object? `python -m tests.benchmarks.cam.faithfulness`

    [--pictures 500] [--model demo/shapes_cnn] [--methods gradcam layercam ...]

Shapes pictures that no model has seen, one object each, and the demo model that knows them. `hit` is the share of
pictures whose brightest place lies on the object (that of a random place: `area`), `energy` the mean share of the
map's sum that does; `correct` counts pictures that the model gets right.
"""

from __future__ import annotations

import argparse
import time
from itertools import count

import numpy as np
import torch

import featviz_core as fv
from featviz_core.demo.shapes import Picture, draw
from featviz_core.models import LoadedModel

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


def main() -> None:
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
    print(f"{options.model}: {len(pictures)} unseen pictures, {right:.1%} correct, objects cover {area:.1%}.\n")
    print(f"{'method':20} {'hit':>7} {'energy':>7} {'blank':>6} {'ms a picture':>13}")
    for method in options.methods:
        print(row(model, method, inputs, pictures), flush=True)


def row(model: LoadedModel, method: str, inputs: list[torch.Tensor], pictures: list[Picture]) -> str:
    start = time.perf_counter()
    try:
        maps = [
            fv.class_activation(model, image, target=picture.label, method=method).map
            for image, picture in zip(inputs, pictures, strict=True)
        ]
    except fv.FeatVizError as error:
        return f"{method:20} {error}"
    spent = (time.perf_counter() - start) / len(maps) * 1000
    masks = [picture.masks[0] for picture in pictures]
    hits = [bool(mask[np.unravel_index(m.argmax(), m.shape)]) for m, mask in zip(maps, masks, strict=True)]
    energy = [float(m[mask].sum() / m.sum()) if m.any() else 0.0 for m, mask in zip(maps, masks, strict=True)]
    blank = sum(not m.any() for m in maps)
    return f"{method:20} {np.mean(hits):7.1%} {np.mean(energy):7.1%} {blank:6} {spent:13.1f}"


if __name__ == "__main__":
    main()
