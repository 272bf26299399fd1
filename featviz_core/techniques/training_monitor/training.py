"""A real training of an experiment, by its own loop, with the monitor watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import (
    Experiment,
    Factory,
    evaluate,
    evaluate_on,
    few_batches,
    fresh,
    own_randomness,
    train_on,
)
from featviz_core.experiment_file import at_home, own_lines, short
from featviz_core.runs.export import zipped
from featviz_core.techniques.training_monitor.monitor import TrainingMonitor
from featviz_core.techniques.training_monitor.steps import Finish, Steps

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
        with TrainingMonitor(
            folder, experiment.model, experiment.optimizer, every=_EVERY, class_names=names
        ) as monitor:
            outcome, problem = _Loop(experiment, monitor, epochs, progress or _silent, control or bool).run()
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


class _Loop:
    """The epochs of a training."""

    def __init__(
        self,
        experiment: Experiment,
        monitor: TrainingMonitor,
        epochs: int,
        report: Progress,
        control: Callable[[], bool],
    ) -> None:
        self._experiment, self._monitor, self._epochs = experiment, monitor, epochs
        self._report, self._control = report, control
        loader = experiment.train_loader
        self._batches = len(loader) if isinstance(loader, Sized) else 0

    def run(self) -> tuple[str, ExperimentError | None]:
        """Train to the end; how it ended, and what went wrong in the owner's code."""
        try:
            with Steps(self._experiment, self._done) as steps:
                for _ in range(self._epochs):
                    train_on(self._experiment, steps.of(self._experiment.train_loader))
                    self._validate()
        except Finish:
            return "stopped", None
        except FeatVizError as error:
            what = f"The training ended after {self._monitor.step:,} steps: {error.what}"
            return "failed", ExperimentError(what, why=error.why, do=error.do)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the owner's code may do anything
            what = f"The training ended after {self._monitor.step:,} steps: {short(error)}."
            return "failed", ExperimentError(what, do="The last values are on the charts.", trace=own_lines(error))
        return "done", None

    def _done(self, loss: float | None, accuracy: float | None) -> None:
        """A step was taken: write it, say so, and hear what is wanted."""
        self._monitor.update(loss=loss, accuracy=accuracy)
        step, total = self._monitor.step, self._epochs * self._batches
        text = f"Epoch {self._monitor.epoch + 1} of {self._epochs}, step {step:,}"
        self._report(min(1.0, step / total) if total else 0.0, text + ("" if loss is None else f": loss {loss:.4g}"))
        if self._control():
            raise Finish

    def _validate(self) -> None:
        experiment = self._experiment
        found = {} if experiment.val_loader is None else evaluate_on(experiment, experiment.val_loader)
        modes = {module: module.training for module in experiment.model.modules()}
        with own_randomness():
            same = evaluate(experiment, few_batches(experiment, experiment.train_loader, _TRAIN_EVALUATED))
        for module, training in modes.items():
            module.training = training
        self._monitor.validate(train_loss=same["loss"], train_accuracy=same["accuracy"], **found)
