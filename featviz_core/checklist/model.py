"""Model: output shape, NaN and Inf, initialisation."""

from __future__ import annotations

import math

from torch import nn

from featviz_core.checklist.probe import Check, Probe
from featviz_core.checklist.report import Verdict

_SUM_TOLERANCE = 1e-4  # of a row of float32 probabilities


def output_shape(probe: Probe) -> Verdict:
    """One score for each picture and class, and scores rather than probabilities where the loss wants scores."""
    images, _ = probe.pair
    logits = probe.logits
    names = probe.experiment.class_names
    seen = {"output": str(tuple(logits.shape)), "pictures": len(images), "class names": len(names) if names else None}
    if logits.ndim != 2 or len(logits) != len(images):
        what = f"Expected one row of class scores for each of {len(images)} pictures, got {tuple(logits.shape)}."
        do = "Flatten before the last layer and let it give (N, C); pick the scores with `get_logits` if there is more."
        return Verdict("model.output_shape", "fail", what, "proven", seen, do)
    if names is not None and len(names) != logits.shape[1]:
        what = f"The model gives {logits.shape[1]} scores for {len(names)} classes."
        do = f"Give the last layer {len(names)} outputs, or name all classes."
        return Verdict("model.output_shape", "fail", what, "proven", seen, do)
    if isinstance(probe.experiment.loss_fn, nn.CrossEntropyLoss) and _are_probabilities(probe):
        what = "The model gives probabilities, and cross-entropy applies softmax once more."
        do = "Remove the softmax from the model; apply it only when showing probabilities."
        return Verdict("model.output_shape", "warn", what, "proven", seen, do)
    what = f"One row of {logits.shape[1]} scores for each picture."
    return Verdict("model.output_shape", "pass", what, "proven", seen)


def _are_probabilities(probe: Probe) -> bool:
    """Whether every row is one: logits lie on that surface with probability zero."""
    logits = probe.logits.detach()
    sums = bool(((logits.sum(1) - 1).abs() < _SUM_TOLERANCE).all())
    return sums and bool((logits >= 0).all()) and logits.shape[1] > 1


def finite(probe: Probe) -> Verdict:
    """Every layer's output is finite at the start and over the watched steps."""
    images, _ = probe.pair
    if not images.isfinite().all():
        what = "The pictures themselves hold NaN or Inf."
        return Verdict(
            "model.finite", "fail", what, "proven", {}, "Mend the pictures first.", explained_by="data.range"
        )
    bad = [name for name, value in probe.experiment.model.state_dict().items() if _bad(value)]
    if bad:
        what = f"{bad[0]} holds NaN or Inf before the first step."
        do = "Check the initialisation or the checkpoint that is loaded."
        return Verdict("model.finite", "fail", what, "proven", {"tensors": bad}, do)
    watch = probe.watched
    evidence = {"steps": watch.steps, "losses": watch.losses}
    if watch.not_finite is not None:
        layer, phase = watch.not_finite
        what = f"After at most {watch.steps} steps, {layer or 'the model'} gives NaN or Inf for finite input."
        do = "Lower the learning rate, clip gradients, and look for a logarithm or division in that layer."
        return Verdict("model.finite", "fail", what, "proven", {"layer": layer, "phase": phase} | evidence, do)
    if watch.losses and not math.isfinite(sum(watch.losses)) and probe.loss.isfinite().all():
        what = "The loss became NaN or Inf while the model's outputs were finite."
        do = "Use a loss that takes scores (`cross_entropy`, `binary_cross_entropy_with_logits`), not their logarithm."
        return Verdict("model.finite", "fail", what, "proven", evidence, do)
    return Verdict("model.finite", "pass", f"Every output was finite over {watch.steps} steps.", "proven", evidence)


def _bad(value: object) -> bool:
    return bool(value.is_floating_point() and not value.isfinite().all())  # type: ignore[attr-defined]


CHECKS: dict[str, Check] = {"model.output_shape": output_shape, "model.finite": finite}
