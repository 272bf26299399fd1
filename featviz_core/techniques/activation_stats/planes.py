"""What one output of a layer holds, summarised where it lies: small sums per picture and channel, and a sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.layouts import Layout
from featviz_core.techniques.activation_stats.moments import Rows

SAMPLE = 8192  # values of each batch
# Five passes over a part that stays in the processor's cache cost a third of five passes over everything.
_CHUNK = 2**18
# Below this share of the squared mean, float32 cannot tell a variance from rounding: it takes a second pass.
_SECOND_PASS = 0.02


def planes(output: Tensor, layout: Layout | None) -> Tensor:
    """`output` seen as `(N, C, places)`, without copying; where no layout is known, everything is one channel."""
    if layout is None:
        return output.reshape(1, 1, -1) if output.ndim < 2 else output.flatten(1)[:, None]
    if layout.kind == "vector":
        return output[:, :, None]
    if layout.kind == "channels_first":
        return output.flatten(2)
    batch_first = output.transpose(0, 1) if layout.batch_dim else output
    return batch_first.flatten(1, -2).transpose(1, 2)


def summarise(seen: Tensor) -> Rows:
    """The rows of `moments` for each picture and channel `(8, N, C)` of `planes` (N, C, places)."""
    step = max(1, _CHUNK // max(1, seen[0].numel())) if seen.device.type == "cpu" else len(seen)
    parts = torch.split(seen, step)
    sums = torch.cat([_sums(_precise(part)) for part in parts], dim=1)
    if not bool(sums[1].isfinite().all()):
        return np.concatenate([_with_gaps(part) for part in parts], axis=1)
    count, (total, squares, nonzero, low, high) = seen.shape[2], sums
    mean = total / count
    deviation = squares - count * mean.square()
    doubtful = deviation < _SECOND_PASS * squares
    if bool(doubtful.any()):
        for part, *of_part in zip(parts, *(torch.split(row, step) for row in (mean, deviation, doubtful)), strict=True):
            _second_pass(_precise(part), *of_part)
    none = torch.zeros_like(mean)
    rows = (none + count, mean, deviation.clamp(min=0), low, high, count - nonzero.round(), none, none)
    return _numbers(torch.stack(rows))


def _precise(part: Tensor) -> Tensor:
    return part if part.dtype == torch.float64 else part.float()


def _sums(part: Tensor) -> Tensor:
    """Sum, sum of squares, how many are not zero, smallest and largest of each plane: `(5, n, C)`."""
    if part.stride(2) == 1:
        # Along neighbours in memory, a norm is a single pass.
        squares, nonzero = (torch.linalg.vector_norm(values, dim=2).square() for values in (part, part.sign()))
    else:
        squares, nonzero = part.square().sum(2), part.sign().abs_().sum(2)
    return torch.stack([part.sum(2), squares, nonzero, part.amin(2), part.amax(2)])


def _second_pass(part: Tensor, mean: Tensor, deviation: Tensor, doubtful: Tensor) -> None:
    """Σ(x - mean)² from the differences themselves, in place, where `doubtful` (n, C)."""
    around = part[doubtful] - mean[doubtful, None]
    shift = around.mean(1)
    mean[doubtful] += shift
    deviation[doubtful] = around.square().sum(1) - part.shape[2] * shift.square()


def _with_gaps(part: Tensor) -> Rows:
    """The same where values are NaN, infinite or too large to be squared: over the finite ones, in float64."""
    part = part.cpu().double()
    finite = part.isfinite()
    count = finite.sum(2)
    mean = part.where(finite, 0).sum(2) / count.clamp(min=1)
    deviation = (part - mean[:, :, None]).where(finite, 0).square().sum(2)
    low, high = part.where(finite, math.inf).amin(2), part.where(finite, -math.inf).amax(2)
    rows = (count, mean, deviation, low, high, (part == 0).sum(2), part.isnan().sum(2), part.isinf().sum(2))
    return _numbers(torch.stack([row.double() for row in rows]))


def _numbers(rows: Tensor) -> Rows:
    return np.asarray(rows.cpu().numpy(), dtype=np.float64)


def highest(seen: Tensor) -> NDArray[np.float64]:
    """The largest value of each channel `(C,)` of `planes` (N, C, places); NaN where there is one."""
    return np.asarray(seen.amax((0, 2)).cpu().numpy(), dtype=np.float64)


def sample(output: Tensor) -> NDArray[np.floating[Any]]:
    """About `SAMPLE` values from all over `output`: every k-th, with a k that no axis is a multiple of."""
    strides = output.stride()
    flat = output.permute(sorted(range(output.ndim), key=lambda axis: -strides[axis])).reshape(-1)
    step = max(1, len(flat) // SAMPLE)
    while math.gcd(step, len(flat)) > 1:
        step += 1
    return np.asarray(flat[::step].clone().float().cpu().numpy())
