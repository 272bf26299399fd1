"""Methods that change the picture or the layer and see what becomes of the score: no gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from featviz_core.rerun import rerun_from
from featviz_core.techniques.class_activation.evidence import Evidence, method, share, weighted, without_channels

_SMOOTH_STEPS, _SMOOTH_NOISE = 8, 2.0
_INTEGRATION_STEPS = 10
# Values of one batch of changed activations: more does not fit into the processor's caches.
_ABLATED_VALUES = 2**21

Variants = Callable[[Tensor], Sequence[Tensor]]


@method(
    "scorecam",
    "Score-CAM",
    formula="Σ_k softmax_k(y(X ⊙ H_k) − y(0)) · A_k with H_k = minmax(upsample(A_k))",
    paper=("Wang et al., Score-CAM (CVPR Workshops 2020)", "https://arxiv.org/abs/1910.01279"),
    needs="scores",
    cost="one forward pass a channel",
)
def scorecam(seen: Evidence) -> Tensor:
    """Each channel counts by the score of the picture seen through it.

    As grad-cam but for its resizing with `align_corners=True`; torchcam normalises before it resizes.
    """
    return _through_masks(seen, lambda masks: [masks])


@method(
    "sscam",
    "SS-CAM",
    formula="Σ_k softmax_k(mean_i y(X ⊙ (H_k + N_i(0, σ)))) · A_k",
    paper=("Wang et al., SS-CAM: Smoothed Score-CAM (2020)", "https://arxiv.org/abs/2006.14255"),
    needs="scores",
    cost=f"{_SMOOTH_STEPS} forward passes a channel",
)
def sscam(seen: Evidence) -> Tensor:
    """Score-CAM with noise (σ = 2) on each mask, averaged; torchcam does the same with 35 copies by default."""
    generator = seen.generator()

    def noisy(masks: Tensor) -> list[Tensor]:
        return [masks + _SMOOTH_NOISE * seen.draw(generator, masks.shape) for _ in range(_SMOOTH_STEPS)]

    return _through_masks(seen, noisy)


@method(
    "iscam",
    "IS-CAM",
    formula="Σ_k softmax_k(mean_i y(X ⊙ H_k · i/n)) · A_k for i = 1 … n",
    paper=("Naidu et al., IS-CAM: Integrated Score-CAM (2020)", "https://arxiv.org/abs/2010.03023"),
    needs="scores",
    cost=f"{_INTEGRATION_STEPS} forward passes a channel",
)
def iscam(seen: Evidence) -> Tensor:
    """Score-CAM with each mask faded in step by step, averaged.

    torchcam adds the strengths up (0.1, 0.3, 0.6 …), so that most of its steps are brighter than the picture.
    """
    fading = torch.arange(1, _INTEGRATION_STEPS + 1) / _INTEGRATION_STEPS
    return _through_masks(seen, lambda masks: [masks * float(strength) for strength in fading])


def _through_masks(seen: Evidence, variants: Variants) -> Tensor:
    """Channels weighed by the softmax of the scores of the picture seen through variants of their masks.

    The score of the empty picture that Score-CAM subtracts is the same for all channels, so it leaves the softmax.
    """
    channels = len(seen.activations)
    image = seen.image.to(seen.activations)
    scores = []
    for start in range(0, channels, seen.batch):
        masks = _masks(seen.activations[start : start + seen.batch], image.shape[2:])
        answers = []
        # One variant at a time, whatever their number: memory stays that of one batch, and one can stop in between.
        for changed in (every := variants(masks)):
            answers.append(seen.answers(image * changed))
            seen.report((start + len(masks) * len(answers) / len(every)) / channels)
        scores.append(torch.stack(answers).mean(0))
    return weighted(torch.cat(scores).softmax(0).T, seen.activations)


def _masks(activations: Tensor, size: Sequence[int]) -> Tensor:
    """One mask in [0, 1] a channel, `(B, 1, H, W)`; zero for a channel that gives one value everywhere."""
    up = F.interpolate(activations[:, None], size=tuple(size), mode="bilinear", align_corners=False)
    low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
    return share(up - low, high - low)


@method(
    "ablationcam",
    "Ablation-CAM",
    formula="Σ_k (y − y without A_k) / |y| · A_k",
    paper=(
        "Desai and Ramaswamy, Ablation-CAM (WACV 2020)",
        "https://openaccess.thecvf.com/content_WACV_2020/html/"
        "Desai_Ablation-CAM_Visual_Explanations_for_Deep_Convolutional_Network_via_Gradient-free_Localization_WACV_2020_paper.html",
    ),
    needs="scores",
    cost="one run of what follows the layer a channel",
)
def ablationcam(seen: Evidence) -> Tensor:
    """Each channel counts by the share of the score that is lost when it is set to zero.

    Divided by |y|, so that a channel that raises a negative score still counts as evidence. As grad-cam where no
    activation is negative; below that it puts large negative numbers where the paper has zeros.
    """
    channels = len(seen.activations)
    batch = max(1, _ABLATED_VALUES // max(1, seen.activations.numel()))
    lost = []
    with rerun_from(seen.model, seen.image, layer=seen.layer.address) as rerun, torch.no_grad():
        full = seen.scores_in(rerun.output)
        for start in range(0, channels, batch):
            some = range(start, min(start + batch, channels))
            lost.append(full - seen.scores_in(rerun(without_channels(rerun, seen.layer, some))))
            seen.report(some.stop / channels)
    return weighted(share(torch.cat(lost), full.abs()).T, seen.activations)
