"""The few pictures that are shown: thumbnails kept from the pass, or read again, with the normalisation undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from featviz_core.techniques.data_check.collect import SAMPLES, SIDE, Seen, Unpack
from featviz_core.techniques.data_check.entries import Entries
from featviz_core.techniques.data_check.normalizations import Recipe
from featviz_core.techniques.data_check.odd import Odd, as_recipe
from featviz_core.techniques.data_check.pictures import Floats, channels_first, thumbnail
from featviz_core.techniques.data_check.result import Normalization, PictureNote, Pixels, Sample, Suspect


class Album:
    """Makes the notes of one split's pictures, whose files are among their `origins`. Reading a picture again may
    augment it anew."""

    def __init__(self, seen: Seen, normalization: Normalization, origins: Sequence[Any], unpack: Unpack) -> None:
        self.seen, self.normalization = seen, normalization
        self.paths = [origin if isinstance(origin, str) else "" for origin in origins]
        self.again = Entries(seen.loader, unpack)
        self._undo = as_recipe(seen, normalization) if len(seen) else None
        self._notes: dict[int, PictureNote] = {}

    def note(self, position: int) -> PictureNote:
        """The picture at `position` of the loader's order."""
        if position not in self._notes:
            index, label = int(self.seen.indices[position]), int(self.seen.labels[position])
            small = self.seen.kept.get(position)
            if small is None and index >= 0:
                small = self._read(index)
            elif small is not None:
                small = thumbnail(torch.from_numpy(small).permute(2, 0, 1), SIDE)
            self._notes[position] = PictureNote(
                split=self.seen.name,
                position=position,
                index=index if index >= 0 else None,
                label=label if self._has_label(position) else None,
                path=self.paths[position],
                thumbnail=None if small is None or self._undo is None else colours(small, self._undo),
            )
        return self._notes[position]

    def _has_label(self, position: int) -> bool:
        return bool(self.seen.labels[position] != -1)

    def _read(self, index: int) -> Floats | None:
        images = self.again.images(index)
        return None if images is None else thumbnail(channels_first(images)[0], SIDE)

    def suspects(self, odds: Sequence[Odd]) -> list[Suspect]:
        """Pictures that stand out."""
        return [Suspect(odd.kind, self.note(odd.position), odd.value, odd.text) for odd in odds]

    def unreadable(self, most: int) -> list[Suspect]:
        """Entries of the data set that raise when read."""
        found: list[Suspect] = []
        for failure in self.seen.failures:
            for index, message in failure.unreadable[: most - len(found)]:
                note = PictureNote(self.seen.name, -1, index, None, "", None)
                found.append(Suspect("unreadable", note, float(index), message))
        return found

    def samples(self) -> list[Sample]:
        """The first pictures, for a person and for the model."""
        small = {i: self.seen.kept[i] for i in range(min(SAMPLES, len(self.seen))) if i in self.seen.kept}
        values = [picture[np.isfinite(picture)] for picture in small.values()]
        low = min((float(v.min()) for v in values if v.size), default=0.0)
        high = max((float(v.max()) for v in values if v.size), default=1.0)
        channels = self.seen.pictures.mean.shape[1]
        width = max(high - low, 1e-12)
        plain = Recipe("", np.full(channels, -low / width), np.full(channels, 1 / width))
        undo = self._undo or plain
        return [Sample(self.note(i), colours(own, undo), colours(own, plain)) for i, own in small.items()]


def colours(small: Floats, undo: Recipe) -> Pixels:
    """`(h, w, C)` in input units to `(h, w, 3)` colours: grey for one channel, the first three of many.

    Values beyond black and white are cut, NaN is black.
    """
    shown = small * undo.std + undo.mean
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else np.repeat(shown[:, :, :1], 3, axis=2)
    return np.asarray(np.rint(np.nan_to_num(shown, nan=0, posinf=1, neginf=0).clip(0, 1) * 255), np.uint8)
