"""What a logged value is, told from its name: the loss, the accuracy or the learning rate, of training or validation.

Every library has names of its own: `Loss/train`, `train_loss_step`, `val_accuracy`, `epoch_loss`, `lr-SGD/pg1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from featviz_core.errors import RunError

SPLITS = ("train", "validation", "test", "train_eval")
METRICS = ("loss", "accuracy", "lr", "epoch")
_WITH_SPLIT = ("loss", "accuracy")


@dataclass(frozen=True, slots=True)
class Role:
    """`metric`: "loss", "accuracy", "lr", "epoch", or a name of one's own; `split`: "train", "validation", "test",
    "train_eval" (training pictures, the model in evaluation mode), or "" for what belongs to the run as a whole."""

    metric: str
    split: str = ""


Wanted: TypeAlias = "Role | str | None"

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    "traineval": "train_eval",
}
_METRIC_WORDS = {
    **dict.fromkeys(("loss", "losses", "cost", "nll", "xent", "crossentropy"), "loss"),
    **dict.fromkeys(("acc", "accuracy", "accuracies", "top1", "acc1"), "accuracy"),
    **dict.fromkeys(("lr", "learningrate"), "lr"),
}
_EPOCH_WORDS = ("epoch", "epochs")
# How often, or averaged over what: says nothing about what it is.
_FILLERS = {
    "step",
    "steps",
    "epoch",
    "epochs",
    "batch",
    "iter",
    "iteration",
    "mean",
    "avg",
    "average",
    "running",
    "per",
}
_FILLERS |= {"scalar", "scalars", "metric", "metrics", "log", "logs", "total", "pg1", "group", "0", "main"}
# About a part of the network, or of the optimiser.
_FOREIGN = {"grad", "gradient", "gradients", "update", "updates", "weight", "weights", "bias", "activation"}
_FOREIGN |= {
    "activations",
    "norm",
    "ratio",
    "momentum",
    "decay",
    "beta",
    "scale",
    "time",
    "seconds",
    "best",
    "min",
    "max",
}
_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")


def roles_of(tags: Iterable[str], names: Mapping[str, Wanted] | None = None) -> dict[str, Role]:
    """What are these tags? Those that are recognised, each with its role.

    `names` says it by hand: a `Role`, `"loss/validation"` or `"lr"`, or None for a tag that is to have none. Where
    several tags could play one role, those with the fewest unknown words in their names do: `train_loss` rather than
    `train_box_loss`. A loss or accuracy without a split is training's.

    Raises `RunError` for a role that cannot be understood.
    """
    given = {tag: _parsed(wanted) for tag, wanted in (names or {}).items()}
    best: dict[Role, int] = {}
    guesses: dict[str, tuple[Role, int]] = {}
    for tag in tags:
        guess = None if tag in given else _guess(tag)
        if guess is not None:
            guesses[tag] = guess
            best[guess[0]] = min(guess[1], best.get(guess[0], guess[1]))
    by_hand = set(given.values())
    found = {tag: role for tag, (role, unknown) in guesses.items() if unknown == best[role] and role not in by_hand}
    return found | {tag: role for tag, role in given.items() if role is not None}


def _parsed(wanted: Wanted) -> Role | None:
    if wanted is None or isinstance(wanted, Role):
        return wanted
    metric, _, split = str(wanted).partition("/")
    split = _SPLIT_WORDS.get(split.lower(), split)
    if not metric or split not in ("", *SPLITS):
        raise RunError(
            f"The role {wanted!r} cannot be understood.",
            why='Expected a metric and a split, such as "loss/validation", "accuracy/train" or "lr".',
        )
    return Role(metric, split)


def _guess(tag: str) -> tuple[Role, int] | None:
    """The role that a name speaks of, and how many words of the name say something else."""
    words = [word.lower() for word in _WORD.findall(tag.replace("earning_rate", "earningrate"))]
    name = " ".join(words)
    for together in ("learning rate", "cross entropy", "train eval"):
        name = name.replace(together, together.replace(" ", ""))
    words = name.split()
    metrics = [_METRIC_WORDS[word] for word in words if word in _METRIC_WORDS]
    if not metrics and any(word in _EPOCH_WORDS for word in words) and _FILLERS.union(_SPLIT_WORDS).issuperset(words):
        return Role("epoch"), 0
    if len(set(metrics)) != 1 or _FOREIGN.intersection(words):
        return None
    splits = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    if len(splits) > 1:
        return None
    (metric,) = set(metrics)
    split = (splits or {"train"}).pop() if metric in _WITH_SPLIT else ""
    unknown = sum(word not in _METRIC_WORDS | _SPLIT_WORDS and word not in _FILLERS for word in words)
    return Role(metric, split), unknown
