"""Pictures that stand out: blank, dark, bright, blurred, small or long. To look at, not to throw away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.techniques.data_check.collect import Seen
from featviz_core.techniques.data_check.normalizations import Recipe
from featviz_core.techniques.data_check.result import SUSPECT_KINDS, Normalization
from featviz_core.techniques.data_check.values import statistics

SHOWN = 24
"""Pictures of one kind that are kept to be shown, over both splits."""

_BLANK = 3 / 255  # largest difference within a picture that is still no picture
_DARK, _BRIGHT = 0.2, 0.8  # two standard deviations above or below a picture's mean, black 0 and white 1
_USUAL = 0.1  # share of dark or bright pictures, above which the data are like that
_APART = 3.0  # robust standard deviations from the other pictures
_BLURRED = 1 / 8  # of the median sharpness
_LONG = 2.5  # aspect ratio, over that of the middle picture
_MANY = 64  # pictures, below which none stands out from the others
_MAD = 1.4826  # from the median distance to a standard deviation, for a normal distribution


@dataclass(frozen=True, slots=True)
class Odd:
    """One picture that stands out: `position` in its split, the number that says so, in words."""

    kind: str
    position: int
    value: float
    text: str


def as_recipe(seen: Seen, normalization: Normalization) -> Recipe:
    """How to undo the normalisation; where it is not known, from the smallest to the largest value met."""
    channels = seen.pictures.mean.shape[1]
    if len(normalization.mean) == channels:
        return Recipe(normalization.name, np.array(normalization.mean), np.array(normalization.std))
    _, _, low, high = statistics(seen)
    bottom, top = (float(low.min()), float(high.max())) if np.isfinite(low).all() else (0.0, 1.0)
    width = max(top - bottom, 1e-12)
    return Recipe("", np.full(channels, -bottom / width), np.full(channels, 1 / width))


def odd_pictures(seen: Seen, normalization: Normalization, sizes: dict[int, tuple[int, int]]) -> list[Odd]:
    """Which pictures of a split stand out, the most conspicuous of each kind first?"""
    if not len(seen):
        return []
    undo = as_recipe(seen, normalization)
    brightness = (seen.pictures.mean * undo.std + undo.mean).mean(1)
    spread = (seen.pictures.std * undo.std).mean(1)
    with np.errstate(invalid="ignore"):
        width = ((seen.pictures.high - seen.pictures.low) * undo.std).max(1)
    bad = seen.pictures.not_finite > 0
    blank = (width <= _BLANK) & ~bad
    found = _odd("not_finite", bad, -seen.pictures.not_finite.astype(float), "{:.0f} values are NaN or infinite", -1)
    found += _odd("blank", blank, width, "all its values lie within {:.3g} of each other (black 0, white 1)")
    plain = ~blank & ~bad
    dark, bright = plain & (brightness + 2 * spread < _DARK), plain & (brightness - 2 * spread > _BRIGHT)
    if dark.mean() <= _USUAL:
        found += _odd("dark", dark, brightness, "mean brightness {:.3f}")
    if bright.mean() <= _USUAL:
        found += _odd("bright", bright, -brightness, "mean brightness {:.3f}", -1)
    found += _blurred(seen, plain)
    return found + _sizes(seen, sizes)


def _odd(kind: str, which: NDArray[np.bool_], key: NDArray[np.floating], text: str, sign: int = 1) -> list[Odd]:
    where = np.flatnonzero(which)
    where = where[np.argsort(key[where], kind="stable")]
    return [Odd(kind, int(i), sign * float(key[i]), text.format(sign * float(key[i]))) for i in where]


def _robust(values: NDArray[np.floating], which: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance from the median in robust standard deviations."""
    middle = np.median(values[which])
    spread = _MAD * np.median(np.abs(values[which] - middle))
    return np.asarray((values - middle) / max(float(spread), 1e-9), np.float64)


def _blurred(seen: Seen, plain: NDArray[np.bool_]) -> list[Odd]:
    """By the variance of the Laplacian, relative to the picture's own contrast and to the other pictures."""
    sharp = seen.pictures.sharpness.astype(np.float64)
    known = plain & np.isfinite(sharp) & (sharp > 0)
    if known.sum() < _MANY:
        return []
    relative = np.full(len(sharp), np.nan)
    relative[known] = sharp[known] / np.median(sharp[known])
    logs = np.log(np.where(known, sharp, 1.0))
    low = known & (_robust(logs, known) < -_APART) & (relative < _BLURRED)
    return _odd("blurred", low, relative, "{:.3f} of the usual sharpness")


def _sizes(seen: Seen, sizes: dict[int, tuple[int, int]]) -> list[Odd]:
    """Files smaller than the input they are stretched to, and long ones of which a crop shows little."""
    if not sizes:
        return []
    where = np.array(list(sizes))
    shapes = np.array(list(sizes.values()), np.float64)
    inputs = seen.pictures.size[where]
    scale = (shapes / inputs).min(1)
    ratio = shapes.max(1) / shapes.min(1)
    apart = ratio / np.median(ratio)
    found = []
    for i in np.flatnonzero(scale < 0.5)[np.argsort(scale[scale < 0.5])]:
        text = f"{shapes[i, 1]:.0f}×{shapes[i, 0]:.0f} in the file, {inputs[i, 1]}×{inputs[i, 0]} for the model"
        found.append(Odd("size", int(where[i]), float(scale[i]), text))
    for i in np.flatnonzero(apart > _LONG)[np.argsort(-apart[apart > _LONG])]:
        text = f"{shapes[i, 1]:.0f}×{shapes[i, 0]:.0f}, {ratio[i]:.1f} to 1"
        found.append(Odd("aspect", int(where[i]), float(ratio[i]), text))
    return found


_REMEDIES = {
    "blank": "Open the files; keep them only if the camera may be covered in use, too.",
    "dark": "Look whether the file is right; pictures like these are hard, not wrong.",
    "bright": "Look whether the file is right; pictures like these are hard, not wrong.",
    "blurred": "Look whether they can be told at all, and whether use will bring such pictures.",
    "size": "Enlarged pictures hold no detail; use a smaller input or larger originals.",
    "aspect": "A central crop shows little of them; pad, or cut them into pieces.",
}


def odd_findings(seen: Seen, found: list[Odd]) -> list[Finding]:
    """One note for each kind that was met; blank ones of one colour and NaN are told elsewhere."""
    notes = []
    for kind, remedy in _REMEDIES.items():
        own = [odd for odd in found if odd.kind == kind]
        if not own:
            continue
        notes.append(
            Finding(
                f"pictures.{kind}",
                "note",
                f"{SUSPECT_KINDS[kind]}: {len(own):,} of {len(seen):,} pictures",
                f"The first: {own[0].text}.",
                seen.name,
                {"pictures": len(own)} | seen.places(np.array([odd.position for odd in own])),
                remedy,
            )
        )
    return notes
