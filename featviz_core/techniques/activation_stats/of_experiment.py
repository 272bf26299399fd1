"""The activations of an experiment's model on its own data, fresh or after some steps of its own training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import islice, starmap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, endlessly, fresh, no_batch, train_on
from featviz_core.experiment_file import at_home
from featviz_core.experiment_model import to_pixels
from featviz_core.techniques.activation_stats.compute import Progress, activation_stats
from featviz_core.techniques.activation_stats.result import ActivationStats
from featviz_core.techniques.activation_stats.strongest import TopPictures, top_pictures
from featviz_core.trace import trace

Split = Literal["train", "validation"]


def experiment_activations(
    make_experiment: Factory | str,
    *,
    split: Split = "validation",
    batches: int = 8,
    steps: int = 0,
    kinds: Sequence[str] | None = None,
    training: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> ActivationStats:
    """Are the layers of an experiment's model healthy, after `steps` of its own training?

    `make_experiment`: a factory, or where one is, as for `open_experiment`. Looks at the first `batches` of its
    `split`; of its training data where it has no other. `kinds`: of layers, as `trace.kind_of` names them; without
    them, convolutions and linear layers. Raises `ExperimentError` for data that cannot be used; what the experiment's
    own code raises is passed on.
    """
    report = progress or (lambda _fraction, _text: None)
    with _ready(make_experiment, split, batches, steps, device, report) as (experiment, some):
        layers = None
        if kinds is not None:
            found = trace(experiment.model, tuple(some.first.shape[1:])).layers
            layers = [layer.address for layer in found if layer.kind in kinds and layer.order >= 0 and layer.name]
        return activation_stats(experiment.model, some, layers=layers, training=training, progress=report)


def experiment_top_pictures(
    make_experiment: Factory | str,
    *,
    layer: str,
    split: Split = "validation",
    batches: int = 8,
    steps: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[TopPictures, list[NDArray[np.uint8]]]:
    """Which of an experiment's own pictures does each channel of `layer` answer to most?

    As `top_pictures`, with the pictures themselves, each `(H, W, 3)`; other arguments as in `experiment_activations`.
    """
    report = progress or (lambda _fraction, _text: None)
    with _ready(make_experiment, split, batches, steps, device, report) as (experiment, some):
        kept = list(some)
        pictures = to_pixels([image.cpu() for images in kept for image in images], experiment.normalization)
        return top_pictures(experiment.model, kept, layer=layer), pictures


@contextmanager
def _ready(
    make_experiment: Factory | str, split: Split, batches: int, steps: int, device: str, report: Progress
) -> Iterator[tuple[Experiment, _Pictures]]:
    """The experiment after `steps` of training, from the start of its data again where an epoch has fewer, and some
    pictures of its `split`."""
    with at_home(make_experiment) as factory:
        experiment = fresh(factory, device=device)
        if steps:
            report(0.05, f"Training for {steps} steps")
            train_on(experiment, islice(endlessly(experiment.train_loader), steps), scheduler=False)
        loader = experiment.train_loader if split == "train" or experiment.val_loader is None else experiment.val_loader
        yield experiment, _Pictures(experiment, loader, batches)


class _Pictures(Sized):
    """The pictures of the first `count` batches of a loader, to be gone through once, one batch in memory at a time."""

    def __init__(self, experiment: Experiment, loader: Iterable[Any], count: int) -> None:
        self._count = count
        self._rest = islice(experiment.pairs(loader), count)
        first = next(self._rest, None)
        if first is None:
            raise no_batch()
        self.first = self._checked(*first)

    def _checked(self, images: Tensor, _targets: Any) -> Tensor:
        if images.ndim != 4:
            raise ExperimentError("The experiment's batches hold no pictures.", why="Expected (N, C, H, W).")
        return images.float()

    def __iter__(self) -> Iterator[Tensor]:
        yield self.first
        yield from starmap(self._checked, self._rest)

    def __len__(self) -> int:
        """At most so many: loaders may not know their own length. For the progress bar."""
        return self._count
