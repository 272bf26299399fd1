"""What kind of targets a batch has, and the class numbers in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100
"""The label that `nn.CrossEntropyLoss` skips by default."""

KINDS: dict[str, str] = {
    "classes": "class numbers (N,)",
    "column": "class numbers in a column (N, 1)",
    "float": "class numbers as floating-point numbers",
    "binary": "zeros and ones as floating-point numbers",
    "one_hot": "one-hot rows as whole numbers (N, C)",
    "probabilities": "probabilities (N, C), one-hot or soft",
    "several": "several labels a picture (N, C)",
    "numbers": "real numbers",
    "list": "a list of class numbers",
    "other": "no class numbers",
}

NO_NUMBERS = ("other", "numbers", "several")


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """`kind` is one of `KINDS`; `numbers (N,)` are class numbers, None where there are none; `low` and `high` are the
    smallest and largest value; `width` is C where targets have one column a class."""

    kind: str
    numbers: NDArray[np.int64] | None
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    width: int | None = None

    @property
    def countable(self) -> bool:
        """Whether they are class numbers, or can be read as such."""
        return self.kind not in NO_NUMBERS


def read_targets(targets: Any, pictures: int) -> Targets:
    """What are the targets of a batch of so many pictures?"""
    if isinstance(targets, list | tuple) and len(targets) == pictures and all(type(t) is int for t in targets):
        found = read_targets(torch.tensor(targets), pictures)
        return Targets("list", found.numbers, found.shape, type(targets).__name__, found.low, found.high)
    if not isinstance(targets, Tensor) or not len(targets.reshape(-1)) or targets.is_complex():
        return Targets("other", None, (), type(targets).__name__, np.nan, np.nan)
    values = targets.detach().cpu()
    values = values.reshape(1) if values.ndim == 0 else values
    kind = _kind(values, pictures)
    width = values.shape[1] if values.ndim == 2 and values.shape[1] > 1 else None
    return Targets(
        kind=kind,
        numbers=_numbers(kind, values),
        shape=tuple(targets.shape),
        dtype=str(targets.dtype).removeprefix("torch."),
        low=float(values.min()),
        high=float(values.max()),
        width=width,
    )


def _kind(values: Tensor, pictures: int) -> str:
    if len(values) != pictures or values.ndim > 2:
        return "other"
    real = values.is_floating_point()
    if values.ndim == 2 and values.shape[1] > 1:
        return _row_kind(values, real)
    if not real:
        return "classes" if values.ndim == 1 else "column"
    if not torch.isfinite(values).all() or (values != values.round()).any():
        return "numbers"
    return "binary" if bool(((values == 0) | (values == 1)).all()) else "float"


def _row_kind(values: Tensor, real: bool) -> str:
    switches = bool(((values == 0) | (values == 1)).all())
    rows = values.double().sum(1)
    if bool((values >= 0).all()) and bool((rows - 1).abs().max() < 1e-3):
        return "probabilities" if real else "one_hot"
    return "several" if switches else "other"


def _numbers(kind: str, values: Tensor) -> NDArray[np.int64] | None:
    if kind in NO_NUMBERS:
        return None
    numbers = values.argmax(1) if kind in ("one_hot", "probabilities") else values.reshape(-1)
    return np.asarray(numbers.to(torch.int64).numpy(), np.int64)
