"""What a data check found, in CPU numpy: batches, channels, classes, pictures to look at, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding

Pixels = NDArray[np.uint8]

SUSPECT_KINDS: dict[str, str] = {
    "unreadable": "Cannot be read",
    "not_finite": "NaN or infinite",
    "blank": "Blank",
    "dark": "Very dark",
    "bright": "Very bright",
    "blurred": "Blurred",
    "size": "Smaller than the model's input",
    "aspect": "Long and thin",
    "disagreement": "The model's features speak for another label",
}
"""Why a picture may be worth a look, and what to call it."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureNote:
    """One picture, and where to find it again.

    `position` counts in the loader's order, from 0; `index` is its index in the loader's own data set, None where it
    cannot be known; `path` is empty where it is not known. `thumbnail` is `(h, w, 3)`, at most 64 pixels on a side,
    with the normalisation undone; None where the picture could not be read again.
    """

    split: str
    position: int
    index: int | None
    label: int | None
    path: str
    thumbnail: Pixels | None

    @property
    def name(self) -> str:
        """What to call it in one line."""
        file = f" ({PurePath(self.path).name})" if self.path else ""
        return f"{self.split} {self.position if self.index is None else self.index}{file}"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture twice: for a `person`, with the normalisation undone, and as the `model` gets it.

    Both are `(h, w, 3)`, at most 128 pixels on a side; in `model` black is the smallest value of all samples and
    white the largest.
    """

    picture: PictureNote
    person: Pixels
    model: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """A picture worth a look: `kind` is one of `SUSPECT_KINDS`, `value` the number that stands out, `text` says it."""

    kind: str
    picture: PictureNote
    value: float
    text: str

    @property
    def title(self) -> str:
        """The kind in words."""
        return SUSPECT_KINDS[self.kind]


@dataclass(frozen=True, slots=True, eq=False)
class Duplicate:
    """Two pictures that are one: `kind` "exact" (the same numbers), "file" (the same file or the same entry of one
    data set), "near" or "mirrored"; `distance` counts the bits in [0, 64] by which their perceptual hashes differ,
    of mirrored ones after turning one back."""

    kind: Literal["exact", "file", "near", "mirrored"]
    first: PictureNote
    second: PictureNote
    distance: int

    @property
    def across(self) -> bool:
        """Whether one is for training and one for validation."""
        return self.first.split != self.second.split

    @property
    def labels_differ(self) -> bool:
        """Whether they carry different labels."""
        return None not in (self.first.label, self.second.label) and self.first.label != self.second.label


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """One batch, as the loader gave it; numbers are NaN where there are none."""

    split: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    min: float
    max: float
    mean: float
    std: float
    labels_shape: tuple[int, ...]
    labels_dtype: str
    label_min: float
    label_max: float


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """How much of a loader was seen. `failed` counts batches that raised; `complete`: all of it was seen; `total`:
    the length of its data set; `shuffled` and `augmented` are None where that cannot be known."""

    name: str
    pictures: int
    batches: int
    failed: int
    complete: bool
    total: int | None
    shuffled: bool | None
    augmented: bool | None


@dataclass(frozen=True, slots=True)
class Normalization:
    """How pictures in [0, 1] became the model's input: `(value - mean) / std`, for each channel.

    `name` says what it was recognised as; `mean` and `std` are empty where it is "unknown".
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class DataCheck:
    """Everything seen in a pass over the loaders.

    - `findings`: worst first, one ok where nothing is wrong; `batches`: the first ones of each split; `splits`: how
      much was seen.
    - `channels`: `split channel mean std min max` of the input, `pixel_mean pixel_std` in [0, 1] with the
      normalisation undone. `over_time`: `split first last mean std` of consecutive blocks of pictures.
    - `class_counts`: `split label name count share`; `label_order`: `split first last label count`, the classes in
      those blocks. Both empty where targets are no class numbers, the second for over 40 classes, too.
    - `samples`, `suspects`, `duplicates`: pictures to look at, bounded in number; `duplicate_counts`:
      `kind where pictures pairs`, counted over all. `seconds`: what took how long.
    """

    findings: tuple[Finding, ...]
    splits: tuple[SplitSummary, ...]
    batches: tuple[BatchSummary, ...]
    normalization: Normalization
    channels: pd.DataFrame
    over_time: pd.DataFrame
    class_counts: pd.DataFrame
    label_order: pd.DataFrame
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    suspects: tuple[Suspect, ...]
    duplicates: tuple[Duplicate, ...]
    duplicate_counts: pd.DataFrame
    seconds: dict[str, float]

    def frame(self) -> pd.DataFrame:
        """What is in the first batches? One row a batch, with the fields of `BatchSummary`."""
        columns = list(BatchSummary.__dataclass_fields__)
        rows = [[getattr(batch, name) for name in columns] for batch in self.batches]
        return pd.DataFrame(rows, columns=columns).rename(columns={"index": "batch"})

    def suspects_of(self, kind: str) -> tuple[Suspect, ...]:
        """The pictures of one kind of `SUSPECT_KINDS`, the most conspicuous first."""
        return tuple(suspect for suspect in self.suspects if suspect.kind == kind)
