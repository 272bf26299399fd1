"""Gradient history: a few real training steps of an experiment, watched parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import Experiment, Factory, endlessly, few_batches, fresh, train_on
from featviz_core.experiment_file import at_home, own_lines, short
from featviz_core.ledger import ledger
from featviz_core.techniques.gradient_flow.compute import gradient_flow, norm_of
from featviz_core.techniques.gradient_flow.findings_history import about_history
from featviz_core.techniques.gradient_flow.history_result import GradientHistory, HistoryStep
from featviz_core.techniques.gradient_flow.result import GradientFlow
from featviz_core.watch import Watch, watching

Progress = Callable[[float, str], None]


def gradient_history(
    make_experiment: Factory | str,
    *,
    steps: int,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
    part: Callable[[HistoryStep], None] | None = None,
) -> GradientHistory:
    """Does every parameter get a gradient, and move by a healthy share, in the first `steps` training steps?

    `make_experiment`: a factory, or where one is, as for `open_experiment`. The experiment's own loop trains a fresh
    copy on the first `steps` batches (again from the start where the loader has fewer); schedulers are not stepped,
    and a learning rate that a warm-up starts at 0 is set to the one that it leads to. Random numbers start from
    `seed`; the caller's go on undisturbed. `progress(fraction, text)` may raise to cancel; `part(step)` hears of each
    step as soon as it is done.

    Raises `ExperimentError` where the model, the loss or the loop raises (with the user's own lines in `trace`), and
    where the loop takes no batch; what the factory raises is passed on.
    """
    if steps < 1:
        raise ExperimentError("There is no step to look at.", why=f"Expected at least 1 step, got {steps}.")
    report = progress or (lambda _fraction, _text: None)
    with at_home(make_experiment) as factory:
        report(0.0, "Looking at the first batch …")
        with _of_user("The first batch"):
            first = _first_batch(fresh(factory, seed=seed, device=device))
        experiment = fresh(factory, seed=seed, device=device)
        _wake(experiment)
        names = tuple(row.parameter for row in first.parameters)
        notes = _Notes(experiment, steps, report, part or (lambda _step: None), names)
        with watching(experiment) as watch, notes.hooks(), _of_user("The training loop", notes):
            losses = train_on(experiment, notes.batches(), scheduler=False)
        found = _history(experiment, watch, notes, losses, first)
    return replace(found, findings=about_history(found))


def _first_batch(experiment: Experiment) -> GradientFlow:
    images, targets = experiment.pair(next(iter(few_batches(experiment, experiment.train_loader, 1))))
    return gradient_flow(
        experiment.model,
        images,
        targets,
        loss_fn=experiment.loss_fn,
        training=True,
        get_logits=experiment.logits,
    )


def _wake(experiment: Experiment) -> None:
    for group in experiment.optimizer.param_groups:
        if group.get("lr") == 0:
            group["lr"] = group.get("initial_lr", 0)


@dataclass(slots=True, eq=False)
class _Notes:
    """What each step did, written down between two batches of the user's loop."""

    experiment: Experiment
    steps: int
    report: Progress
    part: Callable[[HistoryStep], None]
    names: tuple[str, ...]
    done: list[HistoryStep] = field(default_factory=list)
    incoming: dict[str, float] = field(default_factory=dict)
    cancelled: BaseException | None = None

    def batches(self) -> Iterator[Any]:
        """The batches to train on; whoever asks for the next one has finished its step."""
        parameters = dict(self.experiment.model.named_parameters())
        for number, batch in enumerate(endlessly(self.experiment.train_loader)):
            self._tell(number)
            if number == self.steps:
                return
            before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            self.incoming.clear()
            yield batch
            norms = tuple(self.incoming.get(name, math.nan) for name in self.names)
            sizes = {name: norm_of(weight) for name, weight in before.items()}
            moved = {name: norm_of(parameters[name].detach() - weight) for name, weight in before.items()}
            # ‖Δw‖/‖w‖ means nothing for a weight that was all zero.
            ratios = tuple(moved[name] / sizes[name] if sizes[name] else math.nan for name in self.names)
            self.done.append(HistoryStep(self.names, norms, ratios, tuple(sizes[name] for name in self.names)))

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Inside, the norm of every gradient that comes in is noted."""
        handles = [
            parameter.register_hook(self._noting(name))  # type: ignore[no-untyped-call]
            for name, parameter in self.experiment.model.named_parameters()
            if parameter.requires_grad
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _noting(self, name: str) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            norm = norm_of(gradient.detach())
            self.incoming[name] = max(self.incoming.get(name, 0.0), norm if math.isfinite(norm) else math.inf)

        return note

    def _tell(self, number: int) -> None:
        try:
            if self.done:
                self.part(self.done[-1])
            norms = [norm for norm in self.done[-1].gradient_norms if not math.isnan(norm)] if self.done else []
            last = f", gradient norm {math.hypot(*norms):.3g}" if norms else ""
            self.report(number / self.steps, f"Trained {number} of {self.steps} steps{last} …")
        except BaseException as error:
            self.cancelled = error
            raise


@contextmanager
def _of_user(what: str, notes: _Notes | None = None) -> Iterator[None]:
    """What the user's own code raises inside becomes an `ExperimentError` with the user's lines; a cancel does not."""
    try:
        yield
    except Exception as error:
        if notes is not None and notes.cancelled is not None:
            raise notes.cancelled from None
        if isinstance(error, ExperimentError):
            raise
        known = isinstance(error, FeatVizError)
        cause = error.__cause__ if known and isinstance(error.__cause__, Exception) else error
        raise ExperimentError(
            f"{what} failed: {short(cause)}.",
            why=error.why if isinstance(error, FeatVizError) else "",
            do="Mend what the last line of the trace names, and try again.",
            trace=own_lines(cause),
        ) from error


def _history(
    experiment: Experiment, watch: Watch, notes: _Notes, losses: list[float], first: GradientFlow
) -> GradientHistory:
    steps = len(notes.done)
    if not steps:
        raise ExperimentError(
            "The training loop took no batch.",
            why="`train_epoch(experiment, batches)` has to go through the batches that it is given.",
            do="Write `for images, targets in batches:` in it.",
        )
    known = losses if len(losses) == steps else [math.nan] * steps
    return GradientHistory(
        parameters=notes.names,
        gradient_norms=np.array([step.gradient_norms for step in notes.done], np.float64).reshape(steps, -1),
        update_ratios=np.array([step.update_ratios for step in notes.done], np.float64).reshape(steps, -1),
        weight_norms=np.array([step.weight_norms for step in notes.done], np.float64).reshape(steps, -1),
        losses=np.array(known, np.float64),
        optimizer_steps=watch.steps,
        ledger=ledger(experiment, watch),
        first=first,
    )
