"""Class activation maps re-derived slowly from the papers, on models small enough to follow by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featviz_core as fv
from featviz_core.errors import LayerError, ModelError
from featviz_core.techniques.class_activation import by_score
from featviz_core.techniques.class_activation.evidence import METHODS, Evidence
from featviz_core.techniques.class_activation.fullgrad import decomposition

FAST = [name for name in fv.cam_methods() if name not in ("sscam", "iscam")]
GRADIENT = ("gradcam", "gradcam++", "xgradcam", "hirescam", "gradcam_elementwise", "layercam", "eigengradcam")


class Net(nn.Module):
    """Two convolutions, an in-place ReLU behind the target, a nonlinear head that sees places."""

    def __init__(self, classes: int = 3, size: int = 8) -> None:
        super().__init__()
        self.early = nn.Conv2d(2, 4, 3, padding=1)
        self.target = nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(5 * (size // 2) ** 2, 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.target(F.relu(self.early(x))))
        return self.head(torch.tanh(self.hidden(x.flatten(1))))

    def behind(self, maps: Tensor) -> Tensor:
        """What the model answers to what `target` gives."""
        return self.head(torch.tanh(self.hidden(F.relu(maps).flatten(1))))


class Pooled(nn.Module):
    """The model of the CAM paper: maps, their means, a linear head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(x).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(3))


def activations_of(net: Net, image: Tensor) -> Tensor:
    return net.target(F.relu(net.early(image))).detach()


def gradient_of(net: Net, maps: Tensor, c: int) -> Tensor:
    """Slowly: central differences of the score, place by place, in float64."""
    net, maps = net.double(), maps.double()
    gradient = torch.zeros_like(maps)
    for index in np.ndindex(*maps.shape):
        step = torch.zeros_like(maps)
        step[index] = 1e-6
        with torch.no_grad():
            gradient[index] = (net.behind(maps + step)[0, c] - net.behind(maps - step)[0, c]) / 2e-6
    net.float()
    return gradient[0].float()


def by_hand(method: str, a: Tensor, g: Tensor) -> Tensor:
    """The papers' definitions, channel by channel and place by place."""
    channels, height, width = a.shape
    out = torch.zeros(height, width)
    for k in range(channels):
        total, count = a[k].sum(), height * width
        if method == "gradcam":
            out += g[k].sum() / count * a[k]
        elif method == "gradcam++":
            weight = 0.0
            for i, j in np.ndindex(height, width):
                if g[k, i, j] != 0:
                    alpha = g[k, i, j] ** 2 / (2 * g[k, i, j] ** 2 + total * g[k, i, j] ** 3)
                    weight += float(alpha * max(g[k, i, j], torch.tensor(0.0)))
            out += weight * a[k]
        elif method == "xgradcam":
            out += sum(a[k, i, j] / total * g[k, i, j] for i, j in np.ndindex(height, width)) * a[k]
        elif method == "hirescam":
            out += g[k] * a[k]
        elif method == "gradcam_elementwise":
            out += (g[k] * a[k]).clamp(min=0)
        elif method == "layercam":
            out += g[k].clamp(min=0) * a[k]
    return out


@pytest.mark.parametrize("method", [name for name in GRADIENT if name != "eigengradcam"])
def test_gradient_methods_follow_their_papers(net: Net, image: Tensor, method: str) -> None:
    a = activations_of(net, image)
    expected = by_hand(method, a[0], gradient_of(net, a, 1)).numpy()
    result = fv.class_activation(net, image, layer="target", target=1, method=method)
    np.testing.assert_allclose(result.raw, expected, atol=2e-4 * np.abs(expected).max())
    assert result.score == pytest.approx(float(net(image)[0, 1].detach()), rel=1e-5)


def test_eigen_methods_are_the_leading_singular_projection(net: Net, image: Tensor) -> None:
    a = activations_of(net, image)[0].double()
    flat = a.flatten(1).T
    expected = flat @ torch.linalg.svd(flat)[2][0]
    expected = expected * torch.sign((expected * flat.sum(1)).sum())
    raw = fv.class_activation(net, image, layer="target", method="eigencam").raw
    np.testing.assert_allclose(raw.ravel(), expected, atol=1e-5)

    seen = fv.class_activation(net, image, layer="target", target=0, method="eigengradcam").raw
    products = (gradient_of(net, a[None].float(), 0) * a.float()).flatten(1).T.double()
    centred = products - products.mean(0)
    expected = centred @ torch.linalg.svd(centred)[2][0]
    expected = expected * torch.sign((expected * products.sum(1)).sum())
    np.testing.assert_allclose(seen.ravel(), expected, atol=1e-3 * float(expected.abs().max()))


