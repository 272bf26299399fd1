"""Gradient flow: one forward and one backward pass, and what comes back to every parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from featviz_core.batches import describe, logits_in, moved
from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import check_images, placed
from featviz_core.errors import FeatVizError, ModelError
from featviz_core.experiment import own_randomness, seed_everything
from featviz_core.techniques.gradient_flow.findings import about_flow
from featviz_core.techniques.gradient_flow.result import GradientFlow, ParameterGradient, State
from featviz_core.trace import explained

Loss = Callable[..., Tensor]
_SAFE = (1e-15, 1e15)  # norms whose squares are far from the ends of float32


def gradient_flow(
    model: Model,
    images: Tensor,
    targets: Any = None,
    *,
    loss_fn: Loss = functional.cross_entropy,
    training: bool = False,
    get_logits: Callable[[Any], Tensor] | None = None,
) -> GradientFlow:
    """Does the loss of `images` (N, C, H, W) reach every parameter, and how much of it?

    `targets`: class numbers `(N,)`, or whatever `loss_fn(logits, targets)` takes; None for the classes that the model
    itself predicts. `get_logits(output)` finds the scores where the model gives more; `.logits` and `["logits"]` are
    found without it. With `training`, dropout and BatchNorm work as in training; random numbers start from the same
    seed each time. The model is left as it was, `.grad` included (gradients come from `torch.autograd.grad`), and so
    are the process's random numbers.

    Raises `ModelError` for pictures that the model cannot look at, an output without a single tensor of scores, and a
    loss that fails or is no single number.

    The bars of mean and maximum |g| over the network's depth are those of Glorot and Bengio: Understanding the
    difficulty of training deep feedforward neural networks (AISTATS 2010), per parameter.
    """
    check_images(images)
    with own_randomness(), borrowed(model, training=training) as module, torch.enable_grad():
        seed_everything(0)
        called = _calls(module)
        with _told("The model", f"It was given {describe(images)}."), explained(module, images.shape[1:]):
            output = module(placed(images, module))
        logits = _scores(output, get_logits)
        loss = _loss(loss_fn, logits, logits.detach().argmax(1) if targets is None else _as_targets(targets, logits))
        wanting = {name: p for name, p in module.named_parameters() if p.requires_grad}
        with explained(module, images.shape[1:]):
            towards_logits, *gradients = _towards(loss, [logits, *wanting.values()])
        found = GradientFlow(
            loss=float(loss.detach()),
            pictures=len(images),
            training=training,
            output_norm=math.nan if towards_logits is None else norm_of(towards_logits),
            parameters=_measured(module, dict(zip(wanting, gradients, strict=True)), called),
        )
    return replace(found, findings=about_flow(found))


def _calls(module: nn.Module) -> dict[str, int]:
    """Filled while the model runs: the names of its modules, each with the place of its first call."""
    called: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def first(*_: Any) -> None:
            called.setdefault(name, len(called))

        return first

    for name, inner in module.named_modules():
        inner.register_forward_pre_hook(note(name))
    return called


def _scores(output: Any, get_logits: Callable[[Any], Tensor] | None) -> Tensor:
    scores = logits_in(output, get_logits)
    if scores.ndim > 1:
        return scores
    raise ModelError(
        "The model gives no single tensor of class scores.",
        why=f"Expected (N, C), got {describe(scores)}.",
        do="End the model with one row of scores for each picture.",
    )


def _as_targets(targets: Any, logits: Tensor) -> Any:
    numbers = isinstance(targets, Sequence) and all(isinstance(target, int) for target in targets)
    return moved(torch.tensor(targets) if numbers else targets, logits.device)


def _loss(loss_fn: Loss, logits: Tensor, targets: Any) -> Tensor:
    with _told("The loss", f"It was given logits, {describe(logits)}, and targets, {describe(targets)}."):
        loss = loss_fn(logits, targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ModelError(
            "The loss is no single number.",
            why=f"Expected a tensor with one value, got {describe(loss)}.",
            do="Take the mean over the pictures: `reduction='mean'`, or `.mean()`.",
        )
    return loss


@contextmanager
def _told(what: str, given: str) -> Iterator[None]:
    """Whatever is raised inside becomes a `ModelError` that says what failed, and on what."""
    try:
        yield
    except FeatVizError:
        raise
    except Exception as error:
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"{what} failed.", why=f"{type(error).__name__}: {said}. {given}", do="Check their shapes and number types."
        ) from error


def _towards(loss: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    wanting = [tensor for tensor in tensors if tensor.requires_grad]
    if not loss.requires_grad or not wanting:
        return [None] * len(tensors)
    found = dict(zip(map(id, wanting), torch.autograd.grad(loss, wanting, allow_unused=True), strict=True))
    return [found.get(id(tensor)) for tensor in tensors]


def _measured(
    module: nn.Module, gradients: Mapping[str, Tensor | None], called: Mapping[str, int]
) -> tuple[ParameterGradient, ...]:
    """One row a parameter, in network order."""
    rows = [_row(name, module, parameter, gradients.get(name), called) for name, parameter in module.named_parameters()]
    return tuple(sorted(rows, key=lambda row: len(called) if row.state == "unused" else _place(row.layer, called)))


def _place(layer: str, called: Mapping[str, int]) -> int:
    """When a layer ran; one that is never called by itself has its parent use its parameters."""
    return called.get(_nearest(layer, called), 0)


def _nearest(layer: str, called: Mapping[str, int]) -> str:
    while layer and layer not in called:
        layer = layer.rpartition(".")[0]
    return layer


def _ran(layer: str, called: Mapping[str, int]) -> bool:
    """Whether a layer was called, or is part of one that was and calls none of its parts, as attention often does."""
    nearest = _nearest(layer, called)
    return nearest == layer or (nearest != "" and not any(name.startswith(f"{nearest}.") for name in called))


def _row(
    name: str, module: nn.Module, parameter: Tensor, gradient: Tensor | None, called: Mapping[str, int]
) -> ParameterGradient:
    layer = name.rpartition(".")[0]
    if gradient is not None:
        state: State = "reached"
    elif not parameter.requires_grad:
        state = "frozen"
    else:
        state = "detached" if _ran(layer, called) else "unused"
    return ParameterGradient(
        parameter=name,
        layer=layer,
        type=type(module.get_submodule(layer)).__name__,
        shape=tuple(parameter.shape),
        state=state,
        weight_norm=norm_of(parameter.detach()),
        **({} if gradient is None else _numbers(gradient)),
    )


def _numbers(gradient: Tensor) -> dict[str, Any]:
    rows = _rows(gradient.to_dense() if gradient.is_sparse else gradient)
    sizes = rows.abs()
    largest, sums = _on_cpu(sizes.amax(1)), _on_cpu(sizes.sum(1))
    # A value that is no number makes the largest of its row none, so most often these few tell all.
    finite = bool(np.isfinite(largest).all())
    return {
        "mean_abs": float(sums.sum()) / rows.numel(),
        "max_abs": float(largest.max()),
        "norm": norm_of(rows),
        "zero_fraction": 1 - int(torch.count_nonzero(rows)) / rows.numel(),
        "dead_fraction": 1 - np.count_nonzero(largest) / len(largest),
        "nan_count": 0 if finite else int(rows.isnan().sum()),
        "inf_count": 0 if finite else int(rows.isinf().sum()),
    }


def norm_of(tensor: Tensor) -> float:
    """‖tensor‖₂, right to six digits for any number of values of any size.

    Row by row, because torch's norm of millions of float32 values can be off by a thousandth; and scaled where their
    squares would be too small or too large for their number type.
    """
    rows = _rows(tensor)
    norm = float(np.linalg.norm(_on_cpu(torch.linalg.vector_norm(rows, dim=1))))
    if _SAFE[0] < norm < _SAFE[1] or math.isnan(norm):
        return norm
    largest = float(rows.abs().amax())
    if not 0 < largest < math.inf:
        return largest
    return largest * float(torch.linalg.vector_norm(rows.cpu().double() / largest))


def _on_cpu(values: Tensor) -> NDArray[np.float64]:
    """A few numbers as NumPy has them: for hundreds of small tensors, torch's way to each number is what takes time."""
    return values.cpu().numpy().astype(np.float64)


def _rows(tensor: Tensor) -> Tensor:
    """One row an output unit, in at least float32."""
    rows = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(-1, 1)
    return rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
