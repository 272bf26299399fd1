"""What the form of the output says: its shape, its range, and what was already done to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from featviz_core.findings import Finding
from featviz_core.techniques.output_check.labelled import CROSS_ENTROPY
from featviz_core.techniques.output_check.layers import first_not_finite
from featviz_core.techniques.output_check.result import ModelOutput

_MOST_NAMES = 6


def form(found: ModelOutput, pictures: int, loss: str | None) -> Iterator[Finding]:
    """Shape, number of classes, finiteness, and whether the scores are raw, for the loss called `loss` (None: not
    known)."""
    yield _shape(found, pictures, loss)
    if found.expected_classes is not None and len(found.logits):
        yield _classes(found, found.expected_classes)
    yield from _finite(found)
    if len(found.logits) and np.isfinite(found.logits).any():
        yield _applied(found, loss)


def _shape(found: ModelOutput, pictures: int, loss: str | None) -> Finding:
    shape, got = found.shape, _sizes(found.shape)
    evidence: dict[str, Any] = {"shape": list(shape), "healthy": f"({pictures}, classes)"}
    if (lost := _lost_batch(found, pictures, evidence)) is not None:
        return lost
    if len(shape) == 2:
        return _width(shape[1], loss, evidence)
    if len(shape) == 4 and shape[2:] == (1, 1):
        return Finding(
            "output.shape",
            "warn",
            "Leftover places of 1×1",
            f"The output is {got}: cross-entropy takes it for a score for each place.",
            evidence=evidence,
            remedy="End with `x.flatten(1)`.",
        )
    if len(shape) == 1 and loss not in (CROSS_ENTROPY, "NLLLoss"):
        text = f"The output is {got}, without an axis for classes."
        remedy = "Labels then have to be floats of the same shape."
        return Finding("output.shape", "note", "One score for each picture", text, evidence=evidence, remedy=remedy)
    return Finding(
        "output.shape",
        "fail",
        "Not one row of class scores",
        f"Expected ({pictures}, classes), got {got}.",
        evidence=evidence,
        remedy="Pool over places or tokens before the last layer: `x.mean((2, 3))` for maps, `x.mean(1)` for tokens.",
    )


def _lost_batch(found: ModelOutput, pictures: int, evidence: dict[str, Any]) -> Finding | None:
    """Whether the first axis is not that of the pictures, for all of them or for one alone."""
    alone = found.behaviour.alone_shape if found.behaviour else (1,) * len(found.shape)
    if found.shape[:1] != (pictures,):
        return Finding(
            "output.shape",
            "fail",
            "Not one row for each picture",
            f"{pictures} pictures went in, {_sizes(found.shape)} came out: the batch axis was lost or mixed with "
            "another.",
            evidence=evidence,
            remedy="Flatten with `x.flatten(1)`, which keeps the batch axis, not with `x.view(-1, features)`.",
        )
    if len(alone) != len(found.shape) or alone[:1] != (1,):
        return Finding(
            "output.shape",
            "fail",
            "A single picture loses its batch axis",
            f"For one picture the output has shape {alone}: the last batch of an epoch may hold just one.",
            evidence=evidence | {"shape_for_one": list(alone)},
            remedy="Use `x.flatten(1)` or `x.squeeze(-1)`, never a bare `squeeze()`.",
        )
    return None


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _width(classes: int, loss: str | None, evidence: dict[str, Any]) -> Finding:
    if classes > 1 or loss not in (CROSS_ENTROPY, "NLLLoss"):
        return Finding("output.shape", "ok", "One row of scores for each picture", evidence=evidence)
    return Finding(
        "output.shape",
        "fail",
        "A single score for each picture",
        "A softmax over one score is 1 whatever the score is, so cross-entropy is always 0 and nothing is learned.",
        evidence=evidence,
        remedy="Give two scores, or use `nn.BCEWithLogitsLoss()` with float labels.",
    )


def _classes(found: ModelOutput, expected: int) -> Finding:
    classes = found.logits.shape[1]
    evidence = {"outputs": classes, "healthy": f"{expected} classes"}
    if classes == expected or (classes == 1 and expected == 2):
        return Finding("output.classes", "ok", "As many scores as classes", evidence=evidence)
    text = "Labels beyond the last score raise an error on the CPU and stop the GPU for good."
    if classes > expected:
        text = "The scores that no label ever names are only pushed down: often a head that was not replaced."
    return Finding(
        "output.classes",
        "fail",
        f"{classes} scores for {expected} classes",
        text,
        evidence=evidence,
        remedy=f"Replace the last layer: `model.fc = nn.Linear(model.fc.in_features, {expected})`.",
    )


def _finite(found: ModelOutput) -> Iterator[Finding]:
    pictures = [name for name in found.not_finite if name.startswith("picture ")]
    state = [name for name in found.not_finite if name not in pictures]
    if pictures:
        yield Finding(
            "output.input_not_finite",
            "fail",
            "NaN or infinity in the pictures",
            "Whatever the model makes of them is meaningless.",
            where=_listed(pictures),
            evidence={"pictures": len(pictures), "healthy": "0"},
            remedy="Look for a division by a standard deviation of zero in the preprocessing, or broken files.",
        )
    if state:
        yield Finding(
            "output.weights_not_finite",
            "fail",
            "NaN or infinity in the weights",
            "One bad update spoils a model for good: it cannot be trained on from here.",
            where=_listed(state),
            evidence={"tensors": len(state), "healthy": "0"},
            remedy="Go back to an earlier checkpoint, lower the learning rate, clip gradients:\n"
            "`nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.",
        )
    evidence = {"nan": found.has_nan, "inf": found.has_inf, "healthy": "neither"}
    if not (found.has_nan or found.has_inf):
        yield Finding("output.finite", "ok", "All scores are finite", evidence=evidence)
        return
    yield Finding(
        "output.nan" if found.has_nan else "output.inf",
        "fail",
        "NaN in the output" if found.has_nan else "Infinity in the output",
        _cause(found, bool(pictures), bool(state)),
        where=_listed(pictures) if pictures else first_not_finite(found.steps),
        evidence=evidence,
        remedy="Look there for a logarithm or root of zero, a division by zero, `exp` of a large number, or numbers "
        "beyond 65,504 in float16.",
    )


def _cause(found: ModelOutput, pictures: bool, state: bool) -> str:
    if pictures:
        return "The pictures already hold it."
    first = next((step for step in found.steps if not step.output_finite), None)
    if first is None:
        return "It comes for some of the pictures only."
    before = max((s.largest for s in found.steps[: found.steps.index(first)]), default=0.0)
    text = f"It begins there; the largest number before it is {before:.3g}."
    return text + (" The model's weights are not finite." if state else "")


def _applied(found: ModelOutput, loss: str | None) -> Finding:
    operation = found.behaviour.last_operation if found.behaviour else ""
    low, high = float(np.nanmin(found.logits)), float(np.nanmax(found.logits))
    evidence: dict[str, Any] = {"min": low, "max": high, "last_operation": operation, "healthy": "raw scores"}
    if found.applied and not found.applied_proven:
        return Finding(
            f"output.{found.applied}_applied",
            "note",
            f"Looks like a {_WORDS[found.applied]}",
            "Every number fits, but it may be chance.",
            evidence=evidence,
            remedy="See whether the model ends with one: losses that take logits apply it themselves.",
        )
    if found.applied:
        return _done_already(found.applied, loss, evidence)
    if operation == "Relu":
        return Finding(
            "output.relu_applied",
            "warn",
            "A ReLU behind the last layer",
            "Scores cannot go below zero, and a class whose score is 0 gets no gradient.",
            evidence=evidence,
            remedy="Leave the last ReLU out: the model ends with its linear layer.",
        )
    needed = {"NLLLoss": "log_softmax", "BCELoss": "sigmoid"}.get(loss or "")
    if needed:
        return Finding(
            f"output.{needed}_missing",
            "fail",
            f"{loss} needs a {_WORDS[needed]}",
            "It got raw scores, so its value means nothing and can fall without bound.",
            evidence=evidence | {"healthy": f"the result of a {_WORDS[needed]}"},
            remedy=f"Keep the raw scores and use `nn.{'CrossEntropyLoss' if needed == 'log_softmax' else ''}"
            f"{'BCEWithLogitsLoss' if needed == 'sigmoid' else ''}()`.",
        )
    return Finding("output.logits", "ok", "Raw scores: nothing was applied to them", evidence=evidence)


_WORDS = {"softmax": "softmax", "log_softmax": "log-softmax", "sigmoid": "sigmoid"}
# For each loss, the one form of scores that it takes; others take raw scores or are not known.
_TAKES = {"NLLLoss": "log_softmax", "BCELoss": "sigmoid"}
_TAKES_LOGITS = (CROSS_ENTROPY, "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss")


def _done_already(applied: str, loss: str | None, evidence: dict[str, Any]) -> Finding:
    word, code = _WORDS[applied], f"output.{applied}_applied"
    if loss is not None and _TAKES.get(loss) == applied:
        return Finding(code, "ok", f"A {word} is applied, as {loss} needs it", evidence=evidence)
    if applied == "log_softmax" and loss in (None, CROSS_ENTROPY):
        return Finding(
            code,
            "note",
            "Log-softmax is already applied",
            "Harmless before cross-entropy: a second log-softmax changes nothing.",
            evidence=evidence,
            remedy="Leave it out, or use `nn.NLLLoss()`.",
        )
    sure = loss in _TAKES_LOGITS or loss in _TAKES
    return Finding(
        code,
        "fail" if sure else "warn",
        f"A {word} is already applied",
        f"Proven: {_PROOFS[applied]}. A loss that takes raw scores, as cross-entropy does, applies its own: gradients "
        "get small, the loss cannot fall to zero, and training is slow.",
        evidence=evidence,
        remedy=f"Return the raw scores: drop the {word} from `forward`, and apply it where probabilities are shown.",
    )


_PROOFS = {
    "softmax": "every row lies in [0, 1] and sums to 1",
    "log_softmax": "the exponentials of every row sum to 1",
    "sigmoid": "it is the last operation of the model",
}


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
