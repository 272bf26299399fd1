"""Which faults are put into which set-ups, and which healthy set-ups are looked at."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Literal

from featviz_core.demo.faults import FAULTS
from featviz_core.demo.networks import NETWORKS
from featviz_core.demo.setups import DATA, OPTIMIZERS, SetUp
from featviz_core.demo.variations import VARIATIONS

Part = Literal["tune", "apart"]
PARTS: tuple[Part, ...] = ("tune", "apart")
_DRAWN = {"tune": 1, "apart": 2}  # set-ups for each fault
_VARIED = {"tune": 2, "apart": 3}  # variations of each healthy set-up, besides the one as it is
_SEEDS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A set-up, a fault in it (empty for none), and the seed of its random numbers."""

    setup: SetUp
    fault: str
    seed: int

    @property
    def name(self) -> str:
        """`SETUP+FAULT@SEED`."""
        return f"{self.setup.name}{'+' if self.fault else ''}{self.fault}@{self.seed}"


def part_of(setup: SetUp) -> Part:
    """Whether a set-up is for tuning or kept apart."""
    return "tune" if setup.data == "shapes" and setup.network != "residual" else "apart"


def cases(part: Part, draw: int = 1) -> list[Case]:
    """All cases of a part, the same each time. Another `draw` pairs faults and variations with other set-ups and seeds:
    what nobody has looked at yet."""
    return [*_faulty(part, draw), *_healthy(part, draw)]


def _plain_setups(part: Part) -> list[SetUp]:
    every = (SetUp(*names) for names in product(NETWORKS, OPTIMIZERS, DATA))
    return [setup for setup in every if part_of(setup) == part]


def _faulty(part: Part, draw: int) -> Iterator[Case]:
    for fault in FAULTS.values():
        fitting = [setup for setup in _plain_setups(part) if setup.network in fault.networks]
        rng = random.Random(f"{part} {fault.name}" + (f" {draw}" if draw > 1 else ""))
        for setup in rng.sample(fitting, min(_DRAWN[part], len(fitting))):
            yield Case(setup, fault.name, rng.choice(_seeds(draw)))


def _healthy(part: Part, draw: int) -> Iterator[Case]:
    variation, seed = islice(cycle(VARIATIONS), draw - 1, None), cycle(_seeds(draw))
    for setup in _plain_setups(part):
        yield Case(setup, "", next(seed))
        for _ in range(_VARIED[part]):
            varied = SetUp(setup.network, setup.optimizer, setup.data, next(variation))
            yield Case(varied, "", next(seed))


def _seeds(draw: int) -> range:
    return range((draw - 1) * _SEEDS, draw * _SEEDS)
