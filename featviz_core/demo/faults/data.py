"""Mistakes in pictures, labels and augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Subset
from torchvision.transforms import v2

from featviz_core.demo.faults.registry import Changed, everywhere, fault, over, raw
from featviz_core.demo.networks import head
from featviz_core.experiment import Experiment

# Range


@fault(
    "Pixels from 0 to 255 go into a network that is meant to get normalised ones.", "data.range", own_validation=True
)
def raw_pixels(experiment: Experiment) -> Experiment:
    """Neither scaled to [0, 1] nor normalised."""
    return everywhere(experiment, lambda image, label, _: (raw(experiment, image) * 255, label))


@fault("Pictures are normalised twice.", "data.range", own_validation=True)
def normalized_twice(experiment: Experiment) -> Experiment:
    """A second `Normalize` with the same numbers."""
    assert experiment.normalization is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in experiment.normalization)
    return everywhere(experiment, lambda image, label, _: ((image - mean) / std, label))


@fault("Some pictures hold values that are no numbers.", "data.range")
def nan_pictures(experiment: Experiment) -> Experiment:
    """One picture in eight is all NaN."""
    return everywhere(
        experiment, lambda image, label, index: (image * float("nan") if index % 8 == 3 else image, label)
    )


@fault("A picture divided by its own spread is Inf where it has none.", "data.range")
def inf_pictures(experiment: Experiment) -> Experiment:
    """One pixel in a picture of sixteen is Inf."""

    def change(image: Any, label: int, index: int) -> tuple[Any, int]:
        if index % 16 == 5:
            image = image.clone()
            image[0, 0, 0] = float("inf")
        return image, label

    return everywhere(experiment, change)


@fault(
    "Pixels are divided by 255 a second time, so that all pictures are nearly black.", "data.range", own_validation=True
)
def divided_twice(experiment: Experiment) -> Experiment:
    """Values from 0 to 0.004."""
    return everywhere(experiment, lambda image, label, _: (raw(experiment, image) / 255, label))


@fault("Every picture is black: files were read as empty.", "data.range")
def black_pictures(experiment: Experiment) -> Experiment:
    """All zero."""
    return everywhere(experiment, lambda image, label, _: (image * 0, label))


@fault("Pictures are whole numbers, which no convolution takes.", "data.range")
def whole_numbers(experiment: Experiment) -> Experiment:
    """Bytes as they come from a file."""
    return everywhere(experiment, lambda image, label, _: ((raw(experiment, image) * 255).byte(), label))


@fault("Pictures are of double precision, the weights are not.", "data.range")
def double_precision(experiment: Experiment) -> Experiment:
    """As NumPy gives them."""
    return everywhere(experiment, lambda image, label, _: (image.double(), label))


@fault("Colours come last: pictures are height × width × 3.", "data.range")
def colours_last(experiment: Experiment) -> Experiment:
    """As NumPy and most readers of files have them."""
    return everywhere(experiment, lambda image, label, _: (image.permute(1, 2, 0), label))


@fault("Validation pictures are not normalised, training pictures are.", "data.range")
def validation_not_normalized(experiment: Experiment) -> Experiment:
    """0 to 255 where training has values around zero."""
    return everywhere(experiment, lambda image, label, _: (raw(experiment, image) * 255, label), train=False)


@fault("Every index gives the same picture.", "data.range")
def one_picture_for_all(experiment: Experiment) -> Experiment:
    """A closure that kept its first file."""
    first = experiment.clean_train[0][0]
    return everywhere(experiment, lambda _image, label, _index: (first, label))


# Labels


@fault("Labels have nothing to do with the pictures.", "data.labels")
def shuffled_labels(experiment: Experiment) -> Experiment:
    """Training labels dealt out anew, as after sorting files and labels apart."""
    labels = _dealt(experiment)
    return everywhere(experiment, lambda image, _, index: (image, labels[index]), validation=False)


@fault("Most labels are wrong.", "data.labels")
def noisy_labels(experiment: Experiment) -> Experiment:
    """Seven of ten labels are drawn by chance."""
    labels = _dealt(experiment)
    return everywhere(
        experiment, lambda image, label, index: (image, labels[index] if index % 10 < 7 else label), validation=False
    )


def _dealt(experiment: Experiment) -> list[int]:
    known = experiment.clean_train.labels
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(1)).tolist()
    return [known[number] for number in order]


@fault("Labels count from 1, so that the last is out of range.", "data.labels")
def labels_from_one(experiment: Experiment) -> Experiment:
    """1..C where the loss expects 0..C-1."""
    return everywhere(experiment, lambda image, label, _: (image, label + 1))


@fault("Unknown classes are labelled -1, which the loss does not know.", "data.labels")
def negative_labels(experiment: Experiment) -> Experiment:
    """One label in thirty."""
    return everywhere(experiment, lambda image, label, index: (image, -1 if index % 30 == 7 else label))


@fault("Labels are floats.", "data.labels")
def float_labels(experiment: Experiment) -> Experiment:
    """As read from a table."""
    return everywhere(experiment, lambda image, label, _: (image, float(label)))  # type: ignore[arg-type,return-value]


@fault("Labels are a column (N, 1), not a row (N,).", "data.labels")
def column_labels(experiment: Experiment) -> Experiment:
    """As read from a table by a list of columns."""
    return everywhere(experiment, lambda image, label, _: (image, torch.tensor([label])))  # type: ignore[arg-type,return-value]


@fault("Training pictures come class by class and are not shuffled.", "data.labels")
def sorted_by_class(experiment: Experiment) -> Experiment:
    """`shuffle=False` over a folder of classes."""
    loader: Any = experiment.train_loader
    labels = experiment.clean_train.labels
    order = sorted(range(len(labels)), key=lambda index: labels[index])
    train = over(loader, Subset(loader.dataset, order), shuffle=False)
    return replace(experiment, train_loader=train, clean_train=Subset(experiment.clean_train, order))


@fault("Validation counts its classes in another order.", "data.labels")
def other_label_order(experiment: Experiment) -> Experiment:
    """Folder names sorted otherwise."""
    classes = head(experiment.model).out_features
    return everywhere(experiment, lambda image, label, _: (image, classes - 1 - label), train=False)


# Augmentation


def _augmented(experiment: Experiment, *changes: Any) -> Experiment:
    loader: Any = experiment.train_loader
    change = v2.Compose(list(changes))
    return replace(
        experiment, train_loader=over(loader, Changed(loader.dataset, lambda image, label, _: (change(image), label)))
    )


@fault("Augmentation cuts out pieces too small to show anything.", "data.augmentation")
def tiny_crops(experiment: Experiment) -> Experiment:
    """One to two hundredths of the picture's area."""
    side = int(experiment.clean_train[0][0].shape[-1])
    return _augmented(experiment, v2.RandomResizedCrop(side, scale=(0.01, 0.02), antialias=True))


