"""Methods that look at the activations alone, or at them and the weights of the head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featviz_core.borrowing import borrowed
from featviz_core.capture import layers_of, record
from featviz_core.errors import LayerError
from featviz_core.techniques.class_activation.evidence import Evidence, method, weighted

_ONE_FORWARD = "one forward pass"


@method(
    "eigencam",
    "Eigen-CAM",
    formula="A · v₁, where A (places × channels) has the first right singular vector v₁",
    paper=("Muhammad and Yeasin, Eigen-CAM (IJCNN 2020)", "https://arxiv.org/abs/2008.00299"),
    needs="activations",
    cost=_ONE_FORWARD,
    uses_class=False,
    signed=False,
)
def eigencam(seen: Evidence) -> Tensor:
    """The pattern that explains most of the layer, turned so that strong activations are bright.

    The paper does not centre the activations; grad-cam does.
    """
    return _main_pattern(seen.activations, seen.activations.sum(0)).expand(len(seen.targets), -1, -1)


@method(
    "eigengradcam",
    "Eigen-Grad-CAM",
    formula="centred (g ⊙ A) · v₁, where it has the first right singular vector v₁",
    paper=("Gildenblat et al., pytorch-grad-cam (2021)", "https://github.com/jacobgil/pytorch-grad-cam"),
    needs="gradients",
    cost="one forward pass and one backward pass a target",
)
def eigengradcam(seen: Evidence) -> Tensor:
    """The main pattern of HiResCAM's terms, turned so that evidence for the target is bright."""
    products = seen.gradients * seen.activations
    return torch.stack([_main_pattern(p - p.mean((1, 2), keepdim=True), p.sum(0)) for p in products])


def _main_pattern(maps: Tensor, bright: Tensor) -> Tensor:
    """The projection `(h, w)` of maps `(C, h, w)` on their first singular vector; its sign follows `bright`."""
    if not maps.isfinite().all():
        return torch.full_like(bright, torch.nan)
    flat = maps.flatten(1).double().cpu().T  # places × channels
    wide = flat.shape[1] > flat.shape[0]
    # The smaller of the two products has the same leading vector, at a fraction of a full decomposition's cost.
    values, vectors = torch.linalg.eigh(flat @ flat.T if wide else flat.T @ flat)
    first = vectors[:, -1]
    pattern = (first * values[-1].clamp(min=0).sqrt() if wide else flat @ first).to(bright).reshape(bright.shape)
    return torch.where((pattern * bright).sum() < 0, -pattern, pattern)


@method(
    "fem",
    "FEM",
    formula="Σ_k mean(A_k) · [A_k > mean(A_k) + 2 std(A_k)]",
    paper=(
        "Fuad et al., Features Understanding in 3D CNNs: the Feature-based Explanation Method (IPTA 2020)",
        "https://doi.org/10.1109/IPTA50016.2020.9286629",
    ),
    needs="activations",
    cost=_ONE_FORWARD,
    uses_class=False,
    signed=False,
)
def fem(seen: Evidence) -> Tensor:
    """Each channel marks the places where it is unusually strong; strong channels count more.

    As xplique; grad-cam adds up the channels themselves instead, each by the share of its places that are marked.
    """
    flat = seen.activations.flatten(1)
    mean, spread = flat.mean(1), flat.std(1, correction=0)
    rare = flat > (mean + 2 * spread)[:, None]
    marked = (mean[:, None] * rare).sum(0).reshape(seen.activations.shape[1:])
    return marked.expand(len(seen.targets), -1, -1)


@method(
    "cam",
    "CAM",
    formula="Σ_k w_k · A_k, where y = Σ_k w_k · mean(A_k) + b",
    paper=(
        "Zhou et al., Learning Deep Features for Discriminative Localization (CVPR 2016)",
        "https://arxiv.org/abs/1512.04150",
    ),
    needs="activations",
    cost="two forward passes",
)
def cam(seen: Evidence) -> Tensor:
    """The original: the weights of a linear head that reads the channels' means.

    Raises `LayerError` where the model's head reads anything else.
    """
    weight = _head_on_means(seen)
    rows = [
        sum((factor * weight[index] for index, factor in t.weights), torch.zeros_like(weight[0])) for t in seen.targets
    ]
    return weighted(torch.stack(rows).to(seen.activations), seen.activations)


def _head_on_means(seen: Evidence) -> Tensor:
    """The weight `(classes, C)` of the last linear layer, once it is sure to read the layer's means."""
    steps = layers_of(seen.model, tuple(seen.image.shape[1:]))
    called = [layer for layer in steps.layers if layer.name and layer.order >= 0]
    head = max(called, key=lambda layer: layer.order, default=None)
    if head is not None and head.type == "Linear":
        given = record(seen.model, seen.image, layers=[head.address], with_inputs=True).inputs[head.address][0]
        means = seen.activations.mean((1, 2))
        if given.shape == (1, len(means)) and torch.allclose(
            given[0].float(), means, rtol=1e-3, atol=1e-4, equal_nan=True
        ):
            with borrowed(seen.model) as module:
                linear = module.get_submodule(head.name)
                assert isinstance(linear, nn.Linear)
                return linear.weight.detach().float().clone()
    raise LayerError(
        f"The original CAM cannot be made at layer '{seen.layer.address}' of this model.",
        why="Expected a last linear layer that reads the mean of each of its channels.",
        do="Choose the stage before global pooling, or HiResCAM, which is the same where CAM exists.",
    )


@method(
    "random",
    "Random",
    formula="one standard normal number a place",
    paper=("Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018)", "https://arxiv.org/abs/1810.03292"),
    needs="activations",
    cost=_ONE_FORWARD,
    uses_class=False,
)
def random(seen: Evidence) -> Tensor:
    """A map that knows nothing, to compare with: whatever is no better says nothing."""
    noise = seen.draw(seen.generator(), seen.activations.shape[1:])
    return noise.expand(len(seen.targets), -1, -1)
