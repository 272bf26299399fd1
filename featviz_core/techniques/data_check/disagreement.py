"""Labels that a model's features speak against: out-of-fold, so that no picture vouches for its own label."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import layers_of, record
from featviz_core.findings import Finding
from featviz_core.layouts import first_tensor
from featviz_core.techniques.data_check.collect import Seen
from featviz_core.techniques.data_check.odd import Odd
from featviz_core.trace import Layer

MOST = 4000
"""Pictures whose features are compared: the first of the training loader."""

_CHUNK = 64  # pictures in a pass through the model
_FOLDS = 5
_DIRECTIONS = 64  # principal directions of the features that are kept
_ROUNDS = 3  # of looking for them
_SHRINK = 0.1  # weight of the mean variance in the covariance, so that it can be inverted
_LEAST = 2 * _FOLDS  # pictures of a class, below which nothing is said of it
_TELLS = 0.6  # accuracy out of fold, below which features cannot judge labels
_SURE = 0.9  # probability of another class that always suffices; surer classes differ in their last digits only
_FAR = 0.05  # probability of the given label, below which it is doubted


class _Traced:
    """A lender that remembers the layers of what it lends, so that they are looked for once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.trace = cache(partial(layers_of, model))

    def borrow(self, *, training: bool = False) -> AbstractContextManager[nn.Module]:
        """Lend the model."""
        return borrowed(self._model, training=training)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Features `rows (n, F)` of pictures with `labels (n,)`; those of one `half (n,)` come from one model."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    half: NDArray[np.int64]


class Judge(Protocol):
    """Collects features of the pictures that come, in `seconds`."""

    seconds: float

    def see(self, images: Tensor, labels: NDArray[np.int64]) -> None:
        """Take in a batch."""

    def finish(self) -> None:
        """No more will come."""

    def table(self) -> Table:
        """What was found, once it is finished."""


@dataclass(slots=True)
class Features:
    """Collects what goes into the model's head, for the first `MOST` pictures."""

    model: Model
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    seconds: float = 0.0
    _waiting: list[Tensor] = field(default_factory=list)
    _traced: _Traced = field(init=False)
    _head: Layer | None = None

    def __post_init__(self) -> None:
        self._traced = _Traced(self.model)

    def see(self, images: Tensor, labels: NDArray[np.int64]) -> None:
        """Take in a batch."""
        room = MOST - len(self.labels)
        if room <= 0:
            return
        began = time.perf_counter()
        if self._waiting and self._waiting[0].shape[1:] != images.shape[1:]:
            self._look()
        self._waiting.append(images[:room].clone())
        self.labels += labels[:room].tolist()
        if sum(map(len, self._waiting)) >= _CHUNK:
            self._look()
        self.seconds += time.perf_counter() - began

    def finish(self) -> None:
        """No more will come."""
        began = time.perf_counter()
        if self._waiting:
            self._look()
        self.seconds += time.perf_counter() - began

    def table(self) -> Table:
        """The features, all of one model."""
        rows = np.concatenate(self.rows) if self.rows else np.zeros((0, 1), np.float32)
        return Table(rows, np.array(self.labels, np.int64), np.zeros(len(rows), np.int64))

    def _look(self) -> None:
        images = torch.cat(self._waiting)
        self._waiting = []
        if self._head is None:
            self._head = head_of(self._traced.trace(tuple(images.shape[1:])).layers)
        address = self._head.address
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK]
            linear = self._head.kind == "linear"
            seen = record(self._traced, part, layers=[address], with_inputs=linear)
            tensor = first_tensor(seen.inputs[address] if linear else seen.outputs[address])
            assert tensor is not None  # `head_of` chose a layer that gives one
            self.rows.append(tensor.float().reshape(len(part), -1).cpu().numpy())


def head_of(layers: Sequence[Layer]) -> Layer:
    """The layer whose input are the features: the last linear one that is called; else the model itself."""
    called = [layer for layer in layers if layer.order >= 0 and layer.shape is not None]
    flat = [layer for layer in called if layer.kind == "linear" and layer.shape is not None and len(layer.shape) == 2]
    return max(flat or called, key=lambda layer: layer.order)


