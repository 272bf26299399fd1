"""Shapes: the same picture from the same numbers, masks that tell the truth, splits that share nothing."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from featviz_core.demo import painting
from featviz_core.demo.marks import mark_area, stamp
from featviz_core.demo.outlines import SHAPES, polygon_area
from featviz_core.demo.scenes import CONFIG, on_picture
from featviz_core.demo.shapes import CLASS_NAMES, SIZE, SPLITS, Picture, draw, paint, plan_scene
from featviz_core.errors import FeatVizError, ImageError


def digest(picture: Picture) -> str:
    return hashlib.sha256(picture.image.tobytes() + np.packbits(picture.masks).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [draw("train", index) for index in range(1200)]


def test_a_picture_has_the_promised_shape_and_types() -> None:
    picture = draw("train", 3)
    assert picture.image.shape == (SIZE, SIZE, 3) and picture.image.dtype == np.uint8
    assert picture.masks.shape == (len(picture.labels), SIZE, SIZE) and picture.masks.dtype == np.bool_
    assert picture.label == picture.labels[0]


def test_order_and_the_global_random_state_do_not_matter() -> None:
    forwards = [digest(draw("train", index)) for index in range(12)]
    random.seed(7)
    np.random.seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    backwards = [digest(draw("train", index)) for index in reversed(range(12))]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index,union-attr]
    assert backwards[::-1] == forwards


def test_another_process_draws_the_same_and_needs_no_torch() -> None:
    code = (
        "import hashlib, sys, numpy as np\n"
        "from featviz_core.demo import models, samples\n"
        "from featviz_core.demo.shapes import draw\n"
        "p = draw('validation', 41)\n"
        "assert 'torch' not in sys.modules\n"
        "print(hashlib.sha256(p.image.tobytes() + np.packbits(p.masks).tobytes()).hexdigest())\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == digest(draw("validation", 41))


def test_numbers_splits_and_seeds_give_different_pictures() -> None:
    seen = [digest(draw(split, index)) for split in SPLITS for index in range(200)]
    seen += [digest(draw("train", index, seed=1)) for index in range(20)]
    assert len(set(seen)) == len(seen)


def test_every_block_of_eight_holds_each_class_once() -> None:
    for first in (0, 80, 1600):
        labels = [plan_scene("train", index).labels[0] for index in range(first, first + len(CLASS_NAMES))]
        assert sorted(labels) == list(range(len(CLASS_NAMES)))


def test_classes_are_balanced_and_a_tenth_has_two_objects(pictures: list[Picture]) -> None:
    counts = Counter(picture.label for picture in pictures)
    assert max(counts.values()) - min(counts.values()) <= 4
    assert 0.07 < np.mean([picture.two_objects for picture in pictures]) < 0.13


def test_two_objects_differ_in_class_and_the_larger_gives_the_label(pictures: list[Picture]) -> None:
    for picture in (picture for picture in pictures if picture.two_objects):
        assert picture.labels[0] != picture.labels[1]
        assert picture.masks[0].sum() > picture.masks[1].sum() > 0
        assert not (picture.masks[0] & picture.masks[1]).any()


def test_every_object_is_plainly_there(pictures: list[Picture]) -> None:
    smallest = min(picture.masks[0].sum() for picture in pictures)
    largest = max(picture.masks[0].sum() for picture in pictures)
    assert smallest > np.pi * CONFIG.radius[0] ** 2 * (1 - CONFIG.most_hidden) * 0.9
    assert largest < np.pi * CONFIG.radius[1] ** 2 * 1.1


@pytest.mark.parametrize("index", range(40))
def test_taking_an_object_away_changes_its_mask_and_at_most_its_soft_edge_besides(index: int) -> None:
    plan = plan_scene("test", index)
    picture = draw("test", index)
    for layer in (layer for layer in plan.layers if layer.object_index is not None):
        without = tuple(other for other in plan.layers if other is not layer)
        bare = paint(type(plan)(plan.background, without, plan.noise, plan.labels))
        changed = (bare != picture.image).any(axis=2)
        mask = picture.masks[picture.labels.index(plan.labels[layer.object_index])]
        edge = (on_picture(layer) > 0) & ~mask  # antialiased or hidden; what hides it may let a little through
        assert not (changed & ~mask & ~edge).any()
        assert changed[mask].mean() > 0.97  # a few colours may happen to be those of the background


def test_class_outlines_have_the_area_of_a_unit_circle() -> None:
    for outline in SHAPES.values():
        assert polygon_area(outline[0]) - sum(map(polygon_area, outline[1:])) == pytest.approx(np.pi)


def test_coverage_adds_up_to_the_area_and_is_not_shifted() -> None:
    rng = np.random.default_rng(0)
    areas, shifts = [], []
    for _ in range(300):
        centre = rng.uniform(40, 80, 2)
        placed = painting.place(SHAPES["square"], centre, 16, rng.uniform(0, 6))
        share, (rows, columns) = painting.coverage(placed)
        areas.append(share.sum())
        x, y = np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5
        shifts.append([(share.sum(axis=0) @ x) / areas[-1], (share.sum(axis=1) @ y) / areas[-1]] - centre)
    assert np.mean(areas) == pytest.approx(np.pi * 16**2, rel=0.02)  # Pillow counts fine pixels that an edge touches
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.01 and np.abs(shifts).max() < 0.15


def test_oklch_knows_white_grey_and_red() -> None:
    assert painting.oklch(1, 0, 0) == pytest.approx(np.ones(3), abs=0.01)
    assert np.ptp(painting.oklch(0.6, 0, 2)) < 0.01
    assert painting.oklch(0.628, 0.2577, np.radians(29.23)) == pytest.approx(np.array([1, 0, 0]), abs=0.02)


def test_the_mark_changes_its_area_and_nothing_else() -> None:
    plain, marked = draw("test", 5), draw("test", 5, mark=True)
    area = mark_area(SIZE, SIZE)
    assert 0.003 < area.mean() < 0.02
    assert np.array_equal((plain.image != marked.image).any(axis=2), area)
    assert not marked.masks[:, area].any()
    assert np.array_equal(stamp(plain.image[None])[0], marked.image)


def test_what_is_not_there_is_refused_in_plain_words() -> None:
    with pytest.raises(ImageError, match="train, validation, test"):
        draw("holdout", 0)  # type: ignore[arg-type]
    with pytest.raises(FeatVizError, match="index of 0 or more"):
        draw("train", -1)
