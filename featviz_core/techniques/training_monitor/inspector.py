"""When the monitor looks into the training, and what it writes of what it saw."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.errors import FeatVizError
from featviz_core.runs import tags
from featviz_core.runs.graph import model_graph
from featviz_core.techniques.training_monitor.distributions import distributions
from featviz_core.techniques.training_monitor.looks import ActivationWatch, Budget, StepWatch
from featviz_core.techniques.training_monitor.pictures import drawn
from featviz_core.techniques.training_monitor.recorder import Recorder

# What looking may take of the training's time: a share of it, and these seconds for what is done only once.
_SHARE, _ONCE = 0.015, 0.5
_LOOKS_A_HISTOGRAM = 10  # one look in ten also shows distributions


class Inspector:
    """Looks at each `every`-th step as far as the time allows, and writes through `recorder`."""

    def __init__(
        self,
        model: nn.Module | None,
        optimizer: torch.optim.Optimizer | None,
        recorder: Recorder,
        every: int,
        samples: Tensor | tuple[Tensor, Sequence[int] | Tensor] | None,
        class_names: Sequence[str],
    ) -> None:
        self._model = None if model is None or _is_sharded(model) else _bare(model)
        self._recorder, self._every, self._names = recorder, every, class_names
        self._images = samples[0] if isinstance(samples, tuple) else samples
        self._targets = [int(target) for target in samples[1]] if isinstance(samples, tuple) else None
        self._budget = Budget(_SHARE, _ONCE)
        self._steps = None if optimizer is None else StepWatch(self._model, optimizer, self._budget)
        self._activations = None
        if model is not None and self._model is not None:
            self._activations = ActivationWatch(self._model, self._budget, compiled=_is_compiled(model))
        self._looks = 0
        self._looking = self._graph_drawn = False

    def rates(self) -> dict[str, Any]:
        """The rates of the step that was taken last, by tag: the first group's, and others where they differ."""
        rates = [] if self._steps is None else self._steps.rates
        return {tags.of_rate(group): rate for group, rate in enumerate(rates) if not group or rate != rates[0]}

    def prepare(self, step: int) -> None:
        """Look at the coming `step`, if it is time. A look that was begun goes on until the optimiser steps."""
        if self._looking or self._activations is None or step % self._every or not self._budget.allows():
            return
        self._looking = True
        self._activations.keep = self._looks % _LOOKS_A_HISTOGRAM == 0
        self._activations.start()
        if self._steps is not None:
            self._steps.looking, self._steps.keep = True, self._activations.keep

    def look(self, step: int) -> None:
        """Write what was seen of `step`, if the optimiser took it."""
        if not self._looking or self._model is None or self._activations is None:
            return
        if self._steps is not None and not self._steps.seen:
            return
        self._looking = False
        with self._writing():
            if self._activations.keep:
                gradients = {} if self._steps is None else self._steps.samples
                for one in distributions(self._model, gradients, self._activations.outputs, step):
                    self._recorder.send(lambda sink, one=one: sink.histogram(one))  # type: ignore[misc]
            values = self._activations.take() | ({} if self._steps is None else self._steps.take())
            self._recorder.send(lambda sink: sink.scalars(values, step, time.time()))
        self._looks += 1
        if self._budget.allows():
            self._draw_graph()

    def draw(self, step: int) -> None:
        """Write what the model says of the samples, if there is time."""
        images = self._samples()
        if self._model is None or images is None or not self._budget.allows():
            return
        with self._writing(), _harmless("The samples are not drawn", images):
            for tag, picture, caption in drawn(self._model, images, self._targets, self._names):
                self._recorder.send(
                    lambda sink, tag=tag, picture=picture, caption=caption: sink.image(  # type: ignore[misc]
                        tag, picture, step, time.time(), caption
                    )
                )

    def close(self) -> None:
        """Write what there was no time for, and leave everything as it was."""
        for watch in (self._steps, self._activations):
            if watch is not None:
                watch.close()
        if self._recorder.opened:
            self._draw_graph()

    def _draw_graph(self) -> None:
        """Once."""
        images = self._samples()
        if self._model is None or images is None or self._graph_drawn:
            return
        self._graph_drawn = True
        with self._writing(), _harmless("The model's graph is not drawn", images):
            graph = model_graph(self._model, images)
            self._recorder.send(lambda sink: sink.graph(graph))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Count the time of a block, and of what it has others do."""
        with self._budget.spending():
            yield
            self._recorder.send(lambda sink: sink.flush())

    def _samples(self) -> Tensor | None:
        return self._images if self._images is not None or self._activations is None else self._activations.images


@contextmanager
def _harmless(what: str, images: Tensor) -> Iterator[None]:
    """A model that cannot be shown can still be trained: say so, and go on with the same random state."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        except (FeatVizError, torch.OutOfMemoryError) as error:
            warnings.warn(f"{what}: {error}", stacklevel=4)


def _bare(model: nn.Module) -> nn.Module:
    """The model inside of what distributes or compiles it."""
    while isinstance(inner := getattr(model, "_orig_mod", None) or _inside(model), nn.Module):
        model = inner
    return model


def _inside(model: nn.Module) -> Any:
    parallel = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return model.module if isinstance(model, parallel) else None


def _is_compiled(model: nn.Module) -> bool:
    parts = list(model.modules())
    return any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in parts)


def _is_sharded(model: nn.Module) -> bool:
    """Whether its weights are spread over processes: then one of them alone must not look at them."""
    if not any(
        hasattr(parameter, "to_local") or hasattr(parameter, "_is_flat_param") for parameter in model.parameters()
    ):
        return False
    warnings.warn("The model is spread over processes (FSDP), so only its curves are written.", stacklevel=4)
    return True
