"""What does looking at attention cost, and does it lie on the object?

python -m tests.benchmarks.bench_attention          times of ViT-B/16, memory of a model with 1024 tokens
python -m tests.benchmarks.bench_attention --hits   the demo transformer's maps against the objects' masks
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import featviz_core as fv
from featviz_core.demo.shapes import draw
from featviz_core.techniques.attention_maps.relevance import Explanations

PAIRS = 12


def hits(pictures: int = 300, start: int = 20_000) -> dict[str, float]:
    """The share of unseen pictures with one object whose map has its highest place on the object's mask.

    The map is enlarged bilinearly to the picture. `chance` is the masks' mean share of the picture.
    """
    model = fv.load_model("demo/shapes_vit")
    found: dict[str, list[bool]] = {}
    areas, index = [], start
    while len(areas) < pictures:
        picture = draw("validation", index)
        index += 1
        if picture.two_objects:
            continue
        mask = picture.masks[0]
        areas.append(float(mask.mean()))
        images = _input(model, picture.image)
        explained: Explanations = fv.attention_explanations(model, images)
        for name, values in explained.maps.items():
            large = nn.functional.interpolate(torch.from_numpy(values)[None, None], mask.shape, mode="bilinear")[0, 0]
            row, column = np.unravel_index(int(large.argmax()), mask.shape)
            found.setdefault(name, []).append(bool(mask[row, column]))
    return {name: float(np.mean(values)) for name, values in found.items()} | {"chance": float(np.mean(areas))}


def _input(model: fv.LoadedModel, image: np.ndarray) -> torch.Tensor:
    from PIL import Image

    return model.preprocess(Image.fromarray(image))


def compare(name: str, bare: Callable[[], object], looking: Callable[[], object]) -> None:
    """Times in turn, so that a busy machine slows both alike; the median of the pairs' ratios."""
    ratios, times = [], []
    for turn in range(PAIRS):
        both = {}
        for run in (bare, looking) if turn % 2 else (looking, bare):
            began = time.perf_counter()
            run()
            both[run] = time.perf_counter() - began
        ratios.append(both[looking] / both[bare])
        times.append(both[bare])
    print(f"{name}: {statistics.median(ratios):.3f} × the bare forward of {1000 * statistics.median(times):.0f} ms")


def costs() -> None:
    model = fv.load_model("vit_b_16")
    images = torch.randn(2, 3, 224, 224)
    names = [layer.address for layer in fv.attention_layers(model, (3, 224, 224))]
    bare = lambda: model.logits(images)  # noqa: E731
    bare()
    compare("first layer", bare, lambda: fv.attention_maps(model, images, layers=names[:1]))
    compare("last layer", bare, lambda: fv.attention_maps(model, images, layers=names[-1:]))
    compare("all layers", bare, lambda: fv.attention_maps(model, images))
    compare("all layers with a target", bare, lambda: fv.attention_maps(model, images, target=0))


def memory() -> None:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(512, 16, 4, 12, 768, 3072).eval()
    images = torch.randn(1, 3, 512, 512)
    with torch.no_grad():
        model(images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = fv.attention_maps(model, images, layers=["encoder.layers.encoder_layer_3.self_attention"])
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    shape = next(iter(found.weights.values())).shape
    print(f"one layer of {shape}: {more / 1024:.0f} MB above the peak of the bare forward")


if __name__ == "__main__":
    if "--hits" in sys.argv:
        for title, value in hits().items():
            print(f"{title}: {value:.1%}")
    else:
        memory()
        costs()
