"""Does a map show the model or just the picture? Reset the model's weights and see; and do methods agree?"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from featviz_core.borrowing import Model, borrowed, structural_view, untouched
from featviz_core.capture import layers_of
from featviz_core.errors import ModelError
from featviz_core.techniques.class_activation.compute import class_activation
from featviz_core.techniques.class_activation.targets import Wanted
from featviz_core.techniques.class_activation.trust import Progress
from featviz_core.trace import Trace

_STAGES = 6
# Two unrelated smooth maps of some fifty places correlate by up to about .5 by chance.
_SAME, _CHANCE = 0.9, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class RandomizationCheck:
    """What happens to a map as the model's weights are reset, from the answer down to the picture.

    `stages`: one row each, with `reset_from` (the lowest layer that was reset), `layers` and `parameters` (how many
    were reset), `correlation` (rank correlation with the trained model's map, -1 to 1, the mean over redraws; NaN
    where a map is constant). `original (h, w)` and `randomized (stages, h, w)` are raw maps, of the first redraw.
    """

    stages: pd.DataFrame
    original: NDArray[np.float32]
    randomized: NDArray[np.float32]

    @property
    def verdict(self) -> str:
        """What the correlations say, in words."""
        found = self.stages["correlation"].to_numpy(dtype=float)
        if np.ptp(self.original) == 0 or not np.isfinite(self.original).all():
            return "The trained model's map is constant, so there is nothing to compare."
        if np.isnan(found[-1]):
            return "Without its trained weights the model gives a constant map: the map depends on what it learned."
        if abs(found[-1]) > _CHANCE:
            return (
                f"The map hardly changes when all weights are reset (correlation {found[-1]:.2f}): "
                "it shows the picture, not what the model learned."
            )
        if abs(found[0]) > _SAME:
            return (
                "The map depends on what the layers below it learned, but stays the same when the classifier is "
                f"reset (correlation {found[0]:.2f}): it does not depend on the class."
            )
        return f"The map changes when weights are reset (correlation {found[-1]:.2f}): it shows what the model learned."


def randomization_check(
    model: Model,
    image: Tensor,
    *,
    layer: str | None = None,
    target: Wanted = None,
    method: str = "gradcam",
    redraws: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> RandomizationCheck:
    """Does the map for `image` (1, C, H, W) change when the model's top layers are reset?

    Layers are reset one after another, from the one called last down to the first; at up to six stages the map for
    the same target is drawn again. Resetting draws each weight tensor from a normal distribution with its own mean and
    spread, so that activations keep their size. Works on a view with weights of its own; the model is not touched.
    `progress` may raise to cancel.

    Raises `LayerError` and `ModelError` as `class_activation` does.
    Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (cascading randomization).
    """
    options = {"layer": layer, "target": target, "method": method}
    first = class_activation(model, image, **options)  # type: ignore[arg-type]
    options |= {"layer": first.layer.address, "target": first.target}
    steps = layers_of(model, tuple(image.shape[1:]))
    names = _weighted(model, steps)
    ends = sorted({round(float(n)) for n in np.geomspace(1, len(names), _STAGES)})
    correlations = np.full((redraws, len(ends)), np.nan)
    maps: list[NDArray[np.float32]] = []
    for redraw in range(redraws):
        generator = torch.Generator().manual_seed(seed + redraw)
        view = _View(model, steps)
        done = 0
        for stage, end in enumerate(ends):
            if progress:
                progress((redraw + stage / len(ends)) / redraws, f"Resetting {names[end - 1]} …")
            for name in names[done:end]:
                _reset(view.module.get_submodule(name), generator)
            done = end
            raw = class_activation(view, image, **options).raw  # type: ignore[arg-type]
            correlations[redraw, stage] = rank_correlation(first.raw, raw)
            maps += [raw] if redraw == 0 else []
    return RandomizationCheck(_frame(model, names, ends, correlations), first.raw, np.stack(maps))


def _frame(model: Model, names: list[str], ends: list[int], correlations: NDArray[np.float64]) -> pd.DataFrame:
    with borrowed(model) as module:
        sizes = [sum(p.numel() for p in module.get_submodule(name).parameters(recurse=False)) for name in names]
    counted = np.isfinite(correlations).sum(0)
    mean = np.divide(np.nansum(correlations, 0), counted, out=np.full(len(ends), np.nan), where=counted > 0)
    return pd.DataFrame(
        {
            "reset_from": [names[end - 1] for end in ends],
            "layers": ends,
            "parameters": [sum(sizes[:end]) for end in ends],
            "correlation": mean,
        }
    )


class _View:
    """A model over the same weights, to be changed; it keeps the original's trace, which takes longest to make."""

    def __init__(self, model: Model, steps: Trace) -> None:
        self._steps = steps
        try:
            with borrowed(model) as module:
                self.module = structural_view(module)
        except (copy.Error, TypeError, RuntimeError) as error:
            raise ModelError("The weights cannot be reset: this model cannot be copied.", why=str(error)) from error

    def borrow(self, *, training: bool = False) -> AbstractContextManager[nn.Module]:
        return untouched(self.module, training=training)

    def trace(self, _shape: tuple[int, ...]) -> Trace:
        return self._steps


