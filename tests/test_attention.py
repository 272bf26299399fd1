"""Attention weights are those the model uses, in every architecture, and looking changes nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

import featviz_core as fv
from featviz_core.borrowing import untouched
from featviz_core.errors import LayerError, ModelError
from featviz_core.techniques.attention_maps.layers import attention_layers, record_attention
from featviz_core.techniques.attention_maps.scores import finish_module, parts_of_call, parts_of_module
from featviz_core.techniques.attention_maps.watching import Watch

DIM, TOKENS = 12, 16


def vit(heads: int = 2) -> nn.Module:
    model = VisionTransformer(16, 4, 2, heads, DIM, 24, num_classes=5)
    return awake(model)


def swin(**kind) -> nn.Module:
    return awake(SwinTransformer([4, 4], DIM, [2, 2], [2, 4], [4, 4], num_classes=5, stochastic_depth_prob=0, **kind))


def swin_v2() -> nn.Module:
    return swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def maxvit() -> nn.Module:
    return awake(MaxVit((64, 64), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=5))


def awake(model: nn.Module) -> nn.Module:
    """Larger random weights, so that no attention is uniform and no head is silent."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


class Own(nn.Module):
    """Attention of one's own between a patch embedding and a head; `attend(q, k, v)` does it."""

    def __init__(self, attend: Callable[..., Tensor], heads: int = 2, kv_heads: int = 2) -> None:
        super().__init__()
        self.patch, self.fc = nn.Conv2d(3, DIM, 4, 4), nn.Linear(DIM, 5)
        self.attn = Block(attend, heads, kv_heads)

    def forward(self, x):
        return self.fc(self.attn(self.patch(x).flatten(2).mT).mean(1))


class Block(nn.Module):
    def __init__(self, attend, heads, kv_heads):
        super().__init__()
        self.attend, self.heads, self.kv_heads = attend, heads, kv_heads
        size = DIM // heads
        self.q, self.k, self.v = (nn.Linear(DIM, h * size) for h in (heads, kv_heads, kv_heads))
        self.soft, self.proj = nn.Softmax(-1), nn.Linear(DIM, DIM)

    def parts(self, t):
        return [
            layer(t).unflatten(-1, (h, -1)).transpose(1, 2)
            for layer, h in ((self.q, self.heads), (self.k, self.kv_heads), (self.v, self.kv_heads))
        ]

    def forward(self, t):
        attend = partial(self.attend, self) if self.attend.__code__.co_argcount == 4 else self.attend
        return t + self.proj(attend(*self.parts(t)).transpose(1, 2).flatten(2))


class Encoded(nn.Module):
    """torch's own encoder, whose fast path never calls its attention module."""

    def __init__(self, batch_first: bool = True, padding: bool = False) -> None:
        super().__init__()
        self.patch, self.fc, self.padding = nn.Conv2d(3, DIM, 4, 4), nn.Linear(DIM, 5), padding
        layer = nn.TransformerEncoderLayer(DIM, 2, 24, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.first = batch_first

    def forward(self, x):
        t = self.patch(x).flatten(2).mT
        mask = (torch.arange(TOKENS, device=x.device) > 11).expand(len(x), -1) if self.padding else None
        t = self.encoder(t if self.first else t.transpose(0, 1), src_key_padding_mask=mask)
        return self.fc(t.mean(1 if self.first else 0))


def pictures(size: int = 16, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size)


def inputs_of(model: nn.Module, name: str, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _m, given: kept.append(given[0].clone()))
    with torch.no_grad():
        model(images)
    hook.remove()
    return kept[0]


def own(attend: Callable[..., Tensor], **heads: int) -> nn.Module:
    return awake(Own(attend, **heads))


KINDS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "vit": (vit, 16),
    "vit with odd heads": (partial(vit, 3), 16),
    "swin": (swin, 36),
    "swin v2": (swin_v2, 36),
    "maxvit": (maxvit, 64),
    "sdpa": (lambda: own(ATTENDS["plain"]), 16),
    "encoder": (lambda: awake(Encoded()), 16),
    "encoder, sequence first": (lambda: awake(Encoded(batch_first=False)), 16),
}


