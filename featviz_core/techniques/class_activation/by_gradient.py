"""Methods that weigh a layer's channels or places by the gradient of the score."""

from __future__ import annotations

import torch
from torch import Tensor

from featviz_core.techniques.class_activation.evidence import Evidence, method, share, weighted

_ONE_PASS = "one forward pass and one backward pass a target"
_NOISY = 8
_NOISE = 0.1  # of the picture's range


@method(
    "gradcam",
    "Grad-CAM",
    formula="Σ_k mean_ij(g_k) · A_k",
    paper=("Selvaraju et al., Grad-CAM (ICCV 2017)", "https://arxiv.org/abs/1610.02391"),
    needs="gradients",
    cost=_ONE_PASS,
)
def gradcam(seen: Evidence) -> Tensor:
    """Each channel counts by its mean gradient."""
    return weighted(seen.gradients.mean((2, 3)), seen.activations)


@method(
    "gradcam++",
    "Grad-CAM++",
    formula="Σ_k [Σ_ij α_kij · ReLU(g_kij)] · A_k with α_kij = g² / (2 g² + Σ_ab A_kab · g³)",
    paper=("Chattopadhay et al., Grad-CAM++ (WACV 2018)", "https://arxiv.org/abs/1710.11063"),
    needs="gradients",
    cost=_ONE_PASS,
)
def gradcam_plus_plus(seen: Evidence) -> Tensor:
    """Each place's gradient counts by itself, so that several objects of a class all show.

    For y = exp(score), as in the paper, second and third derivatives are powers of the gradient. As grad-cam, but
    for its 1e-6 in the denominator, which outweighs small gradients.
    """
    g = seen.gradients
    alpha = torch.where(g == 0, 0.0, share(torch.ones_like(g), 2 + seen.activations.sum((1, 2))[:, None, None] * g))
    return weighted((alpha * g.relu()).sum((2, 3)), seen.activations)


@method(
    "xgradcam",
    "XGrad-CAM",
    formula="Σ_k [Σ_ij (A_kij / Σ_ab A_kab) · g_kij] · A_k",
    paper=("Fu et al., Axiom-based Grad-CAM (BMVC 2020)", "https://arxiv.org/abs/2008.02312"),
    needs="gradients",
    cost=_ONE_PASS,
)
def xgradcam(seen: Evidence) -> Tensor:
    """The gradient's mean over a channel, with the channel's own activation as weights."""
    proportion = share(seen.activations, seen.activations.sum((1, 2), keepdim=True))
    return weighted((proportion * seen.gradients).sum((2, 3)), seen.activations)


@method(
    "hirescam",
    "HiResCAM",
    formula="Σ_k g_k ⊙ A_k",
    paper=("Draelos and Carin, HiResCAM (2020)", "https://arxiv.org/abs/2011.08891"),
    needs="gradients",
    cost=_ONE_PASS,
)
def hirescam(seen: Evidence) -> Tensor:
    """Each place of each channel counts by its own gradient: exact where the head is linear."""
    return (seen.gradients * seen.activations).sum(1)


@method(
    "gradcam_elementwise",
    "Element-wise Grad-CAM",
    formula="Σ_k ReLU(g_k ⊙ A_k)",
    paper=("Gildenblat et al., pytorch-grad-cam (2021)", "https://github.com/jacobgil/pytorch-grad-cam"),
    needs="gradients",
    cost=_ONE_PASS,
    signed=False,
)
def gradcam_elementwise(seen: Evidence) -> Tensor:
    """As HiResCAM, with what argues against the target left out channel by channel."""
    return (seen.gradients * seen.activations).relu().sum(1)


@method(
    "layercam",
    "LayerCAM",
    formula="Σ_k ReLU(g_k) ⊙ A_k",
    paper=("Jiang et al., LayerCAM (IEEE TIP 2021)", "https://doi.org/10.1109/TIP.2021.3089943"),
    needs="gradients",
    cost=_ONE_PASS,
)
def layercam(seen: Evidence) -> Tensor:
    """Positive gradients weigh place by place, which works for early layers too."""
    return (seen.gradients.relu() * seen.activations).sum(1)


@method(
    "smooth_gradcam++",
    "Smooth Grad-CAM++",
    formula="Grad-CAM++ with g, g² and g³ averaged over noisy copies of X",
    paper=("Omeiza et al., Smooth Grad-CAM++ (2019)", "https://arxiv.org/abs/1908.01224"),
    needs="gradients",
    cost=f"one forward pass over {_NOISY} noisy pictures and one backward pass a target",
)
def smooth_gradcam_plus_plus(seen: Evidence) -> Tensor:
    """Grad-CAM++ whose derivatives hold in a neighbourhood; noise of a tenth of the picture's range."""
    spread = _NOISE * (seen.image.max() - seen.image.min())
    noise = seen.draw(seen.generator(), (_NOISY, *seen.image.shape[1:]))
    _, g = seen.look_at(seen.image.to(noise) + spread.to(noise) * noise)
    first, second, third = (g.pow(power).mean(1) for power in (1, 2, 3))
    alpha = share(second, 2 * second + seen.activations.sum((1, 2))[:, None, None] * third)
    return weighted((alpha * first.relu()).sum((2, 3)), seen.activations)
