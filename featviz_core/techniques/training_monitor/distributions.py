"""How weights, gradients and activations are distributed: histograms of at most 65,536 values each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from featviz_core.runs import tags
from featviz_core.runs.run import LoggedHistogram
from featviz_core.runs.writing import written_histogram
from featviz_core.techniques.training_monitor.looks import spread

_BINS = 40


def distributions(
    model: nn.Module, gradients: Mapping[str, Tensor], outputs: Mapping[str, Tensor], step: int
) -> Iterator[LoggedHistogram]:
    """The histograms of one step, of what has values that are numbers."""
    kinds = (("weight", dict(model.named_parameters())), ("gradient", gradients), ("activation", outputs))
    for kind, tensors in kinds:
        for name, tensor in tensors.items():
            found = histogram_of(tags.of_histogram(kind, name), tensor, step)
            if found is not None:
                yield found


def histogram_of(tag: str, tensor: Tensor, step: int) -> LoggedHistogram | None:
    """The distribution of a tensor's values; None where none is a number."""
    values = spread(tensor).float()
    values = values[values.isfinite()].cpu()
    if not len(values):
        return None
    low, high = (float(bound) for bound in torch.aminmax(values))
    if low == high:
        return written_histogram(step, time.time(), tag, [len(values)], [low, high])
    counts = torch.histc(values, _BINS, low, high)
    return written_histogram(step, time.time(), tag, counts, torch.linspace(low, high, _BINS + 1))
