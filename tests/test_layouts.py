"""Every family's layout against one laid out by hand."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from featviz_core.capture import layers_of, record
from featviz_core.layouts import Layout, first_tensor
from featviz_core.trace import Layer
from tests.toys import CLASSES, pictures, toy

SIZE = 32

pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def vit() -> nn.Module:
    torch.manual_seed(0)
    net = VisionTransformer(image_size=SIZE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16)
    return net.eval()


@cache
def swin() -> nn.Module:
    torch.manual_seed(0)
    return SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4], num_classes=3
    ).eval()


@cache
def convnext() -> nn.Module:
    """As many channels as rows and columns, so that no shape tells which is which."""
    torch.manual_seed(0)
    return ConvNeXt([CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 1)], layer_scale=0.5, num_classes=3).eval()


@cache
def maxvit() -> nn.Module:
    torch.manual_seed(0)
    return MaxVit(
        input_size=(SIZE, SIZE),
        stem_channels=8,
        partition_size=2,
        block_channels=[8, 16],
        block_layers=[1, 2],
        head_dim=4,
        stochastic_depth_prob=0.1,
        num_classes=3,
    ).eval()


def seen(model: nn.Module, address: str, images: torch.Tensor | None = None):
    """A layer with what it got and gave for two pictures, and its maps."""
    images = pictures(2, shape=(3, SIZE, SIZE)) if images is None else images
    recording = record(model, images, layers=[address], with_inputs=True)
    layer, output = recording.layers[address], first_tensor(recording.outputs[address])
    assert layer.layout is not None
    return layer, recording.inputs[address][0], output, layer.layout.to_maps(output)


def all_layers(model: nn.Module, size: int = SIZE) -> dict[str, Layer]:
    return {layer.address: layer for layer in layers_of(model, (3, size, size)).layers if layer.order >= 0}


# Tokens


@pytest.mark.parametrize("address", ["encoder.dropout", "encoder.layers.encoder_layer_1", "encoder.ln"])
def test_a_vits_tokens_lie_row_by_row_without_the_class_token(address):
    layer, _, tokens, maps = seen(vit(), address)
    assert layer.layout == Layout("tokens", grid=(4, 4), prefix=1)
    assert maps.shape == (2, 12, 4, 4)
    for n, c, i, j in [(0, 0, 0, 0), (1, 3, 0, 2), (0, 11, 3, 1), (1, 7, 3, 3)]:
        assert maps[n, c, i, j] == tokens[n, 1 + 4 * i + j, c]


def test_a_vits_tokens_lie_where_their_patches_do():
    net = vit()
    _, _, _, patches = seen(net, "conv_proj")
    _, _, _, tokens = seen(net, "encoder.dropout")
    position = net.encoder.pos_embedding.detach()[0, 1:].T.reshape(12, 4, 4)
    assert torch.equal(tokens, patches + position)


def test_attention_in_a_vit_gives_a_tuple_of_tokens():
    layer, _, tokens, maps = seen(vit(), "encoder.layers.encoder_layer_0.self_attention")
    assert layer.kind == "attention"
    assert torch.equal(maps, tokens[:, 1:].transpose(1, 2).reshape(2, 12, 4, 4))


def test_pictures_wider_than_high_and_register_tokens():
    layer, _, tokens, maps = seen(Registers().eval(), "norm", pictures(2, shape=(3, 8, 24)))
    assert layer.layout == Layout("tokens", grid=(2, 6), prefix=5)
    assert maps.shape == (2, 8, 2, 6)
    assert torch.equal(maps[1, :, 1, 4], tokens[1, 5 + 6 + 4])


class Registers(nn.Module):
    """A class token and four registers before the patches of a wide picture."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.extra = (
            nn.Conv2d(3, 8, 4, stride=4),
            nn.LayerNorm(8),
            nn.Parameter(torch.zeros(5, 8)),
        )

    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        return self.norm(torch.cat([self.extra.expand(len(t), -1, -1), t], 1))[:, 0]


