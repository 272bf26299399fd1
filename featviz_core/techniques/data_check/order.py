"""Verdicts on order and change: sorted labels, drift within the loader, training against validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.techniques.data_check.collect import Seen, merged
from featviz_core.techniques.data_check.labels import has_numbers
from featviz_core.techniques.data_check.values import statistics

_BLOCKS = 48  # points of the chart over time
_MOST_CLASSES = 40  # in the chart of classes over time
_BLOCK = 8  # pictures in a block at least
_SORTED = 0.9  # of neighbours with the same label, where the order is as good as sorted
_SURE = 6.0  # standard errors above what chance gives
_DRIFT = 0.75  # spread of blocks' means, in standard deviations between pictures
_SHIFT = 0.5  # difference of means between splits, in standard deviations of pixels
_SPREAD = 2.0  # ratio of standard deviations between splits
_TURNED = 4.0  # how much better validation fits training with its channels reversed
_FEW = 32  # pictures, below which nothing is said of distributions


def over_time(splits: Sequence[Seen]) -> pd.DataFrame:
    """`split first last mean std` of consecutive blocks of pictures, in input units."""
    rows = []
    for seen in splits:
        for block in _blocks(len(seen)):
            part = slice(block[0], block[-1] + 1)
            pixels = seen.pictures.size[part].prod(1)
            mean, std = merged(seen.pictures.mean[part], seen.pictures.std[part], pixels)
            spread = math.sqrt(np.mean(std**2 + (mean - mean.mean()) ** 2))
            rows.append([seen.name, int(block[0]), int(block[-1]), float(mean.mean()), spread])
    return pd.DataFrame(rows, columns=["split", "first", "last", "mean", "std"])


def label_order(splits: Sequence[Seen], classes: int | None) -> pd.DataFrame:
    """`split first last label count`: pictures of each class in the same blocks; empty for over 40 classes."""
    rows: list[list[object]] = []
    for seen in splits if classes is not None and classes <= _MOST_CLASSES else ():
        for block in _blocks(len(seen)) if has_numbers(seen) else ():
            labels = seen.labels[block[0] : block[-1] + 1]
            for label, count in zip(*np.unique(labels[labels >= 0], return_counts=True), strict=True):
                rows.append([seen.name, int(block[0]), int(block[-1]), int(label), int(count)])
    return pd.DataFrame(rows, columns=["split", "first", "last", "label", "count"])


def _blocks(pictures: int) -> list[NDArray[np.intp]]:
    number = max(1, min(_BLOCKS, pictures // _BLOCK))
    return np.array_split(np.arange(pictures), number) if pictures else []


def same_neighbours(labels: NDArray[np.int64]) -> tuple[float, float]:
    """How many neighbours share their label, as a share in [0, 1], and by how many standard errors is that more than
    in a random order of the same labels? (A runs test for many classes: Barton and David, 1957.)"""
    n = len(labels)
    _, sizes = np.unique(labels, return_counts=True)
    same = int((labels[1:] == labels[:-1]).sum())
    pairs = sizes * (sizes - 1.0)
    expected = pairs.sum() / n
    triples = (pairs * (sizes - 2)).sum()
    disjoint = pairs.sum() ** 2 - (4 * triples + 2 * pairs.sum())
    square = expected + 2 * (n - 2) * triples / (n * (n - 1) * (n - 2)) + disjoint / (n * (n - 1))
    variance = square - expected**2
    return same / (n - 1), (same - expected) / math.sqrt(variance) if variance > 1e-9 else 0.0


def order_findings(seen: Seen) -> list[Finding]:
    """Does the training loader mix its classes? To be asked of training only: validation may come in any order."""
    unshuffled = seen.shuffled is False
    if has_numbers(seen) and len(seen) > max(8, 2 * max(seen.batch_sizes)) and len(np.unique(seen.labels)) > 1:
        # Samplers of repeated augmentation draw a picture several times in a row.
        fresh = np.concatenate([[True], (seen.indices[1:] != seen.indices[:-1]) | (seen.indices[1:] < 0)])
        share, z = same_neighbours(seen.labels[fresh])
        if z > _SURE:
            return [_sorted(seen, share, z)]
    one_class = [len(np.unique(part)) == 1 for part in _batches(seen) if len(part) > 1] if has_numbers(seen) else []
    if unshuffled and one_class and all(one_class):
        return [_sorted(seen, 1.0, 0.0)]
    if unshuffled:
        text = "Every epoch has the same batches in the same order."
        evidence = {"sampler": "SequentialSampler", "healthy": "RandomSampler"}
        return [
            Finding("loader.unshuffled", "note", "The training loader does not shuffle", text, seen.name, evidence, _DO)
        ]
    return []


def _sorted(seen: Seen, share: float, z: float) -> Finding:
    """The verdict on a share of neighbours of one class, so many standard errors above chance; 0 where every batch
    holds one class."""
    met = f"{share:.0%} of neighbours share their class; in random order, {_chance(seen.labels):.0%} would."
    whole = "Every batch holds one class only, and the loader does not shuffle."
    return Finding(
        "labels.sorted",
        "fail" if share > _SORTED else "warn",
        "Training pictures come class by class" if share > _SORTED else "Classes come in long runs",
        f"{met if z else whole} Each step then teaches one class and forgets the others.",
        seen.name,
        {"same_neighbours": round(share, 4), "standard_errors": round(float(z), 1), "healthy": f"up to {_SURE:g}"},
        _DO,
    )


_DO = "Use `DataLoader(..., shuffle=True)`."


def _batches(seen: Seen) -> list[NDArray[np.int64]]:
    return np.split(seen.labels, np.cumsum(seen.batch_sizes)[:-1])


def _chance(labels: NDArray[np.int64]) -> float:
    _, sizes = np.unique(labels, return_counts=True)
    return float((sizes * (sizes - 1)).sum() / (len(labels) * (len(labels) - 1)))


def drift_findings(seen: Seen) -> list[Finding]:
    """Do pictures change in the course of the training loader?"""
    brightness = seen.pictures.mean.mean(1).astype(np.float64)
    blocks = [brightness[block] for block in _blocks(len(seen))]
    blocks = [block[np.isfinite(block)] for block in blocks]
    blocks = [block for block in blocks if len(block)]
    values = np.concatenate(blocks) if blocks else np.zeros(0)
    if len(values) < _FEW or len(blocks) < 2 or values.std() == 0:
        return []
    means, sizes = np.array([block.mean() for block in blocks]), np.array([len(block) for block in blocks])
    within = math.sqrt(sum(block.var() * len(block) for block in blocks) / len(values))
    # What chance adds to the spread of the means is taken off.
    between = float(np.average((means - values.mean()) ** 2, weights=sizes)) - within**2 * len(blocks) / len(values)
    drift = math.sqrt(max(0.0, between)) / max(within, 1e-12)
    if drift < _DRIFT:
        return []
    return [
        Finding(
            "data.drift",
            "warn",
            "Pictures change in the course of the loader",
            f"The mean of {len(blocks)} consecutive blocks runs from {means.min():.3g} to {means.max():.3g}, far more "
            "than chance allows.",
            seen.name,
            {"drift": round(drift, 3), "healthy": f"below {_DRIFT}"},
            "Shuffle, or look for what changes: another source, another transform, a counter.",
        )
    ]


def shift_findings(
    train: Seen, validation: Seen, clean_train: Seen | None = None, clean_validation: Seen | None = None
) -> list[Finding]:
    """Do training and validation come from the same pipeline?

    Where they do without augmentation, `clean_train` and `clean_validation`, it is augmentation that sets them apart.
    """
    found = _shift(train, validation)
    if not any(finding.code == "data.shift" for finding in found) or clean_train is None or clean_validation is None:
        return found
    if _shift(clean_train, clean_validation):
        return found
    return [
        replace(
            finding,
            code="augmentation.shift",
            title="Augmentation makes training pictures unlike validation pictures",
            detail=f"{finding.detail} Without it, both are alike.",
            remedy="Look at augmented pictures: does a step erase, scale or clip too much?",
        )
        for finding in found
    ]


def _shift(train: Seen, validation: Seen) -> list[Finding]:
    if min(len(train), len(validation)) < _FEW:
        return []
    (mean, std, _, _), (other, spread, _, _) = statistics(train), statistics(validation)
    if len(mean) != len(other):
        text = f"{len(mean)} against {len(other)}."
        return [Finding("data.shift", "fail", "Different numbers of channels", text, "train and validation")]
    if not (np.isfinite(mean).all() and np.isfinite(other).all()) or not (std > 0).all():
        return []
    turned = _turned(mean, other, train, validation)
    apart, ratio = np.abs(mean - other) / std, np.maximum(spread, 1e-12) / std
    evidence = {
        "train": {"mean": mean.round(4).tolist(), "std": std.round(4).tolist()},
        "validation": {"mean": other.round(4).tolist(), "std": spread.round(4).tolist()},
        "healthy": f"means within {_SHIFT} standard deviations, standard deviations within a factor of {_SPREAD:g}",
    }
    if turned:
        return [
            Finding(
                "data.channel_order",
                "fail",
                "Training and validation have their channels in opposite order",
                "Validation's channels fit those of training only in reverse.",
                "train and validation",
                evidence,
                "Read both with the same code; OpenCV gives blue first.",
            )
        ]
    if apart.max() < _SHIFT and ratio.min() > 1 / _SPREAD and ratio.max() < _SPREAD:
        return []
    far = ratio.max() > 10 or ratio.min() < 0.1
    return [
        Finding(
            "data.shift",
            "fail" if far else "warn",
            "Validation pictures are not like training pictures",
            f"Means differ by up to {apart.max():.2g} standard deviations, spreads by {ratio.min():.2g} to "
            f"{ratio.max():.2g} times.",
            "train and validation",
            evidence,
            "Use the same scaling and normalisation for both; only random augmentation may differ.",
        )
    ]


def _turned(mean: NDArray[np.float64], other: NDArray[np.float64], train: Seen, validation: Seen) -> bool:
    """Whether reversing validation's channels explains a difference that chance does not."""
    if len(mean) != 3:
        return False
    variances = [np.nanvar(seen.pictures.mean, axis=0) / len(seen) for seen in (train, validation)]
    error = float(np.sqrt(sum(variances)).max()) + 1e-6
    straight, reverse = np.abs(mean - other).max(), np.abs(mean - other[::-1]).max()
    return bool(straight > _SURE * error and straight > _TURNED * reverse)