def _weighted(model: Model, steps: Trace) -> list[str]:
    """The modules with parameters of their own, the one called last first; one never called stands by its parent."""
    order = {layer.name: layer.order for layer in steps.layers}
    with borrowed(model) as module:
        names = [name for name, m in module.named_modules() if next(m.parameters(recurse=False), None) is not None]
    return sorted(names, key=lambda name: _place(name, order), reverse=True)


def _place(name: str, order: Mapping[str, int]) -> int:
    while name and order.get(name, -1) < 0:
        name = name.rpartition(".")[0]
    return order.get(name, -1)


def _reset(module: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        spread = parameter.std() if parameter.numel() > 1 else parameter.new_zeros(())
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        fresh = (parameter.mean() + spread * noise).detach()
        # A new tensor, because the old one's storage is everybody's.
        setattr(module, name, nn.Parameter(fresh, requires_grad=parameter.requires_grad))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Do two maps of one shape put their places in the same order? Spearman's rho, -1 to 1, ties given their mean
    rank; NaN where a map is constant or not finite."""
    values = [np.asarray(values, np.float64).ravel() for values in (first, second)]
    if any(np.ptp(flat) == 0 or not np.isfinite(flat).all() for flat in values):
        return float("nan")
    a, b = (pd.Series(flat).rank().to_numpy() for flat in values)
    return float(np.corrcoef(a, b)[0, 1])


def overlap(first: ArrayLike, second: ArrayLike, *, share: float = 0.2) -> float:
    """Do two maps of one shape have the same peaks? Intersection over union, 0 to 1, of each map's highest `share` of
    places; NaN where a map is constant or not finite."""
    tops = [_top(np.asarray(values, np.float64), share) for values in (first, second)]
    if not all(top.any() for top in tops):
        return float("nan")
    return float((tops[0] & tops[1]).sum() / (tops[0] | tops[1]).sum())


def _top(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    if not np.isfinite(values).all():
        return np.zeros(values.shape, bool)
    count = max(1, round(share * values.size))
    threshold = np.partition(values.ravel(), -count)[-count]
    # A map that is flat at the threshold has fewer peaks than asked for; its floor is no peak.
    return np.asarray((values >= threshold) & (values > values.min()))


def agreement(maps: Mapping[str, ArrayLike] | Sequence[tuple[str, ArrayLike]]) -> pd.DataFrame:
    """Do several maps `(H, W)` of one picture, by name, agree?

    A row for each ordered pair: `first second correlation overlap`, with Spearman's rank correlation in [-1, 1] and
    the intersection over union, in [0, 1], of the highest fifth of the places. NaN where a map is constant.
    """
    named = [(name, np.asarray(values)) for name, values in dict(maps).items()]
    rows = [(a, b, rank_correlation(x, y), overlap(x, y)) for a, x in named for b, y in named]
    return pd.DataFrame(rows, columns=["first", "second", "correlation", "overlap"])
