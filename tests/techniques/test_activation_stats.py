"""The numbers of the activation statistics: closed forms, merging, and agreement with plain hooks."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import featviz_core as fv
from featviz_core.errors import LayerError, ModelError
from featviz_core.layouts import first_tensor
from featviz_core.techniques.activation_stats import ruler
from featviz_core.techniques.activation_stats.moments import merge
from tests.toys import pictures, toy
from tests.woken import remembered, waking_pictures

COLUMNS = [
    *("layer", "type", "shape", "mean", "std", "min", "max"),
    *("zero_fraction", "dead_fraction", "nan_count", "inf_count"),
]
NUMBERS = ["mean", "std", "min", "max", "zero_fraction"]


class Scale(nn.Module):
    """A 1×1 convolution of two channels, without mixing: channel i is `weights[i]` times red, plus `biases[i]`."""

    def __init__(self, weights: list[float], biases: list[float], activation: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, len(weights), 1)
        self.act = activation
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(weights)[:, None, None, None])
            self.conv.bias.copy_(torch.tensor(biases))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


def ramp() -> Tensor:
    """Two pictures of two pixels: 0, 1 and 2, 3."""
    return torch.arange(4.0).reshape(2, 1, 1, 2)


def by_hooks(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What everybody writes: outputs, kept by plain hooks; `name#1` for the first of several calls."""
    calls: dict[str, list[Tensor]] = {}

    def keep(name: str, output: Any) -> None:
        if (tensor := first_tensor(output)) is not None:
            calls.setdefault(name, []).append(tensor.detach().clone())

    handles = [
        inner.register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name, inner in module.named_modules()
    ]
    with torch.no_grad():
        module.eval()(images)
    for handle in handles:
        handle.remove()
    numbered = {f"{name}#{number}": output for name, own in calls.items() for number, output in enumerate(own, 1)}
    return numbered | {name: own[-1] for name, own in calls.items()}


def test_a_tiny_network_has_closed_forms() -> None:
    stats = fv.activation_stats(Scale([1.0, -1.0], [0.0, -1.0], nn.ReLU()), ramp())
    frame = stats.frame()
    assert list(frame.columns) == COLUMNS
    row = frame.iloc[0]
    # Channel 0 is 0, 1, 2, 3; channel 1 is -1, -2, -3, -4.
    values = torch.tensor([0.0, 1, 2, 3, -1, -2, -3, -4])
    assert (row["layer"], row["type"], row["shape"]) == ("conv", "Conv2d", (1, 2, 1, 2))
    assert row["mean"] == -0.5
    assert row["std"] == pytest.approx(float(values.std()))
    assert (row["min"], row["max"]) == (-4, 3)
    assert row["zero_fraction"] == 1 / 8
    assert row["dead_fraction"] == 0.5
    assert (row["nan_count"], row["inf_count"]) == (0, 0)
    channels = stats.layers["conv"].channel_frame()
    assert channels["mean"].tolist() == [1.5, -2.5]
    assert channels["dead"].tolist() == [False, True]
    assert channels["between"].tolist() == pytest.approx([2**0.5, 2**0.5])  # picture means 0.5 and 2.5
    assert (stats.pictures, stats.batches, stats.training) == (2, 1, False)


def test_the_activation_itself_can_be_asked_for() -> None:
    stats = fv.activation_stats(Scale([1.0, -1.0], [0.0, -1.0], nn.ReLU()), ramp(), layers=["act"])
    row = stats.frame().iloc[0]
    assert (row["mean"], row["zero_fraction"], row["dead_fraction"]) == (0.75, 5 / 8, 0.5)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_many_batches_are_as_one(offset: float) -> None:
    # In float64, because in float32 the network itself rounds differently for other batch sizes.
    module, images = toy("InPlace").double(), offset + pictures(12)
    # Batches of different sizes: an average of batch values would be wrong.
    parts = [images[:1], images[1:4], images[4:]]
    whole, streamed = fv.activation_stats(module, images), fv.activation_stats(module, iter(parts))
    pd.testing.assert_frame_equal(whole.frame(), streamed.frame(), rtol=1e-6)
    pd.testing.assert_frame_equal(whole.health(), streamed.health(), rtol=1e-6)
    for address, stats in whole.layers.items():
        np.testing.assert_allclose(stats.channels, streamed.layers[address].channels, rtol=1e-6)
    assert streamed.batches == 3


def test_a_large_mean_does_not_hide_the_spread() -> None:
    images = 1e4 + torch.randn(4, 1, 8, 8)
    row = fv.activation_stats(Scale([1.0], [0.0], nn.Identity()), images).frame().iloc[0]
    assert row["std"] == pytest.approx(float(images.double().std()), rel=1e-4)
    assert row["mean"] == pytest.approx(float(images.double().mean()), rel=1e-7)