def test_smooth_gradcam_plus_plus_averages_derivatives_over_noisy_pictures(net: Net, image: Tensor) -> None:
    raw = fv.class_activation(net, image, layer="target", target=2, method="smooth_gradcam++", seed=7).raw
    noise = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(7)) * 0.1 * (image.max() - image.min())
    powers = [torch.zeros(5, 4, 4) for _ in range(3)]
    for sample in image + noise:
        maps = activations_of(net, sample[None]).requires_grad_()
        (g,) = torch.autograd.grad(net.behind(maps)[0, 2], maps)
        powers = [power + g[0] ** (n + 1) / 8 for n, power in enumerate(powers)]
    a = activations_of(net, image)[0]
    denominator = 2 * powers[1] + a.sum((1, 2))[:, None, None] * powers[2]
    alpha = torch.where(powers[1] == 0, 0, powers[1] / denominator)
    expected = torch.einsum("k,kij->ij", (alpha * powers[0].relu()).sum((1, 2)), a)
    np.testing.assert_allclose(raw, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def score_weights(net: Net, image: Tensor, c: int, strengths: list[float]) -> Tensor:
    """Score-CAM's weights, one channel at a time, the empty picture's score included."""
    a = activations_of(net, image)
    scores = []
    for k in range(a.shape[1]):
        up = F.interpolate(a[:, k : k + 1], size=(8, 8), mode="bilinear", align_corners=False)
        mask = (up - up.min()) / (up.max() - up.min())
        seen = [net(image * mask * s)[0, c] - net(image * 0)[0, c] for s in strengths]
        scores.append(torch.stack(seen).mean().detach())
    return torch.stack(scores).softmax(0)


@pytest.mark.parametrize(("method", "strengths"), [("scorecam", [1.0]), ("iscam", [i / 10 for i in range(1, 11)])])
def test_score_methods_follow_their_papers(net: Net, image: Tensor, method: str, strengths: list[float]) -> None:
    raw = fv.class_activation(net, image, layer="target", target=1, method=method).raw
    weights = score_weights(net, image, 1, strengths)
    np.testing.assert_allclose(raw, torch.einsum("k,kij->ij", weights, activations_of(net, image)[0]), atol=1e-5)


def test_sscam_averages_the_scores_of_noisy_masks(net: Net, image: Tensor) -> None:
    a, generator = activations_of(net, image), torch.Generator().manual_seed(4)
    noise = [2.0 * torch.randn(5, 1, 8, 8, generator=generator) for _ in range(8)]
    scores = torch.zeros(5)
    for k in range(5):
        up = F.interpolate(a[:, k : k + 1], size=(8, 8), mode="bilinear", align_corners=False)
        mask = (up - up.min()) / (up.max() - up.min())
        scores[k] = sum(float(net(image * (mask + n[k]))[0, 1].detach()) for n in noise) / len(noise)
    raw = fv.class_activation(net, image, layer="target", target=1, method="sscam", seed=4).raw
    np.testing.assert_allclose(raw, torch.einsum("k,kij->ij", scores.softmax(0), a[0]), rtol=1e-4, atol=1e-5)


def test_sscam_is_seeded_and_becomes_scorecam_without_noise(
    net: Net, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again, other = (
        fv.class_activation(net, image, layer="target", method="sscam", seed=seed).raw for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    monkeypatch.setattr(by_score, "_SMOOTH_NOISE", 0.0)
    quiet = fv.class_activation(net, image, layer="target", method="sscam").raw
    np.testing.assert_allclose(quiet, fv.class_activation(net, image, layer="target", method="scorecam").raw, atol=1e-6)


@pytest.mark.parametrize("target", [0, 1, "-1", "0 - 2"])
def test_ablationcam_is_the_share_of_the_score_that_each_channel_holds(net: Net, image: Tensor, target: object) -> None:
    weights = {0: [1, 0, 0], 1: [0, 1, 0], "-1": [0, -1, 0], "0 - 2": [1, 0, -1]}[target]
    a = activations_of(net, image)
    with torch.no_grad():
        full = net.behind(a)[0] @ torch.tensor(weights).float()
        expected = torch.zeros(4, 4)
        for k in range(5):
            without = a.clone()
            without[:, k] = 0
            lost = full - net.behind(without)[0] @ torch.tensor(weights).float()
            expected += lost / full.abs() * a[0, k]
    raw = fv.class_activation(net, image, layer="target", target=target, method="ablationcam").raw
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)


def test_fem_marks_what_is_two_deviations_above_the_mean() -> None:
    torch.manual_seed(0)
    model = Pooled().eval()
    image = torch.randn(1, 2, 9, 9)
    a = model.stage(image)[0].detach().numpy()
    expected = sum(m.mean() * (m > m.mean() + 2 * m.std()) for m in a)
    np.testing.assert_allclose(fv.class_activation(model, image, layer="stage", method="fem").raw, expected, atol=1e-6)


def test_cam_grad_cam_hirescam_and_ablation_agree_where_the_head_is_linear() -> None:
    """The closed form: with y = Σ w_k mean(A_k) + b, all are the CAM paper's map up to one factor."""
    torch.manual_seed(1)
    model = Pooled().eval()
    nn.init.constant_(model.head.bias, 0.0)
    image = torch.randn(1, 2, 6, 6)
    expected = torch.einsum("k,kij->ij", model.head.weight[2], model.stage(image)[0]).detach().numpy()
    for method in ("cam", "gradcam", "hirescam", "xgradcam"):
        raw = fv.class_activation(model, image, layer="stage", target=2, method=method).raw
        np.testing.assert_allclose(raw * (1 if method == "cam" else 36), expected, rtol=1e-4, atol=1e-5)


def test_cam_says_where_it_cannot_be_made(net: Net, image: Tensor) -> None:
    with pytest.raises(LayerError, match="original CAM"):
        fv.class_activation(net, image, layer="target", method="cam")


def test_fullgrad_parts_sum_up_to_the_score() -> None:
    """The paper's completeness: a network of ReLUs is its full gradient, BatchNorm's implicit biases included."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 3, bias=False),
    ).eval()
    nn.init.normal_(model[1].running_mean)
    nn.init.uniform_(model[1].running_var, 0.5, 2)
    image = torch.randn(1, 2, 8, 8)
    targets = [fv.Target("all", ((0, 1.0), (2, -2.0)))]
    empty = torch.empty(0)
    layer = fv.class_activation(model, image).layer
    seen = Evidence(model, image, layer, targets, empty, empty, empty, 0, print)
    picture, biases = decomposition(seen)
    total = picture.sum() + sum(part.sum() for part in biases)
    logits = model(image)[0].detach()
    assert len(biases) == 3
    assert float(total) == pytest.approx(float(logits[0] - 2 * logits[2]), rel=1e-4)


def test_fullgrad_adds_up_stretched_magnitudes_at_full_size(net: Net, image: Tensor) -> None:
    """ψ by hand: every channel of the picture's and of each bias's part by itself."""
    picture = image.clone().requires_grad_()
    early = net.early(picture)
    target = net.target(F.relu(early))
    towards = torch.autograd.grad(net.behind(target)[0, 1], [picture, early, target])
    factors = [image[0], net.early.bias.detach(), net.target.bias.detach()]
    expected = torch.zeros(8, 8)
    for g, factor in zip(towards, factors, strict=True):
        for channel, of_channel in zip(g[0], factor, strict=True):
            size = (channel * of_channel).abs()
            stretched = (size - size.min()) / (size.max() - size.min())
            expected += F.interpolate(stretched[None, None], size=(8, 8), mode="bilinear", align_corners=False)[0, 0]
    raw = fv.class_activation(net, image, target=1, method="fullgrad").raw
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)


def test_fullgrad_looks_at_the_whole_model_at_full_size(net: Net, image: Tensor) -> None:
    found = fv.class_activations(net, image, layers=["early", "target"], methods=["fullgrad"])
    first, second = found.values()
    assert first.raw.shape == (8, 8)
    assert first.layer.name == ""
    assert first.raw is second.raw or np.array_equal(first.raw, second.raw)


def test_random_knows_nothing_and_is_seeded(net: Net, image: Tensor) -> None:
    a, b = (fv.class_activation(net, image, target=c, method="random").raw for c in (0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, fv.class_activation(net, image, method="random", seed=1).raw)


@pytest.mark.parametrize("method", FAST)
def test_maps_are_in_range_at_input_size_and_leave_the_global_random_state(
    net: Net, image: Tensor, method: str
) -> None:
    before = torch.get_rng_state()
    if method == "cam":
        net, layer = Pooled().eval(), "stage"
        torch.set_rng_state(before)
    else:
        layer = "target"
    result = fv.class_activation(net, image, layer=layer, method=method)
    assert result.map.dtype == result.raw.dtype == np.float32
    assert result.map.shape == (8, 8)
    assert result.map.min() >= 0 and result.map.max() <= 1
    assert np.ptp(result.raw) > 0
    assert torch.equal(before, torch.get_rng_state())


def test_every_method_states_its_formula_paper_and_cost() -> None:
    names = (
        "gradcam gradcam++ xgradcam hirescam gradcam_elementwise layercam smooth_gradcam++ scorecam sscam iscam "
        "ablationcam eigencam eigengradcam fullgrad fem cam random"
    )
    methods = fv.cam_methods()
    assert list(methods) == names.split()
    assert methods.keys() == METHODS.keys()
    for name, method in methods.items():
        assert method.name == name
        assert method.title and method.formula and method.cost
        assert method.paper[0] and method.paper[1].startswith("https://")
        assert method.compute.__doc__


def test_one_capture_gives_what_single_calls_give(net: Net, image: Tensor) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = net.head.register_forward_hook(count)
    layers, targets = ["early", "target"], [0, "1 - 2", "-1"]
    methods = ["gradcam", "layercam", "eigencam", "random"]
    found = fv.class_activations(net, image, layers=layers, targets=targets, methods=methods)
    handle.remove()
    assert len(found) == 24
    assert calls == 2  # the trace on a copy without numbers, and the one pass
    for (layer, label, method), result in found.items():
        target = dict(zip(("class 0", "class 1 − class 2", "− class 1"), targets, strict=True))[label]
        alone = fv.class_activation(net, image, layer=layer, target=target, method=method)
        np.testing.assert_allclose(result.raw, alone.raw, atol=1e-6)
        np.testing.assert_allclose(result.map, alone.map, atol=1e-5)
        assert result.target == alone.target


def test_a_shared_scale_ends_at_the_largest_map(net: Net, image: Tensor) -> None:
    found = fv.class_activations(
        net, image, layers=["target"], targets=[0, 1, 2], methods=["layercam"], shared_scale=True
    )
    tops = np.array([np.maximum(r.raw, 0).max() for r in found.values()])
    shown = np.array([r.map.max() for r in found.values()])
    assert shown.max() <= 1
    order = np.argsort(tops)
    assert np.all(np.diff(shown[order]) >= -1e-6)
    assert shown[order[0]] < 0.95 * shown[order[-1]] or math.isclose(tops.min(), tops.max(), rel_tol=0.1)


def test_progress_is_told_and_may_cancel(net: Net, image: Tensor) -> None:
    said: list[tuple[float, str]] = []
    fv.class_activation(
        net, image, layer="target", method="scorecam", progress=lambda fraction, text: said.append((fraction, text))
    )
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0 and fractions[-1] == 1
    assert {text for _, text in said} == {"Score-CAM"}

    class Cancelled(BaseException):
        pass

    def cancel(fraction: float, text: str) -> None:
        if fraction > 0:
            raise Cancelled

    for method in ("scorecam", "ablationcam"):
        with pytest.raises(Cancelled):
            fv.class_activation(net, image, layer="target", method=method, progress=cancel)


def test_an_unknown_method_names_the_nearest(net: Net, image: Tensor) -> None:
    with pytest.raises(ModelError, match=r"gradcam\+\+"):
        fv.class_activation(net, image, method="gradcampp")


def test_more_than_one_picture_is_refused(net: Net) -> None:
    with pytest.raises(ModelError, match="one picture"):
        fv.class_activation(net, torch.randn(2, 2, 8, 8))