@fault("Augmentation drowns pictures in noise.", "data.augmentation")
def drowned_in_noise(experiment: Experiment) -> Experiment:
    """Noise of eight times the picture's spread."""
    return _augmented(experiment, v2.Lambda(lambda image: image + 8 * torch.randn_like(image)))


@fault("Augmentation erases nearly the whole picture.", "data.augmentation")
def erased(experiment: Experiment) -> Experiment:
    """Nine tenths and more."""
    return _augmented(experiment, v2.RandomErasing(p=1.0, scale=(0.93, 0.98), ratio=(0.98, 1.02)))


@fault("Validation pictures are augmented as training pictures are.", "data.augmentation")
def validation_augmented(experiment: Experiment) -> Experiment:
    """Another accuracy each time."""
    change = v2.Compose([v2.RandomRotation(60), v2.RandomResizedCrop(32, scale=(0.2, 1.0), antialias=True)])
    return everywhere(experiment, lambda image, label, _: (change(image), label), train=False)


# Training and validation


@fault("Training pictures are among the validation pictures.", "training.fit")
def validation_leak(experiment: Experiment) -> Experiment:
    """Half of validation was seen in training."""
    other: Any = experiment.val_loader
    half = len(other.dataset) // 2
    mixed: ConcatDataset[Any] = ConcatDataset(
        [Subset(experiment.clean_train, range(half)), Subset(other.dataset, range(half))]
    )
    return replace(experiment, val_loader=over(other, mixed))


@fault("Validation is the training set.", "training.fit")
def validated_on_training(experiment: Experiment) -> Experiment:
    """One path too few in the configuration."""
    return replace(experiment, val_loader=over(experiment.val_loader, experiment.clean_train))


@fault("There are twenty-four pictures to learn from.", "training.fit")
def hardly_any_pictures(experiment: Experiment) -> Experiment:
    """A debugging subset that stayed."""
    loader: Any = experiment.train_loader
    keep = range(24)
    train = over(loader, Subset(experiment.clean_train, keep), batch_size=12)
    return replace(experiment, train_loader=train, clean_train=Subset(experiment.clean_train, keep))