@pytest.mark.parametrize("count", [16, 17])
def test_tokens_without_any_convolution_are_taken_for_a_square(count):
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(192, 5)

        def forward(self, x):
            patches = nn.functional.unfold(x, 8, stride=8).transpose(1, 2)
            return self.embed(patches if count == 16 else torch.cat([patches[:, :1], patches], 1)).mean(1)

    layer, _, tokens, maps = seen(Embedded(), "embed")
    assert layer.layout == Layout("tokens", grid=(4, 4), prefix=count - 16)
    assert torch.equal(maps[0, :, 2, 3], tokens[0, count - 16 + 11])


def test_a_number_of_tokens_that_is_no_square_lies_in_a_row():
    assert Layout("tokens", grid=(1, 7)).to_maps(torch.zeros(2, 7, 3)).shape == (2, 3, 1, 7)
    layer = layers_of(nn.Sequential(nn.Flatten(2), nn.Linear(8, 9)), (7, 2, 4)).find("1")
    assert layer.layout == Layout("tokens", grid=(1, 7))


@pytest.mark.parametrize("address", ["norm", "mlp", "mlp.0", "attention"])
def test_sequence_first_tokens(address):
    layer, _, tokens, maps = seen(toy("SequenceFirst"), address, pictures(2))
    assert layer.layout == Layout("tokens", grid=(4, 4), prefix=1, batch_dim=1)
    assert tokens.shape[:2] == (17, 2)
    assert layer.shape == (17, 1, tokens.shape[2])
    for n, i, j in [(0, 0, 0), (1, 0, 3), (1, 2, 1)]:
        assert torch.equal(maps[n, :, i, j], tokens[1 + 4 * i + j, n])


# Channels last


def test_swins_maps_are_channels_last_from_the_first_permutation_on():
    net = swin()
    _, _, conv, conv_maps = seen(net, "features.0.0")
    layer, _, output, maps = seen(net, "features.0.1")
    assert torch.equal(conv, conv_maps)
    assert layer.layout == Layout("channels_last")
    assert output.shape == (2, 16, 16, 8)
    assert torch.equal(maps, conv)
    inner = [
        a for a, x in all_layers(net).items() if a.startswith("features.") and a != "features.0.0" and len(x.shape) == 4
    ]
    assert len(inner) > 20
    assert {all_layers(net)[address].layout for address in inner} == {Layout("channels_last")}
    assert seen(net, "features.3.1.mlp.1")[3].shape == (2, 64, 8, 8)


def test_swins_end_turns_back_to_channels_first():
    net = swin()
    before, after = seen(net, "norm"), seen(net, "permute")
    assert after[0].layout == Layout("channels_first")
    assert torch.equal(before[3], after[3])


def test_convnext_turns_and_turns_back_inside_its_blocks():
    net = convnext()
    for block in ("features.1.0", "features.1.1"):
        conv, turned = seen(net, f"{block}.block.0"), seen(net, f"{block}.block.1")
        assert conv[2].shape == turned[2].shape == (2, 8, 8, 8)
        assert torch.equal(turned[3], conv[2])
        assert not torch.equal(turned[2], conv[2])
        for inside in (2, 3, 4, 5):
            layer, _, output, maps = seen(net, f"{block}.block.{inside}")
            assert layer.layout == Layout("channels_last")
            assert torch.equal(maps, output.permute(0, 3, 1, 2))
        narrow, back = seen(net, f"{block}.block.5"), seen(net, f"{block}.block.6")
        assert back[0].layout == Layout("channels_first")
        assert torch.equal(back[3], narrow[3])
        assert (
            seen(net, block)[0].layout == seen(net, f"{block}.stochastic_depth")[0].layout == Layout("channels_first")
        )
    assert seen(net, "features.2.0")[0].layout == Layout("channels_first"), "LayerNorm2d"


# MaxViT's windows

BLOCK = "blocks.1.layers.1.layers"


@pytest.mark.parametrize("partition", ["window_attention", "grid_attention"])
def test_stitched_windows_are_the_tensor_before_they_were_cut(partition):
    net, where = maxvit(), f"{BLOCK}.{partition}"
    _, whole, windows, stitched = seen(net, f"{where}.partition_op")
    assert windows.shape[1:] != whole.shape[1:]
    assert torch.equal(stitched, whole)
    layer, _, swapped, stitched = seen(net, f"{where}.partition_swap")
    assert layer.layout.kind == "windows"
    assert layer.layout.swapped == (partition == "grid_attention")
    assert torch.equal(swapped, windows) == (partition == "window_attention")
    assert torch.equal(stitched, whole)


