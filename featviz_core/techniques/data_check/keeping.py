"""How much of a picture is left after it was changed, by two measures on features of changed and clean pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_FOLDS = 4
_RIDGE = 0.1  # of the number of pictures, for features of variance 1


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What is left. `likeness (n,)`: for each changed picture the share, 0 to 1, of the other originals that it is less
    like than its own; 0.5 is guessing. `clean`, `changed`: accuracy, 0 to 1, of a linear probe on pictures it was not
    fitted to; `chance`: that of always giving the commonest class. NaN without labels."""

    likeness: Floats
    clean: float
    changed: float
    chance: float


def how_much_is_kept(clean: Floats, changed: Floats, labels: Labels | None) -> Kept:
    """Are pictures still what they were? Features `(n, d)` of clean and of changed pictures in the same order, and the
    labels `(n,)` where there are some.

    The probe is ridge regression onto the classes (Hoerl and Kennard, 1970), fitted to the clean pictures of three
    quarters of the data and asked about the others.
    """
    mean, std = clean.mean(0), clean.std(0)
    alive = std > 1e-6 * max(float(std.max()), 1e-12)
    scaled = [np.nan_to_num((features - mean)[:, alive] / std[alive]) for features in (clean, changed)]
    accuracies = (math.nan, math.nan, math.nan) if labels is None else _probe(scaled[0], scaled[1], labels)
    return Kept(likeness(scaled[0], scaled[1], np.arange(len(clean))), *accuracies)


def likeness(clean: Floats, changed: Floats, own: Labels) -> Floats:
    """For each changed picture `(m, d)`, the share of the clean ones `(n, d)` that are farther than its `own (m,)`."""
    apart = ((changed**2).sum(1)[:, None] - 2 * changed @ clean.T) + (clean**2).sum(1)
    to_own = apart[np.arange(len(changed)), own][:, None]
    farther = (apart > to_own).sum(1) + 0.5 * ((apart == to_own).sum(1) - 1)
    shares: Floats = farther / max(1, len(clean) - 1)
    return shares


def _probe(clean: Floats, changed: Floats, labels: Labels) -> tuple[float, float, float]:
    classes, numbers = np.unique(labels, return_inverse=True)
    # Drawn, because data often comes in an order that repeats with the classes.
    fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    right = np.zeros((2, len(labels)), bool)
    for held_out in range(_FOLDS):
        there, asked = fold != held_out, fold == held_out
        weights, middle = _ridge(clean[there], np.eye(len(classes))[numbers[there]])
        for row, features in enumerate((clean, changed)):
            right[row, asked] = (features[asked] @ weights + middle).argmax(1) == numbers[asked]
    chance = float(np.bincount(numbers).max() / len(labels))
    return float(right[0].mean()), float(right[1].mean()), chance


def _ridge(features: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """In the form whose matrix is (n, n): there may be far more features than pictures."""
    mean, middle = features.mean(0), targets.mean(0)
    centred, width = features - mean, max(1, features.shape[1])  # none, where no feature tells pictures apart
    gram = centred @ centred.T / width
    dual = np.linalg.solve(gram + _RIDGE * np.eye(len(gram)), targets - middle)
    weights: Floats = centred.T @ dual / width
    return weights, middle - mean @ weights
