"""What healthy training also looks like: variations of a set-up that the checklist has to leave in peace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

from featviz_core.demo.networks import head
from featviz_core.experiment import Experiment, train_step

Variation = Callable[[Experiment], Experiment]
VARIATIONS: dict[str, Variation] = {}


def _variation(change: Variation) -> Variation:
    VARIATIONS[change.__name__] = change
    return change


@_variation
def cosine(experiment: Experiment) -> Experiment:
    """The rate falls to zero over the epochs."""
    schedule = lr_scheduler.CosineAnnealingLR(experiment.optimizer, T_max=experiment.epochs)
    return replace(experiment, scheduler=schedule)


@_variation
def one_cycle(experiment: Experiment) -> Experiment:
    """The rate rises and falls again, batch by batch."""
    rates = [float(group["lr"]) for group in experiment.optimizer.param_groups]
    steps = experiment.epochs * len(experiment.train_loader)  # type: ignore[arg-type]
    schedule = lr_scheduler.OneCycleLR(experiment.optimizer, rates, total_steps=steps, cycle_momentum=False)
    return replace(experiment, scheduler=schedule, scheduler_step="batch")


@_variation
def label_smoothing(experiment: Experiment) -> Experiment:
    """Nine tenths for the right class."""
    return replace(experiment, loss_fn=nn.CrossEntropyLoss(label_smoothing=0.1))


@_variation
def class_weights(experiment: Experiment) -> Experiment:
    """Classes that count up to three times as much as others."""
    classes = head(experiment.model).out_features
    return replace(experiment, loss_fn=nn.CrossEntropyLoss(weight=torch.linspace(0.5, 1.5, classes)))


@_variation
def log_probabilities(experiment: Experiment) -> Experiment:
    """`log_softmax` in the model and `nll_loss`, as in many a tutorial."""
    return replace(experiment, model=nn.Sequential(experiment.model, nn.LogSoftmax(1)), loss_fn=nn.NLLLoss())


@_variation
def bfloat16(experiment: Experiment) -> Experiment:
    """Mixed precision on the CPU."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        experiment.optimizer.zero_grad()
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            loss: Tensor = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        experiment.optimizer.step()
        return loss

    return replace(experiment, train_step=step)


@_variation
def clipping(experiment: Experiment) -> Experiment:
    """Gradients of norm 1 at most."""

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        experiment.optimizer.zero_grad()
        loss = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(experiment.model.parameters(), 1.0)
        experiment.optimizer.step()
        return loss

    return replace(experiment, train_step=step)


@_variation
def accumulation(experiment: Experiment) -> Experiment:
    """A step of the optimiser for every two batches."""
    count = 0

    def step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
        nonlocal count
        loss = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
        (loss / 2).backward()  # type: ignore[no-untyped-call]
        count += 1
        if count % 2 == 0:
            experiment.optimizer.step()
            experiment.optimizer.zero_grad()
        return loss

    return replace(experiment, train_step=step)


@_variation
def whole_epoch(experiment: Experiment) -> Experiment:
    """The loop over an epoch is one's own, the mode switched in it."""

    def epoch(experiment: Experiment, batches: Any) -> None:
        experiment.model.train()
        for images, targets in batches:
            train_step(experiment, images, targets)

    return replace(experiment, train_epoch=epoch)


@_variation
def heavy_augmentation(experiment: Experiment) -> Experiment:
    """Shifts, colours and small holes."""
    data = experiment.train_loader.dataset  # type: ignore[attr-defined]
    change = [
        v2.RandomHorizontalFlip(),
        v2.RandomCrop(data.images.shape[-1], padding=3, padding_mode="reflect"),
        v2.ColorJitter(0.2, 0.2, 0.2),
        v2.RandomErasing(p=0.3, scale=(0.02, 0.08)),
    ]
    data.transform = v2.Compose([*change, *data.transform.transforms[1:]])
    return experiment


@_variation
def dropout(experiment: Experiment) -> Experiment:
    """A third of the features is dropped before the head."""
    last = head(experiment.model)
    for parent in experiment.model.modules():
        for name, child in parent.named_children():
            if child is last:
                setattr(parent, name, nn.Sequential(nn.Dropout(0.3), last))
                return experiment
    return experiment


@_variation
def few_pictures(experiment: Experiment) -> Experiment:
    """A hundred and ninety-two pictures to learn from."""
    return _only(experiment, list(range(192)))


@_variation
def imbalanced(experiment: Experiment) -> Experiment:
    """Later classes are rarer, the last by a factor of five."""
    labels = experiment.clean_train.labels
    classes = max(labels) + 1
    keep = [n for n, label in enumerate(labels) if (n // classes * 7919) % 100 < 100 - 80 * label / (classes - 1)]
    return _only(experiment, keep)


def _only(experiment: Experiment, keep: list[int]) -> Experiment:
    loader: Any = experiment.train_loader
    train = DataLoader(Subset(loader.dataset, keep), batch_size=loader.batch_size, shuffle=True, drop_last=True)
    return replace(experiment, train_loader=train, clean_train=Subset(experiment.clean_train, keep))


@_variation
def named_batches(experiment: Experiment) -> Experiment:
    """Batches are dicts of pictures, labels and names of files."""

    def collate(samples: list[tuple[Tensor, int]]) -> dict[str, Any]:
        images, labels = zip(*samples, strict=True)
        names = [f"{label}.png" for label in labels]
        return {"pixels": torch.stack(images), "label": torch.tensor(labels), "file": names}

    def loader(old: Any, *, train: bool) -> DataLoader[Any]:
        return DataLoader(old.dataset, old.batch_size, shuffle=train, drop_last=train, collate_fn=collate)

    train, other = loader(experiment.train_loader, train=True), loader(experiment.val_loader, train=False)
    return replace(experiment, train_loader=train, val_loader=other, unpack=lambda b: (b["pixels"], b["label"]))
