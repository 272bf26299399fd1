"""Which architecture do these weights belong to? Told by their names and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from featviz_core.architectures import DEMO_PREFIX, build
from featviz_core.demo.models import DEMO_MODELS
from featviz_core.errors import CheckpointError
from featviz_core.weights import rename_legacy_keys
from featviz_core.zoo import ZOO

COUNTER = "num_batches_tracked"
"""The end of the names of BatchNorm's counters, which old files lack and nothing needs."""

_LEAST = 0.5  # share of names and shapes in common
_HEAD = 1.01  # what a head of another size costs: half for its weight, half for its bias
_LARGEST_RATIO = 20.0  # between the sizes of two sets of weights that may still belong together

Shapes = dict[str, tuple[int, ...]]


def guess_architecture(state: Mapping[str, Tensor]) -> list[str]:
    """The architectures, as `load_model` names them, that share most names and shapes with `state`; best first.

    A head with another number of classes does not matter. Raises `CheckpointError` when none shares half of them.
    """
    state = rename_legacy_keys(dict(state))
    shapes = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(COUNTER)}
    numbers = sum(value.numel() for value in state.values())
    # Building all architectures takes seconds; the right one is nearly always among those of about the same size.
    distances = {name: abs(math.log(size / max(numbers, 1))) for name, size in _SIZES.items()}
    near = sorted((name for name in _SIZES if distances[name] < math.log(_LARGEST_RATIO)), key=distances.__getitem__)
    scores: dict[str, float] = {}
    for name in near:
        scores[name] = _share(shapes, _shapes(name))
        if (1 - scores[name]) * len(shapes) <= _HEAD:
            break
    best = sorted((name for name in scores if scores[name] >= _LEAST), key=lambda name: -scores[name])
    if not best:
        raise CheckpointError(
            "The weights belong to no architecture that is known here.",
            why=f"Their names begin with {', '.join(list(shapes)[:3])[:120]}.",
            do="Choose the architecture yourself, or open the model by an experiment file.",
        )
    return best


_SIZES = {DEMO_PREFIX + name: 0.6e6 for name in DEMO_MODELS} | {name: float(m.parameters) for name, m in ZOO.items()}


def _share(found: Shapes, known: Shapes) -> float:
    """Names with equal shapes, as a share of all names of both; a shape that differs in its first axis counts half."""
    both = found.keys() & known.keys()
    equal = sum(1.0 if found[key] == known[key] else 0.5 * (found[key][1:] == known[key][1:]) for key in both)
    return equal / max(len(found.keys() | known.keys()), 1)


class _WithoutNumbers(TorchFunctionMode):
    """Parameters and buffers get no storage; the arithmetic that some architectures do while they are built stays."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if function in (torch.empty, torch.zeros, torch.ones):
            options["device"] = "meta"
        return function(*args, **options)


@cache
def _shapes(name: str) -> Shapes:
    """The names and shapes in an architecture's state, without any numbers and the bookkeeping of BatchNorm."""
    with _WithoutNumbers():
        state = build(name).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(COUNTER)}
