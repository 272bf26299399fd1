"""Which score a map explains: a class, several, the difference of two, or what argues against one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featviz_core.errors import ModelError
from featviz_core.layouts import first_tensor

# A sign between two classes stands between spaces, so that "short-haired pointer" stays one name.
_SIGNS = re.compile(r"\s+([+\-−])\s+")
_MINUS = "-−"


@dataclass(frozen=True, slots=True)
class Target:
    """A score to explain: the sum of the model's class scores (before softmax), each times its weight.

    `label` is how to call it; `weights` holds (class index, weight) pairs. Make one by hand for any other sum.
    """

    label: str
    weights: tuple[tuple[int, float], ...]

    def of(self, logits: Tensor) -> Tensor:
        """This score `(N,)` for class scores `(N, classes)`."""
        return torch.stack([weight * logits[:, index] for index, weight in self.weights]).sum(0)


Wanted = Target | int | str | Sequence[int | str] | None
"""What may be asked for: None for the predicted class, an index, a name, `"heart + star"`, `"heart - star"`,
`"-heart"` (what argues against it), a sequence of classes (their sum), or a `Target`."""


def resolve(wanted: Wanted, logits: Tensor, class_names: Sequence[str]) -> Target:
    """The target that `wanted` stands for; `logits` (1, classes) decide where it is None.

    Raises `ModelError` for a class that does not exist, naming the nearest.
    """
    names = _Names(class_names, logits.shape[1])
    if isinstance(wanted, Target):
        return Target(wanted.label, tuple((names.checked(index), weight) for index, weight in wanted.weights))
    if wanted is None:
        best = int(logits[0].nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax())
        return Target(names.label(best), ((best, 1.0),))
    if isinstance(wanted, str):
        terms = names.parse(wanted)
    elif isinstance(wanted, Sequence):
        terms = [(1.0, names.index(part)) for part in wanted]
    else:
        terms = [(1.0, names.index(wanted))]
    if not terms:
        raise ModelError("No class was named.", do="Name at least one class, or leave the target out.")
    return Target(_label(terms, names), tuple((index, sign) for sign, index in terms))


def class_scores(output: Any) -> Tensor:
    """The class scores `(N, classes)` in a model's output; a head without a class axis gets one.

    Raises `ModelError` where the output is not one score a class.
    """
    logits = first_tensor(output)
    if logits is not None and logits.ndim == 1:
        logits = logits[:, None]
    if logits is None or logits.ndim != 2:
        got = "no tensor" if logits is None else f"the shape {tuple(logits.shape)}"
        raise ModelError(
            "The model gives no class scores.",
            why=f"Expected an output (N, classes), got {got}.",
            do="Choose a classification model, or wrap this one so that it returns one score a class.",
        )
    return logits


def class_names_of(model: object) -> tuple[str, ...]:
    """The class names that `model` brings along; none for a plain module."""
    names = getattr(model, "class_names", ())
    return tuple(names) if isinstance(names, list | tuple) else ()


class _Names:
    """A model's classes by number and by name."""

    def __init__(self, names: Sequence[str], count: int) -> None:
        self._names, self._count = list(names[:count]), count

    def label(self, index: int) -> str:
        return self._names[index] if index < len(self._names) else f"class {index}"

    def checked(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise ModelError(
                f"The model has no class {index}.",
                why=f"Expected a number of 0 to {self._count - 1}.",
            )
        return int(index)

    def index(self, wanted: int | str) -> int:
        if not isinstance(wanted, str):
            return self.checked(int(wanted))
        wanted = wanted.strip()
        exact = [index for index, name in enumerate(self._names) if name == wanted]
        alike = [index for index, name in enumerate(self._names) if name.casefold() == wanted.casefold()]
        found = exact or alike
        if len(found) == 1:
            return found[0]
        if found:
            raise ModelError(
                f"Several classes are called '{wanted}'.",
                why=f"They have the numbers {', '.join(map(str, found))}.",
                do="Give the number instead of the name.",
            )
        number = re.fullmatch(r"(?:class\s+)?(\d+)", wanted)
        if number:
            return self.checked(int(number[1]))
        raise self._unknown(wanted)

    def parse(self, text: str) -> list[tuple[float, int]]:
        """(sign, class) for each term of a sum such as `"heart - star"`."""
        if text.strip() in self._names:
            return [(1.0, self.index(text))]
        text = text.strip()
        first = -1.0 if text[:1] in tuple(_MINUS) else 1.0
        parts = _SIGNS.split(text.lstrip(_MINUS + "+").strip())
        signs = [first, *(-1.0 if sign in _MINUS else 1.0 for sign in parts[1::2])]
        return [(sign, self.index(name)) for sign, name in zip(signs, parts[::2], strict=True)]

    def _unknown(self, wanted: str) -> ModelError:
        if not self._names:
            return ModelError(
                f"The model has no class '{wanted}'.",
                why="It brings no class names along.",
                do=f"Give a number of 0 to {self._count - 1}.",
            )
        by_lower = {name.casefold(): name for name in self._names}
        near = difflib.get_close_matches(wanted.casefold(), by_lower, n=3, cutoff=0.5)
        hint = f"The nearest names are {', '.join(by_lower[name] for name in near)}." if near else ""
        return ModelError(
            f"The model has no class '{wanted}'.",
            why=hint or f"Its classes are {', '.join(self._names[:8])}{' …' if len(self._names) > 8 else ''}.",
            do='Give a name or a number, or a sum such as "heart - star".',
        )


def _label(terms: Sequence[tuple[float, int]], names: _Names) -> str:
    (first, index), *rest = terms
    text = ("− " if first < 0 else "") + names.label(index)
    return text + "".join(f" {'−' if sign < 0 else '+'} {names.label(i)}" for sign, i in rest)