# The same as by hand.


@pytest.mark.parametrize("heads", [2, 3])
def test_vit(heads: int) -> None:
    model, images = vit(heads), pictures()
    found = fv.attention_maps(model, images)
    for index, block in enumerate(model.encoder.layers):
        name = f"encoder.layers.encoder_layer_{index}.self_attention"
        tokens = block.ln_1(inputs_of(model, f"encoder.layers.encoder_layer_{index}", images))
        w, b = block.self_attention.in_proj_weight, block.self_attention.in_proj_bias
        q, k = (
            F.linear(tokens, w[s], b[s]).unflatten(-1, (heads, -1)).transpose(1, 2)
            for s in (slice(DIM), slice(DIM, 2 * DIM))
        )
        by_hand = (q @ k.mT / math.sqrt(DIM // heads)).softmax(-1).detach()
        assert np.abs(found.weights[name] - by_hand.numpy()).max() < 1e-6
    assert found.token_grid == (4, 4) and found.prefix_tokens == ("class",)


@pytest.mark.parametrize("make", [swin, swin_v2])
@pytest.mark.parametrize("block", [0, 1])
def test_swin_place_by_place(make: Callable[[], nn.Module], block: int) -> None:
    """9×9 places are padded to 12×12 and, in the second block, shifted by 2: every place is looked up by itself."""
    model, images, name = make(), pictures(36, 1), f"features.1.{block}.attn"
    module = model.get_submodule(name)
    found = fv.attention_maps(model, images, layers=[name])
    x = inputs_of(model, name, images)[0]
    plane = F.pad(x, (0, 0, 0, 3, 0, 3))
    bias = module.qkv.bias.clone()
    if make is swin_v2:
        bias[DIM : 2 * DIM] = 0
    q, k, _ = F.linear(plane, module.qkv.weight, bias).unflatten(-1, (3, 2, DIM // 2)).permute(2, 3, 0, 1, 4)
    if make is swin_v2:
        q, k = F.normalize(q, dim=-1) * module.logit_scale.exp()[..., None], F.normalize(k, dim=-1)
    else:
        q = q / math.sqrt(DIM // 2)
    table, shift = module.get_relative_position_bias()[0], 2 * block

    def cell(i: int, j: int) -> tuple[int, int, int, int, tuple[bool, bool]]:
        a, b = (i - shift) % 12, (j - shift) % 12  # where it stands after the shift
        return a // 4, b // 4, a % 4, b % 4, (shift > 0 and a >= 12 - shift, shift > 0 and b >= 12 - shift)

    for i, j in [(0, 0), (1, 1), (4, 5), (8, 8), (2, 7), (7, 3)]:
        row, column, a, b, side = cell(i, j)
        scores = torch.full((2, 12, 12), -math.inf)
        for u in range(12):
            for v in range(12):
                r, c, a2, b2, side2 = cell(u, v)
                if (r, c) == (row, column):
                    mask = 0.0 if side == side2 else -100.0
                    scores[:, u, v] = (q[:, i, j] * k[:, u, v]).sum(-1) + table[:, a * 4 + b, a2 * 4 + b2] + mask
        by_hand = scores.flatten(1).softmax(-1).reshape(2, 12, 12)[:, :9, :9].detach().numpy()
        assert np.abs(found.looks(name, query=i * 9 + j) - by_hand).max() < 1e-6


@pytest.mark.parametrize("kind", ["window", "grid"])
def test_maxvit_place_by_place(kind: str) -> None:
    model, images = maxvit(), pictures(64, 1)
    around = f"blocks.0.layers.0.layers.{kind}_attention"
    module = model.get_submodule(f"{around}.attn_layer.1")
    found = fv.attention_maps(model, images, layers=[f"{around}.attn_layer.1"])
    plane = inputs_of(model, around, images)[0].permute(1, 2, 0)  # 16×16 places
    normed = model.get_submodule(f"{around}.attn_layer.0")(plane)
    q, k, _ = module.to_qkv(normed).unflatten(-1, (3, 2, 4)).permute(2, 3, 0, 1, 4)
    table = module.get_relative_positional_bias()[0]

    def cell(i: int, j: int) -> tuple[tuple[int, int], int]:
        if kind == "window":
            return (i // 4, j // 4), i % 4 * 4 + j % 4
        return (i % 4, j % 4), i // 4 * 4 + j // 4

    for i, j in [(0, 0), (5, 10), (15, 3)]:
        owner, number = cell(i, j)
        scores = torch.full((2, 16, 16), -math.inf)
        for u in range(16):
            for v in range(16):
                if cell(u, v)[0] == owner:
                    scores[:, u, v] = (q[:, i, j] * k[:, u, v]).sum(-1) * 8**-0.5 + table[:, number, cell(u, v)[1]]
        by_hand = scores.flatten(1).softmax(-1).reshape(2, 16, 16).detach().numpy()
        assert np.abs(found.looks(f"{around}.attn_layer.1", query=i * 16 + j) - by_hand).max() < 1e-6


def test_a_marked_place_is_seen_by_its_own_window_and_nobody_else() -> None:
    """One place shines; in a shifted Swin layer exactly the places of its window turn to it, at the same spot."""
    model, images, name = swin(), pictures(36, 1), "features.1.1.attn"
    module = model.get_submodule(name)
    with torch.no_grad():
        module.relative_position_bias_table.zero_()
        module.qkv.bias.zero_()
        module.qkv.weight.zero_()
        module.qkv.weight[:DIM, 0] = module.qkv.weight[DIM : 2 * DIM, 0] = 4.0
    marked = torch.ones(1, 9, 9, DIM)
    marked[0, 5, 7] = 4.0
    norm = model.get_submodule("features.1.1.norm1")
    norm.register_forward_hook(lambda _m, _i, output: marked.to(output).expand_as(output))
    found = fv.attention_maps(model, images, layers=[name])
    turned = np.array([found.looks(name, query=q)[0, 5, 7] for q in range(81)]).reshape(9, 9)
    assert (turned[2:6, 6:9] > 0.99).all()  # rows 2 to 5 and columns 6 to 9 after a shift by 2
    turned[2:6, 6:9] = 0
    assert (turned == 0).all()


ATTENDS: dict[str, Callable[..., Tensor]] = {
    "plain": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "scaled": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.9),
    "bool mask": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=(torch.arange(TOKENS, device=q.device) % 3 > 0).expand(TOKENS, -1)
    ),
    "bias": lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, torch.linspace(-2, 2, TOKENS * TOKENS, device=q.device).reshape(TOKENS, TOKENS)
    ),
}


@pytest.mark.parametrize("name", ATTENDS)
def test_scaled_dot_product_attention_with_all_its_arguments(name: str) -> None:
    model, images = own(ATTENDS[name]), pictures()
    t = inputs_of(model, "attn", images)
    q, k, v = model.attn.parts(t)
    weights = torch.from_numpy(fv.attention_maps(model, images).weights["attn"])
    assert (weights @ v - ATTENDS[name](q, k, v)).abs().max() < 1e-5
    assert (weights.sum(-1) - 1).abs().max() < 1e-5


def test_grouped_queries_and_rows_without_any_key() -> None:
    q, k, v = torch.randn(2, 4, 5, 3), torch.randn(2, 2, 7, 3), torch.randn(2, 2, 7, 3)
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[2] = False
    parts = parts_of_call(q, k, v, mask, enable_gqa=True)
    given = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    assert torch.allclose((parts.weights() @ parts.value)[:, :, [0, 1, 3, 4]], given[:, :, [0, 1, 3, 4]], atol=1e-6)
    assert not parts.weights()[:, :, 2].any()


SOFTMAX: dict[str, Callable[..., Tensor]] = {
    "function": lambda _m, q, k, v: F.softmax(q @ k.mT, dim=-1) @ v,
    "method": lambda _m, q, k, v: (q @ k.mT).softmax(dim=3).matmul(v),
    "module": lambda m, q, k, v: m.soft(q @ k.mT) @ v,
    "torch": lambda _m, q, k, v: torch.einsum("nhqk,nhkd->nhqd", torch.softmax(q @ k.mT, -1), v),
    "flat": lambda _m, q, k, v: torch.bmm(
        torch.softmax(q.flatten(0, 1) @ k.flatten(0, 1).mT, -1), v.flatten(0, 1)
    ).unflatten(0, q.shape[:2]),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_written_out_belongs_to_the_module_that_attends(name: str) -> None:
    model, images = own(SOFTMAX[name]), pictures()
    q, k, v = model.attn.parts(inputs_of(model, "attn", images))
    found = fv.attention_maps(model, images, value_norms=True)
    assert list(found.weights) == ["attn"]
    assert np.abs(found.weights["attn"] - (q @ k.mT).softmax(-1).detach().numpy()).max() < 1e-6
    mixed = torch.stack([v[:, h] @ model.attn.proj.weight.view(DIM, 2, -1)[:, h].T for h in range(2)], 1)
    assert np.abs(found.value_norms["attn"] - mixed.norm(dim=-1).detach().numpy()).max() < 1e-4


def _multihead(options: dict[str, object], given: dict[str, object]) -> tuple[nn.MultiheadAttention, dict[str, object]]:
    module = nn.MultiheadAttention(DIM, 3, **options).eval()  # type: ignore[arg-type]
    shape = (2, 5, DIM) if options.get("batch_first") else (5, 2, DIM)
    query = torch.randn(shape)
    width = int(options.get("kdim", DIM))  # type: ignore[call-overload]
    other = torch.randn(*shape[:2], width) if "kdim" in options else query
    return module, {"query": query, "key": other, "value": other, **given}


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"batch_first": True}, {}),
        ({}, {}),
        ({"bias": False}, {}),
        ({"kdim": 7, "vdim": 7}, {}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {}),
        ({}, {"attn_mask": torch.ones(5, 5).triu(1).bool()}),
        ({"add_zero_attn": True}, {"attn_mask": torch.randn(6, 5, 5)}),
        ({"batch_first": True}, {"key_padding_mask": torch.tensor([[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]).bool()}),
        ({}, {"attn_mask": torch.randn(5, 5), "key_padding_mask": torch.randn(2, 5)}),
    ],
)
def test_multihead_attention_with_all_its_options(options: dict[str, object], given: dict[str, object]) -> None:
    module, call = _multihead(options, given)
    with torch.no_grad():
        output, weights = module(**call, average_attn_weights=False)
        parts = parts_of_module(module, call)
        ours = finish_module(module, parts.weights(), parts.value, {**call, "average_attn_weights": False})
    assert torch.allclose(parts.weights(), weights, atol=1e-6)
    assert torch.allclose(ours[0], output, atol=1e-6) and torch.allclose(ours[1], weights, atol=1e-6)


@pytest.mark.parametrize("padding", [False, True])
def test_torchs_encoder_with_and_without_its_fast_path(padding: bool) -> None:
    model, images = awake(Encoded(padding=padding)), pictures()
    with torch.no_grad():
        before = model(images)
    found = fv.attention_maps(model, images)
    tokens = model.patch(images).flatten(2).mT
    mask = (torch.arange(TOKENS) > 11).expand(2, -1) if padding else None
    attention = model.encoder.layers[0].self_attn
    by_hand = attention(tokens, tokens, tokens, key_padding_mask=mask, average_attn_weights=False)[1].detach().numpy()
    assert list(found.weights) == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    assert np.abs(found.weights["encoder.layers.0.self_attn"] - by_hand).max() < 1e-6
    with torch.no_grad():
        assert torch.equal(model(images), before)


# Nothing changes by looking.


@pytest.mark.parametrize("name", KINDS)
def test_the_model_computes_what_it_always_does(name: str, one_thread: None) -> None:
    make, size = KINDS[name]
    model, images = make(), pictures(size)
    with torch.no_grad():
        before = model(images)
        only = {layer.name for layer in attention_layers(model, (3, size, size))}
        for values in (False, True):
            with untouched(model), Watch(model, lambda _seen: None, only=only, values=values):
                looked_at = model(images)
            fused = name.startswith("encoder")  # its fast path steps aside for hooks
            assert torch.allclose(looked_at, before, atol=1e-5) if fused else torch.equal(looked_at, before)


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_the_same_with_and_without_gradients_and_rows_sum_to_one(name: str) -> None:
    make, size = KINDS[name]
    model, images = make(), pictures(size)
    plain, graded = fv.attention_maps(model, images), fv.attention_maps(model, images, target=1)
    assert list(plain.weights) == list(graded.weights)
    for address, weights in plain.weights.items():
        assert np.abs(weights.sum(-1) - 1).max() < 1e-5
        assert np.abs(weights - graded.weights[address]).max() < 1e-5
        assert np.isfinite(graded.gradients[address]).all()


@pytest.mark.parametrize("name", KINDS)
def test_the_model_is_left_as_it_was(name: str, model_untouched: Callable[..., object]) -> None:
    make, size = KINDS[name]
    model, images = make().train(), pictures(size)
    with model_untouched(model):  # type: ignore[attr-defined]
        fv.attention_maps(model, images)
        fv.attention_maps(model, images, target=0)
    with model_untouched(model), pytest.raises(KeyboardInterrupt):  # type: ignore[attr-defined]
        record_attention(model, images, pick=_interrupt, values=True)
    assert not torch.overrides._get_current_function_mode_stack()


def _interrupt(_attended: object) -> None:
    raise KeyboardInterrupt


def test_eight_threads_at_once_get_their_own(one_thread: None) -> None:
    loaded = fv.load_model("swin_t")
    images = torch.randn(8, 3, 64, 64)
    name = "features.3.1.attn"
    alone = [fv.attention_maps(loaded, images[i : i + 1], layers=[name]).weights[name] for i in range(8)]
    ready = threading.Barrier(8)

    def look(index: int) -> bool:
        ready.wait()
        found = fv.attention_maps(loaded, images[index : index + 1], layers=[name])
        return bool(np.array_equal(found.weights[name], alone[index]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, [*range(8)]))


# What is found where.


def test_only_what_was_asked_for_is_looked_at_and_the_pass_ends_there() -> None:
    model, images = vit(), pictures()
    later: list[str] = []
    model.heads.register_forward_hook(lambda _m, _i, output: later.append(output.device.type))
    found = fv.attention_maps(model, images, layers=["encoder.layers.encoder_layer_0.self_attention"])
    assert list(found.weights) == ["encoder.layers.encoder_layer_0.self_attention"] and "cpu" not in later


def test_several_attentions_of_one_module_have_numbers() -> None:
    def twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(k, q, F.scaled_dot_product_attention(q, k, v))

    model, images = own(twice), pictures()
    found = fv.attention_maps(model, images)
    assert list(found.weights) == ["attn#1", "attn"]
    assert not np.allclose(found.weights["attn#1"], found.weights["attn"], atol=1e-3)
    assert np.array_equal(fv.attention_maps(model, images, layers=["attn#2"]).weights["attn"], found.weights["attn"])


def test_class_distillation_and_register_tokens_are_known_by_name() -> None:
    class Tokens(Own):
        def __init__(self) -> None:
            super().__init__(ATTENDS["plain"])
            self.cls_token, self.dist_token = (nn.Parameter(torch.randn(1, 1, DIM)) for _ in range(2))
            self.reg_token = nn.Parameter(torch.randn(1, 4, DIM))

        def forward(self, x):
            before = torch.cat([self.cls_token, self.dist_token, self.reg_token], 1).expand(len(x), -1, -1)
            return self.fc(self.attn(torch.cat([before, self.patch(x).flatten(2).mT], 1))[:, 0])

    found = fv.attention_maps(awake(Tokens()), torch.randn(1, 3, 16, 24))
    names = ("class", "distillation", "register 1", "register 2", "register 3", "register 4")
    assert found.prefix_tokens == names and found.token_grid == (4, 6)
    assert found.layout["attn"].key_names()[5:8] == ["register 4", "0,0", "0,1"]


@pytest.mark.parametrize("name", ["vit", "swin", "maxvit", "sdpa"])
def test_half_precision_models_still_give_full_precision(name: str) -> None:
    make, size = KINDS[name]
    model, images = make().to(torch.bfloat16), pictures(size)
    with torch.no_grad():
        before = model(images.bfloat16())
        only = {layer.name for layer in attention_layers(model, (3, size, size))}
        with untouched(model), Watch(model, lambda _seen: None, only=only):
            assert torch.equal(model(images.bfloat16()), before)
    for target in (None, 1):
        for weights in fv.attention_maps(model, images, target=target).weights.values():
            assert weights.dtype == np.float32 and np.abs(weights.sum(-1) - 1).max() < 1e-5


def test_what_has_no_attention_says_so_in_one_sentence() -> None:
    cnn = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.Softmax(-1)
    )
    assert attention_layers(cnn, (3, 16, 16)) == ()
    with pytest.raises(ModelError, match=r"^This model has no attention layers\. Look at its class activation maps"):
        fv.attention_maps(cnn, pictures())


