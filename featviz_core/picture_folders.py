"""Pictures in class folders, from a zip or from a folder: what is in there, and safely reading one.

Listing looks at names and sizes only; nothing is unpacked to disk, and what is no picture is never opened. Labels are
numbered as torchvision's `ImageFolder` numbers them. NumPy and Pillow only, so that pickers need no torch.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.images import EXTENSIONS, MAX_BYTES, Picture, read_picture
from featviz_core.zip_files import ZipFiles, shown

Split = Literal["train", "validation", "test"]
Progress = Callable[[float, str], None]

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Folder names (in small letters) that stand for a part of the data, and which part."""

MAX_FILES = 2_000_000
"""Most files that are looked through in a folder; `zip_files` has the limits for a zip."""

LAYOUT = "class folders, such as `star/1.png` and `moon/2.png`, or `train/star/1.png` and `val/star/2.png`"

_NO_DATA = {"__macosx", "thumbs.db", "desktop.ini"}
_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)


class _Files(Protocol):
    """Where files lie: their names with `/` between folders, and the bytes of one."""

    def names(self) -> Iterable[str]: ...

    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One picture of the data: `name` is its path in there, `label` the number of its class folder, `size` (width,
    height) in pixels, known once the file was read by `PictureFolders.checked`."""

    name: str
    label: int
    split: Split
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PictureFolders:
    """Data of class folders: `class_names` in the order of their labels, `pictures` in the order of their names.

    `skipped`: names of files that are no pictures, or lie outside of the class folders. `unreadable`: pictures left
    out by `checked`. Can be sent to other processes and read by many threads.
    """

    name: str
    class_names: tuple[str, ...]
    pictures: tuple[PictureFile, ...]
    files: _Files
    skipped: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def read(self, picture: PictureFile) -> Picture:
        """Which picture is in the file? Raises `ImageError` or `ExperimentError` where none can be read."""
        return read_picture(self.files.read(picture.name), name=shown(picture.name))

    def of(self, split: Split) -> tuple[PictureFile, ...]:
        """The pictures of one part of the data."""
        return tuple(picture for picture in self.pictures if picture.split == split)

    @property
    def held_out(self) -> Split | None:
        """Which part is for validation: the test pictures where there is no other."""
        there = {picture.split for picture in self.pictures}
        return next((split for split in ("validation", "test") if split in there), None)

    def sample(self, count: int, *, seed: int = 0) -> PictureFolders:
        """`count` pictures of each part, drawn by `seed` and left in their order; all where there are fewer."""
        draw = random.Random(seed)
        kept: set[PictureFile] = set()
        for split in dict.fromkeys(SPLITS.values()):
            found = self.of(split)
            kept.update(draw.sample(found, min(count, len(found))))
        return replace(self, pictures=tuple(picture for picture in self.pictures if picture in kept))

    def checked(self, *, progress: Progress | None = None) -> PictureFolders:
        """The same without the pictures that cannot be read, which are then listed: every file is decoded once.

        Raises `ExperimentError` where not one can be read.
        """
        good: list[PictureFile] = []
        bad = list(self.unreadable)
        for number, picture in enumerate(self.pictures):
            try:
                good.append(replace(picture, size=self.read(picture).size))
            except FeatVizError as error:
                bad.append(Unreadable(shown(picture.name), " ".join(filter(None, (error.what, error.why)))))
            if progress is not None:
                progress((number + 1) / len(self.pictures), f"Reading picture {number + 1:,} of {len(self.pictures):,}")
        if not good:
            raise ExperimentError(f"Not one picture in {self.name} can be read.", why=bad[0].reason)
        return replace(self, pictures=tuple(good), unreadable=tuple(bad))


def open_picture_folders(source: bytes | Path, *, name: str = "") -> PictureFolders:
    """Which pictures and classes are there? `source` is a zip (its bytes or its path) or a folder.

    One folder around everything is looked through; `train` beside `val`, `valid`, `validation` or `test` are taken
    for the parts of the data. Raises `ExperimentError` for a zip that is damaged or not safe, for a path that leads
    nowhere, and where there are no class folders.
    """
    name = shown(name or (source.name if isinstance(source, Path) else "the zip"))
    files: _Files
    if isinstance(source, Path) and source.is_dir():
        files = _Folder(source)
    elif isinstance(source, Path) and not source.is_file():
        raise ExperimentError(f"There is no folder or zip {name}.", do="Check the path.")
    else:
        files = ZipFiles(source, name)
    return _understood(name, files)


# Which file is what


def _understood(name: str, files: _Files) -> PictureFolders:
    paths = {file: tuple(file.split("/")) for file in sorted(files.names())}
    data = {file: parts for file, parts in paths.items() if not any(map(_is_no_data, parts))}
    skipped = [file for file in data if not file.lower().endswith(_SUFFIXES)]
    pictures = _without_top({file: parts for file, parts in data.items() if file.lower().endswith(_SUFFIXES)})
    placed = {file: place for file, parts in pictures.items() if (place := _place(parts, _has_splits(pictures)))}
    if not placed:
        raise ExperimentError(
            f"{name} holds no class folders with pictures.",
            why=f"Expected {LAYOUT}; got {_few(list(data)) or 'no files'}.",
            do="Put the pictures of each class into a folder of its own.",
        )
    classes = sorted({label for _, label in placed.values()})
    number = {label: index for index, label in enumerate(classes)}
    return PictureFolders(
        name=name,
        class_names=tuple(map(shown, classes)),
        pictures=tuple(PictureFile(file, number[label], split) for file, (split, label) in placed.items()),
        files=files,
        skipped=tuple(map(shown, [*skipped, *(file for file in pictures if file not in placed)])),
    )


def _is_no_data(part: str) -> bool:
    return part.startswith(".") or part.lower() in _NO_DATA


def _without_top(pictures: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Take one folder away that is around everything, where class folders are left inside."""
    tops = {parts[0] for parts in pictures.values()}
    around = len(tops) == 1 and not tops & {*SPLITS} and all(len(parts) > 2 for parts in pictures.values())
    return {file: parts[1:] if around else parts for file, parts in pictures.items()}