@pytest.mark.parametrize("partition", ["window_attention", "grid_attention"])
def test_stitched_windows_are_the_tensor_after_they_were_joined(partition):
    net, where = maxvit(), f"{BLOCK}.{partition}"
    _, _, _, joined = seen(net, f"{where}.departition_op")
    assert torch.equal(seen(net, f"{where}.departition_swap")[3], joined)
    assert torch.equal(seen(net, where)[3], joined)


@pytest.mark.parametrize("partition", ["window_attention", "grid_attention"])
def test_everything_inside_maxvits_windows_is_stitched_to_the_picture(partition):
    net, where = maxvit(), f"{BLOCK}.{partition}"
    inside = [address for address, layer in all_layers(net).items() if address.startswith(f"{where}.") and layer.shape]
    assert len(inside) >= 12
    recording = record(net, pictures(2, shape=(3, SIZE, SIZE)), layers=inside, with_inputs=True)
    for address, layer in recording.layers.items():
        given, output = recording.inputs[address][0], recording.outputs[address]
        maps = layer.layout.to_maps(output)
        assert maps.shape == (2, output.shape[-1] if layer.layout.kind == "windows" else 16, 4, 4), address
        if layer.kind == "normalisation":
            # Each place's channels are normalised where they lie.
            before = layer.layout.to_maps(given)
            mean, variance = before.mean(1, keepdim=True), before.var(1, correction=0, keepdim=True)
            assert torch.allclose(maps, (before - mean) / (variance + 1e-5).sqrt(), atol=1e-6)


def test_windows_of_a_picture_wider_than_high():
    picture = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    windows = torch.stack([picture[:, :, r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2, 4)], 1)
    windows = windows.flatten(3).transpose(2, 3)
    assert torch.equal(Layout("windows", grid=(2, 3), window=2).to_maps(windows), picture)
    swapped = Layout("windows", grid=(2, 3), window=2, swapped=True)
    assert torch.equal(swapped.to_maps(windows.transpose(1, 2)), picture)


class Prefixed(nn.Module):
    """Two tokens before the picture's, heads that pass a module of their own, and a mean that is one too."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.heads = nn.Conv2d(3, 8, 4, 4), nn.Identity()
        self.norm, self.pool = nn.LayerNorm(8), nn.AdaptiveAvgPool1d(1)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).mT
        tokens = torch.cat([tokens.new_zeros(len(x), 2, 8), tokens], 1)
        tokens = self.heads(tokens.unflatten(2, (2, 4)).transpose(1, 2)).transpose(1, 2).flatten(2)
        return self.pool(self.norm(tokens).mT).flatten(1)


def test_heads_are_no_picture_and_a_mean_over_tokens_has_no_places():
    steps = layers_of(Prefixed(), (3, 16, 24))
    assert steps.find("norm").layout == Layout("tokens", grid=(4, 6), prefix=2)
    assert steps.find("pool").layout is None


# The rest


def test_vectors_are_maps_of_one_place():
    layer, _, output, maps = seen(toy("Linear"), "fc", pictures(2))
    assert layer.layout == Layout("vector")
    assert torch.equal(maps, output[:, :, None, None])
    assert maps.shape == (2, CLASSES, 1, 1)


def test_what_does_not_lie_on_the_picture_has_no_layout():
    layers = {layer.name: layer for layer in layers_of(toy("Windows"), (3, 8, 8)).layers}
    assert layers["position"].layout is None
    assert layers["inside"].layout is None, "windows folded into the batch"
    assert layers["stem"].layout == Layout("channels_first")
    video = layers_of(nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 2, 1)), (3, 8, 8))
    assert video.find("1").layout is None


@pytest.mark.parametrize(
    ("output", "index"),
    [
        (torch.zeros(1), 0),
        ((None, torch.zeros(2), torch.zeros(3)), 1),
        ({"b": [3, torch.zeros(2)], "a": torch.zeros(1)}, 1),
        ([], None),
        ("text", None),
    ],
)
def test_the_first_tensor_of_an_output(output, index):
    found = first_tensor(output)
    assert (found is None) if index is None else len(found) == index + 1
