"""Feature maps against plain hooks, and what is said about them against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import featviz_core as fv
from featviz_core.capture import layers_of
from featviz_core.demo.samples import SAMPLES
from featviz_core.errors import LayerError, ModelError
from featviz_core.images import read_picture
from featviz_core.techniques.feature_maps.compute import ORDERS, FeatureMaps
from featviz_core.techniques.feature_maps.depth import stages
from featviz_core.techniques.feature_maps.examples import example_maps, preview
from tests.toys import SHAPE, pictures, toy
from tests.woken import remembered, size_of, waking_pictures
from tests.zoo_walk import walk, wrong_with

pytestmark = pytest.mark.usefixtures("one_thread")

NAN, INF = math.nan, math.inf


def made_of(*channels: list[list[float]]) -> FeatureMaps:
    """Feature maps of these channels, at no layer in particular."""
    layer = layers_of(toy("Linear"), SHAPE).find("conv")
    return FeatureMaps(layer, np.array([channels], np.float32))


def hooked(module: nn.Module, images: torch.Tensor, layer: str) -> torch.Tensor:
    outputs = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
    with torch.no_grad():
        module(images)
    handle.remove()
    return outputs[-1]


# The maps


def test_maps_are_what_a_plain_hook_sees(shapes_cnn, model_untouched):
    images = torch.randn(2, 3, 128, 128)
    for layer in ("stem", "trunk_output.block2", "fc"):
        with model_untouched(shapes_cnn):
            result = fv.feature_maps(shapes_cnn, images, layer=layer)
        expected = hooked(shapes_cnn.module, images, layer).numpy()
        assert np.array_equal(result.maps, expected if expected.ndim == 4 else expected[:, :, None, None])
        assert result.maps.dtype == np.float32
        assert result.maps.flags.c_contiguous
        assert result.layer.address == layer


def test_calls_of_one_layer_are_told_apart():
    first, last = (fv.feature_maps(toy("Again"), pictures(), layer=layer).maps for layer in ("relu#1", "relu"))
    assert first.shape == (1, 4, 6, 6)
    assert last.shape == (1, 5, 4, 4)


def test_tokens_and_channels_last_come_out_as_maps():
    tokens = fv.feature_maps(toy("SequenceFirst"), pictures(2), layer="mlp")
    assert tokens.maps.shape == (2, 8, 4, 4)
    module, images = remembered("swin_t"), waking_pictures(1, size_of("swin_t"))
    last = fv.feature_maps(module, images, layer="features.1")
    assert np.array_equal(last.maps, hooked(module, images, "features.1").permute(0, 3, 1, 2).numpy())


def test_half_precision_becomes_float32():
    result = fv.feature_maps(toy("InPlace").to(torch.bfloat16), pictures(), layer="body.1")
    assert result.maps.dtype == np.float32
    assert result.maps.min() == 0


@pytest.mark.parametrize("name", ["resnet18", "vit_b_32", "swin_t", "convnext_tiny", "googlenet", "densenet121"])
def test_zoo_models_have_maps_at_first_middle_and_last_stage(name):
    results = walk(remembered(name), size_of(name))
    assert len({result.layer.address for result in results}) == 3
    assert not [message for message in map(wrong_with, results) if message]


def test_what_the_walk_calls_wrong():
    assert "is constant" in wrong_with(made_of([[1, 1], [1, 1]], [[2, 2], [2, 2]]))
    assert "is not finite" in wrong_with(made_of([[1, NAN], [1, 1]]))
    assert "has the shape" in wrong_with(made_of([[1]], [[2]]))
    assert wrong_with(made_of([[1, 1], [1, 1]], [[2, 3], [2, 2]])) == ""


# What is said about each channel

ODD = (
    [[0.0, 1], [2, 5]],
    [[0.0, 0], [0, 0]],
    [[-3.0, -3], [-3, -3]],
    [[1000.0, 1000.0001], [1000, 1000]],
    [[1000.0, 1001], [1000, 1000]],
    [[0.0, 1e-20], [0, 0]],
    [[NAN, 1], [1, 1]],
    [[NAN, NAN], [NAN, NAN]],
    [[INF, INF], [INF, INF]],
    [[-INF, INF], [0, 0]],
    [[3e38, -3e38], [0, 0]],
)
DEAD = [False, True, True, True, False, False, False, False, False, False, False]
FINITE = [True, True, True, True, True, True, False, False, False, False, True]


@pytest.mark.filterwarnings("error")
def test_the_frame_is_what_the_definitions_say():
    frame = made_of(*ODD).frame()
    assert list(frame["channel"]) == list(range(len(ODD)))
    assert list(frame["dead"]) == DEAD
    assert list(frame["finite"]) == FINITE
    for row, channel in zip(frame.itertuples(), ODD, strict=True):
        values = [float(np.float32(value)) for line in channel for value in line]
        assert row.sparsity == sum(value == 0 for value in values) / 4
        if row.finite:
            mean = math.fsum(values) / 4
            spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 4)
            assert row.mean == pytest.approx(mean, rel=1e-9, abs=1e-30)
            assert row.spread == pytest.approx(spread, rel=1e-9, abs=1e-30)
            assert (row.min, row.max) == (min(values), max(values))


def test_each_picture_has_its_own_frame():
    images = torch.cat([pictures(1), torch.zeros(1, *SHAPE)])
    result = fv.feature_maps(toy("Linear"), images, layer="conv")
    assert not result.frame(0)["dead"].any()
    assert result.frame(1)["dead"].all()
    assert np.allclose(result.frame(0)["mean"], result.maps[0].mean((1, 2)), atol=1e-6)


def test_a_vectors_channel_is_dead_when_it_is_zero():
    vector = made_of([[0.0]], [[2.0]], [[-0.0]], [[NAN]])
    assert list(vector.frame()["dead"]) == list(vector.dead()) == [True, False, True, False]


def test_the_range_leaves_out_what_is_not_finite():
    assert made_of(*ODD[:7]).value_range() == (-3, 1001)
    assert made_of([[NAN, INF], [NAN, NAN]]).value_range() == (0, 0)


def test_orders():
    result = made_of([[1.0, 1], [1, 9]], [[0, 0], [0, 0]], [[NAN, 0], [0, 0]], [[5.0, 5], [5, 5]], [[0.0, 1], [2, 3]])
    assert result.ranked() == [0, 1, 2, 3, 4]
    assert result.ranked("mean") == [3, 0, 4, 1, 2]
    assert result.ranked("max") == [0, 3, 4, 1, 2]
    assert result.ranked("spread") == [0, 4, 1, 3, 2]
    assert result.ranked("sparsity") == [1, 2, 4, 0, 3]
    assert len(ORDERS) == 5
    with pytest.raises(ValueError, match="channel, mean, max"):
        result.ranked("colour")


# Pictures


def test_the_mosaic_shows_the_channels_asked_for_and_crosses_out_the_dead():
    result = made_of([[0.0, 1], [2, 3]], [[7.0, 7], [7, 7]], [[0.0, 0], [0, 3]])
    mosaic = result.mosaic(channels=[2, 1], columns=2, tile=16, gap=0, color_map="gray")
    pixels = np.asarray(mosaic.image)[..., :3]
    assert mosaic.count == 2
    left, right = pixels[:, :16], pixels[:, 16:]
    assert (left[:8, :8] == left[0, 0]).all()
    assert left[15, 15, 0] > left[0, 0, 0]
    assert len(np.unique(right.reshape(-1, 3), axis=0)) == 2, "one value and the cross over it"
    assert len(np.unique(left.reshape(-1, 3), axis=0)) == 2
    everything = result.mosaic(scale="channel", low=0.0)
    assert everything.count == 3
    assert list(everything.high) == [3, 7, 3]


def test_the_mosaic_is_of_the_picture_asked_for():
    result = fv.feature_maps(toy("Linear"), pictures(2), layer="conv")
    second = FeatureMaps(result.layer, result.maps[1:])
    assert np.array_equal(np.asarray(result.mosaic(1).image), np.asarray(second.mosaic(0).image))
    assert not np.array_equal(np.asarray(result.mosaic(0).image), np.asarray(second.mosaic(0).image))


# Through the depth


def test_depth_maps_are_what_the_definition_says(model_untouched):
    module, images = toy("InPlace"), pictures()
    with model_untouched(module):
        found = fv.depth_overview(module, images, layers=["body.4", "body.0", "fc"])
    assert [stage.layer.address for stage in found] == ["body.0", "body.4", "fc"]
    for stage in found:
        maps = fv.feature_maps(module, images, layer=stage.layer.address)
        channels, height, width = maps.maps.shape[1:]
        for i in range(height):
            for j in range(width):
                squares = [float(maps.maps[0, c, i, j]) ** 2 for c in range(channels)]
                assert stage.energy[i, j] == pytest.approx(math.sqrt(sum(squares) / channels), rel=1e-5, abs=1e-12)
        assert stage.dead_fraction == pytest.approx(maps.frame()["dead"].mean())


def test_dead_channels_are_counted():
    module = toy("InPlace")
    with torch.no_grad():
        module.body[0].weight[:3] = 0
    (stage,) = fv.depth_overview(module, pictures(), layers=["body.0"])
    assert stage.dead_fraction == 0.5


@pytest.mark.parametrize(
    ("name", "first", "last", "among"),
    [
        ("resnet18", "conv1", "layer4", {"layer1", "layer2", "layer3"}),
        ("vit_b_32", "conv_proj", "encoder.ln", {"encoder.layers.encoder_layer_5"}),
        ("swin_t", "features.0", "permute", {"features.1", "features.3", "features.5"}),
        ("squeezenet1_1", "features.0", "classifier.2", {"features.6"}),
        ("googlenet", "conv1", "inception5b", {"inception4a"}),
        ("densenet121", "features.conv0", "features.norm5", {"features.denseblock2", "features.transition2"}),
    ],
)
def test_stages_tell_the_story_of_each_family(name, first, last, among):
    size = size_of(name)
    found = stages(layers_of(remembered(name), (3, size, size)))
    addresses = [layer.address for layer in found]
    assert 8 <= len(found) <= 12
    assert (addresses[0], addresses[-1]) == (first, last)
    assert among <= set(addresses)
    assert [layer.order for layer in found] == sorted(layer.order for layer in found)
    assert not [a for a in addresses for b in addresses if b.startswith(a + ".")], "none lies inside another"


def test_the_demo_models_depth(shapes_cnn):
    images = shapes_cnn.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image)
    found = fv.depth_overview(shapes_cnn, images)
    assert 6 <= len(found) <= 12
    assert found[0].layer.address == "stem"
    sides = [stage.energy.shape[0] for stage in found]
    assert sides == sorted(sides, reverse=True)
    assert all(stage.energy.max() > 0 and 0 <= stage.dead_fraction < 1 for stage in found)


# Kernels


def test_kernels_are_the_weights():
    module = toy("InPlace")
    found = fv.kernels(module, layer="body.0")
    assert np.array_equal(found.weights, module.body[0].weight.detach().numpy())
    assert found.colored
    largest = np.abs(found.weights).max()
    for channel in range(6):
        expected = found.weights[channel].transpose(1, 2, 0) / largest * 127.5 + 127.5
        assert np.abs(found.rgb(channel).astype(float) - expected).max() <= 0.501
    found.weights[:] = 0
    assert module.body[0].weight.any(), "a copy"
    assert (found.rgb(0) == 128).all()


def test_kernels_that_are_no_pictures():
    module = toy("InPlace")
    assert fv.kernels(toy("Linear"), layer="conv") is None, "1×1"
    assert fv.kernels(module, layer="fc") is None
    assert fv.kernels(module, layer="body") is None
    assert fv.kernels(toy("Again"), layer="b#1").weights.shape == (4, 4, 3, 3)
    with pytest.raises(ValueError, match="3 input channels, got 6"):
        fv.kernels(module, layer="body.2").rgb(0)


# Errors


def test_errors(shapes_cnn):
    images = torch.zeros(1, 3, 128, 128)
    with pytest.raises(LayerError, match=r"no layer 'trunk_output\.block9'.*trunk_output\.block"):
        fv.feature_maps(shapes_cnn, images, layer="trunk_output.block9")
    with pytest.raises(LayerError, match=r"no layer 'steem'.*stem"):
        fv.kernels(shapes_cnn, layer="steem")
    with pytest.raises(LayerError, match="never called"):
        fv.feature_maps(toy("NeverCalled"), pictures(), layer="spare")
    with pytest.raises(LayerError, match=r"nothing that can be laid on the picture.*\(16, 4\)"):
        fv.feature_maps(toy("Windows"), pictures(), layer="position")
    with pytest.raises(LayerError, match="nothing that can be laid on the picture"):
        fv.depth_overview(toy("Windows"), pictures(), layers=["stem", "position"])
    with pytest.raises(ModelError, match=r"cannot look at pictures of shape \(128, 128, 3\)"):
        fv.feature_maps(shapes_cnn, torch.zeros(1, 128, 128, 3), layer="stem")
    with pytest.raises(ModelError, match="wrong form"):
        fv.feature_maps(shapes_cnn, torch.zeros(3, 128, 128), layer="stem")


# To learn from


def test_examples_look_as_they_are_called():
    healthy, dead, untrained = example_maps()
    assert healthy.maps.frame()["dead"].mean() < 0.2
    assert dead.maps.frame()["dead"].mean() >= 0.5
    assert not np.array_equal(untrained.maps.maps, healthy.maps.maps)
    assert all(example.title and example.text for example in example_maps())


def test_preview_is_a_picture_of_eight_channels(shapes_cnn):
    picture = preview(shapes_cnn, shapes_cnn.preprocess(read_picture(SAMPLES[0].path.read_bytes()).image))
    assert picture.width > picture.height > 100
