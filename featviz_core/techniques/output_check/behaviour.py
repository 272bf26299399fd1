"""How a model answers: twice, alone, in company, to noise, and in training mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.borrowing import borrowed
from featviz_core.capture import placed
from featviz_core.errors import ModelError
from featviz_core.techniques.output_check.asking import Asked, Progress
from featviz_core.techniques.output_check.layers import first_random_layer
from featviz_core.techniques.output_check.result import Behaviour

_COMPANY = 3  # pictures in the batch that samples may not mix in
_NOISES = 4
_IN_TRAINING = 32
# torchvision's classifiers, fresh and woken, change by up to 5e-6 between a picture alone and in a batch.
_ROUNDING = 1e-4
_SAME = 1e-5
_TENSOR_FLOAT = 2.0**-10  # what a GPU may round the factors of a float32 product to


def behave(asked: Asked, images: Tensor, logits: Tensor, progress: Progress) -> Behaviour:
    """How does the model answer to `images` (N, C, H, W), all of them finite, besides its `logits` for them?

    The pictures of noise are drawn by a generator of their own; what the model itself draws, from torch's state.
    """
    untested: list[str] = []
    others = _others(images)
    company = torch.cat([images[:_COMPANY], others])[:_COMPANY]
    progress(0.0, "Asking twice, and about a picture alone")
    first = asked.scores(company)
    repeat, (same, tolerance) = difference(asked.scores(company), first), _tolerances(asked.weight())
    steady = repeat <= same
    alone, alone_error = _alone(asked, company)
    if not steady:
        untested.append("A picture alone against the same in a batch: every pass gives something else.")
    progress(0.4, "Following the gradient to each picture of a batch")
    leak, last_operation = _leak(asked, company, untested)
    progress(0.6, "Asking in training mode")
    training = _in_training(asked, images[:_IN_TRAINING], untested)
    progress(0.8, "Showing noise and a dark picture")
    still_training, batch_statistics, fresh_norms = _modes(asked)
    return Behaviour(
        repeat=repeat,
        repeat_tolerance=same,
        random_layer="" if steady else first_random_layer(asked, company),
        alone=difference(_together(alone), first) if steady and alone else math.nan,
        alone_shape=tuple(alone[0].shape) if alone else (1, *first.shape[1:]),
        alone_error=alone_error,
        tolerance=tolerance,
        leak=leak,
        last_operation=last_operation,
        spread=spread(logits[:_IN_TRAINING]),
        training_spread=spread(training),
        training=training.numpy(),
        others=rows(asked.scores(others), len(others)).numpy(),
        still_training=still_training,
        batch_statistics=batch_statistics,
        fresh_norms=fresh_norms,
        untested=tuple(untested),
    )


def rows(scores: Tensor, pictures: int) -> Tensor:
    """Scores as one row for each picture `(pictures, C)`; no rows where that cannot be."""
    if scores.ndim == 0 or len(scores) != pictures:
        return scores.new_zeros(0, 0)
    return scores.flatten(1) if scores.ndim > 1 else scores[:, None]


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference as a share of the largest score; infinite for another shape, NaN for NaN.

    Scores that are all below a thousandth hold little but rounding: theirs is a share of that.
    """
    if one.shape != other.shape:
        return math.inf
    return float((one - other).abs().max() / other.abs().max().clamp(min=_LEAST_SCORE))


_LEAST_SCORE = 1e-3


def spread(scores: Tensor) -> float:
    """The standard deviation of a score across pictures, averaged over classes; NaN for fewer than two pictures."""
    return float(scores.double().std(0).mean()) if len(scores) > 1 else math.nan


def _others(images: Tensor) -> Tensor:
    """Noise as bright and as varied as the pictures, and, last, a picture as dark as their darkest pixels."""
    draw = torch.Generator().manual_seed(0)
    known = images.detach().cpu().float()
    mean, std, low = (
        value.reshape(1, -1, 1, 1)
        for value in (known.mean((0, 2, 3)), known.std((0, 2, 3), correction=0), known.amin((0, 2, 3)))
    )
    noise = torch.randn(_NOISES, *images.shape[1:], generator=draw) * std + mean
    return torch.cat([noise, low.expand(1, *images.shape[1:])]).to(images)


