"""How scores compare with labels: loss, accuracy, and whether confidence can be believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from featviz_core.batches import describe
from featviz_core.errors import ModelError
from featviz_core.techniques.output_check.result import BINS, Applied, Labelled, probabilities

LossFunction: TypeAlias = Callable[..., Tensor]
Targets: TypeAlias = Tensor | Sequence[Any] | NDArray[Any]

CROSS_ENTROPY = "CrossEntropyLoss"
_LOSS_NAMES = {
    "cross_entropy": CROSS_ENTROPY,
    "nll_loss": "NLLLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
}
_IGNORED = -100  # what cross-entropy leaves out unless told otherwise


def as_targets(targets: Targets, pictures: int) -> Tensor:
    """Labels as a tensor on the CPU. Raises `ModelError` for what are none, or not one for each picture."""
    try:
        found = torch.as_tensor(targets).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            "The labels are no tensor.", why=f"Got {describe(targets)}.", do="Give one class number for each picture."
        ) from error
    if found.ndim == 0 or len(found) != pictures:
        raise ModelError(
            "The labels do not fit the pictures.",
            why=f"Expected one for each of {pictures} pictures, got {describe(found)}.",
        )
    return found


def classes_of(targets: Tensor, loss_fn: LossFunction | None = None) -> NDArray[np.int64]:
    """Class numbers `(N,)` of labels that are class numbers or one-hot rows; -1 where there is no single class."""
    found = np.full(len(targets), -1, np.int64)
    if targets.ndim == 1 and not targets.is_floating_point():
        numbers = targets.numpy().astype(np.int64)
        return np.where(numbers == getattr(loss_fn, "ignore_index", _IGNORED), -1, numbers)
    if targets.ndim == 2 and targets.shape[1] > 1:
        single = ((targets == 1).sum(1) == 1) & ((targets != 0).sum(1) == 1)
        found[single.numpy()] = targets.argmax(1)[single].numpy()
    return found


def loss_name(loss_fn: LossFunction | None) -> str:
    """What a loss is called: `CrossEntropyLoss` also for torch's function; without one, cross-entropy is meant."""
    if loss_fn is None:
        return CROSS_ENTROPY
    plain = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    own = getattr(functional, plain, None) is loss_fn or isinstance(loss_fn, nn.modules.loss._Loss)
    return _LOSS_NAMES.get(plain, plain) if own else plain


def compare(
    logits: Tensor, targets: Tensor, applied: Applied, loss_fn: LossFunction | None, device: torch.device
) -> Labelled:
    """How do `logits` (N, C) compare with `targets`? Without `loss_fn`, cross-entropy for class numbers.

    The loss is asked on `device`, where its own weights may be.
    """
    classes = classes_of(targets, loss_fn)
    fitting = classes >= 0
    fitting &= classes < logits.shape[1]
    asked = loss_fn is not None or (targets.ndim == 1 and not targets.is_floating_point())
    loss, uniform, error = _losses(logits, targets, loss_fn, device) if asked else (math.nan, math.nan, "")
    shares = probabilities(logits.numpy(), applied)
    known = fitting & np.isfinite(shares).all(axis=1)
    confidence, right = shares[known].max(axis=1, initial=0), shares[known].argmax(axis=1) == classes[known]
    bins = _bins(confidence, right)
    return Labelled(
        targets=classes,
        loss=loss,
        uniform_loss=uniform,
        loss_name=loss_name(loss_fn) if asked else "",
        loss_error=error,
        accuracy=float(right.sum() / fitting.sum()) if fitting.any() else math.nan,
        ece=_calibration_error(bins),
        bins=bins,
    )


def _losses(
    logits: Tensor, targets: Tensor, loss_fn: LossFunction | None, device: torch.device
) -> tuple[float, float, str]:
    """The loss, that of knowing nothing, and what the loss function said where it failed."""
    ask, wanted = loss_fn or functional.cross_entropy, targets.to(device)
    wanted = wanted.long() if loss_fn is None else wanted
    try:
        with torch.no_grad():
            found, unknowing = (
                torch.as_tensor(ask(scores.to(device), wanted)).float().mean()
                for scores in (logits, _know_nothing(logits, loss_name(loss_fn)))
            )
    except Exception as error:  # noqa: BLE001  the loss is the user's: what it says is a finding
        return math.nan, math.nan, f"{type(error).__name__}: {error}"
    return float(found), float(unknowing), ""


def _know_nothing(logits: Tensor, loss: str) -> Tensor:
    """Scores that give every class the same chance, in the form that the loss takes."""
    value = {"NLLLoss": -math.log(max(1, logits.shape[1])), "BCELoss": 0.5}.get(loss, 0.0)
    return torch.full_like(logits, value)


def _bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[tuple[int, float, float], ...]:
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for index in range(BINS):
        inside = place == index
        count = int(inside.sum())
        sure, good = (float(v[inside].mean()) if count else math.nan for v in (confidence, right))
        found.append((count, sure, good))
    return tuple(found)


def _calibration_error(bins: Sequence[tuple[int, float, float]]) -> float:
    pictures = sum(count for count, _, _ in bins)
    return sum(n * abs(good - sure) for n, sure, good in bins if n) / pictures if pictures else math.nan
