"""A real training of an experiment, by its own loop, with the monitor watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import (
    Experiment,
    Factory,
    count_right,
    evaluate,
    evaluate_on,
    few_batches,
    fresh,
    loss_value,
    own_randomness,
    train_on,
    train_step,
)
from featviz_core.experiment_file import at_home, own_lines, short
from featviz_core.runs.export import zipped
from featviz_core.techniques.training_monitor.monitor import TrainingMonitor

Progress = Callable[[float, str], None]

_EVERY = 20  # steps between two looks into the model
_TRAIN_EVALUATED = 8  # batches of training pictures that are evaluated as validation is


@dataclass(frozen=True, slots=True)
class Training:
    """What came of a training.

    `data`: its run, as a zip; `outcome`: "done", "stopped" early, or "failed" with a `problem` in the owner's code;
    `steps`, `epochs`: how many were taken; `seconds`: how long it took, pauses included.
    """

    name: str
    data: bytes = field(repr=False)
    outcome: str
    problem: ExperimentError | None
    steps: int
    epochs: int
    seconds: float


class _Finish(BaseException):
    """The owner wants no more steps. No `Exception`: somebody's loop may catch those."""


def train(
    make_experiment: Factory | str,
    *,
    folder: str | Path,
    name: str = "run",
    epochs: int | None = None,
    rate: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
    control: Callable[[], bool] | None = None,
) -> Training:
    """How does this experiment's own training go? Trains a fresh copy, and writes a run to `folder` while it does.

    `epochs`: how many, the experiment's own number if left out; `rate`: a learning rate to try instead of the
    optimiser's, whose groups keep their ratios. Validation follows each epoch, by the experiment's own `evaluate`;
    some training pictures are evaluated as well, in evaluation mode. `control()` is asked after each step: it may wait,
    and ends the training where it gives True.

    Raises what the factory raises, and `ExperimentError` for a `rate` that cannot be set.
    """
    begin = time.monotonic()
    with at_home(make_experiment) as factory:
        experiment = fresh(factory, seed=seed, device=device)
        epochs = epochs or experiment.epochs
        if rate is not None:
            set_rate(experiment.optimizer, rate)
        names = experiment.class_names or ()
        with (
            TrainingMonitor(folder, experiment.model, experiment.optimizer, every=_EVERY, class_names=names) as monitor,
            _Loop(experiment, monitor, epochs, progress or _silent, control or bool) as loop,
        ):
            outcome, problem = loop.run()
    return Training(
        name,
        zipped(monitor.logdir, name),
        outcome,
        problem,
        monitor.step,
        monitor.epoch,
        time.monotonic() - begin,
    )


def set_rate(optimizer: Any, rate: float) -> None:
    """Give the first group this learning rate, and the others theirs by the same factor."""
    groups = optimizer.param_groups
    first = float(groups[0]["lr"])
    for group in groups:
        group["lr"] = rate * (float(group["lr"]) / first if first else 1.0)
        group["initial_lr"] = group["lr"]


def _silent(_fraction: float, _text: str) -> None:
    pass


class _Loop(ExitStack):
    """The epochs of a training; inside of its `with`, hooks see what the owner's loop does."""

    def __init__(
        self,
        experiment: Experiment,
        monitor: TrainingMonitor,
        epochs: int,
        report: Progress,
        control: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._experiment, self._monitor, self._epochs = experiment, monitor, epochs
        self._report, self._control = report, control
        self._loss: Any = None
        self._output: Any = None
        loader = experiment.train_loader
        self._batches = len(loader) if isinstance(loader, Sized) else 0
        self.callback(experiment.model.register_forward_hook(self._see_output).remove)
        if experiment.train_epoch is not None:
            self._watch_loss()
        else:
            self._watch_steps()

    def run(self) -> tuple[str, ExperimentError | None]:
        """Train to the end; how it ended, and what went wrong in the owner's code."""
        try:
            for _ in range(self._epochs):
                train_on(self._experiment, self._given())
                self._validate()
        except _Finish:
            return "stopped", None
        except FeatVizError as error:
            what = f"The training ended after {self._monitor.step:,} steps: {error.what}"
            return "failed", ExperimentError(what, why=error.why, do=error.do)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the owner's code may do anything
            what = f"The training ended after {self._monitor.step:,} steps: {short(error)}."
            return "failed", ExperimentError(what, do="The last values are on the charts.", trace=own_lines(error))
        return "done", None

    def _given(self) -> Iterator[Any]:
        """The batches of an epoch; a whole-epoch loop asks for the next one when its step is done."""
        for batch in self._experiment.train_loader:
            yield batch
            if self._experiment.train_epoch is not None:
                _, targets = self._experiment.pair(batch)
                self._done(self._loss, targets)

    def _watch_steps(self) -> None:
        body = self._experiment.train_step or train_step

        def step(experiment: Experiment, images: Any, targets: Any) -> Any:
            loss = body(experiment, images, targets)
            self._done(loss_value(loss), targets)
            return loss

        self._experiment.train_step = step

    def _watch_loss(self) -> None:
        loss_fn = self._experiment.loss_fn

        def keep(*found: Any) -> None:
            if self._experiment.model.training:
                self._loss = loss_value(found[-1])

        if isinstance(loss_fn, nn.Module):
            self.callback(loss_fn.register_forward_hook(keep).remove)
            return

        def watched(*args: Any, **options: Any) -> Any:
            loss = loss_fn(*args, **options)
            keep(loss)
            return loss

        self._experiment.loss_fn = watched

    def _see_output(self, model: nn.Module, _inputs: Any, output: Any) -> None:
        if model.training:
            self._output = output

    def _done(self, loss: Any, targets: Any) -> None:
        """A step was taken: write it, say so, and hear what is wanted."""
        self._monitor.update(loss=loss, accuracy=self._accuracy(targets))
        step, total = self._monitor.step, self._epochs * self._batches
        text = f"Epoch {self._monitor.epoch + 1} of {self._epochs}, step {step:,}"
        said = f": loss {loss:.4g}" if isinstance(loss, float) else ""
        self._report(min(1.0, step / total) if total else 0.0, text + said)
        if self._control():
            raise _Finish

    def _accuracy(self, targets: Any) -> float | None:
        output, self._output = self._output, None
        if output is None:
            return None
        try:
            logits = self._experiment.logits(output).detach()
        except FeatVizError:
            return None
        return count_right(logits, targets) / len(logits) if len(logits) == len(targets) else None

    def _validate(self) -> None:
        experiment = self._experiment
        found = {} if experiment.val_loader is None else evaluate_on(experiment, experiment.val_loader)
        modes = {module: module.training for module in experiment.model.modules()}
        with own_randomness():
            same = evaluate(experiment, few_batches(experiment, experiment.train_loader, _TRAIN_EVALUATED))
        for module, training in modes.items():
            module.training = training
        self._monitor.validate(train_loss=same["loss"], train_accuracy=same["accuracy"], **found)