def _tolerances(weight: Tensor) -> tuple[float, float]:
    """Up to which relative difference two passes are the same, and a picture alone and in a batch; for a model's
    `weight`, because other number types and devices round more."""
    rounding = 10 * torch.finfo(weight.dtype).eps
    on_gpu = 10 * _TENSOR_FLOAT if weight.device.type != "cpu" else 0.0
    return max(_SAME, rounding), max(_ROUNDING, rounding, on_gpu)


def _alone(asked: Asked, company: Tensor) -> tuple[list[Tensor], str]:
    """The scores of each picture in a batch of its own, and what the model raised instead."""
    try:
        return [asked.scores(company[index : index + 1]) for index in range(len(company))], ""
    except ModelError as error:
        return [], error.why


def _together(alone: Sequence[Tensor]) -> Tensor:
    """The scores of single pictures as one tensor; an empty one where they have no batch axis."""
    return torch.cat(list(alone)) if all(scores.ndim for scores in alone) else torch.empty(0)


def _leak(asked: Asked, company: Tensor, untested: list[str]) -> tuple[float, str]:
    """How far the gradient of one picture's scores reaches into another picture, and what made the scores.

    A random direction of the scores, not their sum: that of a softmax is 1 whatever the pictures are.
    """
    draw = torch.Generator().manual_seed(1)
    try:
        with borrowed(asked.model) as module, torch.enable_grad():
            module.requires_grad_(False)
            pictures = placed(company, module).requires_grad_()
            scores = asked.run(module, pictures.clone())
            answer = rows(scores, len(company))
            if not len(answer) or not answer.requires_grad:
                untested.append("Mixing of samples by its gradient: there is none from the scores to the pictures.")
                return math.nan, ""
            direction = torch.randn(answer.shape[1], generator=draw).to(answer)
            return _reach([(row * direction).sum() for row in answer], pictures), _operation(scores)
    except ModelError as error:
        untested.append(f"Mixing of samples by its gradient: {error.why}")
    except RuntimeError as error:  # from the backward pass
        untested.append(f"Mixing of samples by its gradient: {error}")
    return math.nan, ""


def _reach(scalars: Sequence[Tensor], pictures: Tensor) -> float:
    """The largest gradient of a picture's scalar towards another, as a share of the largest towards itself."""
    own, foreign = 0.0, 0.0
    for index, scalar in enumerate(scalars):
        (gradient,) = torch.autograd.grad(scalar, pictures, retain_graph=True)
        sizes = gradient.flatten(1).norm(dim=1).tolist()
        own = max(own, sizes.pop(index))
        foreign = max(foreign, *sizes)
    return foreign / own if own and foreign else foreign


_LAYING_OUT = ("View", "UnsafeView", "Squeeze", "Unsqueeze", "Clone", "Alias", "Reshape", "ToCopy", "Slice")


def _operation(scores: Tensor) -> str:
    """The function that made the scores: `Softmax`, `Addmm`, ...; what only lays them out does not count."""
    node: Any = scores.grad_fn
    while node is not None:
        name = str(node.name()).removesuffix("0").removesuffix("Backward")
        if not name.startswith(_LAYING_OUT):
            return name
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return ""


def _in_training(asked: Asked, images: Tensor, untested: list[str]) -> Tensor:
    """The scores in training mode; no rows where there is only one picture, or the model cannot."""
    if len(images) < 2:
        untested.append("Training mode: BatchNorm needs at least two pictures.")
        return torch.zeros(0, 0)
    try:
        return rows(asked.scores(images, training=True), len(images))
    except ModelError as error:
        untested.append(f"Training mode: {error.why}")
        return torch.zeros(0, 0)


def _modes(asked: Asked) -> tuple[tuple[str, ...], ...]:
    """Modules that are still training in eval mode; BatchNorms without running statistics; those that saw no batch."""
    with borrowed(asked.model) as module:
        named = [(name or "the model itself", inner) for name, inner in module.named_modules()]
        norms = [(name, inner) for name, inner in named if isinstance(inner, nn.modules.batchnorm._BatchNorm)]
        return (
            tuple(name for name, inner in named if inner.training),
            tuple(name for name, norm in norms if norm.running_mean is None),
            tuple(name for name, norm in norms if _seen_nothing(norm)),
        )


def _seen_nothing(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    count, mean, var = norm.num_batches_tracked, norm.running_mean, norm.running_var
    return (
        count is not None
        and mean is not None
        and var is not None
        and int(count) == 0
        and not bool(mean.any())
        and bool((var == 1).all())
    )
