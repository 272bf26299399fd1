"""Famous mistakes, each to be put into any healthy set-up: what the checklist has to find.

A fault takes an experiment and gives one with the mistake in it. `item` is the item of the checklist that should name
it first.
"""

from __future__ import annotations

from dataclasses import dataclass

from featviz_core.demo.faults import data, loop, loss, model
from featviz_core.demo.faults.registry import FAULTS, Fault
from featviz_core.demo.setups import set_up
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory

__all__ = ["FAULTS", "Fault", "with_fault"]
_ = data, loop, loss, model  # each puts its mistakes into FAULTS


@dataclass(frozen=True, slots=True)
class _Drill:
    make: Factory
    fault: Fault

    def __call__(self) -> Experiment:
        return self.fault.apply(self.make())


def with_fault(setup: str, fault: str = "") -> Factory:
    """The factory of a healthy set-up, with a mistake in it where one is named.

    Raises `ExperimentError` for an unknown name of either.
    """
    make = set_up(setup)
    if not fault:
        return make
    if fault not in FAULTS:
        raise ExperimentError(f"There is no {fault!r} in the demo.", do=f"Choose one of {', '.join(FAULTS)}.")
    return _Drill(make, FAULTS[fault])
