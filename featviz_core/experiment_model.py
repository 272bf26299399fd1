"""An experiment to look into: its model, and some pictures of its data, so that each page can open on them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from featviz_core.architectures import class_names_for
from featviz_core.batches import describe
from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import Experiment, Factory, fresh, no_batch
from featviz_core.experiment_file import at_home, short
from featviz_core.images import Picture, picture_from_image
from featviz_core.loaded_model import LoadedModel
from featviz_core.preprocessing import Preprocessing

_PICTURES = 8  # of each part of the data
_SLACK = 0.02  # how far outside of 0 to 1 rounding and resampling may take a value that was undone

Normalization = tuple[Sequence[float], Sequence[float]]
# What pipelines usually do, most usual last where one includes the other: values that were undone lie in 0 to 1.
_USUAL: tuple[Normalization, ...] = (
    ((0.0,), (1.0,)),
    ((0.0,), (1 / 255,)),
    ((0.5,), (0.5,)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)


@dataclass(frozen=True, slots=True)
class LoaderPreprocessing(Preprocessing):
    """How an experiment's model is fed: a picture of its loaders becomes, to the bit, the tensor that they gave.

    Any other picture is cut to the same size and normalised as the experiment says. `known`: the tensors (1, C, H, W)
    by the `_digest` of the picture they are shown as. Grey models get the mean of red, green and blue.
    """

    known: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    channels: int = 3

    def __call__(self, picture: Image.Image) -> Tensor:
        """What is the model fed? `(1, C, H, W)` float32."""
        found = self.known.get(_digest(picture))
        if found is not None:
            return found.clone()
        # Zero arguments do not work: a dataclass with slots is another class than the one written here.
        made: Tensor = Preprocessing.__call__(self, picture)
        return made if self.channels == 3 else made.mean(1, keepdim=True)

    def describe(self) -> list[str]:
        """What happens to a picture, step by step? One plain sentence for each step."""
        first = "Pictures of the experiment's loaders are fed exactly as the loaders gave them. Others are treated so:"
        return [first, *Preprocessing.describe(self)]


@dataclass(frozen=True, slots=True, eq=False)
class OpenedExperiment:
    """An experiment's model and some pictures of its data.

    `pictures`: 8-bit RGB by their names, such as `train 3 · star` for number 3 of the training data. `notes`: what had
    to be guessed, in plain sentences. `gives_more`: class scores have to be picked out of the model's output.
    """

    experiment: Experiment
    pictures: Mapping[str, Picture]
    preprocessing: LoaderPreprocessing
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    gives_more: bool

    def model(self, name: str, *, device: str = "cpu") -> LoadedModel:
        """A copy of the model, ready to be looked into. Raises `DeviceError` where it does not fit."""
        module = copy.deepcopy(self.experiment.model)
        return LoadedModel(
            name,
            _Scores(module, self.experiment.logits) if self.gives_more else module,
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            device=device,
            notes=self.notes,
        )


def open_for_looking(make_experiment: Factory | str) -> OpenedExperiment:
    """Which model and which pictures does the experiment bring? Eight pictures of each part, spread over it.

    Leaves the process's random numbers as they were. Raises `ExperimentError` where the factory, its data or its
    model fails, or where the pictures are no pictures: (N, C, H, W) with one or three channels.
    """
    with at_home(make_experiment) as factory:
        experiment = fresh(factory)
        parts = {"train": experiment.train_loader, "validation": experiment.val_loader}
        read = {name: _read_some(experiment, loader) for name, loader in parts.items() if loader is not None}
        images = torch.cat([_checked(images) for _, images, _ in read.values()])
        answer = _answer(experiment, images[:1])
    outputs = experiment.logits(answer).shape[-1]
    classes = tuple(map(str, experiment.class_names or ()))
    classes = classes if len(classes) == outputs else class_names_for(outputs)
    names = [
        _picture_name(part, number, label, classes)
        for part, (numbers, _, labels) in read.items()
        for number, label in zip(numbers, labels, strict=True)
    ]
    mean, std, notes = _normalization(images, experiment.normalization)
    height, width = images.shape[2:]
    plain = Preprocessing(min(height, width), (height, width), mean, std)
    pictures = [picture_from_image(plain.undo(image), name) for name, image in zip(names, images, strict=True)]
    known = {_digest(picture.image): image[None] for picture, image in zip(pictures, images, strict=True)}
    return OpenedExperiment(
        experiment=experiment,
        pictures=dict(zip(names, pictures, strict=True)),
        preprocessing=LoaderPreprocessing(
            plain.resize_size, plain.crop_size, mean, std, known=known, channels=images.shape[1]
        ),
        class_names=classes,
        notes=notes,
        gives_more=experiment.get_logits is not None or not isinstance(answer, Tensor),
    )


# Reading a few pictures


_Read = tuple[Sequence[int], Tensor, Sequence[int | None]]


def _read_some(experiment: Experiment, loader: Iterable[Any]) -> _Read:
    """Numbers in the data set, images and labels of a few pictures."""
    try:
        numbers, batch = _spread(loader)
    except FeatVizError:
        raise
    except Exception as error:
        raise ExperimentError(
            f"The experiment's data cannot be read: {short(error)}.",
            why="Reading its first pictures failed.",
            do="Try `next(iter(train_loader))` on its own.",
        ) from error
    images, targets = experiment.pair(batch)
    images = images[:_PICTURES].cpu()
    labels = targets.tolist()[:_PICTURES] if isinstance(targets, Tensor) and targets.ndim == 1 else []
    known = [int(label) if float(label).is_integer() else None for label in labels] or [None] * len(images)
    return numbers[: len(images)], images, known


def _spread(loader: Iterable[Any]) -> tuple[Sequence[int], Any]:
    """Pictures from all over the data set, read without the loader's workers and order; else its first batch."""
    data: Any = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    listed = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, IterableDataset)
    if listed and callable(collate) and (count := len(data)) > 0:
        # An odd step, so that data in repeating order gives all of its classes.
        step = max(1, count // _PICTURES) | 1
        numbers = sorted({place * step % count for place in range(_PICTURES)})
        return numbers, collate([data[number] for number in numbers])
    for batch in islice(loader, 1):
        return range(_PICTURES), batch
    raise no_batch()


def _checked(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ExperimentError(
            "The experiment's pictures cannot be shown.",
            why=f"Expected (N, C, H, W) with one or three channels, got {describe(images)}.",
            do="The data check says more about them.",
        )
    return images.float()


def _picture_name(part: str, number: int, label: int | None, classes: Sequence[str]) -> str:
    named = label is not None and 0 <= label < len(classes)
    return f"{part} {number} · {classes[label]}" if named and label is not None else f"{part} {number}"


def _answer(experiment: Experiment, image: Tensor) -> Any:
    try:
        with torch.no_grad():
            return experiment.model.eval()(image.to(experiment.device))
    except Exception as error:
        raise ExperimentError(
            f"The experiment's model fails on its own data: {short(error)}.",
            why=f"It was given {describe(image)}.",
            do="Try `model(next(iter(train_loader))[0])` on its own.",
        ) from error


class _Scores(nn.Module):
    """A model whose class scores have to be picked out of what it gives."""

    def __init__(self, model: nn.Module, scores: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self._scores = model, scores

    def forward(self, images: Tensor) -> Tensor:
        """The class scores (N, C)."""
        return self._scores(self.model(images))


# Showing them


def to_pixels(images: Sequence[Tensor], stated: Normalization | None) -> list[NDArray[np.uint8]]:
    """How do model inputs `(C, H, W)`, of one or three channels, look to a person? `(H, W, 3)` each.

    Values become those of a picture by the `stated` normalisation or a usual one, else by the range of all of them.
    """
    flat = torch.cat([image.reshape(len(image), -1) for image in images], 1)[None, :, None] if images else None
    if flat is None:
        return []
    mean, std, _ = _normalization(flat, stated)
    plain = Preprocessing(1, 1, mean, std)
    return [np.asarray(plain.undo(image)) for image in images]


_Shown = tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]


def _normalization(images: Tensor, stated: Normalization | None) -> _Shown:
    """The mean and std that turn the loaders' values into those of a picture, 0 to 1, and what to say about it."""
    finite = images.isfinite()
    values = torch.where(finite, images, 0)
    for mean, std in [*([stated] if stated is not None else []), *_USUAL]:
        shown = values * torch.tensor([*std]).reshape(-1, 1, 1) + torch.tensor([*mean]).reshape(-1, 1, 1)
        if ((shown >= -_SLACK) & (shown <= 1 + _SLACK) | ~finite).all():
            return _three(mean), _three(std), ()
    low, high = (float(values.min()), float(values.max()))
    note = f"Its pictures are shown stretched from {low:.3g} … {high:.3g}: no usual normalisation gives such values."
    span = high - low or 1.0
    return _three([-low / span]), _three([1 / span]), (note,)


def _three(values: Sequence[float]) -> tuple[float, ...]:
    given = tuple(map(float, values))
    return given * 3 if len(given) == 1 else given


def _digest(picture: Image.Image) -> str:
    return hashlib.sha256(repr(picture.size).encode() + picture.convert("RGB").tobytes()).hexdigest()
