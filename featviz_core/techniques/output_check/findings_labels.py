"""What labels say of the output: the loss against that of knowing nothing, and confidence against accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from featviz_core.findings import Finding
from featviz_core.techniques.output_check.result import Labelled, ModelOutput

_WORSE = 0.25  # initial losses of healthy models lie within .12 of the uniform one, few without BatchNorm above
_MUCH_WORSE = 1.0
_MISCALIBRATED = 0.15
_LEARNED = 0.5  # accuracy from which on a model is meant to know its classes
_SEVERAL = 5  # pictures of a class from which on it is no chance that none is recognised
_MANY = 100  # pictures from which on calibration is no chance
_MEANT = 0.8  # of the pictures, when classes stand in another order


def against_labels(found: ModelOutput, labelled: Labelled) -> Iterator[Finding]:
    """Labels in range, a loss that makes sense, classes in the same order, confidence that can be believed."""
    if found.logits.size:
        yield from _range(found, labelled)
    if labelled.loss_name:
        yield _loss(labelled)
    yield from _order(found)
    yield from _never_right(found)
    pictures = sum(count for count, _, _ in labelled.bins)
    if labelled.ece > _MISCALIBRATED and pictures >= _MANY and labelled.accuracy > _LEARNED:
        yield Finding(
            "output.miscalibrated",
            "note",
            "Confidence and accuracy differ",
            f"On average by {labelled.ece:.0%}: confidence cannot be read as a probability.",
            evidence={"ece": labelled.ece, "healthy": f"at most {_MISCALIBRATED}"},
            remedy="Divide the scores by one temperature, fitted on validation data (Guo et al.).",
        )


def _range(found: ModelOutput, labelled: Labelled) -> Iterator[Finding]:
    classes, wrong = found.logits.shape[1], np.unique(labelled.targets[labelled.targets >= found.logits.shape[1]])
    wrong = np.concatenate([np.unique(labelled.targets[labelled.targets < -1]), wrong])
    if wrong.size and classes > 1:
        yield Finding(
            "output.labels_out_of_range",
            "fail",
            "Labels without a score",
            f"The model gives scores for classes 0 to {classes - 1}; there are labels {_few(wrong)}.",
            evidence={"labels": wrong.tolist()[:20], "healthy": f"0 to {classes - 1}"},
            remedy="Count classes from 0, or give the last layer as many outputs as there are classes.",
        )


def _few(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:5].tolist())) + (", …" if len(numbers) > 5 else "")


def _loss(labelled: Labelled) -> Finding:
    loss, uniform, name = labelled.loss, labelled.uniform_loss, labelled.loss_name
    evidence = {"loss": loss, "uniform": uniform, "healthy": f"at most {uniform:.3g} + {_WORSE}"}
    if labelled.loss_error:
        return Finding(
            "output.loss_failed",
            "fail",
            f"{name} fails on this output",
            labelled.loss_error,
            remedy="Check shape and dtype of scores and labels: class numbers are integers (N,), logits (N, C).",
        )
    if not math.isfinite(loss):
        return Finding(
            "output.loss_not_finite",
            "fail",
            f"The loss is {loss}",
            f"{name} gives no number for these scores and labels.",
            evidence=evidence,
            remedy="Find the first layer with NaN; keep logarithms and divisions away from 0.",
        )
    if loss > uniform + _WORSE:
        return Finding(
            "output.loss_above_uniform",
            "warn" if loss > uniform + _MUCH_WORSE else "note",
            "Worse than knowing nothing",
            f"The loss is {loss:.3g}; equal chances for all classes would cost {uniform:.3g}. The model is sure, and "
            "wrong.",
            evidence=evidence,
            remedy="Trained: compare the order of classes and the preprocessing with those of training. Fresh: the "
            "last layer starts too large.",
        )
    text = f"{loss:.3g}; knowing nothing costs {uniform:.3g}."
    return Finding("output.loss", "ok", "The loss makes sense", text, evidence=evidence)


def _order(found: ModelOutput) -> Iterator[Finding]:
    """Whether the model is right but for the names: nearly every class is taken for one and the same other."""
    pairs = found.confusion_pairs()
    classes = np.unique(pairs[:, 0])
    if len(classes) < 3 or len(pairs) < 5 * len(classes):
        return
    taken = {int(c): int(np.bincount(pairs[pairs[:, 0] == c, 1]).argmax()) for c in classes}
    meant = float(np.mean([taken[int(target)] == answer for target, answer in pairs]))
    right = float((pairs[:, 0] == pairs[:, 1]).mean())
    if meant < _MEANT or right > meant - 0.3 or len(set(taken.values())) < len(taken):
        return
    swapped = [f"{found.class_name(t)} → {found.class_name(p)}" for t, p in taken.items() if t != p]
    yield Finding(
        "output.class_order",
        "warn",
        "Right, but under other names",
        f"{right:.0%} of the answers are right, {meant:.0%} when each class may have another's name: the labels are "
        "numbered in another order than the model's classes.",
        where=", ".join(swapped[:8]),
        evidence={"accuracy": right, "accuracy_renamed": meant, "healthy": "the same"},
        remedy="Folders are numbered by alphabet: compare `dataset.classes` with the model's class names.",
    )


def _never_right(found: ModelOutput) -> Iterator[Finding]:
    """Whether a model that is right most of the time misses every picture of some class."""
    pairs = found.confusion_pairs()
    if len(pairs) and (right := float((pairs[:, 0] == pairs[:, 1]).mean())) > _LEARNED:
        classes, counts = np.unique(pairs[:, 0], return_counts=True)
        known = np.unique(pairs[pairs[:, 0] == pairs[:, 1], 0])
        missed = [int(c) for c, count in zip(classes, counts, strict=True) if count >= _SEVERAL and c not in known]
        if missed:
            yield Finding(
                "output.class_never_right",
                "warn",
                "A class that is never recognised" if len(missed) == 1 else "Classes that are never recognised",
                f"All their pictures are taken for others, though {right:.0%} of the answers are right.",
                where=", ".join(found.class_name(index) for index in missed[:8]),
                evidence={"classes": len(missed), "healthy": "0"},
                remedy="Look at these pictures: too few of them in training, wrong labels, or a shortcut that was "
                "there in training and is missing here.",
            )