def disagreements(table: Table, seen: Seen, names: Sequence[str]) -> tuple[list[Odd], list[Finding]]:
    """Which of these pictures have a label that their features speak against, the least probable first?

    A linear discriminant (Gaussian classes of equal covariance) is fitted five times, each time on four fifths; on
    the rest, a label is doubted where its probability is below 0.05 and another class is at least as probable as it
    is for that class's own pictures on average, or 0.9 (confident learning: Northcutt, Jiang and Chuang, JAIR 2021).
    """
    labels = table.labels
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    judged = np.flatnonzero((labels >= 0) & (sizes[numbers] >= _LEAST) & np.isfinite(table.rows).all(1))
    classes, numbers = np.unique(labels[judged], return_inverse=True)
    if len(classes) < 2:
        return [], []
    chance = out_of_fold(table.rows[judged], numbers, table.half[judged])
    accuracy = float((chance.argmax(1) == numbers).mean())
    evidence: dict[str, Any] = {"pictures": len(judged), "accuracy": round(accuracy, 4)}
    if accuracy < _TELLS:
        title = "The model's features do not tell the classes apart"
        text = f"Out of fold they name the label of {accuracy:.0%} of the pictures, too few to judge labels by."
        remedy = "Choose a trained model; if it is trained, the labels may be shuffled."
        evidence["healthy"] = f"at least {_TELLS:.0%}"
        return [], [Finding("labels.separable", "note", title, text, seen.name, evidence, remedy)]
    called = [names[c] if c < len(names) else str(c) for c in classes.tolist()]
    odds = _doubted(chance, numbers, judged, called)
    return odds, _findings(odds, evidence, seen)


def _doubted(
    chance: NDArray[np.float64], numbers: NDArray[np.int64], judged: NDArray[np.int64], names: Sequence[str]
) -> list[Odd]:
    """The pictures `judged` whose `numbers`, their labels, the probabilities `(n, classes)` speak against."""
    rows, guess = np.arange(len(chance)), chance.argmax(1)
    given = chance[rows, numbers]
    usual = np.array([min(chance[numbers == c, c].mean(), _SURE) for c in range(chance.shape[1])])
    where = np.flatnonzero((guess != numbers) & (given < _FAR) & (chance[rows, guess] >= usual[guess]))
    odds = []
    for i in where[np.argsort(given[where], kind="stable")].tolist():
        looks, label = guess[i], numbers[i]
        text = f"labelled {names[label]} ({given[i]:.1%}), looks like {names[looks]} ({chance[i, looks]:.0%})"
        odds.append(Odd("disagreement", int(judged[i]), float(given[i]), text))
    return odds


def _findings(odds: list[Odd], evidence: dict[str, Any], seen: Seen) -> list[Finding]:
    if not odds:
        return []
    pictures = int(evidence["pictures"])
    return [
        Finding(
            "labels.disagreement",
            "note",
            f"The model's features speak against {len(odds):,} of {pictures:,} labels",
            f"The first: {odds[0].text}. Some are wrong, others are merely hard: look at them.",
            seen.name,
            evidence | {"doubted": len(odds)} | seen.places(np.array([odd.position for odd in odds])),
            "Correct the wrong ones; a percent of wrong labels costs more than most choices of architecture win.",
        )
    ]


def out_of_fold(
    features: NDArray[np.float32], numbers: NDArray[np.int64], half: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The probability `(n, classes)` of every class for every picture, told by the other folds of its own half.

    Folds are dealt class by class, so that every class is in each.
    """
    found = np.zeros((len(numbers), int(numbers.max()) + 1))
    for part in np.unique(half):
        own = np.flatnonzero(half == part)
        fold = np.zeros(len(own), np.int64)
        fold[np.argsort(numbers[own], kind="stable")] = np.arange(len(own)) % _FOLDS
        reduced = _reduced(features[own])
        for k in range(_FOLDS):
            rest = fold != k
            found[own[~rest]] = _discriminant(reduced[rest], numbers[own[rest]], reduced[~rest], found.shape[1])
    return found


def told_by(known: NDArray[np.float32], numbers: NDArray[np.int64], asked: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability `(n, classes)` of every class for every picture asked, told by the `known` ones."""
    reduced = _reduced(np.concatenate([known, asked]))
    return _discriminant(reduced[: len(known)], numbers, reduced[len(known) :], int(numbers.max()) + 1)


def _reduced(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features along the directions in which they vary most, by subspace iteration from a random start (Halko,
    Martinsson and Tropp, SIAM Review 2011). Labels have no part in this, so it need not be done fold by fold."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    if centred.shape[1] <= _DIRECTIONS:
        return np.asarray(centred)
    basis = np.random.default_rng(0).normal(size=(centred.shape[1], _DIRECTIONS))
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    return np.asarray(centred @ basis)


def _discriminant(
    known: NDArray[np.float64], numbers: NDArray[np.int64], asked: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    """Posterior probabilities of Gaussian classes with one shrunken covariance: softmax(x·Σ⁻¹μ − μ·Σ⁻¹μ/2 + ln π)."""
    sizes = np.bincount(numbers, minlength=classes)
    means = np.stack([known[numbers == c].mean(0) for c in range(classes)])
    inside = known - means[numbers]
    covariance = inside.T @ inside / max(1, len(known) - classes)
    width = len(covariance)
    covariance = (1 - _SHRINK) * covariance + _SHRINK * (np.trace(covariance) / width + 1e-12) * np.eye(width)
    weights = np.linalg.solve(covariance, means.T)
    scores = asked @ weights - (means.T * weights).sum(0) / 2 + np.log(sizes / len(known))
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(scores / scores.sum(1, keepdims=True))
