"""What the model's behaviour says: the same answer twice, one picture at a time, for this picture and no other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from featviz_core.findings import Finding
from featviz_core.techniques.output_check.layers import step_name
from featviz_core.techniques.output_check.result import Behaviour, ModelOutput

_ALMOST_NOTHING = 1e-3  # spread of healthy scores after one step of training: at least 4e-3
_ROUNDING = 1e-6
_LOST = 0.2  # accuracy that only training mode has
_ENOUGH = 8  # pictures from which on one answer to all is no chance


def behaviour(found: ModelOutput, seen: Behaviour) -> Iterator[Finding]:
    """Repeatable, independent of its neighbours, dependent on its picture, alike in both modes."""
    yield _repeatable(seen)
    yield from _apart(seen)
    yield from _modes(seen)
    if len(found.logits) and np.isfinite(found.logits).all():
        depends = _depends(found, seen)
        yield depends
        if depends.code != "output.constant":
            yield from _one_class(found)
        yield from _both_modes(found, seen)


def _repeatable(seen: Behaviour) -> Finding:
    evidence = {"difference": seen.repeat, "healthy": f"at most {seen.repeat_tolerance:.0e} of the largest score"}
    if seen.repeat <= seen.repeat_tolerance:
        return Finding("output.repeatable", "ok", "Two passes give the same", evidence=evidence)
    return Finding(
        "output.random",
        "fail",
        "Two passes over the same pictures differ",
        "In eval mode nothing may be left to chance. Two validations differ, and so do training and deployment.",
        where=seen.random_layer,
        evidence=evidence,
        remedy="A function does not know the mode: `F.dropout(x, training=self.training)`, or use `nn.Dropout`.",
    )


def _apart(seen: Behaviour) -> Iterator[Finding]:
    if seen.alone_error:
        yield Finding(
            "output.alone_fails",
            "fail",
            "A picture alone makes the model fail",
            seen.alone_error,
            evidence={"healthy": "as in a batch"},
            remedy="Look for a bare `squeeze()`, which drops the batch axis of one, and for statistics over the batch.",
        )
    evidence = {"leak": seen.leak, "alone": seen.alone, "healthy": f"leak 0; alone at most {seen.tolerance:.0e}"}
    if seen.leak > 0:
        yield Finding(
            "output.mixes_samples",
            "fail",
            "Pictures of a batch mix",
            f"A picture's scores change with its neighbours: their gradient is {seen.leak:.1%} of that towards the "
            f"picture itself, in eval mode, where it has to be 0.{_seems(seen)}",
            where=", ".join(seen.batch_statistics or seen.still_training),
            evidence=evidence,
            remedy="Look for `view`, `reshape`, `mean`, `softmax` or `norm` over axis 0, and for BatchNorm without "
            "running statistics.",
        )
    elif math.isfinite(seen.alone) and seen.alone > seen.tolerance:
        yield Finding(
            "output.alone_differs",
            "fail",
            "A picture alone gets other scores than in a batch",
            f"They differ by {seen.alone:.2%} of the largest score, though no gradient shows how the batch comes in.",
            evidence=evidence,
            remedy="Look for statistics of the whole batch that are detached or computed without gradient.",
        )
    elif seen.leak == 0 or seen.alone <= seen.tolerance:
        yield Finding("output.samples_apart", "ok", "No picture depends on its neighbours", evidence=evidence)


def _seems(seen: Behaviour) -> str:
    if seen.batch_statistics:
        return " BatchNorm there keeps no running statistics, so it takes those of the batch."
    if seen.last_operation in ("Softmax", "LogSoftmax"):
        return " The last operation is a softmax: over the classes it does not mix, over axis 0 it does."
    return ""


def _modes(seen: Behaviour) -> Iterator[Finding]:
    if seen.still_training:
        yield Finding(
            "output.still_training",
            "warn",
            "Modules that stay in training mode",
            "`model.eval()` does not reach them.",
            where=", ".join(seen.still_training[:6]),
            evidence={"modules": len(seen.still_training), "healthy": "0"},
            remedy="Let an own `train(self, mode=True)` call `super().train(mode)`, and set no `training` by hand.",
        )


def _depends(found: ModelOutput, seen: Behaviour) -> Finding:
    logits = np.concatenate([found.logits, seen.others]) if seen.others.size else found.logits
    scale = float(np.abs(logits).max())
    apart = float(np.ptp(logits, axis=0).max())
    evidence = {"spread": seen.spread, "healthy": f"at least {_ALMOST_NOTHING}"}
    if apart <= _ROUNDING * scale:
        return _constant(scale, found, evidence)
    if not seen.spread < _ALMOST_NOTHING or seen.training_spread >= _ALMOST_NOTHING:
        return Finding("output.depends_on_input", "ok", "Different pictures get different scores", evidence=evidence)
    return Finding(
        "output.nearly_constant",
        "warn",
        "Scores hardly depend on the picture",
        f"From picture to picture a score changes by {seen.spread:.1e}, so every picture gets the same answer.",
        evidence=evidence,
        remedy="Look at the layers for dead units, at the input's range, and at the start of the weights.",
    )


def _constant(scale: float, found: ModelOutput, evidence: dict[str, object]) -> Finding:
    silent = next((step for step in found.steps if step.largest == 0 and step.output_finite), None)
    where = f"{step_name(silent)} gives nothing but zeros" if silent else ""
    if scale == 0:
        return Finding(
            "output.constant",
            "warn",
            "All scores are 0",
            "The last layer starts at zero, as some do on purpose, or nothing reaches it. Fine before the first step, "
            "and never after it.",
            where=where,
            evidence=evidence,
            remedy="Train one step and look again.",
        )
    return Finding(
        "output.constant",
        "fail",
        "The same scores for everything",
        "Every picture, noise and darkness get the same row: what the model sees does not arrive at its output.",
        where=where,
        evidence=evidence,
        remedy="Follow the layers: behind dead ReLUs all is 0. Lower the learning rate, check the start of the "
        "weights, and that `forward` uses its input.",
    )


def _one_class(found: ModelOutput) -> Iterator[Finding]:
    shares = found.probabilities
    pictures, classes = shares.shape
    best = shares.argmax(axis=1)
    if pictures < _ENOUGH or classes < 2 or len(np.unique(best)) > 1:
        return
    labels = found.labelled.targets[found.labelled.targets >= 0] if found.labelled else np.zeros(0, np.int64)
    confidence = float(shares[:, best[0]].mean())
    limit = 0.6 + 0.4 / (2 if found.applied == "sigmoid" else classes)
    several = len(np.unique(labels)) > 1
    if labels.size and not several:
        return
    yield Finding(
        "output.one_class",
        "warn" if several and confidence >= limit else "note",
        "One class for everything",
        f"All {pictures} pictures are taken for {found.class_name(int(best[0]))}"
        + (f", but they carry {len(np.unique(labels))} labels." if several else ".")
        + ("" if confidence >= limit else " The model is not sure of it, as before training."),
        evidence={"confidence": confidence, "healthy": f"below {limit:.2f} before training"},
        remedy="Check the balance of classes, the learning rate, and that labels fit their pictures.",
    )


def _both_modes(found: ModelOutput, seen: Behaviour) -> Iterator[Finding]:
    """Eval mode against training mode: what dropout and BatchNorm make of it."""
    evaluated = found.logits[: len(seen.training)]
    if not len(evaluated) or evaluated.shape != seen.training.shape or not np.isfinite(seen.training).all():
        return
    agree = float((evaluated.argmax(1) == seen.training.argmax(1)).mean())
    evidence: dict[str, Any] = {"agreement": agree, "spread": seen.spread, "training_spread": seen.training_spread}
    called = {step.layer.partition("#")[0] for step in found.steps}
    fresh = [name for name in seen.fresh_norms if name in called]
    if worse := _worse_in_eval(found, seen, evaluated, bool(fresh)):
        yield Finding(
            "output.train_eval",
            "warn",
            "Eval mode is worse than training mode",
            f"On the same pictures: {worse}. BatchNorm's running statistics do not describe this data.",
            evidence=evidence | {"healthy": "eval mode no worse"},
            remedy="Train longer or with larger batches, raise `momentum` of BatchNorm, and make sure that checkpoints "
            "hold buffers and that pictures are preprocessed as in training.",
        )
    elif fresh:
        yield Finding(
            "output.batchnorm_fresh",
            "note",
            "BatchNorm has seen no batch yet",
            f"{len(fresh)} layers start from mean 0 and variance 1, so eval mode means nothing before training. Both "
            f"modes agree on {agree:.0%} of the pictures.",
            where=", ".join(fresh[:3]) + (", …" if len(fresh) > 3 else ""),
            evidence=evidence | {"healthy": "statistics of at least one batch"},
            remedy="Train a few steps first, or load weights with their buffers.",
        )
    else:
        yield _agreement(agree, len(evaluated), evidence)


def _worse_in_eval(found: ModelOutput, seen: Behaviour, evaluated: np.ndarray, fresh: bool) -> str:
    """How much worse the answers are in eval mode, in words; "" where they are not."""
    here, training = (_accuracy(scores, found) for scores in (evaluated, seen.training))
    if len(evaluated) >= 2 * _ENOUGH and training - here > _LOST:
        return f"right for {here:.0%} of the pictures in eval mode, {training:.0%} in training mode"
    if seen.spread < _ALMOST_NOTHING <= seen.training_spread and not fresh:
        return f"spread of the scores {seen.spread:.1e} in eval mode, {seen.training_spread:.1e} in training mode"
    return ""


def _agreement(agree: float, pictures: int, evidence: dict[str, Any]) -> Finding:
    text = f"They agree on {agree:.0%} of the pictures."
    if agree >= 0.5 or pictures < _ENOUGH:
        evidence |= {"healthy": "eval mode no worse"}
        return Finding("output.train_eval", "ok", "Training and eval mode fit together", text, evidence=evidence)
    return Finding(
        "output.train_eval",
        "note",
        "Training and eval mode answer differently",
        f"{text} Dropout and BatchNorm's batch statistics make a difference that is meant; in a trained model it "
        "should be small.",
        evidence=evidence | {"healthy": "at least 50 % in a trained model"},
    )


def _accuracy(scores: np.ndarray, found: ModelOutput) -> float:
    if found.labelled is None:
        return math.nan
    targets = found.labelled.targets[: len(scores)]
    known = targets >= 0
    return float((scores.argmax(1) == targets)[known].mean()) if known.any() else math.nan
