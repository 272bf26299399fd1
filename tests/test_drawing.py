"""Pictures of numbers, against their definitions written out pixel by pixel."""

from __future__ import annotations

import base64
import io
import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from featviz_core.drawing import COLOR_MAPS, NOT_FINITE, color_table, colorize, data_url, mosaic, overlay, resize_map


def random_maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Colour maps


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_tables_agree_with_matplotlib(name):
    matplotlib = pytest.importorskip("matplotlib")
    expected = matplotlib.colormaps[name](np.arange(256))[:, :3] * 255
    assert np.abs(color_table(name) - expected).max() <= 3


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_tables_are_read_only_and_leave_the_alarm_colour_alone(name):
    table = color_table(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert np.abs(table.astype(int) - NOT_FINITE).sum(axis=1).min() > 100
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


@pytest.mark.parametrize("name", ["viridis", "magma", "cividis", "gray"])
def test_sequential_maps_get_steadily_lighter(name):
    lightness = color_table(name) @ [0.2126, 0.7152, 0.0722]
    assert np.diff(lightness).min() >= -0.5


def test_unknown_colour_map_is_named():
    with pytest.raises(ValueError, match="jet"):
        colorize([[0.0]], low=0, high=1, color_map="jet")


# Colouring


def test_colorize_by_definition():
    values = random_maps(2, 3, 5, 4)
    colors = colorize(values, low=-1, high=1.5, color_map="magma")
    assert colors.shape == (2, 3, 5, 4, 3)
    for spot in np.ndindex(values.shape):
        step = int(min(max((values[spot] + 1) / 2.5, 0), 1) * 255 + 0.5)
        assert np.abs(colors[spot].astype(int) - color_table("magma")[step]).max() <= 2


def test_colorize_accepts_a_range_for_each_map():
    values = np.stack([np.linspace(0, 1, 16), np.linspace(0, 100, 16)]).reshape(2, 4, 4)
    low, high = np.zeros((2, 1, 1)), np.array([1, 100]).reshape(2, 1, 1)
    first, second = colorize(values, low=low, high=high)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_colorize_takes_every_number_type(dtype):
    ends = colorize(np.array([[0, 1]], dtype), low=0, high=1, color_map="gray")
    assert ends[0, :, 0].tolist() == [0, 255]


def test_not_finite_is_drawn_in_its_own_colour():
    colors = colorize([[np.nan, np.inf, -np.inf, 0.5]], low=0, high=1, color_map="gray")
    assert [tuple(color) for color in colors[0]] == [NOT_FINITE, NOT_FINITE, NOT_FINITE, (128, 128, 128)]


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-45, 3e38])
def test_equal_bounds_give_the_first_colour(value):
    colors = colorize(np.full((2, 2), value, np.float32), low=value, high=value)
    assert (colors == color_table("viridis")[0]).all()


@pytest.mark.parametrize(("low", "high"), [(1, 0), (float("nan"), 1), (0, float("nan"))])
def test_bounds_in_the_wrong_order_are_refused(low, high):
    with pytest.raises(ValueError, match="low <= high"):
        colorize([[0.0]], low=low, high=high)


def test_the_whole_float_range_does_not_overflow():
    edge = np.finfo(np.float32).max
    colors = colorize(np.array([[-edge, 0, edge]], np.float32), low=-edge, high=edge, color_map="gray")
    assert colors[0, :, 0].tolist() == [0, 128, 255]


@given(
    hnp.arrays(st.sampled_from([np.float32, np.float64]), hnp.array_shapes(min_dims=2, max_dims=4, max_side=6)),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
)
def test_any_numbers_can_be_coloured(values, one, other):
    colors = colorize(values, low=min(one, other), high=max(one, other))
    assert colors.shape == (*values.shape, 3)
    assert ((colors == NOT_FINITE).all(axis=-1) == ~np.isfinite(values)).all()


# Resizing and overlays


def test_resize_map_is_torch_interpolation():
    torch = pytest.importorskip("torch")
    for shape, size in itertools.product(
        [(3, 7, 5), (1, 1, 1), (2, 9, 4)], [(13, 29), (1, 1), (7, 5), (224, 3), (2, 2)]
    ):
        values = random_maps(*shape)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(values)[None], size=size, mode="bilinear", align_corners=False
        )[0]
        assert np.abs(resize_map(values, size) - expected.numpy()).max() <= 2e-6


