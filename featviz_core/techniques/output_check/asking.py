"""Asking a model in small batches, in either mode, and finding the class scores in whatever it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.batches import logits_in
from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import placed
from featviz_core.errors import FeatVizError, ModelError
from featviz_core.trace import explained, first_parameter

Progress = Callable[[float, str], None]
GetLogits = Callable[[Any], Tensor]

_LARGEST_BATCH = 32
_LARGEST_INPUT = 2**23  # numbers in a batch, so that a large picture comes with few others


@dataclass(frozen=True, slots=True)
class Asked:
    """A model, and how the scores are found in its answer."""

    model: Model
    get_logits: GetLogits | None = None

    def scores(self, images: Tensor, *, training: bool = False) -> Tensor:
        """What the model gives for `images` (N, C, H, W) in one batch: on the CPU, in float32 or float64."""
        with borrowed(self.model, training=training) as module, torch.no_grad():
            return on_cpu(self.run(module, placed(images, module)))

    def run(self, module: nn.Module, pictures: Tensor) -> Tensor:
        """The class scores that a borrowed `module` gives for pictures that are already in their place."""
        shape = tuple(pictures.shape[1:])
        with _told(module, shape):
            output = module(pictures)
        return logits_in(output, self.get_logits)

    def weight(self) -> Tensor:
        """A tensor on the model's device with the model's number type."""
        with borrowed(self.model) as module:
            return first_parameter(module).detach()

    def in_batches(self, images: Tensor, progress: Progress) -> Tensor:
        """`scores` for any number of pictures; of the first batch alone where it is not one row for each picture."""
        size = max(1, min(_LARGEST_BATCH, _LARGEST_INPUT // max(1, images[0].numel())))
        found: list[Tensor] = []
        for start in range(0, len(images), size):
            progress(start / len(images), "Asking the model")
            batch = images[start : start + size]
            found.append(self.scores(batch))
            if found[-1].ndim == 0 or len(found[-1]) != len(batch):
                return found[0]
        return torch.cat(found)


def on_cpu(scores: Tensor) -> Tensor:
    """A detached copy on the CPU, in a type that NumPy knows."""
    scores = scores.detach().cpu()
    return scores.clone() if scores.dtype in (torch.float32, torch.float64) else scores.float()


@contextmanager
def _told(module: nn.Module, shape: tuple[int, ...]) -> Iterator[None]:
    """Turn whatever a model raises into a `ModelError` or `DeviceError`."""
    try:
        with explained(module, shape):
            yield
    except FeatVizError:
        raise
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} failed on pictures of shape {shape}.",
            why=f"It raised {type(error).__name__}: {error}.",
            do="Check its `forward`.",
        ) from error
