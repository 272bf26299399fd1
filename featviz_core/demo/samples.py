"""The bundled sample pictures: what they show, where they lie, and how they were made.

    python -m featviz_core.demo.samples

draws them again into `assets/samples/`. Importing this needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from featviz_core.demo.models import ASSETS
from featviz_core.demo.shapes import SIZE, Picture, draw

_FOLDER = ASSETS / "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """A bundled picture, laid out in rows from numbers of the test split, mostly from just one.

    `label` is the class of its largest object.
    """

    slug: str
    title: str
    label: str
    indices: tuple[tuple[int, ...], ...]
    mark: bool = False

    @property
    def path(self) -> Path:
        """Where the PNG lies."""
        return _FOLDER / f"{self.slug}.png"

    def record(self) -> Picture:
        """The picture drawn anew, with the mask and class of each object, largest first.

        Collages are larger than 128 × 128 pixels; their objects are those of all parts.
        """
        return _laid_out([[draw("test", index, mark=self.mark) for index in row] for row in self.indices])


def _laid_out(rows: list[list[Picture]]) -> Picture:
    """One picture of all parts, row by row."""
    image = np.concatenate([np.concatenate([part.image for part in row], axis=1) for row in rows])
    found: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for top, row in enumerate(rows):
        for left, part in enumerate(row):
            for label, mask in zip(part.labels, part.masks, strict=True):
                whole = np.zeros(image.shape[:2], dtype=np.bool_)
                whole[top * SIZE : (top + 1) * SIZE, left * SIZE : (left + 1) * SIZE] = mask
                found.append((label, whole))
    found.sort(key=lambda item: -int(item[1].sum()))
    return Picture(image, np.stack([mask for _, mask in found]), tuple(label for label, _ in found))


SAMPLES: tuple[Sample, ...] = (
    Sample("star", "Purple star on waves", "star", ((104,),)),
    Sample("heart", "Orange heart on stripes", "heart", ((108,),)),
    Sample("ring", "Golden ring on green", "ring", ((63,),)),
    Sample("moon", "Green moon on checks", "moon", ((107,),)),
    Sample("circle", "Mint circle on checks", "circle", ((36,),)),
    Sample("square", "Green square on waves", "square", ((69,),)),
    Sample("triangle", "Blue triangle on waves", "triangle", ((121,),)),
    Sample("cross", "Dotted cross on pink", "cross", ((86,),)),
    Sample("moon_and_triangle", "Red moon and pink triangle", "moon", ((17,),)),
    Sample("heart_and_moon", "Pink heart and orange moon", "heart", ((315,),)),
    Sample("heart_with_badge", "Blue heart with a badge in the corner", "heart", ((89,),), mark=True),
    Sample("collage", "Six shapes in one wide picture", "moon", ((57, 0, 45), (83, 31, 40))),
)


def write_samples(folder: Path) -> None:
    """Draw all samples and save them as PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        Image.fromarray(sample.record().image).save(folder / sample.path.name, optimize=True)


if __name__ == "__main__":
    write_samples(_FOLDER)