def _has_splits(pictures: dict[str, tuple[str, ...]]) -> bool:
    parts = {SPLITS.get(parts[0].lower()) for parts in pictures.values() if len(parts) > 2}
    return "train" in parts and (len(parts - {None}) > 1 or len(parts) == 1)


def _place(parts: tuple[str, ...], has_splits: bool) -> tuple[Split, str] | None:
    """The part of the data and the class folder that a picture belongs to; None outside of both."""
    if not has_splits:
        return ("train", parts[0]) if len(parts) > 1 else None
    split = SPLITS.get(parts[0].lower())
    return (split, parts[1]) if split and len(parts) > 2 else None


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(map(shown, names[:most])) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# A folder on this machine


@dataclass(frozen=True, slots=True)
class _Folder:
    """Files in a folder that the app was given at its start: links in it are its owner's, and are followed."""

    root: Path

    def names(self) -> Iterator[str]:
        seen: set[str] = set()
        count = 0
        for folder, inside, files in os.walk(self.root, followlinks=True):
            seen.add(os.path.realpath(folder))
            inside[:] = [
                name for name in inside if os.path.realpath(Path(folder, name)) not in seen
            ]  # links in circles
            count += len(files)
            if count > MAX_FILES:
                raise ExperimentError(
                    f"{self.root.name} holds too many files.",
                    why=f"At most {MAX_FILES:,} are looked through.",
                    do="Name the folder that holds the class folders.",
                )
            yield from (Path(folder, name).relative_to(self.root).as_posix() for name in files)

    def read(self, name: str) -> bytes:
        try:
            with (self.root / name).open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ExperimentError(f"{shown(name)} cannot be read.", why=error.strerror or str(error)) from error
