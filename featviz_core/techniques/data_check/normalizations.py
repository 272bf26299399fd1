"""Which normalisation do values show? Told by the range that each can give, channel by channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz_core.techniques.data_check.result import Normalization

Values = NDArray[np.float64]
Stated = tuple[Sequence[float], Sequence[float]]

OUTSIDE = 0.02
"""Share of the width of a range that values may lie beyond it: resizing may overshoot."""

_NAMED = 0.95  # of the width that values must fill in every channel before a name is given
_PART = 0.3  # of the width, from which a usual recipe may be the right one
_FILLED = 0.6  # of the width that values must fill before a mistake is claimed
_EVEN = 0.07  # smallest spread of pictures and distance of their mean from black and white, in [0, 1]
_STANDARD = (0.3, 0.6, 1.6)  # largest |mean|, smallest and largest std of values standardised by their own statistics


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """`(value - mean) / std` on pictures in [0, 1]; `mean` and `std` are `(C,)`; `remedy` for one that is a mistake."""

    name: str
    mean: Values
    std: Values
    remedy: str = ""

    @property
    def bounds(self) -> tuple[Values, Values]:
        """What black and what white become."""
        return (0 - self.mean) / self.std, (1 - self.mean) / self.std

    def beyond(self, low: Values, high: Values) -> float:
        """How far do values from `low` to `high` lie outside of what it can give, in widths of its range?"""
        black, white = self.bounds
        return float((np.maximum(black - low, high - white) / (white - black)).max().clip(min=0))

    def holds(self, low: Values, high: Values) -> bool:
        """Whether it can give values from `low` to `high`, give or take `OUTSIDE`."""
        return self.beyond(low, high) <= OUTSIDE

    def filled(self, low: Values, high: Values) -> float:
        """Which share in [0, 1] of its range do values from `low` to `high` fill, in the least filled channel?"""
        black, white = self.bounds
        return float(((high - low) / (white - black)).min().clip(0, 1))

    def explains(self, low: Values, high: Values, mean: Values, std: Values, least: float) -> bool:
        """Whether it can give these values, they fill the share `least` of its range and, undone, they make a picture:
        neither even nor nearly black or white."""
        pixel_mean, pixel_std = mean * self.std + self.mean, std * self.std
        usual = (pixel_std > _EVEN) & (pixel_mean > _EVEN) & (pixel_mean < 1 - _EVEN)
        return self.holds(low, high) and bool(usual.all()) and self.filled(low, high) >= least

    def twice(self) -> Recipe:
        """The same done to its own result."""
        remedy = "Normalise in one place: in the data set's transform or in the model, not in both."
        return Recipe(f"{self.name}, applied twice", self.mean + self.std * self.mean, self.std**2, remedy)

    def unscaled(self) -> Recipe:
        """The same done to values of 0 to 255 that were not divided by 255."""
        remedy = f"{_DIVIDE}, before normalising."
        return Recipe(f"{self.name}, without dividing by 255", self.mean / 255, self.std / 255, remedy)

    def reversed(self) -> Recipe:
        """The same with the constants in the order blue, green, red."""
        remedy = "Give mean and standard deviation in the order of the channels: red, green, blue."
        return Recipe(f"{self.name}, in the order blue, green, red", self.mean[::-1], self.std[::-1], remedy)

    def public(self, text: str) -> Normalization:
        """As it stands in the result."""
        return Normalization(self.name, tuple(self.mean.tolist()), tuple(self.std.tolist()), text)


_SINGLE = (("0 to 1", 0.0, 1.0), ("−1 to 1", 0.5, 0.5))
_GREY = (("MNIST", 0.1307, 0.3081), ("Fashion-MNIST", 0.2860, 0.3530))
_COLOUR = (
    ("ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("CIFAR-10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ("CIFAR-100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ("CLIP", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
)


def recipe(name: str, mean: Sequence[float] | float, std: Sequence[float] | float, channels: int) -> Recipe:
    """A recipe for so many channels; single numbers serve all."""
    means, stds = (np.broadcast_to(np.asarray(values, float), (channels,)) for values in (mean, std))
    return Recipe(name, means, stds)


def unscaled(channels: int) -> Recipe:
    """Values of 0 to 255, not divided by 255."""
    remedy = f"{_DIVIDE}, then normalise."
    return Recipe("0 to 255", np.zeros(channels), np.full(channels, 1 / 255), remedy)


def shrunk(channels: int) -> Recipe:
    """Divided by 255 once too often."""
    remedy = "`ToTensor()` has divided already; leave the other division out."
    return Recipe("divided by 255 twice", np.zeros(channels), np.full(channels, 255.0), remedy)


def forgotten(channels: int) -> Recipe:
    """In [0, 1], where a normalisation was meant to follow."""
    remedy = "Add `Normalize(mean, std)` with the stated numbers."
    return Recipe(FORGOTTEN, np.zeros(channels), np.ones(channels), remedy)


FORGOTTEN = "not normalised"
_DIVIDE = "Divide by 255 (`ToTensor()` does, `ToDtype` only with `scale=True`)"


def known(channels: int) -> Iterator[Recipe]:
    """The usual recipes for pictures of so many channels."""
    named = _COLOUR if channels == 3 else _GREY if channels == 1 else ()
    for name, mean, std in (*_SINGLE, *named):
        yield recipe(name, mean, std, channels)


def named(low: Values, high: Values) -> Recipe | None:
    """The usual recipe whose range these values fill in every channel."""
    fitting = [own for own in known(len(low)) if own.holds(low, high) and own.filled(low, high) >= _NAMED]
    return max(fitting, key=lambda own: own.filled(low, high), default=None)


def mistake(low: Values, high: Values, mean: Values, std: Values, stated: Stated | None) -> Recipe | None:
    """The mistake that explains these values best, where the right recipe does not.

    Where none is stated, any usual recipe may be right, and one gone wrong has to fit in every channel.
    """
    channels = len(low)
    plain = [(unscaled(channels), _FILLED), (shrunk(channels), _FILLED)]
    if stated is None:
        usual = list(known(channels))
        if any(own.holds(low, high) and own.filled(low, high) > _PART for own in usual):
            return None
        wrong = [(made, _NAMED) for own in usual[1:] for made in (own.twice(), own.unscaled())]
        return _best([*plain, *wrong], low, high, mean, std)
    own = recipe("the stated normalisation", *stated, channels)
    wrong = [(made, _FILLED) for made in (own.twice(), own.unscaled(), own.reversed())]
    if not forgotten(channels).holds(*own.bounds):
        wrong.append((forgotten(channels), _FILLED))
    found = _best([*plain, *wrong], low, high, mean, std)
    if found is not None and own.holds(low, high) and own.filled(low, high) >= found.filled(low, high) / 2:
        return None
    return found


def _best(
    candidates: Iterable[tuple[Recipe, float]], low: Values, high: Values, mean: Values, std: Values
) -> Recipe | None:
    fitting = [own for own, least in candidates if own.explains(low, high, mean, std, least)]
    return max(fitting, key=lambda own: own.filled(low, high), default=None)


def standardised(mean: Values, std: Values) -> bool:
    """Whether values look as if their own mean was taken away and their own standard deviation divided out."""
    limit, narrow, wide = _STANDARD
    return bool((np.abs(mean) <= limit).all() and (std >= narrow).all() and (std <= wide).all())