@pytest.mark.parametrize(("shape", "size"), [((4,), (2, 2)), ((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_resize_map_refuses_what_has_no_pixels(shape, size):
    with pytest.raises(ValueError, match="Expected a map"):
        resize_map(np.zeros(shape), size)


def test_overlay_mixes_picture_and_colours():
    picture = Image.effect_noise((40, 30), 50).convert("RGB")
    heat = random_maps(5, 6)
    colors = colorize(resize_map(heat, (30, 40)), low=heat.min(), high=heat.max(), color_map="magma")
    for opacity in (0, 0.3, 1):
        mixed = np.asarray(overlay(picture, heat, opacity=opacity, color_map="magma"), float)
        assert np.abs(mixed - ((1 - opacity) * np.asarray(picture, float) + opacity * colors)).max() <= 1


def test_overlay_takes_arrays_and_grey_pictures():
    pixels = np.full((8, 9, 3), 200, np.uint8)
    heat = np.zeros((2, 2))
    expected = overlay(Image.fromarray(pixels), heat)
    assert overlay(pixels, heat) == expected == overlay(Image.new("L", (9, 8), 200), heat)
    assert expected.size == (9, 8)


def test_a_bound_beyond_all_values_pushes_the_other():
    black = np.zeros((4, 4, 3), np.uint8)
    negative = -1 - np.random.default_rng(0).random((2, 2))
    lowest = np.asarray(overlay(black, negative, opacity=1, low=0))
    assert (lowest == color_table("viridis")[0]).all()
    assert mosaic(negative[None], low=0).high.tolist() == [0]
    assert mosaic(-negative[None], high=0).low.tolist() == [0]


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_overlay_refuses_other_opacities(opacity):
    with pytest.raises(ValueError, match="opacity"):
        overlay(Image.new("RGB", (4, 4)), np.zeros((2, 2)), opacity=opacity)


def test_overlay_refuses_a_stack_of_maps():
    with pytest.raises(ValueError, match="heat map"):
        overlay(Image.new("RGB", (4, 4)), np.zeros((1, 2, 2)))


def test_data_url_holds_the_same_picture():
    picture = mosaic(random_maps(5, 3, 3)).image
    head, body = data_url(picture).split(",")
    assert head == "data:image/png;base64"
    again = Image.open(io.BytesIO(base64.b64decode(body)))
    assert again.mode == "RGBA"
    assert np.array_equal(np.asarray(again), np.asarray(picture))


# Mosaics


@pytest.mark.parametrize("scale", ["shared", "channel"])
@pytest.mark.parametrize(
    ("shape", "columns", "tile", "gap"),
    [
        ((7, 4, 3), 3, 12, 2),
        ((1, 1, 1), None, None, 0),
        ((6, 5, 5), 2, 4, 1),
        ((10, 2, 8), None, 17, 0),
        ((3, 2, 2), 9, 6, 3),
    ],
)
def test_every_tile_shows_its_map(scale, shape, columns, tile, gap):
    maps = random_maps(*shape)
    result = mosaic(maps, columns=columns, tile=tile, gap=gap, scale=scale)
    pixels = np.asarray(result.image)
    covered = np.zeros(pixels.shape[:2], bool)
    for index, values in enumerate(maps):
        left, top, right, bottom = result.cell(index)
        factor = (right - left) // shape[2]
        assert (right - left, bottom - top) == result.tile == (shape[2] * factor, shape[1] * factor)
        covering = values if scale == "channel" else maps
        assert result.low[index] == covering.min()
        assert result.high[index] == covering.max()
        expected = colorize(values, low=covering.min(), high=covering.max()).repeat(factor, 0).repeat(factor, 1)
        drawn = pixels[top:bottom, left:right]
        assert np.abs(drawn[..., :3].astype(int) - expected).max() <= 2
        assert not covered[top:bottom, left:right].any()
        covered[top:bottom, left:right] = True
    assert ((pixels[..., 3] == 255) == covered).all()
    assert (pixels[..., 3][~covered] == 0).all()
    assert result.cell(0)[:2] == (0, 0)
    assert result.cell(min(result.columns, shape[0]) - 1)[2] == result.image.width
    assert result.cell(shape[0] - 1)[3] == result.image.height


@pytest.mark.parametrize(("tile", "drawn"), [(None, 7), (5, 7), (7, 7), (13, 7), (14, 14), (30, 28)])
def test_tiles_grow_by_whole_factors_and_never_shrink(tile, drawn):
    assert mosaic(np.zeros((2, 7, 7)), tile=tile).tile == (drawn, drawn)


def test_left_to_itself_a_mosaic_is_about_square():
    for shape in [(2048, 7, 7), (64, 112, 112), (40, 4, 32), (12, 14, 14)]:
        width, height = mosaic(np.zeros(shape)).image.size
        assert 0.5 < width / height < 2


def test_dead_maps_are_crossed_out_and_the_others_left_alone():
    maps = random_maps(6, 8, 8)
    maps[[1, 4]] = 0
    dead = np.isin(np.arange(6), [1, 4])
    for color_map in COLOR_MAPS:
        plain = mosaic(maps, tile=32, color_map=color_map)
        marked = mosaic(maps, tile=32, color_map=color_map, dead=dead)
        changed = np.asarray(plain.image).astype(int) != np.asarray(marked.image)
        for index in range(6):
            left, top, right, bottom = marked.cell(index)
            inside = changed[top:bottom, left:right].any(axis=-1)
            assert inside.any() == dead[index]
            if dead[index]:
                assert inside[0, 0]
                assert inside[16, 16]
                assert inside[0, -1]
                assert not inside[0, 16]
                background = np.asarray(marked.image)[top, left + 16, :3].astype(int)
                cross = np.asarray(marked.image)[top, left, :3].astype(int)
                assert abs(background.mean() - cross.mean()) > 50


def test_not_finite_values_show_and_do_not_move_the_range():
    maps = random_maps(2, 3, 3)
    low, high = maps[:, 1:].min(), maps[:, 1:].max()
    maps[0, 0], maps[1, 0] = np.nan, [np.inf, -np.inf, np.nan]
    result = mosaic(maps, gap=0, columns=1)
    assert result.low.tolist() == [low, low]
    assert result.high.tolist() == [high, high]
    pixels = np.asarray(result.image)[..., :3].reshape(2, 3, 3, 3)
    assert ((pixels == NOT_FINITE).all(axis=-1) == ~np.isfinite(maps)).all()
    nothing = mosaic(np.full((3, 2, 2), np.nan), scale="channel")
    assert nothing.low.tolist() == nothing.high.tolist() == [0, 0, 0]


def test_given_bounds_replace_those_of_the_values():
    result = mosaic(random_maps(3, 2, 2), scale="channel", low=-9, high=9)
    assert result.low.tolist() == [-9] * 3
    assert result.high.tolist() == [9] * 3


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_cell_outside(index):
    with pytest.raises(IndexError, match="0 to 2"):
        mosaic(np.zeros((3, 2, 2)), columns=2).cell(index)


@pytest.mark.parametrize(
    "wrong",
    [
        {"maps": np.zeros((2, 2))},
        {"maps": np.zeros((0, 2, 2))},
        {"columns": 0},
        {"gap": -1},
        {"scale": "layer"},
        {"dead": [True]},
        {"low": 1, "high": 0},
        {"color_map": "jet"},
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        mosaic(**{"maps": np.zeros((2, 2, 2)), **wrong})


def test_the_input_is_left_as_it_was():
    maps = random_maps(4, 3, 3)
    maps[0, 0, 0] = np.nan
    before = maps.copy()
    mosaic(maps, dead=[True, False, False, True])
    overlay(Image.new("RGB", (4, 4)), maps[1])
    assert np.array_equal(maps, before, equal_nan=True)


@pytest.mark.parametrize(("shape", "tile"), [((2048, 7, 7), 28), ((64, 112, 112), None)])
def test_large_mosaics_take_tens_of_milliseconds(shape, tile):
    maps = random_maps(*shape)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        mosaic(maps, tile=tile, dead=np.arange(shape[0]) % 5 == 0)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_drawing_needs_neither_torch_nor_matplotlib():
    modules = ("torch", "matplotlib", "streamlit")
    code = f"import sys, featviz_core.drawing; print([m for m in {modules} if m in sys.modules])"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
