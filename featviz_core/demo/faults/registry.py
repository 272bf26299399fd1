"""What a fault is, and what putting one into an experiment takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from featviz_core.demo.networks import NETWORKS
from featviz_core.experiment import Experiment

Change = Callable[[Experiment], Experiment]
SampleChange = Callable[[Tensor, int, int], tuple[Tensor, int]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake: what it is called, what is wrong in a sentence, and the checklist's item that should name it.

    `networks`: those it can be made with. `own_validation`: whether a model trained so is to be judged on the
    experiment's own validation pictures, which went through the same pipeline.
    """

    name: str
    title: str
    item: str
    apply: Change
    networks: tuple[str, ...] = tuple(NETWORKS)
    own_validation: bool = False


FAULTS: dict[str, Fault] = {}


def fault(
    title: str, item: str, *, networks: Iterable[str] = NETWORKS, own_validation: bool = False
) -> Callable[[Change], Change]:
    """Put a mistake into the catalogue, under the name of the function that makes it."""

    def register(change: Change) -> Change:
        name = change.__name__
        FAULTS[name] = Fault(name, title, item, change, tuple(networks), own_validation)
        return change

    return register


class Changed(Dataset[Any]):
    """A data set whose samples go through `change(image, label, index)`."""

    def __init__(self, data: Any, change: SampleChange) -> None:
        self._data, self._change = data, change

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self._data[index]
        return self._change(image, label, index)


def over(loader: Any, data: Dataset[Any], **options: Any) -> DataLoader[Any]:
    """A loader like `loader` over other data."""
    shuffle = isinstance(loader.sampler, RandomSampler)
    given = {"batch_size": loader.batch_size, "shuffle": shuffle, "drop_last": loader.drop_last}
    return DataLoader(data, **(given | options))


def everywhere(
    experiment: Experiment, change: SampleChange, *, train: bool = True, validation: bool = True
) -> Experiment:
    """The experiment with every sample changed, in the clean training data too."""
    loader: Any = experiment.train_loader
    other: Any = experiment.val_loader
    if train:
        experiment = replace(
            experiment,
            train_loader=over(loader, Changed(loader.dataset, change)),
            clean_train=Changed(experiment.clean_train, change),
        )
    return replace(experiment, val_loader=over(other, Changed(other.dataset, change))) if validation else experiment


def raw(experiment: Experiment, image: Tensor) -> Tensor:
    """A normalised picture as it was before, in [0, 1]."""
    assert experiment.normalization is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in experiment.normalization)
    return image * std + mean


def optimizer_like(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """An optimiser of the same kind and settings over other parameters."""
    known = inspect.signature(type(optimizer)).parameters
    settings = {name: value for name, value in optimizer.param_groups[-1].items() if name in known and name != "params"}
    return type(optimizer)(list(parameters), **settings)
