"""Verdicts on labels: their form, their range, which classes come how often, and whether the names agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.techniques.data_check.collect import Seen
from featviz_core.techniques.data_check.targets import IGNORED, KINDS, NO_NUMBERS

_MISSED = 1e-3  # chance, below which not having met a class of a balanced set is no accident
_IMBALANCED = 10  # pictures of the commonest class for one of the rarest
_MOST_CLASSES = 100_000  # that are counted; larger labels are names of something else
_DOMINANT = 0.95  # share of one class, above which guessing it looks like learning

_NOT_FOR_CROSS_ENTROPY = {
    "column": (
        "labels.shape",
        "fail",
        "Labels come as a column (N, 1)",
        "`nn.CrossEntropyLoss` expects (N,); other losses broadcast a column to (N, N) without a word.",
        "Use `targets.squeeze(1)`.",
    ),
    "float": (
        "labels.dtype",
        "warn",
        "Class numbers come as floating-point numbers",
        "`nn.CrossEntropyLoss` refuses them; other losses take them for amounts.",
        "Use `targets.long()`, unless this is a regression.",
    ),
    "one_hot": (
        "labels.one_hot",
        "fail",
        "Labels are one-hot rows of whole numbers",
        "`nn.CrossEntropyLoss` expects class numbers (N,), or probabilities (N, C) as floating-point numbers.",
        "Use `targets.argmax(1)`.",
    ),
}


def label_findings(seen: Seen, classes: int | None) -> list[Finding]:
    """What is wrong with the labels of one split, for a model of so many `classes` where that is known?"""
    if not seen.targets:
        return []
    found = _form(seen)
    good = seen.labels[seen.labels != IGNORED]
    if has_numbers(seen) and len(good):
        found += _bounds(seen, good, classes)
    return found


def has_numbers(seen: Seen) -> bool:
    """Whether every batch came with class numbers."""
    return bool(seen.targets) and all(targets.countable for targets in seen.targets)


def _form(seen: Seen) -> list[Finding]:
    kinds = list(dict.fromkeys(targets.kind for targets in seen.targets))
    # A batch of zeros and ones among other whole numbers is of their kind.
    kinds = [kind for kind in kinds if not (kind == "binary" and "float" in kinds)]
    first = next(targets for targets in seen.targets if targets.kind == kinds[0])
    evidence = {"shape": first.shape, "dtype": first.dtype, "healthy": "int64 (N,)"}
    found = []
    if len(kinds) > 1:
        text = ", then ".join(KINDS[kind] for kind in kinds)
        found.append(Finding("labels.kind", "warn", "Labels change their form", f"{text}.", seen.name))
    for kind in kinds:
        if kind in _NOT_FOR_CROSS_ENTROPY:
            code, severity, title, detail, remedy = _NOT_FOR_CROSS_ENTROPY[kind]
            found.append(Finding(code, severity, title, detail, seen.name, evidence, remedy))  # type: ignore[arg-type]
        elif kind in (*NO_NUMBERS, "list"):
            title = f"Targets are {KINDS[kind]}"
            text = "" if kind == "list" else "Checks of classes were left out."
            found.append(Finding("labels.kind", "note", title, text, seen.name, evidence))
    narrow = [t.dtype for t in seen.targets if t.kind == "classes" and t.dtype not in ("int64", "uint8")]
    if narrow:
        found.append(
            Finding(
                "labels.dtype",
                "warn",
                f"Labels are of type {narrow[0]}",
                "`nn.CrossEntropyLoss` takes class numbers as int64.",
                seen.name,
                evidence | {"dtype": narrow[0]},
                "Use `targets.long()`.",
            )
        )
    return found


def _bounds(seen: Seen, good: NDArray[np.int64], classes: int | None) -> list[Finding]:
    low, high = int(good.min()), int(good.max())
    outside = (good < 0) | (good >= classes) if classes is not None else good < 0
    if not outside.any():
        rare = high * (1 - 1 / (high + 1)) ** len(good) < _MISSED
        if low >= 1 and seen.complete and classes is None and rare:
            text = f"They run from {low} to {high}; class numbers count from 0."
            return [Finding("labels.range", "note", f"Labels start at {low}", text, seen.name)]
        return []
    last = "C − 1" if classes is None else str(classes - 1)
    off_by_one = classes is not None and low == 1 and high == classes
    detail = "They seem to count from 1. " if off_by_one else ""
    evidence = {"min": low, "max": high, "pictures": int(outside.sum()), "healthy": f"0 to {last}"}
    positions = np.flatnonzero((seen.labels != IGNORED) & ((seen.labels < 0) | (seen.labels > (classes or np.inf) - 1)))
    return [
        Finding(
            "labels.range",
            "fail",
            f"Labels outside of 0 to {last}",
            f"{detail}They run from {low} to {high}; the loss stops with an error, on a GPU with an unreadable one.",
            seen.name,
            evidence | seen.places(positions),
            "Subtract 1 from the labels." if off_by_one else "Map classes to 0, 1, 2, … and size the head to match.",
        )
    ]


def number_of_classes(
    splits: Sequence[Seen], num_classes: int | None, class_names: Sequence[str] | None
) -> tuple[int | None, bool]:
    """C, and whether it was said (by the caller, names, the data set or the targets' width) rather than counted."""
    if class_names is not None:
        return len(class_names), True
    if num_classes is not None:
        binary = any(targets.kind == "binary" for seen in splits for targets in seen.targets)
        return max(num_classes, 2 if binary else 1), True  # one output serves two classes
    for seen in splits:
        names = dataset_names(seen)
        if names:
            return len(names), True
        width = next((targets.width for targets in seen.targets if targets.width), None)
        if width is not None:
            return width, True
    numbers = [int(seen.labels.max()) for seen in splits if has_numbers(seen) and len(seen)]
    return (max(numbers) + 1, False) if numbers and 0 <= max(numbers) < _MOST_CLASSES else (None, False)


def dataset_names(seen: Seen) -> list[str]:
    """The class names that the data set itself holds, as torchvision's do; empty where it has none."""
    names = getattr(root_of(seen.dataset), "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def root_of(dataset: Any) -> Any:
    """The data set inside of subsets."""
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset = dataset.dataset
    return dataset


def counts(seen: Seen, classes: int) -> NDArray[np.int64]:
    """Pictures of each class 0..C-1 `(C,)`."""
    inside = seen.labels[(seen.labels >= 0) & (seen.labels < classes)]
    return np.bincount(inside, minlength=classes)


def class_frame(splits: Sequence[Seen], classes: int | None, names: Sequence[str]) -> pd.DataFrame:
    """`split label name count share`, one row for each class of each split."""
    columns = ["split", "label", "name", "count", "share"]
    rows: list[list[Any]] = []
    for seen in splits if classes is not None else ():
        if has_numbers(seen) and classes is not None:
            number = counts(seen, classes)
            share = number / max(1, number.sum())
            for label in range(classes):
                name = names[label] if label < len(names) else str(label)
                rows.append([seen.name, label, name, int(number[label]), float(share[label])])
    return pd.DataFrame(rows, columns=columns)


def class_findings(splits: Sequence[Seen], classes: int | None, said: bool) -> list[Finding]:
    """Which classes are missing, unexpected, or drown the others?"""
    known = [seen for seen in splits if has_numbers(seen) and len(seen)]
    if classes is None or not known:
        return []
    found: list[Finding] = []
    for seen in known:
        number = counts(seen, classes)
        outside = (seen.labels >= classes) | ((seen.labels < 0) & (seen.labels != IGNORED))
        if not outside.any() and (number > 0).sum() > 1:
            found += _missing(seen, known[0], number, said)
        found += _balance(seen, number)
    if len(known) == 2 and known[0].complete:
        train, validation = (counts(seen, classes) for seen in known)
        new = np.flatnonzero((train == 0) & (validation > 0))
        if len(new):
            title = f"Validation has {_classes(len(new))} that training never shows"
            evidence = {"classes": new[:16].tolist(), "healthy": "none"}
            text = "The model cannot learn them, and every such picture counts as a mistake."
            remedy = "Split within each class, so that every class is on both sides."
            found.append(Finding("labels.unexpected", "fail", title, text, "train and validation", evidence, remedy))
    return found


def _missing(seen: Seen, train: Seen, number: NDArray[np.int64], said: bool) -> list[Finding]:
    """Classes that do not come, though their share of training (all alike, for training itself) makes that unlikely.

    In a complete training set no likelihood is needed, where C was said; in few pictures it is chance, and a note.
    """
    classes = len(number)
    own = seen is train
    share = np.full(classes, 1 / classes) if own else counts(train, classes) / max(1, len(train))
    gone = np.flatnonzero((number == 0) & (share > 0))
    chance = float(((1 - share[gone]) ** len(seen)).max()) if len(gone) else 1.0
    sure = own and seen.complete
    unlikely = chance < _MISSED and seen.shuffled is not False
    if not len(gone) or (own and not said) or not (sure or seen.complete or unlikely):
        return []
    few = f"{len(seen):,} pictures" if seen.complete else f"the first {len(seen):,} pictures"
    return [
        Finding(
            "labels.missing",
            "warn" if sure or chance < _MISSED else "note",
            f"{_classes(len(gone))} of {classes} without a picture",
            f"None came among {few}.",
            seen.name,
            {"classes": gone[:16].tolist(), "healthy": "every class comes"},
            "Check the split, the folders' names and the size of the model's head.",
        )
    ]


def _balance(seen: Seen, number: NDArray[np.int64]) -> list[Finding]:
    there = number[number > 0]
    if len(there) < 2:
        if len(there) == 1 and len(number) > 1 and seen.complete:
            text = f"All {int(there[0]):,} pictures are of class {int(number.argmax())}."
            remedy = "Check the data set's folders or list, and its sampler."
            return [Finding("labels.balance", "fail", "Only one class comes", text, seen.name, {}, remedy)]
        return []
    ratio, top = there.max() / there.min(), there.max() / there.sum()
    if ratio < _IMBALANCED or len(seen) < _IMBALANCED * len(there):
        return []
    dominant = top > _DOMINANT
    return [
        Finding(
            "labels.balance",
            "warn" if dominant else "note",
            f"Classes are imbalanced, {ratio:,.0f} to 1",
            f"Always guessing class {int(number.argmax())} would be right for {top:.0%} of the pictures.",
            seen.name,
            {"ratio": round(float(ratio), 2), "largest_share": round(float(top), 4)},
            "Judge by balanced accuracy; weight the loss or the sampler if rare classes matter.",
        )
    ]


def name_findings(splits: Sequence[Seen], class_names: Sequence[str] | None, classes: int | None) -> list[Finding]:
    """Do the names that were given, the data sets' own, and the number of classes agree?"""
    found: list[Finding] = []
    if class_names is not None and classes is not None and len(class_names) != classes:
        title = f"{len(class_names)} class names for {classes} outputs of the model"
        severity = "warn" if classes == 1 or len(class_names) < classes else "fail"
        remedy = "Give one name for each output, and the model one output for each class."
        found.append(Finding("labels.names", severity, title, remedy=remedy))  # type: ignore[arg-type]
    own = [dataset_names(seen) for seen in splits]
    if class_names is not None and own[0] and list(class_names) != own[0] and len(own[0]) == len(class_names):
        same = sorted(class_names) == sorted(own[0])
        text = "The same names in another order." if same else "The names differ; so may only their wording."
        evidence = {"given": list(class_names)[:8], "data set": own[0][:8]}
        severity = "fail" if same else "note"
        title = "Class names are not those of the data set"
        found.append(
            Finding("labels.names", severity, title, text, splits[0].name, evidence, "Use `dataset.classes`.")  # type: ignore[arg-type]
        )
    if len(own) == 2 and own[0] and own[1] and own[0] != own[1]:
        found.append(
            Finding(
                "labels.mapping",
                "fail",
                "Training and validation number the classes differently",
                "The same number stands for different names, as when a class folder is missing on one side.",
                "train and validation",
                {"train": own[0][:16], "validation": own[1][:16], "healthy": "equal"},
                "Give both sets the same list of classes.",
            )
        )
    return found


def _classes(number: int) -> str:
    return f"{number} class{'' if number == 1 else 'es'}"
