"""Pictures in class folders as a PyTorch data set, and loaders over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featviz_core.picture_folders import PictureFolders, Split

BATCH_SIZE = 32


class FolderDataset(Dataset[tuple[Tensor, int]]):
    """One part of the data: `(image (C, H, W), label)`, the image being what `preprocess` makes of the picture.

    `classes`, `samples` (name and label of each picture) and `targets` are as in torchvision's `ImageFolder`. Asking
    for a picture that cannot be read raises `ImageError`: `PictureFolders.checked` takes these out.
    """

    def __init__(self, folders: PictureFolders, split: Split, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.pictures = folders.of(split)
        self.classes = list(folders.class_names)
        self.samples = [(picture.name, picture.label) for picture in self.pictures]
        self.targets = [picture.label for picture in self.pictures]
        self._folders, self._preprocess = folders, preprocess

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self.pictures[index]
        image = self._preprocess(self._folders.read(picture).image)
        return (image[0] if image.ndim == 4 else image), picture.label

    def original_size(self, index: int) -> tuple[int, int] | None:
        """(width, height) of the picture in its file, in pixels; None before `PictureFolders.checked` saw it."""
        return self.pictures[index].size


def folder_loaders(
    folders: PictureFolders, preprocess: Callable[[Image.Image], Tensor], *, batch_size: int = BATCH_SIZE, seed: int = 0
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    """Loaders of the training pictures, shuffled by `seed`, and of the held-out ones in their order, if there are any.

    Raises `ImageError` on the way for pictures that `preprocess` refuses, such as very thin ones.
    """
    order = torch.Generator().manual_seed(seed)
    train = DataLoader(FolderDataset(folders, "train", preprocess), batch_size, shuffle=True, generator=order)
    if folders.held_out is None:
        return train, None
    return train, DataLoader(FolderDataset(folders, folders.held_out, preprocess), batch_size)