def test_merging_is_what_one_pass_gives() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(5, 2, size) for size in (1, 7, 40)]

    def row(part: np.ndarray) -> list[float]:
        spread = ((part - part.mean()) ** 2).sum()
        return [len(part), part.mean(), spread, part.min(), part.max(), (part == 0).sum(), 0, 0]

    found = merge(np.array([row(part) for part in values]).T)
    np.testing.assert_allclose(found, row(np.concatenate(values)), rtol=1e-12)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "cnn": lambda: (fv.load_model("demo/shapes_cnn").module, waking_pictures(4, 128)),
    "resnet": lambda: (remembered("resnet18"), waking_pictures(3, 64)),
    "vit": lambda: (fv.load_model("demo/shapes_vit").module, waking_pictures(3, 128)),
    "swin": lambda: (remembered("swin_t"), waking_pictures(2, 96)),
}


@pytest.mark.parametrize("name", MODELS)
def test_plain_hooks_see_the_same(name: str) -> None:
    module, images = MODELS[name]()
    stats = fv.activation_stats(module, images)
    frame = stats.frame().set_index("layer")
    outputs = by_hooks(module, images)
    kinds = (nn.Conv2d, nn.Linear)
    # Modules whose weights are used without calling them have no output.
    called = [name for name, inner in module.named_modules() if isinstance(inner, kinds) and name in outputs]
    assert set(frame.index) == set(called)
    for address in called:
        exact = outputs[address].double()
        expected = [exact.mean(), exact.std(), exact.min(), exact.max(), (exact == 0).double().mean()]
        found = frame.loc[address, NUMBERS].to_numpy(float)
        scale = float(exact.abs().max())
        np.testing.assert_allclose(found, [float(value) for value in expected], rtol=1e-5, atol=1e-7 * scale)


@pytest.mark.parametrize("name", MODELS)
def test_dead_channels_are_those_that_no_place_wakes(name: str) -> None:
    module, images = MODELS[name]()
    stats = fv.activation_stats(module, images[:1])
    outputs, seen = by_hooks(module, images[:1]), 0
    for address, layer in stats.layers.items():
        if layer.activation is not None:
            output, seen = outputs[layer.activation.layer], seen + 1
            channel = 1 if layer.layer.kind == "convolution" else output.ndim - 1
            axes = [axis for axis in range(output.ndim) if axis != channel]
            np.testing.assert_array_equal(layer.dead, (output.amax(axes) <= 0).numpy(), err_msg=address)
    assert seen >= 8


def test_a_relu_behind_a_residual_sum_is_not_the_convolutions() -> None:
    stats = fv.activation_stats(remembered("resnet18"), waking_pictures(2, 64))
    assert stats.layers["layer1.0.conv1"].activation.layer == "layer1.0.relu#1"
    assert stats.layers["layer1.0.conv2"].activation is None


def test_training_mode_uses_the_batch_and_changes_nothing(model_untouched: Any) -> None:
    module, images = remembered("resnet18"), waking_pictures(4, 64)
    before = torch.random.get_rng_state()
    with model_untouched(module):
        frame = fv.activation_stats(module, images, layers=["bn1"], training=True).frame()
    assert torch.equal(before, torch.random.get_rng_state())
    norm = module.get_submodule("bn1")
    expected = (norm.weight.detach().square().sum() / len(norm.weight)).sqrt()
    assert frame["std"][0] == pytest.approx(float(expected), rel=1e-2)


def test_histograms_hold_the_sample_on_shared_bins() -> None:
    stats = fv.activation_stats(Scale([1.0, -1.0], [0.0, -1.0], nn.ReLU()), ramp(), layers=["conv", "act"])
    found = stats.histograms
    assert list(found.columns) == ["layer", "low", "high", "count", "share"]
    for layer, values in {"conv": [0, 1, 2, 3, -1, -2, -3, -4], "act": [0, 1, 2, 3, 0, 0, 0, 0]}.items():
        own = found[found["layer"] == layer]
        assert own["count"].sum() == 8
        for low, high, count in own[["low", "high", "count"]].itertuples(index=False):
            assert count == sum(low <= value < high for value in values)
    big = torch.randn(40, 1, 64, 64)
    sampled = fv.activation_stats(Scale([1.0], [0.0], nn.Identity()), big).layers["conv"]
    assert 7_000 < sampled.sampled == sampled.ruled.sum() == sampled.histogram.counts.sum() <= 8_192
    even = sampled.bins()
    assert even["count"].sum() == pytest.approx(sampled.sampled)
    middle = (even["low"] + even["high"]) / 2
    assert float((middle * even["share"]).sum()) == pytest.approx(0, abs=0.05)
    assert float((middle**2 * even["share"]).sum()) == pytest.approx(1, rel=0.05)


