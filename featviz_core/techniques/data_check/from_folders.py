"""The data check on class folders: from a zip or a folder to the same verdicts as for an experiment's loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featviz_core.models import load_model
from featviz_core.picture_dataset import BATCH_SIZE, folder_loaders
from featviz_core.picture_folders import Unreadable, open_picture_folders
from featviz_core.preprocessing import Preprocessing
from featviz_core.techniques.data_check.compute import check_dataloader
from featviz_core.techniques.data_check.result import DataCheck

Progress = Callable[[float, str], None]

_READING = 0.4  # of the time, for the progress bar


@dataclass(frozen=True, slots=True, eq=False)
class FolderCheck:
    """A data check of class folders. `unreadable`: pictures that were left out, and why; `skipped`: names of files that
    are no pictures or lie outside of the class folders."""

    check: DataCheck
    unreadable: tuple[Unreadable, ...]
    skipped: tuple[str, ...]


def check_picture_folders(
    source: bytes | Path,
    *,
    name: str = "",
    preprocessing: Preprocessing,
    num_batches: int | None = 3,
    judge: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> FolderCheck:
    """Are the pictures in these class folders what a model should learn from?

    `source` is a zip (bytes or path) or a folder, as for `open_picture_folders`; pictures go through `preprocessing`.
    With `num_batches` as many pictures of each part are drawn as fill so many batches of 32. `judge` are arguments for
    `load_model`: labels are then judged by that model's features. Every file is decoded once before the check, so that
    damaged ones are listed and left out. Raises `ExperimentError` where there is nothing to check.
    """
    tell = progress or (lambda _done, _text: None)
    folders = open_picture_folders(source, name=name)
    if num_batches is not None:
        folders = folders.sample(num_batches * BATCH_SIZE)
    folders = folders.checked(progress=lambda done, text: tell(_READING * done, text))
    train, held_out = folder_loaders(folders, preprocessing)
    check = check_dataloader(
        train,
        num_batches=num_batches,
        validation=held_out,
        num_classes=len(folders.class_names),
        class_names=folders.class_names,
        model=load_model(**judge) if judge is not None else None,
        normalization=(preprocessing.mean, preprocessing.std),
        progress=lambda done, text: tell(_READING + (1 - _READING) * done, text),
    )
    return FolderCheck(check, folders.unreadable, folders.skipped)
