"""What debugging runs on: a user's own model, data, loss, optimiser and loop, and the protocol they are run by.

A factory gives fresh, equal experiments; whoever probes one works on its own. Everything in the loop reaches its parts
through the experiment, so that a part can be swapped (`dataclasses.replace`) to see what it is guilty of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from featviz_core.batches import describe, images_and_targets, logits_in, moved
from featviz_core.errors import ExperimentError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Factory: TypeAlias = "Callable[[], Experiment]"
Metrics: TypeAlias = "Mapping[str, float]"
Batches: TypeAlias = "Iterable[tuple[Tensor, Any]]"

_SCHEDULER_STEPS = ("epoch", "batch", "own")


@dataclass(kw_only=True)
class Experiment:
    """A training set-up as its owner wrote it. Loops may keep what they need on it, as on any object.

    `train_loader`, `val_loader`: anything that gives batches; `unpack(batch) -> (images, targets)` where a batch is no
    pair. `loss_fn(logits, targets)` gives a scalar; `get_logits(output) -> (N, C)` where the model gives more.
    `train_step(experiment, images, targets) -> loss`, `evaluate(experiment, loader) -> {"loss": ..., "accuracy": ...}`
    and `train_epoch(experiment, batches)` (pairs of images and targets on the model's device, mode switches included)
    are the owner's loop; left out, the standard bodies of this module are used. `scheduler_step` says who steps the
    scheduler: the "epoch", every "batch", or the loop's "own" code. `clean_train`: the training data without
    augmentation. `normalization`: (mean, std) that the pipeline is meant to use. `pretrained`: the head is not fresh.

    Raises `ExperimentError` where a part is of the wrong kind.
    """

    model: nn.Module
    train_loader: Iterable[Any]
    loss_fn: Callable[..., Tensor]
    optimizer: torch.optim.Optimizer
    val_loader: Iterable[Any] | None = None
    scheduler: Any = None
    class_names: Sequence[str] | None = None
    epochs: int = 10
    train_step: Callable[[Experiment, Tensor, Any], Any] | None = None
    evaluate: Callable[[Experiment, Iterable[Any]], Metrics] | None = None
    train_epoch: Callable[[Experiment, Batches], Any] | None = None
    unpack: Callable[[Any], tuple[Tensor, Any]] | None = None
    get_logits: Callable[[Any], Tensor] | None = None
    scheduler_step: Literal["epoch", "batch", "own"] = "epoch"
    clean_train: Any = None
    normalization: tuple[Sequence[float], Sequence[float]] | None = None
    pretrained: bool = False

    def __post_init__(self) -> None:
        from torch import nn, optim

        _expect("model", self.model, isinstance(self.model, nn.Module), "a torch.nn.Module")
        _expect("optimizer", self.optimizer, isinstance(self.optimizer, optim.Optimizer), "a torch.optim.Optimizer")
        for name in ("train_loader", "val_loader"):
            loader = getattr(self, name)
            optional = loader is None and name == "val_loader"
            _expect(name, loader, optional or isinstance(loader, Iterable), "something that gives batches")
            once = isinstance(loader, Iterator)
            _expect(name, loader, not once, "something that can be gone through again and again, not an iterator")
        for name in ("loss_fn", "train_step", "evaluate", "train_epoch", "unpack", "get_logits"):
            body = getattr(self, name)
            _expect(name, body, callable(body) or (body is None and name != "loss_fn"), "a function")
        known = self.scheduler_step in _SCHEDULER_STEPS
        _expect("scheduler_step", self.scheduler_step, known, "one of " + ", ".join(map(repr, _SCHEDULER_STEPS)))

    @property
    def device(self) -> torch.device:
        """Where the model is; the CPU for one without parameters."""
        import torch

        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def pair(self, batch: Any) -> tuple[Tensor, Any]:
        """A batch's (images, targets) on the model's device. Raises `ExperimentError` that shows what came instead."""
        images, targets = images_and_targets(batch, self.unpack)
        return moved(images, self.device), moved(targets, self.device)

    def pairs(self, loader: Iterable[Any]) -> Iterator[tuple[Tensor, Any]]:
        """All batches of `loader` as (images, targets) on the model's device."""
        for batch in loader:
            yield self.pair(batch)

    def logits(self, output: Any) -> Tensor:
        """The class scores in the model's output. Raises `ExperimentError` that shows what came instead."""
        return logits_in(output, self.get_logits, error=ExperimentError)


def _expect(name: str, value: Any, right: bool, expected: str) -> None:
    if not right:
        got = repr(value) if isinstance(value, str) else describe(value)
        raise ExperimentError(f"The experiment's {name} cannot be used.", why=f"Expected {expected}, got {got}.")


# The standard bodies


def train_step(experiment: Experiment, images: Tensor, targets: Any) -> Tensor:
    """One step as every tutorial has it: forget old gradients, forward, loss, backward, step."""
    experiment.optimizer.zero_grad()
    loss = experiment.loss_fn(experiment.logits(experiment.model(images)), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    experiment.optimizer.step()
    return loss


def evaluate(experiment: Experiment, loader: Iterable[Any]) -> dict[str, float]:
    """Mean loss and accuracy in [0, 1] over `loader`, in eval mode; NaN without pictures.

    Accuracy counts pictures whose highest score is the target's; it is NaN for targets that are no class numbers.
    """
    import torch

    experiment.model.eval()
    pictures, loss, right = 0, 0.0, 0.0
    with torch.no_grad():
        for images, targets in experiment.pairs(loader):
            logits = experiment.logits(experiment.model(images))
            loss += float(experiment.loss_fn(logits, targets)) * len(images)
            right += count_right(logits, targets)
            pictures += len(images)
    return {"loss": loss / pictures, "accuracy": right / pictures} if pictures else dict.fromkeys(METRICS, float("nan"))


METRICS = ("loss", "accuracy")


def count_right(logits: Tensor, targets: Any) -> float:
    """How many pictures have the target's score highest; NaN for targets that are no class numbers."""
    classes = getattr(targets, "dtype", None) is not None and not targets.is_floating_point() and targets.ndim == 1
    return float((logits.argmax(1) == targets).sum()) if classes and logits.ndim == 2 else float("nan")


# The protocol


def train_on(experiment: Experiment, batches: Iterable[Any], *, scheduler: bool = True) -> list[float]:
    """Train on `batches` as the experiment does in an epoch; the loss of every step, as far as it gives one.

    The model goes into training mode first. Probes do not step the `scheduler`.
    """
    losses: list[float] = []
    if experiment.train_epoch is not None:
        experiment.train_epoch(experiment, experiment.pairs(batches))
    else:
        experiment.model.train()
        body = experiment.train_step or train_step
        for images, targets in experiment.pairs(batches):
            losses.append(loss_value(body(experiment, images, targets)))
            if scheduler and experiment.scheduler is not None and experiment.scheduler_step == "batch":
                experiment.scheduler.step()
    if scheduler and experiment.scheduler is not None and experiment.scheduler_step == "epoch":
        experiment.scheduler.step()
    return losses


def evaluate_on(experiment: Experiment, loader: Iterable[Any]) -> dict[str, float]:
    """Loss and accuracy by the experiment's own `evaluate`. Raises `ExperimentError` where it gives something else."""
    found = (experiment.evaluate or evaluate)(experiment, loader)
    if not isinstance(found, Mapping) or not all(name in found for name in METRICS):
        raise ExperimentError(
            "The experiment's `evaluate` gave no loss and accuracy.",
            why=f'Expected {{"loss": ..., "accuracy": ...}}, got {describe(found)}.',
        )
    return {name: float(found[name]) for name in METRICS}


def loss_value(loss: Any) -> float:
    """The number in what a training step gave; NaN where there is none."""
    if isinstance(loss, Mapping):
        loss = loss.get("loss")
    if isinstance(loss, tuple | list) and loss:
        loss = loss[0]
    try:
        return float(loss.detach()) if hasattr(loss, "detach") else float(loss)
    except (TypeError, ValueError, RuntimeError):
        return float("nan")


def fresh(make_experiment: Factory, *, seed: int = 0, device: str = "cpu") -> Experiment:
    """A new experiment of the factory's, made from the same random numbers each time, on `device`: one by its name, or
    "automatic" for the fastest.

    Raises `ExperimentError` where the factory gives something else and `DeviceError` for a device that is not there;
    what the factory itself raises is passed on.
    """
    from torch import nn

    from featviz_core.devices import check_device

    seed_everything(seed)
    made = make_experiment()
    if not isinstance(made, Experiment):
        raise ExperimentError(
            "The factory gave no experiment.",
            why=f"Expected fv.Experiment(...), got {describe(made)}.",
            do="End the function with `return fv.Experiment(model=..., train_loader=..., ...)`.",
        )
    place = check_device(device)
    made.model.to(place)
    if isinstance(made.loss_fn, nn.Module):  # class weights have to be where the logits are
        made.loss_fn.to(place)
    return made


def seed_everything(seed: int) -> None:
    """Start Python's, NumPy's and torch's random numbers from `seed`."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Whatever is seeded or drawn inside, the process's random numbers go on afterwards as if nothing had happened."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def endlessly(loader: Iterable[Any]) -> Iterator[Any]:
    """The batches of `loader`, from its start again where it ends. Raises `ExperimentError` for an empty loader."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise no_batch()


def no_batch(loader: str = "A loader") -> ExperimentError:
    """What to say of an empty loader."""
    return ExperimentError(f"{loader} gave no batch.", do="Check its data set, its sampler and `drop_last`.")


class FewBatches(Sized):
    """Some batches of a loader, kept: looks like a loader over just these, whatever loop goes through it."""

    def __init__(self, batches: Sequence[Any], loader: Any, pictures: int) -> None:
        self._batches, self._loader = batches, loader
        self.dataset = range(pictures)
        """As long as there are pictures: loops divide by `len(loader.dataset)`."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)


def few_batches(experiment: Experiment, loader: Iterable[Any], count: int) -> FewBatches:
    """The first `count` batches of `loader`, on the model's device; all where it has fewer.

    Raises `ExperimentError` for an empty loader.
    """
    found: list[Any] = []
    source = iter(loader)
    for batch in source:
        found.append(moved(batch, experiment.device))
        if len(found) == count:
            break
    del source  # stops the loader's workers
    if not found:
        names = {id(experiment.train_loader): "The training loader", id(experiment.val_loader): "The validation loader"}
        raise no_batch(names.get(id(loader), "A loader"))
    return FewBatches(found, loader, sum(len(images_and_targets(batch, experiment.unpack)[0]) for batch in found))
