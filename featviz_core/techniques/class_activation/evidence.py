"""What a method may look at, and the machinery that methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor, nn

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import gradients, layers_of, placed
from featviz_core.layouts import unreadable
from featviz_core.rerun import Rerun
from featviz_core.techniques.class_activation.targets import Target, class_scores
from featviz_core.trace import Layer, explained

_PICTURE = 3 * 224 * 224  # values
# So many such pictures in one batch. More than eight do not fit into a processor's caches, and each takes longer.
_ON_CPU, _ELSEWHERE = 8, 16


class TracedOnce:
    """Lends `model`, whose layers for one size of picture are worked out once for all that follows."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.trace = cache(partial(layers_of, model))

    def borrow(self, *, training: bool = False) -> AbstractContextManager[nn.Module]:
        """As `borrowed`."""
        return borrowed(self._model, training=training)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One picture, one layer and T targets, seen by one pass.

    `image (1, C, H, W)`; `activations (C, h, w)` and `gradients (T, C, h, w)` of the targets' scores `(T,)` towards
    them, float32 on the model's device; `gradients` is empty where no method needs them. `report(fraction)` may raise
    to cancel. Whoever draws at random draws from `generator()`.
    """

    model: Model
    image: Tensor
    layer: Layer
    targets: Sequence[Target]
    scores: Tensor
    activations: Tensor
    gradients: Tensor
    seed: int
    report: Callable[[float], None]

    def generator(self) -> torch.Generator:
        """Random numbers of this evidence's own, the same at each call and on each device."""
        return torch.Generator().manual_seed(self.seed)

    def draw(self, generator: torch.Generator, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers of `shape` on the model's device."""
        return torch.randn(tuple(shape), generator=generator).to(self.activations.device)

    def answers(self, images: Tensor) -> Tensor:
        """The targets' scores `(N, T)` for other pictures `(N, C, H, W)`; one chunk of work."""
        with borrowed(self.model) as module, torch.no_grad(), explained(module, images.shape[1:]):
            return self.scores_in(module(placed(images, module)))

    def scores_in(self, output: object) -> Tensor:
        """The targets' scores `(N, T)` in a model's output."""
        logits = class_scores(output).float()
        return torch.stack([target.of(logits) for target in self.targets], dim=1)

    def look_at(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Activations `(N, C, h, w)` and gradients `(T, N, C, h, w)` at the same layer for other pictures."""
        address = self.layer.address
        seen = gradients(
            self.model, images, layers=[address], scalars=lambda output: list(self.scores_in(output).sum(0))
        )
        return to_maps(self.layer, seen.activations[address]), torch.stack(
            [to_maps(self.layer, gradient) for gradient in seen.gradients[address]]
        )

    @property
    def batch(self) -> int:
        """How many pictures of this size to ask about at once."""
        most = _ON_CPU if self.activations.device.type == "cpu" else _ELSEWHERE
        return max(1, most * _PICTURE // self.image[0].numel())


def to_maps(layer: Layer, tensor: Tensor) -> Tensor:
    """What `layer` gave, as float32 channel maps `(N, C, h, w)`.

    Raises `LayerError` for an output that does not lie on the picture.
    """
    if layer.layout is None:
        raise unreadable(layer.address, tuple(tensor.shape))
    return layer.layout.to_maps(tensor).float()


def weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """The sum over channels of maps `(C, h, w)`, each times its weight `(T, C)`: `(T, h, w)`."""
    return torch.einsum("tc,chw->thw", weights, activations)


def share(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`, and 0 where the whole is nothing."""
    nothing = whole.abs() < 1e-12
    return torch.where(nothing, 0.0, part / torch.where(nothing, 1.0, whole))


def without_channels(rerun: Rerun, layer: Layer, channels: range) -> Tensor:
    """A batch of the layer's activation, in its own layout, each with another one of `channels` set to zero."""
    if layer.layout is None:
        raise unreadable(layer.address, tuple(rerun.activation.shape))
    changed = rerun.activation.repeat_interleave(len(channels), dim=layer.layout.batch_dim)
    axis = 0 if layer.layout.kind in ("channels_first", "vector") else -1
    for row, channel in zip(changed.movedim(layer.layout.batch_dim, 0), channels, strict=True):
        row.select(axis, channel).zero_()
    return changed


Needs = Literal["gradients", "scores", "activations"]
Formula = Callable[[Evidence], Tensor]


@dataclass(frozen=True, slots=True)
class Method:
    """How a map is made.

    `formula`: the definition in one line, where y is the score, A_k the layer's k-th channel, g_k its gradient,
    ij a place and X the picture. `needs`: what it costs to get: gradients, scores of many changed pictures, or
    activations only. `uses_class`: whether the target matters; `signed`: whether the map can argue against it;
    `whole_model`: whether it looks at all layers, whichever was chosen. `compute(evidence)` gives `(T, h, w)`.
    """

    name: str
    title: str
    formula: str
    paper: tuple[str, str]
    needs: Needs
    cost: str
    compute: Formula
    uses_class: bool = True
    signed: bool = True
    whole_model: bool = False


METHODS: dict[str, Method] = {}


def method(
    name: str,
    title: str,
    *,
    formula: str,
    paper: tuple[str, str],
    needs: Needs,
    cost: str,
    uses_class: bool = True,
    signed: bool = True,
    whole_model: bool = False,
) -> Callable[[Formula], Formula]:
    """Put a method on the list under `name`."""

    def enlist(compute: Formula) -> Formula:
        METHODS[name] = Method(name, title, formula, paper, needs, cost, compute, uses_class, signed, whole_model)
        return compute

    return enlist
