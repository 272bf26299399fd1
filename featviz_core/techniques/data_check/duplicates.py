"""Pictures that come more than once: the same file, the same numbers, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.techniques.data_check.collect import Seen
from featviz_core.techniques.data_check.pictures import TINY, mirrored_hash
from featviz_core.techniques.data_check.values import constant

Ints = NDArray[np.int64]

SHOWN = 24
"""Pairs of one kind and place that are kept to be shown."""

_BITS = 6  # by which hashes of near duplicates may differ, of 64
_ALIKE = 0.995  # correlation of the grey thumbnails of near duplicates; 0.99 lets one digit in fifty pass for another
_BANDS = 4
_NEIGHBOURS = 32  # entries behind each one of a band's sorted list that are compared with it
_LEAK = 0.01  # share of validation that also is in training, or of training that repeats, from which it matters
_ACROSS = "train and validation"
_NEAR = ("near", "mirrored")
_LEAST_SIDE = 16  # pixels, below which pictures resemble each other for lack of detail


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of pictures, as numbers counted over all splits in turn; `distance` is in bits."""

    kind: str
    first: Ints
    second: Ints
    distance: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The pictures of all splits in one row: where each stands, what it is, and how it is labelled."""

    splits: Sequence[Seen]
    split: Ints
    position: Ints
    labels: Ints
    content: Ints
    candidates: NDArray[np.bool_]
    origins: list[Any]

    def across(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which pairs lie in two splits?"""
        return np.asarray(self.split[pairs.first] != self.split[pairs.second])

    def labels_differ(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Which pairs carry two labels?"""
        one, other = self.labels[pairs.first], self.labels[pairs.second]
        return np.asarray((one != other) & (one >= 0) & (other >= 0))


def pool_of(splits: Sequence[Seen], origins: Sequence[list[Any]]) -> Pool:
    """All pictures that may have duplicates: not those of one colour or with NaN, and each entry of a data set once
    in each split, because samplers may draw with replacement."""
    candidates = []
    for seen in splits:
        fresh = np.ones(len(seen), bool)
        known = np.flatnonzero(seen.indices >= 0)
        fresh[known] = False
        fresh[known[np.unique(seen.indices[known], return_index=True)[1]]] = True
        candidates.append(fresh & ~constant(seen) & (seen.pictures.not_finite == 0))
    return Pool(
        splits=splits,
        split=np.concatenate([np.full(len(seen), i) for i, seen in enumerate(splits)]),
        position=np.concatenate([np.arange(len(seen)) for seen in splits]),
        labels=np.concatenate([seen.labels for seen in splits]),
        content=np.concatenate([seen.pictures.content for seen in splits]),
        candidates=np.concatenate(candidates),
        origins=[origin for own in origins for origin in own],
    )


def same_content(pool: Pool) -> Pairs:
    """Pictures whose numbers are equal."""
    return _stars("exact", pool, pool.content, pool.candidates)


def same_origin(pool: Pool, exact: Pairs) -> Pairs:
    """Pictures from one file or one entry of a data set that augmentation made different."""
    known = pool.candidates & np.array([origin is not None for origin in pool.origins], bool)
    numbers: dict[Any, int] = {}
    keys = np.array([numbers.setdefault(origin, len(numbers)) for origin in pool.origins], np.int64)
    found = _stars("file", pool, keys, known)
    new = ~np.isin(found.second, exact.second)
    return Pairs("file", found.first[new], found.second[new], found.distance[new])


def _stars(kind: str, pool: Pool, keys: Ints, allowed: NDArray[np.bool_]) -> Pairs:
    """Pairs of equal keys: within a split every one with the first, across splits the firsts of each."""
    where = np.flatnonzero(allowed)
    order = where[np.lexsort((where, pool.split[where], keys[where]))]
    same = keys[order[1:]] == keys[order[:-1]]
    starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(order) else np.zeros(0, np.int64)
    first = order[np.repeat(starts, np.diff(np.append(starts, len(order))))]
    own = pool.split[first] == pool.split[order]
    repeated = own & (first != order)
    # Every validation picture that training has, too: a leak is counted in pictures of validation.
    leaked = ~own
    chosen = repeated | leaked
    return Pairs(kind, first[chosen], order[chosen], np.zeros(int(chosen.sum()), np.int64))


def nearly_same(pool: Pool, exact: Pairs) -> tuple[Pairs, Pairs]:
    """Pictures whose perceptual hashes differ by at most 6 of 64 bits and whose grey thumbnails correlate; and those
    of which this holds for one and the other's mirror image.

    Found by sorting four bands of 16 bits: whoever differs in at most three bits shares one, most others do; each is
    compared with its 32 successors in each sorted band, so that the work stays near-linear.
    """
    allowed = pool.candidates.copy()
    allowed[exact.second] = False
    sides = np.concatenate([seen.pictures.size.min(1) for seen in pool.splits])
    where = np.flatnonzero(allowed & (sides >= _LEAST_SIDE))
    hashes = np.concatenate([seen.pictures.perceptual for seen in pool.splits])[where]
    tiny = np.concatenate([seen.pictures.tiny for seen in pool.splits])[where]
    one, other = _alike(*_close(np.concatenate([hashes, mirrored_hash(hashes)])), tiny)
    turned, one, other = other >= len(where), one % len(where), other % len(where)
    distance = np.bitwise_count(hashes[one] ^ np.where(turned, mirrored_hash(hashes[other]), hashes[other]))
    as_it_is = ~turned
    known = one[as_it_is] * len(where) + other[as_it_is]
    turned &= ~np.isin(one * len(where) + other, known)  # symmetric pictures resemble each other both ways

    def pairs(kind: str, chosen: NDArray[np.bool_]) -> Pairs:
        return Pairs(kind, where[one[chosen]], where[other[chosen]], distance[chosen].astype(np.int64))

    return pairs("near", as_it_is), pairs("mirrored", turned)


def _alike(one: Ints, other: Ints, tiny: NDArray[np.int8]) -> tuple[Ints, Ints]:
    """The pairs of pictures, or of a picture and the mirror image (n + its number) of a later one of the n, whose
    thumbnails correlate."""
    count = len(tiny)
    once = (one < count) & (one < other % count)  # two mirror images are as alike as the pictures themselves
    one, other = one[once], other[once]
    alike = _correlation(np.concatenate([tiny, tiny[:, :, ::-1]]), one, other) >= _ALIKE
    return one[alike], other[alike]


def _close(hashes: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Pairs of entries whose hashes differ by at most `_BITS`, each pair once, the smaller entry first."""
    found = [np.zeros((0, 2), np.int64)]
    # Neighbouring bits are alike; spread over the bands, each band tells more.
    shuffled = np.unpackbits(hashes[:, None].view(np.uint8), axis=1).reshape(-1, 64 // _BANDS, _BANDS)
    bands = np.packbits(shuffled.transpose(0, 2, 1), axis=2).view(np.uint16)[:, :, 0]
    for band in bands.T:
        order = np.lexsort((hashes, band))
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            one, other = order[:-step], order[step:]
            same = band[one] == band[other]
            if not same.any():
                break
            one, other = one[same], other[same]
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= _BITS
            found.append(np.sort(np.stack([one[near], other[near]], axis=1), axis=1))
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _correlation(tiny: NDArray[np.int8], one: Ints, other: Ints) -> NDArray[np.float64]:
    """Of standardised thumbnails, in blocks: pairs may be many."""
    found = np.zeros(len(one))
    for start in range(0, len(one), 4096):
        part = slice(start, start + 4096)
        a, b = (tiny[which[part]].reshape(-1, TINY**2).astype(np.float64) for which in (one, other))
        lengths = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        found[part] = (a * b).sum(1) / np.maximum(lengths, 1e-9)
    return found


def shown(pool: Pool, pairs: Pairs) -> list[int]:
    """Which pairs to show: leaks first, then differing labels, then the nearest; at most `SHOWN` of each place."""
    across, differ = pool.across(pairs), pool.labels_differ(pairs)
    order = np.lexsort((pairs.distance, ~differ, ~across))
    chosen = [*order[across[order]][:SHOWN], *order[~across[order]][:SHOWN]]
    return [int(i) for i in chosen]


def place_names(pool: Pool, pairs: Pairs) -> NDArray[np.str_]:
    """Where each pair lies: a split's name, or "train and validation"."""
    names = np.array([*(seen.name for seen in pool.splits), _ACROSS])
    return np.asarray(names[np.where(pool.across(pairs), len(pool.splits), pool.split[pairs.first])])


def count_frame(pool: Pool, all_pairs: Sequence[Pairs]) -> pd.DataFrame:
    """`kind where pictures pairs`; `pictures` counts those that repeat an earlier one."""
    rows = []
    for pairs in all_pairs:
        places = place_names(pool, pairs)
        for place in dict.fromkeys(places.tolist()):
            own = places == place
            rows.append([pairs.kind, place, len(np.unique(pairs.second[own])), int(own.sum())])
    return pd.DataFrame(rows, columns=["kind", "where", "pictures", "pairs"])


def duplicate_findings(pool: Pool, all_pairs: Sequence[Pairs], notes: str) -> list[Finding]:
    """What do duplicates mean? `notes` says what could not be seen."""
    found: list[Finding] = []
    for pairs in all_pairs:
        places = place_names(pool, pairs)
        for place in dict.fromkeys(places.tolist()):
            own = places == place
            found.append(_finding(pool, pairs, own, str(place), notes))
        differ = pool.labels_differ(pairs)
        if pairs.kind not in _NEAR and differ.any():
            found.append(_contradiction(pool, pairs, differ))
    return found


def _examples(pool: Pool, pairs: Pairs, chosen: NDArray[np.bool_]) -> list[str]:
    def name(i: int) -> str:
        seen, position = pool.splits[pool.split[i]], pool.position[i]
        return f"{seen.name} {seen.indices[position] if seen.indices[position] >= 0 else position}"

    rows = np.flatnonzero(chosen)[:4]
    return [f"{name(pairs.first[row])} = {name(pairs.second[row])}" for row in rows]


def _finding(pool: Pool, pairs: Pairs, own: NDArray[np.bool_], place: str, notes: str) -> Finding:
    pictures = len(np.unique(pairs.second[own]))
    leak = place == _ACROSS
    share = pictures / int((pool.split == pool.split[pairs.second[own][0]]).sum())
    few, near = share < _LEAK, pairs.kind in _NEAR
    evidence = {"pictures": pictures, "share": round(share, 4), "pairs": _examples(pool, pairs, own), "healthy": 0}
    title = f"{_TITLES[pairs.kind]} in {'training and validation' if leak else place}: {pictures:,}"
    if leak:
        severity = "note" if few and near else "warn" if few or near else "fail"
        detail = f"{share:.1%} of validation is no test of what the model has learned. {notes}"
        remedy = "Split first, by file, person or scene; then augment."
        return Finding(f"leak.{pairs.kind}", severity, title, detail.strip(), place, evidence, remedy)  # type: ignore[arg-type]
    severity = "warn" if not few and not near and place == "train" else "note"
    detail = f"{share:.1%} of the pictures repeat another one. {notes}"
    remedy = "Keep one of each, and see that copies never lie on both sides of the split."
    code = f"duplicates.{pairs.kind if near else 'exact'}"
    return Finding(code, severity, title, detail.strip(), place, evidence, remedy)  # type: ignore[arg-type]


_TITLES = {
    "exact": "The same pictures",
    "file": "The same files or entries",
    "near": "Nearly the same pictures",
    "mirrored": "Mirror images",
}


def _contradiction(pool: Pool, pairs: Pairs, differ: NDArray[np.bool_]) -> Finding:
    number = int(differ.sum())
    return Finding(
        "duplicates.labels",
        "fail",
        f"The same picture under two labels: {number:,}",
        "One of the two labels must be wrong, and the loss cannot go to zero.",
        "; ".join(dict.fromkeys(place_names(pool, pairs)[differ].tolist())),
        {"pairs": _examples(pool, pairs, differ), "healthy": 0},
        "Look at the pairs and correct the labels.",
    )
