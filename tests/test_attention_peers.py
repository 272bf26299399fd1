"""The same weights as timm's un-fused path and transformers' eager attention, where those packages are installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featviz_core as fv


def seen_by_hooks(model: nn.Module, images: Tensor, ending: str) -> dict[str, Tensor]:
    """What the attention dropout of an un-fused model gets: the weights themselves."""
    kept: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if name.endswith(ending):
            where = name.removesuffix("." + ending)
            module.register_forward_pre_hook(lambda _m, given, where=where: kept.update({where: given[0].clone()}))
    with torch.no_grad():
        model(images)
    return kept


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_little_patch16_reg4_gap_256"]
)
def test_timms_unfused_path(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, depth=2).eval()
    images = torch.randn(1, 3, *model.default_cfg["input_size"][1:])
    fused = fv.attention_maps(model, images)
    for block in model.blocks:
        block.attn.fused_attn = False
    unfused = fv.attention_maps(model, images)
    theirs = seen_by_hooks(model, images, "attn_drop")
    assert list(fused.weights) == list(theirs) == ["blocks.0.attn", "blocks.1.attn"]
    for address, weights in theirs.items():
        assert np.abs(fused.weights[address] - weights.numpy()).max() < 1e-6
        assert np.abs(unfused.weights[address] - weights.numpy()).max() < 1e-6
    names = {
        "vit_t": ("class",),
        "deit_": ("class", "distillation"),
        "vit_l": tuple(f"register {i}" for i in (1, 2, 3, 4)),
    }
    assert fused.prefix_tokens == names[name[:5]]


def test_timms_swin_is_stitched() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, depths=(2, 2), num_heads=(3, 6)).eval()
    found = fv.attention_maps(model, torch.randn(1, 3, 224, 224))
    layout = next(iter(found.layout.values()))
    assert layout.grid == (56, 56) and layout.window == (7, 7)
    assert found.looks("layers.0.blocks.1.attn", query=10 * 56 + 10).sum((1, 2)) == pytest.approx(1, abs=1e-5)


def test_transformers_eager_attention() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32
    )
    model = transformers.ViTForImageClassification(config).eval()
    images = torch.randn(2, 3, 32, 32)
    ours = fv.attention_maps(model, images)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = model(images, output_attentions=True).attentions
    eager = fv.attention_maps(model, images)
    assert len(ours.weights) == len(eager.weights) == len(theirs) == 2
    for fused, written, expected in zip(ours.weights.values(), eager.weights.values(), theirs, strict=True):
        assert np.abs(fused - expected.numpy()).max() < 1e-6
        assert np.abs(written - expected.numpy()).max() < 1e-6
    assert ours.prefix_tokens == ("class",) and ours.token_grid == (2, 2)
