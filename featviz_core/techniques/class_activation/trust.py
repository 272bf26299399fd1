"""Does a map point at what the model uses? Hide pixels in the map's order, or a region, and ask the model again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import placed
from featviz_core.drawing import Box, resize_map
from featviz_core.preprocessing import Preprocessing
from featviz_core.techniques.class_activation.targets import Target, Wanted, class_names_of, class_scores, resolve
from featviz_core.trace import explained

Progress = Callable[[float, str], None]
Baseline = Literal["blurred", "mean"]
Curve = NDArray[np.float64]

_BATCH = 16
# Of the shorter side. A sixteenth leaves shapes of a fifth of the picture recognisable, an eighth none.
_BLUR = 1 / 8


def baseline_of(image: Tensor, baseline: Baseline) -> Tensor:
    """The picture without its content: `(1, C, H, W)` blurred with a standard deviation of an eighth of its shorter
    side, or its mean colour everywhere."""
    if baseline == "mean":
        return image.mean((2, 3), keepdim=True).expand_as(image)
    sigma = min(image.shape[-2:]) * _BLUR
    reach = max(1, round(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    across = F.conv2d(F.pad(image, (reach, reach, 0, 0), mode="replicate"), kernel, groups=image.shape[1])
    padded = F.pad(across, (0, 0, reach, reach), mode="replicate")
    return F.conv2d(padded, kernel.transpose(2, 3), groups=image.shape[1])


def probability(logits: Tensor, target: Target) -> Tensor:
    """How probable is the target `(N,)`, in [0, 1], for class scores `(N, classes)`?

    Softmax probabilities: their sum over several classes, one minus it for what argues against them, and of a
    difference the share of the first side in both. A single output goes through the sigmoid.
    """
    if logits.shape[1] == 1:
        return torch.sigmoid(target.of(logits).double())
    shares = logits.double().softmax(1)
    for_it, against = (
        sum((shares[:, index] for index, weight in target.weights if weight * sign > 0), torch.zeros_like(shares[:, 0]))
        for sign in (1, -1)
    )
    if not any(weight > 0 for _, weight in target.weights):
        return 1 - against
    return for_it / (for_it + against) if any(weight < 0 for _, weight in target.weights) else for_it


@dataclass(frozen=True, slots=True, eq=False)
class Faithfulness:
    """How the target's probability falls as a map's pixels are hidden, and rises as they are shown.

    `fractions (S,)`: share of pixels hidden or shown, 0 to 1. `deletion (S,)` and `insertion (S,)`: the target's
    probability in [0, 1]. `random_deletion (R, S)`, `random_insertion (R, S)`: the same for random maps.
    `baseline`: what hidden pixels are replaced by.
    """

    fractions: Curve
    deletion: Curve
    insertion: Curve
    random_deletion: Curve
    random_insertion: Curve
    target: Target
    baseline: Baseline

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve in [0, 1]: the smaller, the more the map's peaks matter."""
        return float(_areas(self.fractions, self.deletion))

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve in [0, 1]: the larger, the more the map's peaks suffice."""
        return float(_areas(self.fractions, self.insertion))

    @property
    def random_deletion_area(self) -> float:
        """The mean deletion area of the random maps."""
        return float(_areas(self.fractions, self.random_deletion).mean())

    @property
    def random_insertion_area(self) -> float:
        """The mean insertion area of the random maps."""
        return float(_areas(self.fractions, self.random_insertion).mean())

    @property
    def verdict(self) -> str:
        """What the areas say, in words."""
        if not np.isfinite([self.deletion_area, self.insertion_area]).all():
            return "The model's answer is not a number, so nothing can be said about the map."
        # Areas of random maps differ by about .1 from each other, so the mean alone is no bar.
        matters = self.deletion_area < _areas(self.fractions, self.random_deletion).min()
        suffices = self.insertion_area > _areas(self.fractions, self.random_insertion).max()
        if matters and suffices:
            return (
                "The map finds what the model uses: hiding its peaks hurts more, and showing them helps more, than "
                f"with any of {len(self.random_deletion)} random maps."
            )
        if suffices:
            return "Showing the map's peaks helps more than with random maps, but hiding them hurts no more."
        if matters:
            return "Hiding the map's peaks hurts more than with random maps, but showing them helps no more."
        return "The map does no better than random ones: do not rely on it for this picture and class."

    def frame(self) -> pd.DataFrame:
        """All points as rows: `curve` (deletion, insertion), `map` (this map, random), `fraction`, `probability`."""
        curves = {
            ("deletion", "this map"): self.deletion,
            ("insertion", "this map"): self.insertion,
            ("deletion", "random"): self.random_deletion.mean(0),
            ("insertion", "random"): self.random_insertion.mean(0),
        }
        rows = [
            (curve, which, fraction, probability)
            for (curve, which), values in curves.items()
            for fraction, probability in zip(self.fractions, values, strict=True)
        ]
        return pd.DataFrame(rows, columns=["curve", "map", "fraction", "probability"])


def _areas(fractions: Curve, curves: Curve) -> Curve:
    """The area under each curve `(..., S)`."""
    return np.asarray(np.trapezoid(curves, fractions, axis=-1))


