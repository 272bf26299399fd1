"""The list of layers against what plain hooks count in a real run."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
import torch
from torch import nn

from featviz_core.capture import layers_of
from featviz_core.errors import DeviceError, LayerError, ModelError
from featviz_core.layouts import first_tensor
from featviz_core.trace import explained, kind_of, split_address, trace
from tests.toys import SHAPE, TOYS, pictures, toy
from tests.woken import remembered, size_of

pytestmark = pytest.mark.usefixtures("one_thread")


def really(module: nn.Module, images: torch.Tensor) -> tuple[dict[str, list[tuple[int, ...]]], list[str]]:
    """By plain hooks: the shapes each module gave, and the order in which calls finished."""
    shapes, order = defaultdict(list), []
    for name, m in module.named_modules():

        def see(_module, _inputs, output, name=name):
            tensor = first_tensor(output)
            shapes[name].append(None if tensor is None else tuple(tensor.shape))
            order.append(name)

        m.register_forward_hook(see)
    with torch.no_grad():
        module(images)
    return shapes, order


@pytest.mark.parametrize("name", TOYS)
def test_calls_shapes_and_order_are_those_of_a_real_run(name, model_untouched):
    module = toy(name)
    with model_untouched(module):
        found = trace(module, SHAPE)
    shapes, order = really(toy(name), pictures(1))
    assert Counter(layer.name for layer in found.layers if layer.order >= 0) == Counter(order)
    called = sorted((layer for layer in found.layers if layer.order >= 0), key=lambda layer: layer.order)
    assert [layer.name for layer in called] == order
    for layer in called:
        assert layer.calls == len(shapes[layer.name])
        if layer.batched:
            assert layer.shape == shapes[layer.name][layer.call - 1], layer.address


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "swin_t", "vit_b_32"])
def test_zoo_models_are_listed_without_numbers(name):
    module, size = remembered(name), size_of(name)
    devices = set()
    handle = module.register_forward_pre_hook(lambda _module, inputs: devices.add(inputs[0].device.type))
    found = trace(module, (3, size, size))
    handle.remove()
    assert devices == {"meta"}
    assert [layer.name for layer in found.layers if layer.call == 1] == [name for name, _ in module.named_modules()]
    assert found.layers[0].parameters == sum(parameter.numel() for parameter in module.parameters())
    assert found.layers[0].shape == (1, 1000)


def test_never_called_layers_are_marked():
    never = {layer.name for layer in trace(remembered("googlenet"), (3, 64, 64)).layers if layer.order < 0}
    assert {name.split(".")[0] for name in never} == {"aux1", "aux2"}
    swin = {layer.name for layer in trace(remembered("swin_t"), (3, 96, 96)).layers if layer.order < 0}
    assert {name.rsplit(".", 1)[1] for name in swin} == {"qkv", "proj"}
    assert "encoder.layers.encoder_layer_0.self_attention.out_proj" in {
        layer.name for layer in trace(remembered("vit_b_32"), (3, 64, 64)).layers if layer.order < 0
    }


@pytest.mark.parametrize("name", ["Numbers", "NoCopy", "OwnForward"])
def test_models_that_need_real_numbers_are_run_for_real(name):
    found = trace(toy(name), SHAPE)
    assert found.layers[0].shape == (1, 5)
    assert all(layer.order >= 0 for layer in found.layers)


def test_calls_are_addressed_from_the_first_and_the_bare_name_is_the_last():
    found = trace(toy("Again"), SHAPE)
    assert [layer.address for layer in found.layers if layer.name == "relu"] == ["relu#1", "relu#2", "relu"]
    assert found.find("relu") is found.find("relu#3")
    assert found.find("relu#1").order < found.find("b").order < found.find("relu#2").order
    assert found.find("") is found.layers[0]
    for wrong in ("relu#0", "relu#4", "a#2"):
        with pytest.raises(LayerError, match="there is no call"):
            found.find(wrong)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("layer1.0.relu", ("layer1.0.relu", None)),
        ("layer1.0.relu#2", ("layer1.0.relu", 2)),
        ("relu#", ("relu#", None)),
        ("relu#two", ("relu#two", None)),
        ("relu#²", ("relu#²", None)),
        ("", ("", None)),
    ],
)
def test_addresses_are_split(address, expected):
    assert split_address(address) == expected


def test_an_unknown_layer_names_the_nearest():
    found = trace(remembered("resnet18"), (3, 64, 64))
    with pytest.raises(LayerError, match=r"no layer 'layer4\.2'.*nearest names are .*layer4\.1"):
        found.find("layer4.2")
    with pytest.raises(LayerError, match=r"See `layers\(\)`"):
        found.find("ZZZZ")


def test_a_module_under_two_names_is_listed_under_the_first():
    found = trace(toy("Shared"), SHAPE)
    assert [layer.address for layer in found.layers if layer.name.startswith("a")] == [
        "a#1",
        "a",
        "a.0#1",
        "a.0",
        "a.1#1",
        "a.1",
    ]
    with pytest.raises(LayerError, match="no layer 'b'"):
        found.find("b")


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet18", (1, 64, 64)), ("vit_b_32", (3, 60, 60)), ("vit_b_32", (3, 64, 32)), ("swin_t", (5, 9))],
)
def test_pictures_that_no_run_takes_are_explained(name, shape):
    with pytest.raises(ModelError, match="cannot look at pictures of shape"):
        trace(remembered(name), shape)


def test_too_little_memory_is_the_devices_fault():
    with pytest.raises(DeviceError, match="ran out of memory"), explained(toy("Linear"), SHAPE):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(3, 4, 1), "convolution"),
        (nn.Linear(3, 4), "linear"),
        (nn.BatchNorm2d(3), "normalisation"),
        (nn.LayerNorm(3), "normalisation"),
        (nn.MultiheadAttention(4, 2), "attention"),
        (nn.MaxPool2d(2), "pooling"),
        (nn.Dropout(), "dropout"),
        (nn.GELU(), "activation"),
        (nn.Sequential(nn.GELU()), "block"),
        (nn.Flatten(), "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_kinds(module, kind):
    assert kind_of(module) == kind


def test_swins_attention_is_attention():
    kinds = {layer.type: layer.kind for layer in trace(remembered("swin_t"), (3, 96, 96)).layers}
    assert kinds["ShiftedWindowAttention"] == "attention"


def test_depth_and_viewable():
    found = trace(toy("InPlace"), SHAPE)
    assert [found.find(name).depth for name in ("", "fc", "body.2")] == [0, 1, 2]
    assert found.find("body.2").viewable
    assert not trace(toy("Windows"), SHAPE).find("position").viewable


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_types_need_no_real_run(dtype):
    module, devices = toy("InPlace").to(dtype), set()
    module.register_forward_pre_hook(lambda _module, inputs: devices.add((inputs[0].device.type, inputs[0].dtype)))
    layers_of(module, SHAPE)
    assert devices == {("meta", dtype)}