def test_the_rulers_ends_are_open() -> None:
    histogram = ruler.count(np.array([-np.inf, -1e9, 0.0, 1e9, np.inf, np.nan]))
    assert (histogram[0], histogram[-1], histogram.sum()) == (2, 2, 5)
    coarse = ruler.coarse(histogram)
    assert coarse["count"].tolist() == [2, 1, 2]
    assert coarse["low"].iloc[0] == -np.inf and coarse["high"].iloc[-1] == np.inf


@pytest.mark.parametrize(
    "toy_name", ["Again", "NeverCalled", "Pair", "Windows", "SequenceFirst", "WritesInput", "NoCopy"]
)
def test_awkward_networks_are_left_as_they_were(toy_name: str, model_untouched: Any) -> None:
    module = toy(toy_name)
    with model_untouched(module):
        stats = fv.activation_stats(module, [pictures(2), pictures(3)])
    assert stats.pictures == 5
    assert np.isfinite(stats.frame()[NUMBERS].to_numpy(float)).all()


def test_a_failing_pass_leaves_the_model_as_it_was(model_untouched: Any) -> None:
    module = toy("Linear")
    with model_untouched(module), pytest.raises(ModelError, match="cannot look at pictures"):
        fv.activation_stats(module, [pictures(1), torch.randn(1, 5, 8, 8)])


def test_each_call_of_a_layer_counts_for_itself() -> None:
    module, images = toy("Again"), pictures(3)
    frame = fv.activation_stats(module, images, layers=["relu#1", "relu#2", "relu"]).frame()
    assert frame["layer"].tolist() == ["relu#1", "relu#2", "relu"]
    assert frame["mean"].nunique() == 3


def test_loaders_may_give_pairs() -> None:
    images = pictures(4)
    pairs = [(images[:2], torch.zeros(2)), [images[2:], torch.zeros(2)]]
    expected = fv.activation_stats(toy("Linear"), images).frame()
    pd.testing.assert_frame_equal(fv.activation_stats(toy("Linear"), pairs).frame(), expected)


@pytest.mark.parametrize(
    ("batches", "layers", "error", "message"),
    [
        (torch.zeros(3, 8, 8), None, ModelError, "wrong form"),
        ([], None, ModelError, "no pictures"),
        (["text"], None, ModelError, "wrong form"),
        (torch.zeros(1, 3, 8, 8), ["conv2"], LayerError, "no layer 'conv2'"),
        (torch.zeros(1, 3, 8, 8), [], LayerError, "no layer to look at"),
    ],
)
def test_what_cannot_be_done_is_said(batches: Any, layers: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fv.activation_stats(toy("Linear"), batches, layers=layers)


def test_half_precision_is_summed_in_single() -> None:
    module = Scale([1.0], [0.0], nn.Identity()).to(torch.bfloat16)
    images = torch.ones(2, 1, 64, 64)
    assert fv.activation_stats(module, images).frame()["mean"][0] == 1


def test_progress_can_cancel() -> None:
    seen: list[float] = []

    def progress(fraction: float, _text: str) -> None:
        seen.append(fraction)
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fv.activation_stats(toy("Linear"), [pictures(1)] * 4, progress=progress)
    assert seen == [0, 0.25, 0.5]


def test_memory_does_not_grow_with_batches() -> None:
    module = toy("InPlace")
    peaks: list[int] = []

    def batches() -> Iterator[Tensor]:
        for number in range(200):
            if number in (100, 199):
                peaks.append(tracemalloc.get_traced_memory()[0])
            yield pictures(2, seed=number)

    tracemalloc.start()
    try:
        assert fv.activation_stats(module, batches()).batches == 200
    finally:
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 50_000


@pytest.mark.usefixtures("one_thread")
def test_eight_threads_get_what_one_gets() -> None:
    model = fv.load_model("demo/shapes_cnn")
    images = [waking_pictures(9, 128)[i : i + 1] for i in range(8)]
    alone = [fv.activation_stats(model, image).frame() for image in images]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: fv.activation_stats(model, images[i % 8]).frame(), range(64)))
    for number, frame in enumerate(found):
        pd.testing.assert_frame_equal(frame, alone[number % 8], rtol=0, atol=0)


def test_everything_can_be_written_as_json() -> None:
    content = json.loads(fv.activation_stats(toy("Linear"), float("nan") * pictures(2)).to_json())
    assert content["layers"][0]["mean"] is None
    assert content["findings"][0]["code"] == "activation.nan"
    assert content["health"][0]["layer"] == "conv"
