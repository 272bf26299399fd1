"""The trust measures, re-derived slowly from their definitions or by closed forms on toys."""

from __future__ import annotations

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from featviz_core.demo.samples import SAMPLES
from featviz_core.preprocessing import Preprocessing
from featviz_core.techniques.class_activation import sanity, trust, truth
from featviz_core.techniques.class_activation.targets import Target

SIDE = 6


class Weighted(nn.Module):
    """Class 0 scores the weighted sum of the pixels, class 1 nothing."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.deeper = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.deeper(self.features(images)).mean((2, 3)))


@pytest.fixture
def small() -> Small:
    generator = torch.Generator().manual_seed(3)
    model = Small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def pixels() -> Tensor:
    """One channel with the mean 0, so that the mean baseline is black for `Weighted`."""
    values = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return values - values.mean()


@pytest.fixture
def weighted() -> Weighted:
    return Weighted(torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)).abs())


def state(model: nn.Module) -> list[object]:
    return [
        copy.deepcopy(model.state_dict()),
        [(m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()],
        [(p.requires_grad, p.grad, p.data_ptr()) for p in model.parameters()],
    ]


def same_state(before: list[object], model: nn.Module) -> bool:
    now = state(model)
    tensors = all(torch.equal(a, b) for a, b in zip(before[0].values(), now[0].values(), strict=True))  # type: ignore
    return tensors and before[1:] == now[1:]


# Deletion and insertion


def test_deletion_and_insertion_follow_their_definition(weighted: Weighted, pixels: Tensor) -> None:
    heat = np.random.default_rng(0).permutation(SIDE * SIDE).reshape(SIDE, SIDE).astype(float)
    found = trust.deletion_insertion(weighted, pixels, heat, target=0, steps=6, baseline="mean")
    ranked = sorted(range(SIDE * SIDE), key=lambda i: -heat.ravel()[i])
    flat, weights = pixels.ravel().tolist(), weighted.weights.ravel().tolist()
    for step in range(7):
        taken = set(ranked[: step * SIDE * SIDE // 6])
        kept = sum(w * v for i, (w, v) in enumerate(zip(weights, flat, strict=True)) if i not in taken)
        shown = sum(w * v for i, (w, v) in enumerate(zip(weights, flat, strict=True)) if i in taken)
        assert found.deletion[step] == pytest.approx(1 / (1 + math.exp(-kept)), abs=1e-6)
        assert found.insertion[step] == pytest.approx(1 / (1 + math.exp(-shown)), abs=1e-6)


def test_the_areas_are_those_below_the_curves(weighted: Weighted, pixels: Tensor) -> None:
    found = trust.deletion_insertion(weighted, pixels, np.eye(SIDE), target=0, steps=4, baseline="mean")
    by_hand = sum((a + b) / 2 / 4 for a, b in zip(found.deletion[:-1], found.deletion[1:], strict=True))
    assert found.deletion_area == pytest.approx(by_hand)
    for area in (found.deletion_area, found.insertion_area, found.random_deletion_area, found.random_insertion_area):
        assert 0 <= area <= 1


def test_the_true_evidence_beats_random_and_its_opposite_does_not(weighted: Weighted, pixels: Tensor) -> None:
    evidence = (weighted.weights.detach() * pixels[0])[0].numpy()
    good = trust.deletion_insertion(weighted, pixels, evidence, target=0, baseline="mean")
    bad = trust.deletion_insertion(weighted, pixels, -evidence, target=0, baseline="mean")
    assert good.deletion_area < good.random_deletion_area < bad.deletion_area
    assert good.insertion_area > good.random_insertion_area > bad.insertion_area
    assert "finds what the model uses" in good.verdict
    assert "no better than random ones" in bad.verdict


def test_the_ends_of_the_curves_meet_and_the_frame_holds_all_points(weighted: Weighted, pixels: Tensor) -> None:
    found = trust.deletion_insertion(weighted, pixels, np.zeros((2, 3)), target=1, steps=5)
    assert found.deletion[0] == found.insertion[-1] == found.random_deletion[0, 0]
    assert found.deletion[-1] == found.insertion[0] == found.random_insertion[1, 0]
    frame = found.frame()
    assert len(frame) == 4 * 6
    assert set(frame["map"]) == {"this map", "random"}
    assert found.baseline == "blurred"


def test_equal_values_are_taken_in_random_order_and_the_seed_decides(weighted: Weighted, pixels: Tensor) -> None:
    one, same, other = (
        trust.deletion_insertion(weighted, pixels, np.ones((SIDE, SIDE)), target=0, baseline="mean", seed=seed)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one.deletion, same.deletion)
    assert np.array_equal(one.random_deletion, same.random_deletion)
    assert not np.array_equal(one.deletion, other.deletion)


def test_the_global_random_state_stays_as_it_is(weighted: Weighted, pixels: Tensor) -> None:
    before = torch.get_rng_state()
    trust.deletion_insertion(weighted, pixels, np.eye(SIDE), target=0)
    assert torch.equal(before, torch.get_rng_state())


def test_progress_may_cancel_and_the_model_stays_untouched(small: Small, image: Tensor) -> None:
    class Cancelled(BaseException):
        pass

    def progress(done: float, _text: str) -> None:
        assert 0 <= done <= 1
        if done > 0.4:
            raise Cancelled

    before = state(small)
    with pytest.raises(Cancelled):
        trust.deletion_insertion(small, image, np.eye(16), progress=progress)
    assert same_state(before, small)
    trust.deletion_insertion(small, image, np.eye(16))
    assert same_state(before, small)


def test_an_answer_that_is_not_a_number_is_said_so(weighted: Weighted, pixels: Tensor) -> None:
    weighted.weights.data[:] = math.nan
    found = trust.deletion_insertion(weighted, pixels, np.eye(SIDE), target=0)
    assert "not a number" in found.verdict


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (((0, 1.0),), 0.2),
        (((0, 1.0), (2, 1.0)), 0.7),
        (((0, -1.0),), 0.8),
        (((0, 1.0), (2, -1.0)), 0.2 / 0.7),
    ],
)
def test_the_probability_of_each_kind_of_target(weights: tuple[tuple[int, float], ...], expected: float) -> None:
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log() + 4
    assert float(trust.probability(logits, Target("", weights))) == pytest.approx(expected)


def test_a_single_output_goes_through_the_sigmoid() -> None:
    assert float(trust.probability(torch.tensor([[0.3]]), Target("", ((0, 1.0),)))) == pytest.approx(0.574443, abs=1e-6)


# Hiding regions


def test_the_blur_is_a_gaussian_with_the_edge_repeated() -> None:
    image = torch.rand(1, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    blurred = trust.baseline_of(image, "blurred").numpy()
    sigma, reach = 1.0, 3
    kernel = np.array([math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)])
    kernel /= kernel.sum()
    for channel, y, x in [(0, 0, 0), (1, 3, 5), (1, 7, 11), (0, 6, 1)]:
        expected = sum(
            kernel[dy + reach] * kernel[dx + reach] * image[0, channel, min(max(y + dy, 0), 7), min(max(x + dx, 0), 11)]
            for dy in range(-reach, reach + 1)
            for dx in range(-reach, reach + 1)
        )
        assert blurred[0, channel, y, x] == pytest.approx(float(expected), abs=1e-6)


def test_a_hidden_region_takes_exactly_its_part_of_the_score(weighted: Weighted, pixels: Tensor) -> None:
    found = trust.hidden_region_score(weighted, pixels, [(1, 2, 4, 6), (3, 0, 5, 1)], target=0, baseline="mean")
    parts = (weighted.weights.detach() * pixels[0])[0]
    hidden = parts[2:6, 1:4].sum() + parts[0:1, 3:5].sum()
    assert found.score_before - found.score_after == pytest.approx(float(hidden), abs=1e-5)
    assert found.before == pytest.approx(1 / (1 + math.exp(-found.score_before)))
    assert np.abs(found.image[0, 2:6, 1:4]).max() < 1e-6
    assert np.array_equal(found.image[0, :, 0], pixels[0, 0, :, 0].numpy())


def test_hiding_nothing_changes_nothing(small: Small, image: Tensor) -> None:
    before = state(small)
    found = trust.hidden_region_score(small, image, [])
    assert found.before == found.after
    assert found.answer_after == found.target.weights[0][0]
    assert same_state(before, small)


def test_the_hidden_picture_can_be_shown() -> None:
    preprocessing = Preprocessing(resize_size=8, crop_size=8)
    image = preprocessing(Image.new("RGB", (8, 8), (200, 100, 50)))
    found = trust.hidden_region_score(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), image, [(0, 0, 4, 4)], target=0)
    assert found.picture(preprocessing).getpixel((1, 1)) == (200, 100, 50)


# The sanity check


def test_resetting_the_weights_changes_a_gradcam(small: Small, image: Tensor) -> None:
    before = state(small)
    found = sanity.randomization_check(small, image, layer="deeper", target=1)
    assert same_state(before, small)
    assert found.stages["reset_from"].iloc[0] == "head"
    assert found.stages["reset_from"].iloc[-1] == "features.0"
    assert found.stages["parameters"].iloc[-1] == sum(p.numel() for p in small.parameters())
    assert found.stages["layers"].tolist() == sorted(found.stages["layers"])
    assert found.original.shape == found.randomized.shape[1:]
    assert "what it learned" in found.verdict or "what the model learned" in found.verdict
    again = sanity.randomization_check(small, image, layer="deeper", target=1)
    pd.testing.assert_frame_equal(found.stages, again.stages)


def test_a_method_without_the_class_does_not_notice_a_reset_classifier(small: Small, image: Tensor) -> None:
    found = sanity.randomization_check(small, image, layer="deeper", method="eigencam", redraws=1)
    assert abs(found.stages["correlation"].iloc[0]) == pytest.approx(1)


def test_cancelling_the_sanity_check_leaves_the_model_untouched(small: Small, image: Tensor) -> None:
    def progress(done: float, _text: str) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    before = state(small)
    with pytest.raises(KeyboardInterrupt):
        sanity.randomization_check(small, image, layer="deeper", progress=progress)
    assert same_state(before, small)


@pytest.mark.parametrize(
    ("correlations", "said"),
    [
        ((0.95, 0.8), "hardly changes when all weights are reset"),
        ((0.95, 0.1), "does not depend on the class"),
        ((0.3, 0.1), "changes when weights are reset"),
        ((0.3, math.nan), "constant map"),
    ],
)
def test_the_verdict_follows_the_correlations(correlations: tuple[float, float], said: str) -> None:
    check = sanity.RandomizationCheck(
        pd.DataFrame({"correlation": correlations}), np.eye(2, dtype=np.float32), np.zeros((2, 2, 2), np.float32)
    )
    assert said in check.verdict


def test_a_constant_map_cannot_be_checked() -> None:
    check = sanity.RandomizationCheck(
        pd.DataFrame({"correlation": [math.nan]}), np.zeros((2, 2), np.float32), np.zeros((1, 2, 2), np.float32)
    )
    assert "nothing to compare" in check.verdict


# Agreement


def test_rank_correlation_follows_its_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 7)), rng.random((5, 7))
    ranks = [np.argsort(np.argsort(values.ravel())) for values in (a, b)]
    by_hand = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (35 * (35**2 - 1))
    assert sanity.rank_correlation(a, b) == pytest.approx(by_hand)
    assert sanity.rank_correlation(a, np.exp(3 * a)) == pytest.approx(1)
    assert sanity.rank_correlation(a, -a) == pytest.approx(-1)


def test_ties_share_their_mean_rank() -> None:
    # Ranks 1.5 1.5 3 4 against 1 2 3.5 3.5: by hand 4 / 4.5.
    assert sanity.rank_correlation([0, 0, 1, 2], [0, 1, 2, 2]) == pytest.approx(4 / 4.5)


@pytest.mark.parametrize("odd", [np.zeros((2, 2)), np.array([[0, 1], [2, np.nan]])])
def test_constant_and_broken_maps_agree_with_nothing(odd: np.ndarray) -> None:
    other = np.array([[0, 1], [2, 3]])
    assert math.isnan(sanity.rank_correlation(odd, other))
    assert math.isnan(sanity.overlap(odd, other))


def test_overlap_compares_the_highest_fifth() -> None:
    a, b = np.zeros(10), np.zeros(10)
    a[[2, 3]], b[[3, 4]] = [5, 6], [8, 7]
    assert sanity.overlap(a, b) == pytest.approx(1 / 3)
    assert sanity.overlap(a, a) == 1


def test_agreement_has_a_row_for_each_ordered_pair() -> None:
    a = np.arange(25.0).reshape(5, 5)
    frame = sanity.agreement({"one": a, "two": -a, "none": np.zeros((5, 5))})
    assert len(frame) == 9
    pairs = frame.set_index(["first", "second"])
    assert pairs.loc[("one", "two"), "correlation"] == pytest.approx(-1)
    assert pairs.loc[("two", "two"), "overlap"] == 1
    assert pairs.loc[("one", "none")].isna().all()


# Where the truth is known


def test_localization_by_hand() -> None:
    heat = np.array([[0, 1, 0], [2, 4, 1]])
    mask = np.array([[0, 0, 0], [0, 1, 1]])
    found = truth.localization(heat, mask)
    assert (found.hit, found.box, found.energy, found.area) == (1, 1, 5 / 8, 2 / 6)
    assert truth.localization(heat, 1 - mask).hit == 0


@pytest.mark.parametrize(("place", "hit", "box"), [((2, 1), 1, 1), ((3, 3), 0, 1), ((1, 4), 1, 1), ((6, 3), 0, 0)])
def test_the_hole_of_a_ring_lies_in_its_box(place: tuple[int, int], hit: float, box: float) -> None:
    ring = np.zeros((8, 7), bool)
    ring[1:6, 1:6] = True
    ring[2:5, 2:5] = False
    heat = np.zeros(ring.shape)
    heat[place] = 1
    found = truth.localization(heat, ring)
    assert (found.hit, found.box) == (hit, box)


def test_the_box_of_nothing_is_empty() -> None:
    assert not truth.box_around(np.zeros((3, 4), bool)).any()


def test_several_peaks_share_the_hit_and_a_blank_map_has_none() -> None:
    assert truth.localization([[1, 1]], [[1, 0]]).hit == 0.5
    blank = truth.localization(np.zeros((2, 2)), [[1, 0], [0, 0]])
    assert (blank.hit, blank.box, blank.energy, blank.area) == (0, 0, 0, 0.25)
    with pytest.raises(ValueError, match="one shape"):
        truth.localization(np.zeros((2, 2)), np.zeros((2, 3)))


SAMPLE = {sample.slug: sample for sample in SAMPLES}


def test_the_masks_of_a_sample_are_those_it_was_drawn_with() -> None:
    preprocessing = Preprocessing(resize_size=128, crop_size=128)
    record = SAMPLE["moon_and_triangle"].record()
    masks = truth.sample_masks(SAMPLE["moon_and_triangle"], preprocessing)
    assert set(masks) == {"moon", "triangle"}
    assert np.array_equal(masks["moon"], record.masks[0])
    badge = truth.sample_masks(SAMPLE["heart_with_badge"], preprocessing)
    assert set(badge) == {"heart", "badge"}
    assert badge["badge"][-30:, :30].sum() == badge["badge"].sum() > 100


def test_the_masks_of_a_wide_picture_are_cut_as_the_picture_is() -> None:
    sample = SAMPLE["collage"]
    record = sample.record()
    height, width = record.image.shape[:2]
    preprocessing = Preprocessing(resize_size=height, crop_size=height)
    left = round((width - height) / 2)
    masks = truth.sample_masks(sample, preprocessing)
    union = record.masks.any(0)[:, left : left + height]
    assert np.array_equal(np.any(list(masks.values()), axis=0), union)


def test_the_masks_follow_a_model_of_another_size() -> None:
    preprocessing = Preprocessing(resize_size=64, crop_size=56)
    mask = truth.sample_masks(SAMPLE["star"], preprocessing)["star"]
    whole = SAMPLE["star"].record().masks[0]
    assert mask.shape == (56, 56)
    assert mask.sum() * 4 == pytest.approx(whole.sum(), rel=0.1)
