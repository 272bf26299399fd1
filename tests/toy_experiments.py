"""Small experiments for tests: random pictures, a tiny network, everything replaceable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from featviz_core.experiment import Experiment

CLASSES, SIDE = 3, 8


def net(*, norm: bool = True, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4, CLASSES),
    )


def pictures(count: int = 24, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise, with the colour of the class a little stronger."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    return noise + nn.functional.one_hot(labels, CLASSES)[:, :, None, None], labels


def loader(count: int = 24, *, seed: int = 0, batch_size: int = 6, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*pictures(count, seed=seed)), batch_size=batch_size, **options)


def experiment(**parts: Any) -> Experiment:
    model = parts.pop("model", None) or net()
    given = {
        "model": model,
        "train_loader": loader(shuffle=True),
        "val_loader": loader(12, seed=1),
        "loss_fn": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    return Experiment(**(given | parts))
