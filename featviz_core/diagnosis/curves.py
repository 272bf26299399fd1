"""The curves that a diagnosis looks at: each one with its level, freed of the noise of single batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_LEVELS = 60
_SINGLE, _TOGETHER = 60, 5  # up to how many values each is a level; else, how many at least are one together
_TO_SIGMA = 1.4826  # from the median absolute deviation of a normal distribution to its standard deviation
_OF_A_MEDIAN = 1.25  # how much less certain a median is than a mean


class Role(Protocol):
    """What a tag stands for: `metric` is "loss", "accuracy" or "lr"; `split` "train", "validation", "train_eval"."""

    @property
    def metric(self) -> str:
        """What is measured."""

    @property
    def split(self) -> str:
        """On which pictures; "train_eval" are training pictures seen by the model in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over the steps.

    `steps`, `values` (n,): as they were logged, in the order of the steps. `level_steps`, `levels` (at most 60,): the
    course without the noise of single steps: medians of even parts. `noise`: the standard error of a level; `scatter`:
    the standard deviation of single values around the course.
    """

    tag: str
    steps: NDArray[np.int64]
    values: Floats
    level_steps: NDArray[np.int64]
    levels: Floats
    noise: float
    scatter: float

    @property
    def start(self) -> float:
        """Where it begins: the median of the first values, five at most."""
        finite = self.values[np.isfinite(self.values)]
        return float(np.median(finite[: self._at_start]))

    @property
    def _at_start(self) -> int:
        return max(1, min(5, len(self.values) // 30))

    @property
    def doubt(self) -> float:
        """The standard error of the start, which is that of the gain."""
        return max(self.noise, _OF_A_MEDIAN * self.scatter / float(np.sqrt(self._at_start)))

    @property
    def end(self) -> float:
        """Where it ends: the median of the last levels, three at most."""
        return float(np.median(self.levels[-min(3, 1 + len(self.levels) // 6) :]))

    @property
    def per_level(self) -> float:
        """How many values a level stands for."""
        return len(self.values) / len(self.levels)

    def level_at(self, step: float) -> float:
        """The level at a step."""
        return float(np.interp(step, self.level_steps, self.levels))

    def lasting(self, true: NDArray[np.bool_], least: int = 3) -> bool:
        """Whether something holds for all of the last levels: a verdict must not hang on a single value."""
        return len(self.levels) >= least + 1 and bool(true[-least:].all())


def curve(tag: str, steps: NDArray[np.int64], values: Floats) -> Curve | None:
    """A curve with its levels; None where no value is a number."""
    order = np.argsort(steps, kind="stable")
    steps, values = np.asarray(steps)[order], np.asarray(values, np.float64)[order]
    known = np.isfinite(values)
    if not known.any():
        return None
    finite, at = values[known], steps[known]
    count = len(finite) if len(finite) <= _SINGLE else min(_LEVELS, max(_SINGLE // 3, len(finite) // _TOGETHER))
    edges = np.linspace(0, len(finite), count + 1).astype(int)
    parts = list(pairwise(edges))
    levels = np.array([np.median(finite[first:end]) for first, end in parts])
    level_steps = np.array([at[(first + end - 1) // 2] for first, end in parts])
    scatter = _scatter(finite, at, level_steps, levels)
    per_level = len(finite) / len(levels)
    noise = scatter * (_OF_A_MEDIAN / np.sqrt(per_level) if per_level >= 3 else 1.0)
    return Curve(tag, steps, values, level_steps, levels, float(noise), scatter)


def _scatter(values: Floats, steps: NDArray[np.int64], level_steps: NDArray[np.int64], levels: Floats) -> float:
    if len(values) >= 3 * len(levels):
        rest = values - np.interp(steps, level_steps, levels)
        return float(_TO_SIGMA * np.median(np.abs(rest)))
    # Bends are much smoother than noise; the second difference of white noise has √6 times its deviation.
    bends = np.diff(values, 2)
    return float(_TO_SIGMA * np.median(np.abs(bends)) / np.sqrt(6)) if len(bends) else 0.0


@dataclass(frozen=True, slots=True)
class Curves:
    """What was found of a run. `rates`: the learning rate, the highest where there are several; `updates`: ‖Δw‖/‖w‖ by
    parameter; `never_finite`: tags of losses that never were a number, with their first step."""

    train_loss: Curve | None = None
    train_accuracy: Curve | None = None
    validation_loss: Curve | None = None
    validation_accuracy: Curve | None = None
    eval_loss: Curve | None = None
    eval_accuracy: Curve | None = None
    rates: Curve | None = None
    updates: tuple[Curve, ...] = ()
    never_finite: tuple[tuple[str, int], ...] = ()

    @property
    def loss(self) -> Curve | None:
        """The loss that tells most about learning: in training where known."""
        return self.train_loss or self.validation_loss

    @property
    def accuracy(self) -> Curve | None:
        """The accuracy that tells most about learning: on training pictures where known."""
        return self.eval_accuracy or self.train_accuracy or self.validation_accuracy

    @property
    def by_step(self) -> bool:
        """Whether training was logged many times an epoch, so that its curve starts before anything was learned."""
        if self.train_loss is None:
            return False
        others = self.validation_loss or self.validation_accuracy
        return len(self.train_loss.values) >= (5 * len(others.values) if others else 100)


_PLACES = {
    ("loss", "train"): "train_loss",
    ("accuracy", "train"): "train_accuracy",
    ("loss", "validation"): "validation_loss",
    ("accuracy", "validation"): "validation_accuracy",
}
_EVALUATION_OF_TRAINING = {"loss/train_eval": "eval_loss", "accuracy/train_eval": "eval_accuracy"}
_UPDATE = "update/"


def curves_of(frame: pd.DataFrame, roles: Mapping[str, Role]) -> Curves:
    """The curves in a run's tidy frame (`step`, `tag`, `value`) by what its tags stand for.

    Where several tags stand for the same, the one with most values is taken; accuracies in percent become shares.
    `loss/train_eval` and `accuracy/train_eval` are training pictures seen by the network in evaluation mode.
    """
    found: dict[str, Curve] = {}
    rates: list[Curve] = []
    updates: list[Curve] = []
    never: list[tuple[str, int]] = []
    for tag, part in frame.groupby("tag", sort=False, observed=True):
        name = str(tag)
        made = curve(name, part["step"].to_numpy(np.int64), part["value"].to_numpy(np.float64))
        if made is None:
            if getattr(roles.get(name), "metric", "") == "loss":
                never.append((name, int(part["step"].min())))
        elif name.startswith(_UPDATE):
            updates.append(made)
        elif getattr(roles.get(name), "metric", "") == "lr":
            rates.append(made)
        elif (place := _place(name, roles)) and (place not in found or len(found[place].values) < len(made.values)):
            found[place] = _as_share(made) if place.endswith("accuracy") else made
    highest = max(rates, key=lambda rate: float(rate.levels.max()), default=None)
    return Curves(**found, rates=highest, updates=tuple(updates), never_finite=tuple(never))


def _place(tag: str, roles: Mapping[str, Role]) -> str:
    role = roles.get(tag)
    if tag in _EVALUATION_OF_TRAINING:
        return _EVALUATION_OF_TRAINING[tag]
    return _PLACES.get((role.metric, role.split), "") if role is not None else ""


def _as_share(accuracy: Curve) -> Curve:
    if np.nanmax(accuracy.values) <= 1.5:
        return accuracy
    made = curve(accuracy.tag, accuracy.steps, accuracy.values / 100)
    assert made is not None
    return made
