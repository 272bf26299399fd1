"""Model: output shape, NaN and Inf; initialisation stands in a module of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.checklist.exhibits import Curves, Trial
from featviz_core.checklist.initialisation import initialisation
from featviz_core.checklist.looks import (
    found,
    mixing,
    output_findings,
    verdict_of,
)
from featviz_core.checklist.probe import Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import own, practice
from featviz_core.errors import ModelError
from featviz_core.experiment import Experiment

_SUM_TOLERANCE = 1e-4  # of a row of float32 probabilities
_HARM = 0.1  # of the training pictures: a mistake that costs less does no harm here


def output_shape(probe: Probe) -> Verdict:
    """One score for each picture and class, and scores rather than probabilities where the loss wants scores."""
    images, _ = probe.pair
    logits = probe.logits
    names = probe.experiment.class_names
    seen = {"output": str(tuple(logits.shape)), "pictures": len(images), "class names": len(names) if names else None}
    targets = probe.pair[1]
    if isinstance(targets, Tensor) and logits.ndim > 2 and targets.shape == (len(images), *logits.shape[2:]):
        what = f"One score for each picture, class and place, {tuple(logits.shape)}, as the labels are."
        return Verdict("model.output_shape", "pass", what, "proven", seen)
    if logits.ndim != 2 or len(logits) != len(images):
        what = f"Expected one row of class scores for each of {len(images)} pictures, got {tuple(logits.shape)}."
        do = "Flatten before the last layer and let it give (N, C); pick the scores with `get_logits` if there is more."
        return Verdict("model.output_shape", "fail", what, "proven", seen, do)
    if names is not None and len(names) != logits.shape[1]:
        what = f"The model gives {logits.shape[1]} scores for {len(names)} classes."
        do = f"Give the last layer {len(names)} outputs, or name all classes."
        return Verdict("model.output_shape", "fail", what, "proven", seen, do)
    if isinstance(probe.experiment.loss_fn, nn.CrossEntropyLoss) and _are_probabilities(probe):
        return _softmax_twice(probe, seen)
    if mixed := mixing(probe):
        return verdict_of("model.output_shape", mixed)
    if cut := found(output_findings(probe), ("output.relu_applied",)):
        return _relu_last(probe, verdict_of("model.output_shape", cut))
    what = f"One row of {logits.shape[1]} scores for each picture."
    return Verdict("model.output_shape", "pass", what, "proven", seen)


def _softmax_twice(probe: Probe, seen: dict[str, Any]) -> Verdict:
    """Proven; whether it does harm is tried with the logarithm of the probabilities, which cross-entropy undoes."""
    after = practice(probe, lambda experiment: replace(experiment, get_logits=_logarithm(experiment)))
    figure = f"share of the training pictures learned after {probe.steps} steps"
    before, helped = own(probe), after.gain > own(probe).gain + _HARM
    trial = Trial("scores instead", "without the softmax", figure, round(before.gain, 3), round(after.gain, 3), helped)
    return Verdict(
        "model.output_shape",
        "fail" if helped else "warn",
        "The model gives probabilities, and cross-entropy applies softmax once more.",
        "proven",
        seen,
        "Remove the softmax from the model; apply it only when showing probabilities.",
        harmless=not helped,
        trials=(trial,),
        exhibits=(Curves("Loss", {"softmax twice": before.losses, "once": after.losses}),),
        fix="model = body  # without nn.Softmax\nprobabilities = model(images).softmax(1)  # to show",
    )


def _relu_last(probe: Probe, verdict: Verdict) -> Verdict:
    """Red where the same training without the ReLU, where that is a module, learns more."""
    after = practice(probe, _without_last_relu)
    if after.raised:
        return verdict
    before, helped = own(probe).gain, after.gain > own(probe).gain + _HARM
    figure = f"share of the training pictures learned after {probe.steps} steps"
    trial = Trial("no ReLU at the end", "scores as they come", figure, round(before, 3), round(after.gain, 3), helped)
    return replace(verdict, status="fail" if helped else "warn", harmless=not helped, trials=(trial,))


def _without_last_relu(experiment: Experiment) -> Experiment:
    """Whose last ReLU gives what it gets. Raises `ModelError` where the model ends with no such module."""
    last = None
    for unit in experiment.model.modules():
        last = unit if isinstance(unit, nn.ReLU) else last
    if last is not None:
        last.forward = lambda scores: scores  # type: ignore[method-assign, assignment]
        images, _ = next(experiment.pairs(experiment.train_loader))
        with torch.no_grad():
            if bool((experiment.logits(experiment.model(images)) < 0).any()):
                return experiment
    raise ModelError("The model ends with no ReLU that is a module of its own.")


def _logarithm(experiment: Experiment) -> Callable[[Any], Tensor]:
    return lambda output: experiment.logits(output).clamp_min(1e-12).log()


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


CHECKS: dict[str, Check] = {"model.output_shape": output_shape, "model.finite": finite, "model.init": initialisation}
