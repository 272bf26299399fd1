"""Tiny made-up loaders, healthy and broken in one way each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

CLASSES = 4
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def scenes(count: int, *, seed: int = 0, side: int = 24, tint: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Tensor:
    """Colour pictures in [0, 1] with smooth and fine structure: black and white both come, no two are alike."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-0.6, 1.6, (count, 3, 4, 4)))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    fine = torch.from_numpy(rng.normal(0, 0.1, (count, 3, side, side)))
    return ((smooth + fine).clamp(0, 1) * torch.tensor(tint)[:, None, None]).float()


def labels(count: int, *, seed: int = 0) -> Tensor:
    """As many of each class, in random order."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(np.arange(count) % CLASSES))


def normal(images: Tensor, stated: Any = IMAGENET) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in stated)
    return (images - mean) / std


def loader(images: Tensor, targets: Any, *, shuffle: bool = True, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(images, targets), batch_size=16, shuffle=shuffle, **options)


def codes(check: Any, *severities: str) -> set[str]:
    """The findings' codes; of these severities, or of all."""
    return {finding.code for finding in check.findings if finding.severity in (severities or ("fail", "warn"))}


class Noisy(Dataset[Any]):
    """A wrapper that adds noise."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.data[index]
        return (image + 0.3 * torch.randn(image.shape)).clamp(0, 1), label
