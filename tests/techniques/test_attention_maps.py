"""Rollout, relevance and statistics are what their papers say, re-derived slowly or known in closed form."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

import featviz_core as fv
from featviz_core import catalog
from featviz_core.demo.models import weights_path
from featviz_core.errors import LayerError, ModelError
from featviz_core.techniques.attention_maps import rollout
from featviz_core.techniques.attention_maps.layers import Attended, AttentionLayer, attention_layers
from featviz_core.techniques.attention_maps.relevance import attention_gradients, blocks_of
from featviz_core.techniques.attention_maps.statistics import findings_of, head_statistics
from featviz_core.techniques.attention_maps.tokens import TokenLayout, dilated_windows, shifted_windows

HEADS, SIDE = 2, 4


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(3)
    made = VisionTransformer(16, SIDE, 3, HEADS, 8, 16, num_classes=5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return made.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16)


def slow_rollout(weights: list[np.ndarray], how: str, discard: float, residual: float) -> np.ndarray:
    """Abnar and Zuidema's formula, number by number, for one picture with a class token."""
    joint = None
    for layer in weights:
        size = layer.shape[-1]
        fused = np.empty((size, size))
        for i in range(size):
            for j in range(size):
                fused[i, j] = {"mean": np.mean, "max": max, "min": min}[how]([head[i, j] for head in layer])
        places = sorted((fused[i, j], i, j) for i in range(size) for j in range(1, size))
        for _, i, j in places[: int(discard * len(places))]:
            fused[i, j] = 0
        mixed = np.empty((size, size))
        for i in range(size):
            row = [residual * (i == j) + (1 - residual) * fused[i, j] for j in range(size)]
            mixed[i] = np.array(row) / sum(row)
        joint = (
            mixed if joint is None else np.array([[mixed[i] @ joint[:, j] for j in range(size)] for i in range(size)])
        )
    assert joint is not None
    return joint[0, 1:].reshape(SIDE, SIDE)


@pytest.mark.parametrize(("how", "discard", "residual"), [("mean", 0, 0.5), ("max", 0.3, 0.5), ("min", 0.9, 0.2)])
def test_rollout_against_the_slow_formula(model: nn.Module, images: Tensor, how, discard, residual) -> None:
    found = fv.attention_maps(model, images)
    ours = found.rollout(how, discard=discard, residual=residual)
    for index in range(2):
        slow = slow_rollout([w[index].astype(float) for w in found.weights.values()], how, discard, residual)
        assert np.abs(ours[index] - slow).max() < 1e-6


