"""Healthy training set-ups, which `faults` puts mistakes into: a network, an optimiser, a data set and a variation.

A set-up's name says what it is: `residual-sgd-textures` or `vit-adamw-shapes-label_smoothing`. Each gives fresh, equal
objects whenever it is called from the same random state.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from featviz_core.demo.networks import NETWORKS, head, trunk
from featviz_core.demo.shapes import CLASS_NAMES
from featviz_core.demo.small_shapes import SmallShapes
from featviz_core.demo.textures import TEXTURE_NAMES, Textures
from featviz_core.demo.variations import VARIATIONS
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment

NORMALIZATION = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
_TRAIN, _VALIDATION, _BATCH = 1024, 256, 32

DATA: dict[str, tuple[type[SmallShapes] | type[Textures], tuple[str, ...]]] = {
    "shapes": (SmallShapes, CLASS_NAMES),
    "textures": (Textures, TEXTURE_NAMES),
}
_Loaders = tuple[DataLoader[tuple[Tensor, int]], DataLoader[tuple[Tensor, int]], Dataset[tuple[Tensor, int]]]


def loaders(data: str = "shapes") -> _Loaders:
    """Loaders of augmented training and plain validation pictures, and the training pictures without augmentation."""
    kind, _names = DATA[data]
    normalize = v2.Normalize(*map(list, NORMALIZATION))
    augmented = v2.Compose([v2.RandomHorizontalFlip(), normalize])
    train, clean = kind("train", _TRAIN, augmented), kind("train", _TRAIN, normalize)
    validation = kind("validation", _VALIDATION, normalize)
    return (
        DataLoader(train, batch_size=_BATCH, shuffle=True, drop_last=True),
        DataLoader(validation, batch_size=2 * _BATCH),
        clean,
    )


# Rates that each network trains well with.
_RATES = {
    "sgd": {"plain": 0.02, "cnn": 0.05, "residual": 0.05, "vit": 0.03, "tuned": 0.01},
    "adamw": {"plain": 2e-3, "cnn": 3e-3, "residual": 3e-3, "vit": 2e-3, "tuned": 3e-4},
    "rmsprop": {"plain": 1e-3, "cnn": 1e-3, "residual": 1e-3, "vit": 5e-4, "tuned": 1e-4},
}
OPTIMIZERS = tuple(_RATES)
_HEAD_START = 10  # times as fast learns the new head of a network that was trained before


def _optimizer(kind: str, network: str, model: nn.Module) -> torch.optim.Optimizer:
    rate = _RATES[kind][network]
    groups: list[dict[str, object]] = [{"params": list(model.parameters())}]
    if network == "tuned":
        groups = [{"params": trunk(model)}, {"params": list(head(model).parameters()), "lr": _HEAD_START * rate}]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    if kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.05 if network == "vit" else 1e-2)


@dataclass(frozen=True, slots=True)
class SetUp:
    """A healthy experiment's parts by name; calling it makes the experiment."""

    network: str
    optimizer: str
    data: str
    variation: str = ""

    def __call__(self) -> Experiment:
        """Fresh objects."""
        names = DATA[self.data][1]
        model = NETWORKS[self.network](len(names))
        train, validation, clean = loaders(self.data)
        experiment = Experiment(
            model=model,
            optimizer=_optimizer(self.optimizer, self.network, model),
            train_loader=train,
            val_loader=validation,
            clean_train=clean,
            loss_fn=nn.CrossEntropyLoss(),
            class_names=names,
            normalization=NORMALIZATION,
            pretrained=self.network == "tuned",
        )
        return VARIATIONS[self.variation](experiment) if self.variation else experiment

    @property
    def name(self) -> str:
        """As `set_up` takes it."""
        return "-".join(filter(None, (self.network, self.optimizer, self.data, self.variation)))


SETUPS: dict[str, SetUp] = {
    "cnn": SetUp("cnn", "adamw", "shapes"),
    "plain": SetUp("plain", "sgd", "shapes"),
    "vit": SetUp("vit", "adamw", "shapes", "cosine"),
    "tuning": SetUp("tuned", "adamw", "shapes"),
    "residual": SetUp("residual", "sgd", "textures"),
}


def set_up(name: str) -> SetUp:
    """A set-up by its short or full name. Raises `ExperimentError` for one that is not there."""
    if name in SETUPS:
        return SETUPS[name]
    parts = name.split("-")
    known: tuple[Collection[str], ...] = (NETWORKS, OPTIMIZERS, DATA, VARIATIONS)
    if len(parts) not in (3, 4) or not all(part in names for part, names in zip(parts, known, strict=False)):
        raise ExperimentError(
            f"There is no set-up {name!r} in the demo.",
            do=f"Choose one of {', '.join(SETUPS)}, or NETWORK-OPTIMIZER-DATA[-VARIATION], for example "
            f"`{SetUp('residual', 'sgd', 'textures', 'clipping').name}`.",
        )
    return SetUp(*parts)
