"""Partial runs against full runs in which a plain hook puts the changed activation in place."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from featviz_core.capture import layers_of
from featviz_core.errors import LayerError, ModelError
from featviz_core.layouts import first_tensor
from featviz_core.rerun import rerun_from
from tests.toys import SHAPE, TOYS, Slowly, logits_of, pictures, toy
from tests.woken import remembered, size_of, stages, waking_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def called(name: str) -> list[str]:
    return [layer.address for layer in layers_of(toy(name), SHAPE).layers if layer.order >= 0 and layer.shape]


# A table of positions does not grow with the batch.
EVERY_LAYER = [(name, layer) for name in TOYS for layer in called(name) if (name, layer) != ("Windows", "position")]
BATCH = 3


def changed(activation: torch.Tensor, axis: int) -> torch.Tensor:
    """Three activations: as it was, halved, and with noise."""
    noise = torch.randn(activation.shape, generator=torch.Generator().manual_seed(5)).to(activation)
    return torch.cat([activation, activation * 0.5, activation + 0.1 * noise], axis)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def check(module: nn.Module, reference: nn.Module, images: torch.Tensor, address: str) -> None:
    layer = layers_of(module, tuple(images.shape[1:])).find(address)
    axis = layer.layout.batch_dim if layer.layout else 0
    slowly = Slowly(reference, layer.name, layer.call)
    with torch.no_grad():
        plain = logits_of(slowly.run(images))
    with rerun_from(module, images, layer=address) as rerun, torch.no_grad():
        assert torch.equal(rerun.activation, first_tensor(slowly.output))
        assert torch.equal(logits_of(rerun.output), plain)
        some = changed(rerun.activation, axis)
        before = some.clone()
        found = logits_of(rerun(some))
        again = logits_of(rerun(some))
        same = logits_of(rerun(rerun.activation))
        assert torch.equal(some, before)
        expected = logits_of(slowly.run(images.expand(BATCH, *images.shape[1:]), instead=some))
    assert distance(found, expected) < 1e-5
    assert torch.equal(found, again)
    assert distance(same, plain) < 1e-5


@pytest.mark.parametrize(("name", "layer"), EVERY_LAYER)
def test_toys_answer_as_in_a_full_run(name, layer, model_untouched):
    module = toy(name)
    with model_untouched(module):
        check(module, toy(name), pictures(), layer)


ZOO_LAYERS = [
    ("resnet18", ["layer1.0.relu#1", "layer2.0.bn2", "layer2.0.downsample.1", "layer3.1", "fc"]),
    ("densenet121", ["features.denseblock2.denselayer3.conv2", "features.transition2", "features.norm5"]),
    ("googlenet", ["inception4b.branch2.0", "inception5a"]),
    ("mobilenet_v3_small", ["features.4.block.2.scale_activation", "features.9.block"]),
    ("shufflenet_v2_x0_5", ["stage3.1.branch2.3", "conv5"]),
    ("vit_b_32", ["encoder.layers.encoder_layer_5.ln_1", "encoder.layers.encoder_layer_9.self_attention"]),
    ("swin_t", ["features.1.1.norm2", "features.3.0", "features.5.3.mlp.0"]),
    ("convnext_tiny", ["features.3.1.block.2", "features.5"]),
    ("squeezenet1_1", ["features.1", "features.4.squeeze_activation", "features.12"]),
]


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in ZOO_LAYERS for layer in layers])
def test_zoo_models_answer_as_in_a_full_run(name, layer):
    module = remembered(name)
    check(module, module, waking_pictures(1, size_of(name)), layer)


def test_what_lies_before_the_layer_does_not_run_again():
    module, calls = toy("InPlace"), []
    for name, m in module.named_modules():
        m.register_forward_pre_hook(lambda _module, _inputs, name=name: calls.append(name))
    with rerun_from(module, pictures(), layer="body.3") as rerun:
        calls.clear()
        rerun(rerun.activation)
    assert calls == ["", "body", "body.4", "fc"]


def test_the_shared_batch_takes_no_memory_before_the_layer():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    with rerun_from(net, pictures(), layer="2") as rerun:
        seen = []
        rerun._module[2].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        rerun(rerun.activation.expand(64, 8, 1, 1))
    assert not seen, "the layer itself does not run"
    with torch.no_grad(), rerun_from(toy("Glue"), pictures(), layer="drop") as rerun:
        event = next(event for event in rerun._events if event.name == "stem")
        spread = rerun._spread(event, event.value, 64)
        assert spread.shape[0] == 64
        assert spread.untyped_storage().nbytes() == event.value.untyped_storage().nbytes()


def test_gradients_flow_to_the_changed_activation_and_to_nothing_else():
    module, images = toy("Glue"), pictures()
    with rerun_from(module, images, layer="bn") as rerun:
        some = changed(rerun.activation, 0).requires_grad_()
        output = rerun(some)
        (found,) = torch.autograd.grad(output[:, 1].sum(), some)
        assert all(not parameter.requires_grad for parameter in rerun._module.parameters())
        assert not rerun(rerun.activation).requires_grad
    slowly = Slowly(toy("Glue"), "bn", 1)
    naive = some.detach().clone().requires_grad_()
    expected = slowly.run(images.expand(BATCH, *SHAPE), instead=naive)
    (wanted,) = torch.autograd.grad(expected[:, 1].sum(), naive)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_a_second_rerun_may_be_under_way_on_the_same_model():
    module, images = toy("Glue"), pictures()
    with rerun_from(module, images, layer="bn") as one, rerun_from(module, images, layer="stem") as other:
        first = one(one.activation * 2)
        other(other.activation * 3)
        assert torch.equal(one(one.activation * 2), first)


def test_another_path_is_refused():
    module = toy("DataPath")
    with rerun_from(module, pictures(), layer="dark") as rerun:
        rerun(rerun.activation * 2)
    with rerun_from(module, pictures(), layer="stem") as rerun:
        bright = rerun(rerun.activation + 1000)
        assert torch.isfinite(bright).all()
    with (
        rerun_from(Detour().eval(), pictures(), layer="second") as rerun,
        pytest.raises(LayerError, match=r"another path.*nearer"),
    ):
        rerun._module.open = False
        rerun(rerun.activation)


class Detour(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.open = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), True

    def forward(self, x):
        x = self.first(x)
        return (self.second(x) if self.open else x).mean((2, 3))


@pytest.mark.parametrize("shape", [(2, 4, 8), (1, 5, 8, 8), (1, 4, 9, 8), (0, 4, 8, 8)])
def test_an_activation_of_another_shape_is_refused(shape):
    with (
        rerun_from(toy("Glue"), pictures(), layer="bn") as rerun,
        pytest.raises(LayerError, match=r"does not fit layer 'bn'.*\(1, 4, 8, 8\)"),
    ):
        rerun(torch.zeros(shape))


def test_several_pictures_are_refused():
    with pytest.raises(ModelError, match="one picture"), rerun_from(toy("Glue"), pictures(2), layer="bn"):
        pass


def test_a_models_own_error_is_explained():
    with (
        rerun_from(AtMostTwo().eval(), pictures(), layer="conv") as rerun,
        pytest.raises(ModelError, match="at most two"),
    ):
        rerun(rerun.activation.repeat(3, 1, 1, 1))


class AtMostTwo(TOYS["Linear"]):
    def forward(self, x):
        if len(x) > 2:
            raise ValueError("at most two")
        return super().forward(x)


def test_the_answer_is_a_copy_of_nothing_that_stays():
    module = toy("ReluFirst")
    with rerun_from(module, pictures(), layer="last") as rerun:
        events = copy.deepcopy([event.value for event in rerun._events])
        for _ in range(2):
            rerun(rerun.activation).add_(1)
        rerun.output.add_(1)
        assert all(map(torch.equal, events, [event.value for event in rerun._events]))


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_every_stage_of_the_walk_can_be_rerun(name):
    module, images = remembered(name), waking_pictures(1, size_of(name))
    for layer in stages(layers_of(module, tuple(images.shape[1:]))):
        check(module, module, images, layer.address)
