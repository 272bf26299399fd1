"""The output check itself: one look at the scores, some questions about the model, and the findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz_core.borrowing import Model
from featviz_core.capture import check_images
from featviz_core.experiment import own_randomness, seed_everything
from featviz_core.techniques.output_check.applied import applied_to
from featviz_core.techniques.output_check.asking import Asked, GetLogits, Progress
from featviz_core.techniques.output_check.behaviour import behave, rows
from featviz_core.techniques.output_check.findings_behaviour import behaviour
from featviz_core.techniques.output_check.findings_form import form
from featviz_core.techniques.output_check.findings_labels import against_labels
from featviz_core.techniques.output_check.labelled import LossFunction, Targets, as_targets, compare, loss_name
from featviz_core.techniques.output_check.layers import not_finite_state, steps
from featviz_core.techniques.output_check.result import ModelOutput

_WATCHED = 2  # pictures whose way through the layers is followed


def check_model_output(
    model: Model,
    images: Tensor,
    *,
    targets: Targets | None = None,
    loss_fn: LossFunction | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    get_logits: GetLogits | None = None,
    progress: Progress | None = None,
) -> ModelOutput:
    """Is what the model gives for `images` (N, C, H, W) right, and does it behave as a classifier should?

    In eval mode, and once in training mode; the model is left as it was, and so are all random numbers. `targets`:
    class numbers `(N,)`, or whatever `loss_fn(logits, targets)` takes; without a loss, cross-entropy. The number of
    classes is `num_classes`, that of `class_names`, or that of the model's own names. `get_logits(output)` finds the
    scores `(N, C)` where the model gives more; `.logits` and `["logits"]` are found without it.
    `progress(fraction, text)` may raise to cancel.

    Raises `ModelError` for pictures that the model cannot look at, for an output without a single tensor of scores,
    and for labels that do not fit the pictures.
    """
    check_images(images)
    asked, report = Asked(model, get_logits), progress or (lambda _fraction, _text: None)
    labels = None if targets is None else as_targets(targets, len(images))
    names: tuple[str, ...] = tuple(class_names or getattr(model, "class_names", None) or ())
    loss = loss_name(loss_fn) if loss_fn is not None or labels is not None else None
    with own_randomness():
        seed_everything(0)
        scores = asked.in_batches(images, _part(report, 0, 0.5))
        found = _describe(scores, names, num_classes or len(names) or None)
        found = _looked_into(found, asked, images, scores, _part(report, 0.5, 0.95))
    logits = torch.from_numpy(found.logits)
    if labels is not None and logits.numel():
        applied = found.applied if found.applied_proven else ""
        found = replace(found, labelled=compare(logits, labels, applied, loss_fn, asked.weight().device))
    report(1.0, "Done")
    return replace(found, tests=tuple(_tests(found, len(images), loss)))


def _part(report: Progress, start: float, end: float) -> Progress:
    return lambda fraction, text: report(start + (end - start) * fraction, text)


def _describe(scores: Tensor, names: tuple[str, ...], classes: int | None) -> ModelOutput:
    """The article's table, and nothing else yet."""
    finite = scores[scores.isfinite()].double()
    many = finite.numel() > 1
    return ModelOutput(
        shape=tuple(scores.shape),
        mean=float(finite.mean()) if finite.numel() else math.nan,
        std=float(finite.std()) if many else (0.0 if finite.numel() else math.nan),
        min=float(finite.min()) if finite.numel() else math.nan,
        max=float(finite.max()) if finite.numel() else math.nan,
        has_nan=bool(scores.isnan().any()),
        has_inf=bool(scores.isinf().any()),
        logits=np.zeros((0, 0), np.float32),
        class_names=names,
        expected_classes=classes,
        applied="",
        applied_proven=False,
        behaviour=None,
        labelled=None,
        steps=(),
        not_finite=(),
    )


def _looked_into(found: ModelOutput, asked: Asked, images: Tensor, scores: Tensor, report: Progress) -> ModelOutput:
    """What the questions about the model say; few where it gives no rows."""
    flat = rows(scores, len(images))
    finite = flat.isfinite().all(1) if len(flat) else torch.zeros(len(images), dtype=torch.bool)
    order = torch.argsort(finite.int(), stable=True)[:_WATCHED]
    found = replace(found, not_finite=not_finite_state(asked, images), steps=steps(asked, images[order]))
    if not bool(finite.any()):
        return replace(found, logits=_class_scores(scores, flat))
    kept = finite.to(images.device)
    seen = behave(asked, images[kept], flat[finite], report)
    logits = _class_scores(scores, flat)
    every = np.concatenate([logits, seen.others]) if logits.shape[1] == seen.others.shape[-1] else logits
    applied, proven = applied_to(every, seen.last_operation) if len(logits) else ("", False)
    return replace(found, logits=logits, behaviour=seen, applied=applied, applied_proven=proven)


def _class_scores(scores: Tensor, flat: Tensor) -> np.ndarray[Any, Any]:
    """`(N, C)` where the scores can be read so: rows, single numbers, or maps of one place."""
    readable = scores.ndim in (1, 2) or (scores.ndim == 4 and scores.shape[2:] == (1, 1))
    return np.asarray((flat if readable else flat[:0, :0]).numpy())


def _tests(found: ModelOutput, pictures: int, loss: str | None) -> list[Any]:
    tests = list(form(found, pictures, loss))
    if found.behaviour is not None:
        tests += behaviour(found, found.behaviour)
    if found.labelled is not None:
        tests += against_labels(found, found.labelled)
    return tests
