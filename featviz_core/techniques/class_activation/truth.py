"""Does a map light up where the object is? For pictures of which that is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from featviz_core.demo.marks import mark_area
from featviz_core.demo.samples import Sample
from featviz_core.demo.shapes import CLASS_NAMES
from featviz_core.preprocessing import Preprocessing

BADGE = "badge"


@dataclass(frozen=True, slots=True)
class Localization:
    """How well a map finds an object.

    `hit`: the share in [0, 1] of the map's highest places that lie in the object (1 or 0 where there is one peak).
    `box`: the same for the box around the object, as photographs are annotated: what a map sees in the hole of a ring
    is no mistake there. `energy`: the share in [0, 1] of the map's sum that lies in the object. `area`: the share in
    [0, 1] of the picture that the object covers, which is what a map of random places reaches in `hit` and `energy`.
    """

    hit: float
    box: float
    energy: float
    area: float


def localization(heat_map: ArrayLike, mask: ArrayLike) -> Localization:
    """Does `heat_map` (H, W) of values from 0 up lie in the object's `mask` (H, W)?

    A map without any value above 0 finds nothing. Peaks beside the object are misses, however near: the 15 pixels of
    tolerance in the paper are not granted.

    Raises `ValueError` for shapes that differ. Sources: Zhang et al., Top-down Neural Attention by Excitation Backprop,
    ECCV 2016 (the pointing game, by outlines on COCO and by boxes on VOC); Wang et al., Score-CAM, CVPR workshops 2020
    (energy).
    """
    heat, inside = np.nan_to_num(np.asarray(heat_map, np.float64), posinf=0, neginf=0), np.asarray(mask, bool)
    if heat.shape != inside.shape:
        raise ValueError(f"Expected a map and a mask of one shape, got {heat.shape} and {inside.shape}.")
    heat, area = np.maximum(heat, 0), float(inside.mean())
    if not heat.any():
        return Localization(0.0, 0.0, 0.0, area)
    peaks = heat == heat.max()
    return Localization(
        hit=float(inside[peaks].mean()),
        box=float(box_around(inside)[peaks].mean()),
        energy=float(heat[inside].sum() / heat.sum()),
        area=area,
    )


def box_around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (H, W) of the upright box around another."""
    box = np.zeros_like(mask)
    if mask.any():
        rows, columns = np.nonzero(mask)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return box


def sample_masks(sample: Sample, preprocessing: Preprocessing) -> dict[str, NDArray[np.bool_]]:
    """Where are the objects of a bundled sample in what the model sees? A mask `(H, W)` for each class, and for the
    `badge` where there is one; objects outside of what the model sees are left out."""
    masks = _whole_masks(sample)
    cut = {name: preprocessing.cut(Image.fromarray(np.uint8(255) * mask)) for name, mask in masks.items()}
    found = {name: np.asarray(image)[..., 0] >= 128 for name, image in cut.items()}
    return {name: mask for name, mask in found.items() if mask.any()}


@cache
def _whole_masks(sample: Sample) -> dict[str, NDArray[np.bool_]]:
    record = sample.record()
    masks: dict[str, NDArray[np.bool_]] = {}
    for label, mask in zip(record.labels, record.masks, strict=True):
        name = CLASS_NAMES[label]
        masks[name] = masks.get(name, np.zeros_like(mask)) | mask
    return masks | ({BADGE: mark_area(*record.image.shape[:2])} if sample.mark else {})
