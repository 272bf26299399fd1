"""Runs to look at without training anything: their curves are made up by formulas, and say so in their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from featviz_core.runs import tags
from featviz_core.runs.roles import roles_of
from featviz_core.runs.run import LoggedHistogram, Run, Scalars

Floats = NDArray[np.float64]

_STEPS, _EPOCH, _LOOK = 3000, 100, 50
_LAYERS = {"stem.weight": 0.12, "block1.weight": 0.08, "block2.weight": 0.05, "block3.weight": 0.04, "head.weight": 0.1}
_CHANCE = float(np.log(8))  # the loss of a guess among eight classes
_SECONDS = 0.05  # a step
_MOST = 12.0  # a loss above it is no number any more


def made_up_runs() -> tuple[str, ...]:
    """The names of the runs that there are."""
    return tuple(_COURSES)


@cache
def made_up(name: str) -> Run:
    """A run of 3,000 steps and 30 epochs: curves, histograms, gradients and updates of five layers."""
    rng = np.random.default_rng(list(_COURSES).index(name))
    steps = np.arange(_STEPS)
    train, validation, rate = _COURSES[name](steps / _EPOCH)
    noisy = train + rng.normal(0, 0.05, _STEPS) * np.minimum(train, 1)
    every = steps[_EPOCH - 1 :: _EPOCH]
    checked = validation[every] + rng.normal(0, 0.006, len(every))
    values = {
        tags.of_split(tags.LOSS, tags.TRAIN): (steps, noisy),
        tags.of_split(tags.LOSS, tags.VALIDATION): (every, checked),
        tags.of_split(tags.ACCURACY, tags.TRAIN): (steps, _accuracy(train, rng, 0.05)),
        tags.of_split(tags.ACCURACY, tags.VALIDATION): (every, _accuracy(checked, rng, 0.004)),
        tags.LR: (steps, rate),
        tags.EPOCH: (every, np.arange(1.0, len(every) + 1)),
    }
    looked = steps[::_LOOK]
    for place, layer in enumerate(_LAYERS):
        shrinking = train[looked] / _CHANCE * np.exp(rng.normal(0, 0.15, len(looked)))
        values[f"{tags.GRADIENT}{layer}"] = (looked, 0.4 * 0.8**place * shrinking)
        values[f"{tags.UPDATE}{layer}"] = (looked, 0.8 * rate[looked] * (0.3 + shrinking))
    scalars = {tag: _scalars(at, value) for tag, (at, value) in values.items()}
    return Run(name, scalars, roles_of(scalars), logged_histograms=tuple(_histograms(train, rng)))


def _scalars(steps: NDArray[np.int64], values: Floats) -> Scalars:
    times = np.asarray(1.7e9 + _SECONDS * steps, np.float64)
    return Scalars(steps, times, np.where(np.abs(values) > _MOST, np.nan, values))


def _accuracy(loss: Floats, rng: np.random.Generator, noise: float) -> Floats:
    """What goes with a loss: chance at the loss of a guess, all at none."""
    with np.errstate(invalid="ignore"):
        share = np.exp(-0.85 * np.minimum(np.maximum(loss, 0), _CHANCE) ** 1.2)
    return np.clip(share + rng.normal(0, noise, len(loss)), 0, 1)


def _histograms(loss: Floats, rng: np.random.Generator) -> list[LoggedHistogram]:
    """Weights spread as they learn."""
    found = []
    for step in range(0, _STEPS, 5 * _EPOCH // 2):
        learned = max(0.0, 1 - float(np.nan_to_num(loss[step], nan=_CHANCE)) / _CHANCE)
        for layer, width in _LAYERS.items():
            sample = rng.normal(0.1 * width * learned, width * (1 + 0.8 * learned), 4000)
            counts, edges = np.histogram(sample, 40)
            found.append(
                LoggedHistogram(
                    step,
                    1.7e9 + _SECONDS * step,
                    tags.of_histogram("weight", layer),
                    edges[:-1],
                    edges[1:],
                    counts * 1.0,
                )
            )
    return found


def _cosine(epochs: Floats, rate: float) -> Floats:
    return np.asarray(rate * 0.5 * (1 + np.cos(np.pi * epochs / epochs[-1])), np.float64)


def _learns(epochs: Floats) -> tuple[Floats, Floats, Floats]:
    train = 0.08 + (_CHANCE - 0.08) * np.exp(-epochs / 4.5)
    return train, train + 0.05 * (1 - np.exp(-epochs / 3)), _cosine(epochs, 0.003)


def _overfits(epochs: Floats) -> tuple[Floats, Floats, Floats]:
    train = 0.01 + (_CHANCE - 0.01) * np.exp(-epochs / 4)
    validation = 0.45 + (_CHANCE - 0.45) * np.exp(-epochs / 3) + 0.03 * np.maximum(0, epochs - 8)
    return train, validation, np.full(len(epochs), 0.003)


def _breaks(epochs: Floats) -> tuple[Floats, Floats, Floats]:
    train = 0.5 + (_CHANCE - 0.5) * np.exp(-epochs / 2.5) + np.exp(np.minimum((epochs - 15) / 0.6, 16))
    return train, train + 0.04, 0.03 * np.minimum(1, epochs / 20)


_COURSES: dict[str, Callable[[Floats], tuple[Floats, Floats, Floats]]] = {
    "made up: overfits": _overfits,
    "made up: learns": _learns,
    "made up: breaks": _breaks,
}
