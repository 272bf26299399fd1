"""Small patches without training: every token is what a large patch's token is, in the middle of its own patch."""

from __future__ import annotations

from pathlib import Path

import torch

from featviz_core.demo.patches import coarse_vit, refined
from featviz_core.demo.train import load, train

# Zeros around the picture and its convolved maps are seen by tokens near the edge only.
INSIDE = slice(2, -2)


def test_each_token_is_the_one_of_a_large_patch_around_the_same_middle() -> None:
    coarse = coarse_vit().eval()
    fine = refined(coarse)
    picture = torch.randn(1, 3, 128, 128)
    tokens = fine.conv_proj(picture)
    assert tokens.shape[2:] == (16, 16)
    for down in (0, 1):
        for right in (0, 1):
            # A token of the coarse stem sees what is around its patch's corner: move the patch's middle there.
            moved = picture.roll((-8 * down - 4, -8 * right - 4), (2, 3))
            expected = coarse.conv_proj(moved)
            ours = tokens[:, :, down::2, right::2]
            assert torch.allclose(ours[..., INSIDE, INSIDE], expected[..., INSIDE, INSIDE], atol=1e-5)


def test_what_a_token_sees_lies_evenly_around_the_middle_of_its_patch() -> None:
    fine = refined(coarse_vit().eval())
    picture = torch.randn(1, 3, 128, 128, requires_grad=True)
    (seen,) = torch.autograd.grad(fine.conv_proj(picture)[0, :, 7, 9].square().sum(), picture)
    for others, patch in (((0, 2), 7), ((0, 1), 9)):
        places = seen[0].abs().sum(dim=others).nonzero().flatten()
        assert (places.min() + places.max()) / 2 == 8 * patch + 4


def test_positions_keep_their_place_and_all_else_its_weights() -> None:
    coarse = coarse_vit()
    ramp = torch.linspace(-1, 1, 8)
    with torch.no_grad():
        coarse.encoder.pos_embedding[0, 1:, 0] = ramp.repeat_interleave(8)  # the first channel tells the row
    fine = refined(coarse)
    before, after = coarse.state_dict(), fine.state_dict()
    rows = after["encoder.pos_embedding"][0, 1:, 0].reshape(16, 16)
    assert torch.equal(after["encoder.pos_embedding"][0, 0], before["encoder.pos_embedding"][0, 0])
    assert (rows.diff(dim=0) > 0).all() and torch.allclose(rows, rows[:, :1].expand(16, 16), atol=1e-6)
    changed = {name for name in before if before[name].shape != after[name].shape}
    assert changed == {"encoder.pos_embedding", "conv_proj.conv_bn_relu_2.0.weight"}
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - changed)


def test_the_command_trains_on_large_patches_and_saves_small_ones(tmp_path: Path) -> None:
    train("shapes_vit", 64, tmp_path)
    model = load("shapes_vit", tmp_path)
    assert model.seq_length == 16 * 16 + 1
    assert not model.conv_proj.conv_bn_relu_2[0].weight[:, :, 0].any()