def test_rollout_of_two_layers_in_closed_form() -> None:
    """Everybody looks half at the class token, half at place 1; then each at itself only: (I+A)/2 · I by hand."""
    first = np.array([[[0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]]])
    joint = rollout.roll_out([first, np.eye(3)[None]])
    assert np.allclose(joint[0], [[0.75, 0.25, 0], [0.25, 0.75, 0], [0.25, 0.25, 0.5]])
    assert np.allclose(rollout.roll_out([first], residual=1.0), np.eye(3))
    assert np.allclose(rollout.roll_out([first], residual=0.0), first)
    assert np.allclose(rollout.relevance_of([first, first])[0], (np.eye(3) + first[0]) @ (np.eye(3) + first[0]))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="mean, max, min"):
        rollout.fuse(np.ones((1, 1, 2, 2)), "sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="discard in"):
        rollout.roll_out([np.eye(2)[None]], discard=1.0)
    with pytest.raises(ValueError, match="at least one layer"):
        rollout.roll_out([])


def written_out(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The ViT once more by hand: logits, attention inside the graph, and what each block gives."""
    tokens = model._process_input(images)
    tokens = torch.cat([model.class_token.expand(len(images), -1, -1), tokens], 1) + model.encoder.pos_embedding
    attention, given = [], []
    for block in model.encoder.layers:
        own, normed = block.self_attention, block.ln_1(tokens)
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (normed @ own.in_proj_weight.T + own.in_proj_bias).chunk(3, -1)
        )
        attention.append((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1))
        mixed = (attention[-1] @ v).transpose(1, 2).flatten(2)
        tokens = tokens + own.out_proj(mixed)
        tokens = tokens + block.mlp(block.ln_2(tokens))
        given.append(tokens)
    return model.heads(model.encoder.ln(tokens)[:, 0]), attention, given


def test_gradients_and_relevance_against_the_model_by_hand(model: nn.Module, images: Tensor) -> None:
    logits, attention, _ = written_out(model, images)
    assert torch.allclose(logits, model(images), atol=1e-5)
    towards = torch.autograd.grad(logits[0, 3] + logits[1, 1], attention)
    found = fv.attention_maps(model, images, target=[3, 1])
    assert found.targets == (3, 1)
    for ours, theirs in zip(found.gradients.values(), towards, strict=True):
        assert np.abs(ours - theirs.numpy()).max() < 1e-5
    joint = torch.eye(17).repeat(2, 1, 1)
    rolled = torch.eye(17).repeat(2, 1, 1)
    for a, g in zip(attention, towards, strict=True):
        positive = torch.stack([sum(torch.relu(g[n, h] * a[n, h]) for h in range(HEADS)) / HEADS for n in range(2)])
        joint = joint + positive @ joint
        mixed = 0.5 * torch.eye(17) + 0.5 * positive
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    assert found.relevance is not None
    assert np.abs(found.relevance - joint[:, 0, 1:].reshape(2, 4, 4).detach().numpy()).max() < 1e-5
    ours = found.rollout(gradient_weighted=True)
    assert np.abs(ours - rolled[:, 0, 1:].reshape(2, 4, 4).detach().numpy()).max() < 1e-5


def test_legrad_against_the_model_by_hand(model: nn.Module, images: Tensor) -> None:
    _, attention, given = written_out(model, images)
    total = torch.zeros(2, 17)
    for a, tokens in zip(attention, given, strict=True):
        scores = model.heads(model.encoder.ln(tokens)[:, 0])[:, 2].sum()
        (gradient,) = torch.autograd.grad(scores, a, retain_graph=True)
        total += gradient.clamp(min=0).mean((1, 2))
    ours = attention_gradients(model, images, target=2, legrad=True).legrad
    assert ours is not None
    assert np.abs(ours - total[:, 1:].reshape(2, 4, 4).numpy()).max() < 1e-5


def test_without_a_target_it_is_the_models_answer(model: nn.Module, images: Tensor) -> None:
    assert attention_gradients(model, images).targets == tuple(model(images).argmax(1).tolist())


def test_value_norms_against_the_definition(model: nn.Module, images: Tensor) -> None:
    name = "encoder.layers.encoder_layer_1.self_attention"
    found = fv.attention_maps(model, images, value_norms=True, layers=[name])
    own = model.get_submodule(name)
    kept: list[Tensor] = []
    hook = own.register_forward_pre_hook(lambda _m, given: kept.append(given[0]))
    model(images)
    hook.remove()
    values = (kept[0] @ own.in_proj_weight[16:].T + own.in_proj_bias[16:]).unflatten(-1, (HEADS, -1))
    for head in range(HEADS):
        added = values[:, :, head] @ own.out_proj.weight[:, head * 4 : head * 4 + 4].T
        assert np.abs(found.value_norms[name][:, head] - added.norm(dim=-1).detach().numpy()).max() < 1e-4
    weighted = found.value_weighted(name)
    assert weighted[1, 0, 3, 5] == pytest.approx(found.weights[name][1, 0, 3, 5] * found.value_norms[name][1, 0, 5])
    with pytest.raises(LayerError, match="value_norms=True"):
        fv.attention_maps(model, images).value_weighted(name)


def test_all_explanations_from_one_pass(model: nn.Module, images: Tensor) -> None:
    found = fv.attention_explanations(model, images[:1], target=3, fusion="max", discard=0.2)
    whole = fv.attention_maps(model, images[:1], target=3)
    assert list(found.maps) == ["rollout", "gradient rollout", "relevance", "value rollout", "LeGrad"]
    assert np.allclose(found.maps["rollout"], whole.rollout("max", discard=0.2)[0], atol=1e-6)
    assert np.allclose(found.maps["relevance"], whole.relevance[0], atol=1e-6)  # type: ignore[index]


def swin() -> nn.Module:
    """Layers of 12×12 places, then of 6×6, in windows of 4×4."""
    return SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=5).eval()


def layer_of(layout: TokenLayout, heads: int) -> AttentionLayer:
    return AttentionLayer("attn", 1, 1, "Own", heads, layout)


def test_statistics_in_closed_form() -> None:
    """Heads: all alike, only itself, only the class token, the same again, only place 0,0."""
    layout = TokenLayout(5, 5, grid=(2, 2), cell=(8.0, 6.0), prefix=("class",))
    itself, alike = torch.eye(5), torch.full((5, 5), 0.2)
    first, corner = (torch.zeros(5, 5).index_fill(1, torch.tensor(i), 1.0) for i in (0, 1))
    weights = torch.stack([alike, itself, first, first, corner])[None]
    norms = torch.ones(1, 5, 5)
    norms[:, 4] = 0
    frame = head_statistics(Attended(layer_of(layout, 5), weights, norms))
    assert frame["entropy"].tolist() == pytest.approx([math.log(5), 0, 0, 0, 0], abs=1e-6)
    assert frame["spread"].tolist()[:2] == pytest.approx([1, 0], abs=1e-6)
    assert frame["distance"].tolist()[:2] == pytest.approx([(0 + 6 + 8 + 10) / 4, 0])
    assert frame["distance"][4] == pytest.approx(6.0)  # (0 + 6 + 8 + 10) / 4: all look at the corner
    assert frame["class_share"].tolist() == pytest.approx([0.2, 0.2, 1, 1, 0])
    assert frame["top_share"].tolist() == pytest.approx([0.2, 0.2, 1, 1, 1])
    assert frame["top_token"].tolist()[2:] == ["class", "class", "0,0"]
    assert frame["top_value"].tolist() == [1, 1, 1, 1, 0]
    assert frame["similarity"][2] == pytest.approx(1) and frame["twin"][2] == 3
    found = {finding.code: finding for finding in findings_of(frame, [layout])}
    assert found.keys() == {"attention.uniform", "attention.sink", "attention.duplicate", "attention.dead"}
    assert [found[f"attention.{kind}"].where for kind in ("uniform", "sink", "duplicate", "dead")] == [
        "attn: 0",
        "attn: 4",
        "attn: 2, 3",
        "attn: 4",
    ]


def test_a_token_that_everybody_looks_at_is_a_sink_only_if_it_has_little_to_say() -> None:
    layout = TokenLayout(4, 4, grid=(2, 2))
    weights = torch.zeros(1, 2, 4, 4)
    weights[0, 0, :, 1] = weights[0, 1, :, 2] = 1
    norms = torch.tensor([[[1.0, 3.0, 1.0, 1.0], [1.0, 1.0, 0.1, 1.0]]])
    for known, heads in ((norms, "attn: 1"), (None, "every head of every layer")):
        found = findings_of(head_statistics(Attended(layer_of(layout, 2), weights, known)), [layout])
        assert [(finding.code, finding.where) for finding in found] == [("attention.sink", heads)]


def test_distances_in_windows_are_in_pixels_of_the_picture() -> None:
    places = dilated_windows((4, 4), 2)
    layout = TokenLayout(16, 4, grid=(4, 4), cell=(10.0, 10.0), windows=places, window=(2, 2), dilated=True)
    frame = head_statistics(Attended(layer_of(layout, 1), torch.full((1, 1, 16, 4), 0.25), None))
    assert frame["distance"][0] == pytest.approx((0 + 20 + 20 + 20 * math.sqrt(2)) / 4)  # every second place
    assert frame["spread"][0] == pytest.approx(1)


def test_windows_hold_every_place_once() -> None:
    for windows in (shifted_windows((9, 7), (4, 4), (2, 2)), shifted_windows((4, 8), (4, 4), (2, 2))):
        real = np.sort(windows[windows >= 0])
        assert np.array_equal(real, np.arange(len(real))) and len(real) in (63, 32)
    assert shifted_windows((4, 8), (4, 4), (2, 2))[0].tolist()[:4] == [2, 3, 4, 5]  # rows fit: no shift there


def test_what_each_place_gets_adds_up() -> None:
    found = fv.attention_overview(swin(), torch.randn(1, 3, 48, 48))
    assert len(found.layers) == 4 and len(found.frame) == sum(layer.heads for layer in found.layers)
    for layer in found.layers:
        maps = found.maps[layer.address]
        assert maps.shape == (layer.heads, *layer.layout.grid)
        if layer.layout.grid == (12, 12):  # the next layers' 6×6 places are padded
            assert maps.sum((1, 2)) == pytest.approx(layer.layout.queries / layer.layout.keys, rel=1e-4)


def test_windows_cannot_be_rolled_out() -> None:
    loaded, images = swin(), torch.randn(1, 3, 48, 48)
    found = fv.attention_maps(loaded, images, target=0, layers=["features.3.0.attn", "features.3.1.attn"])
    assert found.relevance is None and found.gradients.keys() == found.weights.keys()
    with pytest.raises(ModelError, match="windows or at grids of several sizes"):
        found.rollout()
    with pytest.raises(ModelError, match="windows or at grids of several sizes"):
        fv.attention_explanations(loaded, images)


def test_blocks_are_found_by_their_common_container(model: nn.Module) -> None:
    found = attention_layers(model, (3, 16, 16))
    assert blocks_of(model, found) == [f"encoder.layers.encoder_layer_{i}" for i in range(3)]


def test_the_card_needs_no_torch_and_the_home_page_has_no_picture_without_weights(monkeypatch, tmp_path) -> None:
    code = (
        "import sys; from featviz_core.catalog import abouts; abouts()['attention_maps']; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    monkeypatch.setattr("featviz_core.demo.models.weights_path", tmp_path.joinpath)
    assert catalog.preview("attention_maps") is None


@pytest.mark.skipif(not weights_path("shapes_vit").is_file(), reason="the demo transformer's weights are not there")
def test_the_demo_transformer_looks_at_the_object() -> None:
    from tests.benchmarks.bench_attention import on_object, scenes

    images, masks, _ = scenes(60)
    assert masks.mean() < 0.1  # how often a guess in the dark would hit
    model = fv.load_model("demo/shapes_vit")
    maps = fv.attention_maps(model, images).rollout(residual=0.8)
    assert on_object(maps, masks).mean() >= 0.7
    assert on_object(maps, masks, reach=4).mean() >= 0.85  # half a patch
    assert catalog.preview("attention_maps") is not None
    for image in images[:8]:
        troubles = {finding.code for finding in fv.attention_overview(model, image[None]).findings}
        assert not troubles & {"attention.uniform", "attention.sink", "attention.dead"}
