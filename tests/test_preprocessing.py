"""Preprocessing against torchvision's own presets, and each mistake against its definition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms._presets import ImageClassification

from featviz_core.errors import ImageError
from featviz_core.preprocessing import Preprocessing, common_mistakes

IMAGENET = Preprocessing(resize_size=256, crop_size=224)
SQUASHING = Preprocessing(resize_size=(48, 64), crop_size=(40, 60))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PRESETS = [  # resize, crop, interpolation, mean, std; all but the last two as published, the last but one pads
    (256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    (232, 224, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    (342, 299, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    (480, 480, "bicubic", *HALVES),
    (256, 224, "bilinear", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    (30, 47, "bilinear", *HALVES),
    (33, 32, "bicubic", *HALVES),
]


def picture(width: int = 97, height: int = 61, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    noise[: height // 2] = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    return Image.fromarray(noise)


def mistaken(slug: str, image: Image.Image, preprocessing: Preprocessing = IMAGENET) -> torch.Tensor:
    (mistake,) = [mistake for mistake in common_mistakes(preprocessing) if mistake.slug == slug]
    return mistake.apply(preprocessing, image)


@pytest.mark.parametrize("size", [(97, 61), (61, 97), (300, 300), (1, 1), (7, 40), (640, 481)])
@pytest.mark.parametrize(("resize", "crop", "interpolation", "mean", "std"), PRESETS)
def test_equal_to_torchvision_bit_for_bit(size, resize, crop, interpolation, mean, std):
    image = picture(*size)
    preset = ImageClassification(
        crop_size=crop, resize_size=resize, mean=mean, std=std, interpolation=InterpolationMode(interpolation)
    )
    ours = Preprocessing(resize_size=resize, crop_size=crop, mean=mean, std=std, interpolation=interpolation)
    fed = ours(image)
    assert fed.shape == (1, 3, crop, crop)
    assert fed.dtype == torch.float32
    assert torch.equal(fed[0], preset(image))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_any_picture_is_taken_as_rgb(mode):
    image = picture().convert(mode)
    assert torch.equal(IMAGENET(image), IMAGENET(image.convert("RGB")))


def test_height_and_width_may_differ():
    ours = Preprocessing(resize_size=64, crop_size=(32, 48))
    image = picture()
    expected = F.center_crop(F.resize(image, [64]), [32, 48])
    assert ours.input_size == (32, 48)
    assert np.array_equal(np.asarray(ours.cut(image)), np.asarray(expected))


def test_both_sides_may_be_resized_whatever_the_shape():
    image = picture(97, 61)
    expected = F.center_crop(F.resize(image, [48, 64]), [40, 60])
    assert np.array_equal(np.asarray(SQUASHING.cut(image)), np.asarray(expected))
    assert SQUASHING.crop_box((640, 480)) == (20, 40, 620, 440)
    assert "64×48" in SQUASHING.describe()[0]
    assert SQUASHING(Image.new("RGB", (4096, 1))).shape == (1, 3, 40, 60)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600), st.integers(1, 600))
def test_the_crop_box_lies_in_the_picture_and_has_the_crops_shape(width, height, resize, crop):
    ours = Preprocessing(resize_size=resize, crop_size=crop)
    try:
        resized = ours.resized((width, height))
    except ImageError:
        assert resize * resize * max(width, height) / min(width, height) > 39e6
        return
    left, top, right, bottom = ours.crop_box((width, height))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (right - left) * resized[0] / width == pytest.approx(min(crop, resized[0]))
    assert (bottom - top) * resized[1] / height == pytest.approx(min(crop, resized[1]))


def test_the_crop_box_shows_what_the_model_sees():
    image = picture(400, 300)
    box = IMAGENET.crop_box(image.size)
    alike = image.resize((224, 224), Image.Resampling.BILINEAR, box=box)
    difference = np.asarray(alike, float) - np.asarray(IMAGENET.cut(image), float)
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize(("mean", "std"), [preset[3:] for preset in PRESETS[:5]])
def test_undo_gives_the_cut_picture_back(mean, std):
    ours = Preprocessing(resize_size=40, crop_size=32, mean=mean, std=std)
    image = picture()
    fed = ours(image)
    assert np.array_equal(np.asarray(ours.undo(fed)), np.asarray(ours.cut(image)))
    assert np.array_equal(np.asarray(ours.undo(fed[0])), np.asarray(ours.cut(image)))


def test_undo_draws_impossible_values():
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e9, -1e9]).expand(1, 3, 1, 5)
    assert np.asarray(IMAGENET.undo(values))[0, :, 0].tolist() == [0, 255, 0, 255, 0]


def test_undo_takes_what_a_training_loop_holds():
    fed = IMAGENET(picture()).double().requires_grad_()
    assert IMAGENET.undo(fed.repeat(2, 1, 1, 1)).size == (224, 224)


def test_the_steps_are_told_with_their_numbers():
    steps = Preprocessing(342, 299, *HALVES, interpolation="bicubic").describe()
    assert len(steps) == 4
    assert "342" in steps[0]
    assert "bicubic" in steps[0]
    assert "299×299" in steps[1]
    assert "between -1.00 and 1.00" in steps[3]
    extremes = [IMAGENET(Image.new("RGB", (4, 4), color)) for color in ("black", "white")]
    assert IMAGENET.value_range == pytest.approx((extremes[0].min().item(), extremes[1].max().item()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"interpolation": "nearest"},
        {"resize_size": 0},
        {"resize_size": (8, 0)},
        {"crop_size": 0},
        {"crop_size": (3, -1)},
        {"mean": (0.5,)},
        {"std": (1.0, 0.0, 1.0)},
    ],
)
def test_impossible_preprocessing_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        Preprocessing(**{"resize_size": 256, "crop_size": 224, **wrong})


def test_a_thread_of_pixels_is_refused_before_it_takes_gigabytes():
    with pytest.raises(ImageError, match="4096×1;"):
        IMAGENET(Image.new("RGB", (4096, 1)))


# Mistakes


@pytest.mark.parametrize("preprocessing", [IMAGENET, SQUASHING])
def test_every_mistake_feeds_something_else_of_the_right_shape(preprocessing):
    image = picture(800, 400)
    right = preprocessing(image)
    for mistake in common_mistakes(preprocessing):
        wrong = mistake.apply(preprocessing, image)
        assert wrong.shape == right.shape
        assert wrong.dtype == right.dtype
        assert (wrong - right).abs().max() > 0.05
        assert mistake.title
        assert mistake.explanation.endswith(".")
    assert len({mistake.slug for mistake in common_mistakes(preprocessing)}) == 6


def test_swapping_colours_of_the_picture_undoes_bgr():
    image = picture()
    swapped = Image.fromarray(np.asarray(image)[..., ::-1].copy())
    assert torch.equal(mistaken("bgr", swapped), IMAGENET(image))


def test_mistakes_of_scale_by_their_formulas():
    image = picture()
    unit = F.to_tensor(IMAGENET.cut(image))[None]
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    assert torch.equal(mistaken("not_normalized", image), unit)
    assert torch.allclose(mistaken("not_scaled", image), (unit * 255 - mean) / std)
    assert torch.allclose(mistaken("normalized_twice", image), ((unit - mean) / std - mean) / std)


def test_squashing_keeps_the_whole_picture_and_leaves_squares_alone():
    wide = Image.new("RGB", (400, 100))
    wide.paste((255, 255, 255), (0, 0, 20, 100))
    plain = Preprocessing(100, 100, *HALVES)
    assert mistaken("squashed", wide, plain)[0, 0, 50, :4].tolist() == pytest.approx([1, 1, 1, 1])
    assert (plain(wide) == -1).all()
    square = picture(300, 300)
    assert torch.equal(mistaken("squashed", square, plain), plain(square))


def test_a_thread_of_pixels_that_is_squashed_has_its_mistakes_too():
    thread = Image.new("RGB", (4096, 1), "red")
    assert {m.apply(SQUASHING, thread).shape for m in common_mistakes(SQUASHING)} == {(1, 3, 40, 60)}


def test_without_antialiasing_is_torch_interpolation():
    image = picture(300, 200)
    ours = Preprocessing(50, 50, *HALVES)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(pixels, size=(50, 75), mode="bilinear", align_corners=False)
    expected = F.center_crop(resized, [50, 50]) / 255 * 2 - 1
    assert (mistaken("aliased", image, ours) - expected).abs().max() <= 2.1 / 255


def test_importing_it_needs_no_torch():
    code = "import sys, featviz_core.preprocessing; print([m for m in ('torch', 'streamlit') if m in sys.modules])"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
