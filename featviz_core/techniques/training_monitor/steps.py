"""Hearing of every step of somebody's loop: its loss and its accuracy, without knowing how the loop is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from torch import nn

from featviz_core.errors import FeatVizError
from featviz_core.experiment import Experiment, count_right, loss_value, train_step


class Finish(BaseException):
    """No more steps are wanted. No `Exception`: somebody's loop may catch those."""


class Steps(ExitStack):
    """Inside of its `with`, `done(loss, accuracy)` is called after each training step; None where not known.

    A loop body gives its loss; that of a loop over the whole epoch is seen where the loss is computed. `done` may
    raise `Finish`. Afterwards, the experiment is as it was.
    """

    def __init__(self, experiment: Experiment, done: Callable[[float | None, float | None], None]) -> None:
        super().__init__()
        self._experiment, self._tell = experiment, done
        self._loss: float | None = None
        self._output: Any = None
        self.callback(experiment.model.register_forward_hook(self._see_output).remove)
        for name in ("train_step", "loss_fn"):
            self.callback(setattr, experiment, name, getattr(experiment, name))
        if experiment.train_epoch is not None:
            self._watch_loss()
        else:
            self._watch_body()

    def of(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches to train on; a loop over the whole epoch asks for the next one when its step is done."""
        for batch in batches:
            yield batch
            if self._experiment.train_epoch is not None:
                _, targets = self._experiment.pair(batch)
                self._done(self._loss, targets)

    def _watch_body(self) -> None:
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

    def _done(self, loss: float | None, targets: Any) -> None:
        output, self._output = self._output, None
        self._tell(loss, None if output is None else self._accuracy(output, targets))

    def _accuracy(self, output: Any, targets: Any) -> float | None:
        try:
            logits = self._experiment.logits(output).detach()
        except FeatVizError:
            return None
        return count_right(logits, targets) / len(logits) if len(logits) == len(targets) else None
