"""From what the passes left to the result: every verdict, and the pictures that go with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from featviz_core.findings import Finding
from featviz_core.techniques.data_check import duplicates as twins
from featviz_core.techniques.data_check import labels as classes_of
from featviz_core.techniques.data_check.album import Album
from featviz_core.techniques.data_check.collect import Seen, Unpack
from featviz_core.techniques.data_check.disagreement import Judge, disagreements
from featviz_core.techniques.data_check.loading import loader_findings
from featviz_core.techniques.data_check.normalizations import Stated
from featviz_core.techniques.data_check.odd import SHOWN, Odd, as_recipe, odd_findings, odd_pictures
from featviz_core.techniques.data_check.order import (
    drift_findings,
    label_order,
    order_findings,
    over_time,
    shift_findings,
)
from featviz_core.techniques.data_check.result import DataCheck, Duplicate, SplitSummary, Suspect
from featviz_core.techniques.data_check.sources import clean_copy, file_sizes, origins
from featviz_core.techniques.data_check.values import recognise, statistics, value_findings

Progress = Callable[[float, str], None]

_SEVERITIES = ("fail", "warn", "note", "ok")


@dataclass
class Verdicts:
    """What the passes left, and what the caller said of the data; `result` puts it together."""

    splits: list[Seen]
    unpack: Unpack
    num_classes: int | None
    class_names: Sequence[str] | None
    stated: Stated | None
    judge: Judge | None
    clean_train: Any
    tell: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def result(self) -> DataCheck:
        """Everything the check has to say."""
        self.seconds["loading"] = sum(seen.loading for seen in self.splits)
        self.seconds["looking"] = sum(seen.looking for seen in self.splits)
        if self.judge is not None:
            self.seconds["looking"] -= self.judge.seconds
            self.judge.finish()
        filled = [seen for seen in self.splits if len(seen)]
        self._check_stated(filled)
        with self._timed("other"):
            norms = [recognise(seen, self.stated) for seen in self.splits]
            behind = [origins(seen) for seen in self.splits]
            albums = [Album(*parts, self.unpack) for parts in zip(self.splits, norms, behind, strict=True)]
            augments = [album.again.random(album.seen.known) for album in albums]
            number, said = classes_of.number_of_classes(self.splits, self.num_classes, self.class_names)
            names = self.class_names or classes_of.dataset_names(self.splits[0])
            self._judge(filled, number, said)
            suspects = self._odd(albums)
        suspects += self._disagreements(albums[0], names)
        moving = [seen.name for seen, moves in zip(self.splits, augments, strict=True) if moves]
        with self._timed("clean copies"):
            still = [self._still(seen) if seen.name in moving else seen for seen in filled]
        if len(filled) == 2:
            self.findings += shift_findings(*filled, *still)
        shown, counted = self._duplicates(filled, still, albums, behind, moving)
        with self._timed("other"):
            samples = [sample for album in albums if len(album.seen) for sample in album.samples()]
        return DataCheck(
            findings=self._sorted(),
            splits=tuple(_summary(seen, moves) for seen, moves in zip(self.splits, augments, strict=True)),
            batches=tuple(row for seen in self.splits for row in seen.rows),
            normalization=norms[0],
            channels=_channel_frame([album for album in albums if len(album.seen)]),
            over_time=over_time(filled),
            class_counts=classes_of.class_frame(filled, number, names),
            label_order=label_order(filled, number),
            class_names=tuple(names),
            samples=tuple(samples),
            suspects=tuple(suspects),
            duplicates=tuple(shown),
            duplicate_counts=counted,
            seconds=self.seconds,
        )

    def _check_stated(self, filled: list[Seen]) -> None:
        """A normalisation of another number of channels says nothing of these pictures."""
        if self.stated is None or not filled:
            return
        numbers, channels = {len(values) for values in self.stated}, filled[0].pictures.mean.shape[1]
        if numbers - {1, channels}:
            title = f"A normalisation for {max(numbers)} channels, pictures with {channels}"
            remedy = "State one mean and one standard deviation a channel."
            self.findings.append(Finding("data.normalization", "fail", title, remedy=remedy))
            self.stated = None

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def _judge(self, filled: list[Seen], number: int | None, said: bool) -> None:
        for seen in self.splits:
            self.findings += loader_findings(seen, training=seen.name == "train")
            self.findings += value_findings(seen, self.stated)
            limit = self.num_classes if self.num_classes is not None and self.num_classes > 1 else number
            self.findings += classes_of.label_findings(seen, limit if said else None)
        self.findings += classes_of.class_findings(filled, number, said)
        self.findings += classes_of.name_findings(self.splits, self.class_names, self.num_classes)
        for seen in filled:
            if seen.name == "train":
                order = order_findings(seen)
                sorted_anyway = any(finding.code == "labels.sorted" for finding in order)
                self.findings += order if sorted_anyway else [*order, *drift_findings(seen)]

    def _odd(self, albums: list[Album]) -> list[Suspect]:
        found: list[Suspect] = []
        for album in albums:
            odds = odd_pictures(album.seen, album.normalization, file_sizes(album.paths))
            self.findings += odd_findings(album.seen, odds)
            found += album.unreadable(SHOWN)
            found += album.suspects(_first_of_each(odds))
        return found

    def _disagreements(self, album: Album, names: Sequence[str]) -> list[Suspect]:
        if self.judge is None:
            return []
        with self._timed("label disagreement"):
            odds, findings = disagreements(self.judge.table(), album.seen, names)
            self.findings += findings
            suspects = album.suspects(odds[:SHOWN])
        self.seconds["label disagreement"] += self.judge.seconds
        return suspects

    def _duplicates(
        self, filled: list[Seen], still: list[Seen], albums: list[Album], behind: list[list[Any]], moving: list[str]
    ) -> tuple[list[Duplicate], pd.DataFrame]:
        filled_behind = [own for seen, own in zip(self.splits, behind, strict=True) if len(seen)]
        if not filled:
            return [], pd.DataFrame(columns=["kind", "where", "pictures", "pairs"])
        with self._timed("other"):
            pool = twins.pool_of(still, filled_behind)
            exact = twins.same_content(pool)
            same = twins.same_origin(pool, exact)
        self.tell(0.6, "Looking for near duplicates")
        with self._timed("near duplicates"):
            near, mirrored = twins.nearly_same(pool, exact)
        found = [exact, same, near, mirrored]
        unseen = [seen.name for seen, own in zip(filled, still, strict=True) if own is seen and seen.name in moving]
        notes = f"Copies of {' and '.join(unseen)} pictures that were augmented may go unseen." if unseen else ""
        self.findings += twins.duplicate_findings(pool, found, notes)
        self.tell(0.8, "Reading the pictures to show")
        with self._timed("other"):
            by_name = {album.seen.name: album for album in albums}
            shown = [self._pair(pool, pairs, row, by_name) for pairs in found for row in twins.shown(pool, pairs)]
        return shown, twins.count_frame(pool, found)

    def _still(self, seen: Seen) -> Seen:
        """The pictures of a split without augmentation, where they can be had."""

        def tell(batch: int) -> None:
            share = min(batch / len(seen.batch_sizes), 1) + (seen.name != "train")
            self.tell(0.3 * share, f"{seen.name} without augmentation: batch {batch}")

        clean = clean_copy(seen, self.clean_train if seen.name == "train" else None, self.unpack, tell)
        return seen if clean is None else replace(clean, indices=seen.indices, labels=seen.labels)

    def _pair(self, pool: twins.Pool, pairs: twins.Pairs, row: int, albums: dict[str, Album]) -> Duplicate:
        def note(i: int) -> Any:
            return albums[pool.splits[pool.split[i]].name].note(int(pool.position[i]))

        kind: Any = pairs.kind
        return Duplicate(kind, note(pairs.first[row]), note(pairs.second[row]), int(pairs.distance[row]))

    def _sorted(self) -> tuple[Finding, ...]:
        found = sorted(self.findings, key=lambda finding: _SEVERITIES.index(finding.severity))
        if not any(finding.severity in ("fail", "warn") for finding in found):
            pictures = sum(map(len, self.splits))
            found.append(Finding("data.healthy", "ok", "Nothing wrong", f"{pictures:,} pictures were looked at."))
        return tuple(found)


def _first_of_each(odds: list[Odd]) -> list[Odd]:
    kinds = dict.fromkeys(odd.kind for odd in odds)
    return [odd for kind in kinds for odd in [own for own in odds if own.kind == kind][:SHOWN]]


def _summary(seen: Seen, moves: bool | None) -> SplitSummary:
    batches = len(seen.batch_sizes)
    return SplitSummary(
        seen.name, len(seen), batches, len(seen.failures), seen.complete, seen.total, seen.shuffled, moves
    )


def _channel_frame(albums: list[Album]) -> pd.DataFrame:
    rows = []
    for album in albums:
        mean, std, low, high = statistics(album.seen)
        undo = as_recipe(album.seen, album.normalization)
        known = len(album.normalization.mean) == len(mean)
        pixel_mean = mean * undo.std + undo.mean if known else np.full(len(mean), np.nan)
        pixel_std = std * undo.std if known else np.full(len(mean), np.nan)
        for c in range(len(mean)):
            rows.append([album.seen.name, c, mean[c], std[c], low[c], high[c], pixel_mean[c], pixel_std[c]])
    return pd.DataFrame(rows, columns=["split", "channel", "mean", "std", "min", "max", "pixel_mean", "pixel_std"])
