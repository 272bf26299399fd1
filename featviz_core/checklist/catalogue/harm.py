"""What a fault does to a training: whether it costs accuracy, or shows one that is not there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from featviz_core.checklist.trainings import scores
from featviz_core.demo.faults import FAULTS, Fault
from featviz_core.demo.setups import SetUp
from featviz_core.experiment import Experiment, Factory, evaluate_on, fresh, own_randomness, train_on

_EPOCHS = 4
HARM = 0.05  # of accuracy


@dataclass(frozen=True, slots=True)
class Outcome:
    """After a training: the accuracy that its own validation tells, and the one on healthy pictures in eval mode.

    Both are NaN where training raised.
    """

    told: float
    true: float


def harm(setup: SetUp, fault: Fault, seed: int) -> float:
    """By how much accuracy falls, or is told wrongly, with the fault in it: at least `HARM` is measurable; 1 where
    training breaks off."""
    after, healthy = _trained(setup, fault.name, seed), _trained(setup, "", seed)
    if math.isnan(after.true):
        return 1.0
    return max(healthy.true - after.true, abs(after.told - after.true) - abs(healthy.told - healthy.true))


@lru_cache(maxsize=64)
def _trained(setup: SetUp, fault: str, seed: int) -> Outcome:
    make: Factory = (lambda: FAULTS[fault].apply(setup())) if fault else setup
    judge = make if fault and FAULTS[fault].own_validation else setup
    with own_randomness():
        try:
            experiment = fresh(make, seed=seed)
            told = math.nan
            for _ in range(_EPOCHS):
                train_on(experiment, experiment.train_loader)
                told = evaluate_on(experiment, experiment.val_loader or ())["accuracy"]
            return Outcome(told, _true(experiment, fresh(judge, seed=seed)))
        except Exception:  # noqa: BLE001 - that it raises is the harm
            return Outcome(math.nan, math.nan)


def _true(trained: Experiment, judge: Experiment) -> float:
    found = scores(trained, list(judge.val_loader or ()))
    return found.accuracy if math.isfinite(found.loss) else 0.0