def deletion_insertion(
    model: Model,
    image: Tensor,
    heat_map: ArrayLike,
    *,
    target: Wanted = None,
    steps: int = 12,
    baseline: Baseline = "blurred",
    random_maps: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Faithfulness:
    """Are the pixels that `heat_map` (h, w) marks for `image` (1, C, H, W) the ones that the model uses?

    Deletion hides pixels from the highest value down and should make the target's probability fall early; insertion
    starts from the hidden picture and shows them, and should make it rise early. Equal values are taken in random
    order. The control is `random_maps` maps of 8×8 random cells, drawn from `seed` and as smooth as a real map.
    `progress` may raise to cancel. Takes `2 (steps - 1)(1 + random_maps) + 2` forward passes, in batches.

    Raises `ModelError` for pictures that the model cannot look at, `ValueError` for a map that is not `(h, w)`.
    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018 (there: hidden by the mean for deletion, blurred for insertion).
    """
    rng = np.random.default_rng(seed)
    orders = [
        _order(resize_map(values, (image.shape[2], image.shape[3])), rng)
        for values in (np.asarray(heat_map), *rng.random((random_maps, 8, 8)))
    ]
    fractions = np.linspace(0, 1, steps + 1)
    taken = np.stack([order < round(f * order.size) for order in orders for f in fractions[1:-1]])
    with borrowed(model) as module, torch.no_grad(), explained(module, image.shape[1:]):
        shown = placed(image, module)
        hidden = baseline_of(shown, baseline)
        logits = class_scores(module(torch.cat([shown, hidden])))
        wanted = resolve(target, logits[:1], class_names_of(model))
        full, none = probability(logits, wanted).tolist()
        inner: list[float] = []
        for mask in _batches(np.concatenate([taken, ~taken]), progress):
            mixed = torch.where(torch.from_numpy(mask).to(shown.device)[:, None], hidden, shown)
            inner += probability(class_scores(module(mixed)), wanted).tolist()
    between = np.reshape(inner, (2, len(orders), steps - 1))
    deletion, insertion = (
        np.pad(curves, ((0, 0), (1, 1)), constant_values=((0, 0), ends))
        for curves, ends in zip(between, ((full, none), (none, full)), strict=True)
    )
    return Faithfulness(fractions, deletion[0], insertion[0], deletion[1:], insertion[1:], wanted, baseline)


def _batches(masks: NDArray[np.bool_], progress: Progress | None) -> Iterator[NDArray[np.bool_]]:
    for start in range(0, len(masks), _BATCH):
        if progress:
            progress(start / len(masks), "Hiding and showing pixels …")
        yield masks[start : start + _BATCH]


def _order(values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """How many pixels are taken before each `(H, W)`."""
    flat = np.nan_to_num(values.astype(np.float64).ravel(), nan=-np.inf)
    places = np.empty(flat.size, np.int64)
    places[np.lexsort((rng.random(flat.size), -flat))] = np.arange(flat.size)
    return places.reshape(values.shape)


@dataclass(frozen=True, slots=True, eq=False)
class HiddenRegion:
    """What the model says with a part of the picture hidden.

    `before` and `after`: the target's probability in [0, 1]; `score_before` and `score_after`: its score in logits;
    `answer_after`: the class with the highest score then. `image (C, H, W)`: what the model saw.
    """

    target: Target
    before: float
    after: float
    score_before: float
    score_after: float
    answer_after: int
    baseline: Baseline
    image: NDArray[np.float32]

    def picture(self, preprocessing: Preprocessing) -> Image.Image:
        """What the model saw, as a picture."""
        return preprocessing.undo(torch.from_numpy(self.image))


def hidden_region_score(
    model: Model, image: Tensor, boxes: Sequence[Box], *, target: Wanted = None, baseline: Baseline = "blurred"
) -> HiddenRegion:
    """How sure is the model of `target` when parts of `image` (1, C, H, W) are hidden?

    `boxes` are (left, top, right, bottom) in pixels of `image`, right and bottom exclusive; what lies in any of them
    is replaced by the picture blurred beyond recognition, or by its mean colour.

    Raises `ModelError` for pictures that the model cannot look at.
    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014 (there: grey).
    """
    with borrowed(model) as module, torch.no_grad(), explained(module, image.shape[1:]):
        shown = placed(image, module)
        mask = torch.zeros(shown.shape[-2:], dtype=torch.bool, device=shown.device)
        for left, top, right, bottom in boxes:
            mask[top:bottom, left:right] = True
        hidden = torch.where(mask, baseline_of(shown, baseline), shown)
        logits = class_scores(module(torch.cat([shown, hidden])))
        wanted = resolve(target, logits[:1], class_names_of(model))
        (before, after), (score_before, score_after) = probability(logits, wanted), wanted.of(logits)
    return HiddenRegion(
        target=wanted,
        before=float(before),
        after=float(after),
        score_before=float(score_before),
        score_after=float(score_after),
        answer_after=int(logits[1].argmax()),
        baseline=baseline,
        image=hidden[0].float().cpu().numpy(),
    )