def test_wrong_arguments_are_explained() -> None:
    model = vit()
    with pytest.raises(LayerError, match=r"'heads' does not attend\. Choose one of encoder"):
        fv.attention_maps(model, pictures(), layers=["heads"])
    with pytest.raises(ModelError, match=r"no class of this model.*0 to 4"):
        fv.attention_maps(model, pictures(), target=5)
    with pytest.raises(ModelError, match="wrong form"):
        fv.attention_maps(model, torch.zeros(3, 16, 16))
    with pytest.raises(ModelError, match="cannot look at"):
        fv.attention_maps(model, pictures(20))


def test_groups_that_nothing_places_are_rows_of_their_own_and_not_on_the_picture() -> None:
    """Four groups of four tokens, as in window attention of one's own."""

    def in_groups(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        apart = (t.unflatten(2, (4, 4)).transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        return F.scaled_dot_product_attention(*apart).unflatten(0, (len(q), 4)).transpose(1, 2).flatten(2, 3)

    model, images = own(in_groups), pictures()
    found = fv.attention_maps(model, images, value_norms=True)
    q, k, _ = (t.unflatten(2, (4, 4)) for t in model.attn.parts(inputs_of(model, "attn", images)))
    by_hand = (q @ k.mT / math.sqrt(DIM // 2)).softmax(-1).detach().flatten(2, 3)
    layout = found.layout["attn"]
    assert not layout.placed and layout.grid == (4, 4) and layout.place_of(5) is None
    assert np.abs(found.weights["attn"] - by_hand.numpy()).max() < 1e-6
    assert np.abs(found.looks("attn", query=9)[:, 2] - by_hand[0, :, 9].numpy()).max() < 1e-6
    assert found.value_weighted("attn").shape == (2, 2, TOKENS, 4)
    overview = fv.attention_overview(model, images[:1])
    assert overview.frame["distance"].isna().all() and overview.frame["output"].notna().all()
    with pytest.raises(ModelError, match="windows"):
        found.rollout()
