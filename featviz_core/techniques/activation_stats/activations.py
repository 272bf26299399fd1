"""What is known about activation functions: which can die, and where they are flat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A unit that is never above zero has no gradient (ReLU), or hardly any (the smooth ones).
CAN_DIE = frozenset({"ReLU", "ReLU6", "Threshold", "GELU", "SiLU", "Mish", "Hardswish"})

# Values that these come close to, but never leave again however large the input gets.
ENDS: dict[str, tuple[float, ...]] = {
    "Sigmoid": (0, 1),
    "Hardsigmoid": (0, 1),
    "Tanh": (-1, 1),
    "Hardtanh": (-1, 1),
    "Softsign": (-1, 1),
    "ReLU6": (6,),
    "ELU": (-1,),
    "GELU": (0,),
    "SiLU": (0,),
    "Mish": (0,),
    "Hardswish": (0,),
}
ONE_ENDED = frozenset({"GELU", "SiLU", "Mish", "Hardswish"})
NEAR = 0.02
"""How close to an end a value counts as saturated: a sigmoid has less than a tenth of its steepest slope there."""


def saturated(kind: str, values: NDArray[np.floating[Any]]) -> int:
    """How many of an activation's `values` are within `NEAR` of an end, where the function is flat?

    GELU, SiLU, Mish and Hardswish are flat below zero only.
    """
    ends = ENDS.get(kind, ())
    if not ends:
        return 0
    near = np.logical_or.reduce([np.abs(values - end) < NEAR for end in ends])
    return int((near & (values <= 0) if kind in ONE_ENDED else near).sum())
