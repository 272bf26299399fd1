"""Does training run smoothly: numbers that are none, divergence, oscillation, spikes?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from featviz_core.diagnosis.curves import Curve, Curves, Floats
from featviz_core.diagnosis.evidence import number, seen
from featviz_core.findings import Finding

_LOWER_RATE = "Lower the learning rate by a factor of 3 to 10, warm it up over the first steps, or clip gradients"
_WINDOWS = 400  # in which the noise of single values is measured


def not_finite(curves: Curves) -> Iterator[Finding]:
    """A loss that is NaN or infinite: for good, or for some steps only."""
    for tag, step in curves.never_finite:
        yield seen(
            "not_finite",
            "fail",
            "The loss never is a number",
            "It is NaN or infinite from the first step, so nothing that was learned can be to blame.",
            on=tag,
            between=(step, step),
            remedy="Look for NaN in the pictures and in the weights, and for a logarithm or a division in the loss.",
        )
    for found in (curves.train_loss, curves.validation_loss):
        if found is not None and not np.isfinite(found.values).all():
            yield _broken(found)


def _broken(loss: Curve) -> Finding:
    bad = ~np.isfinite(loss.values)
    first, count = int(np.argmax(bad)), int(bad.sum())
    step = int(loss.steps[first])
    for_good = bool(bad[-min(3, len(bad)) :].all()) or count > 0.1 * len(bad)
    before = loss.values[:first][np.isfinite(loss.values[:first])]
    rising = len(before) > 3 and float(before[-1]) > float(np.median(before)) + 3 * loss.scatter
    if not for_good:
        return seen(
            "not_finite",
            "warn",
            "The loss was not a number for some steps",
            "Training went on afterwards. Mixed precision skips such steps on purpose; anywhere else a batch is odd.",
            on=loss,
            between=(step, int(loss.steps[bad][-1])),
            remedy="Without mixed precision, look at the batches of these steps.",
            values_not_finite=count,
        )
    return seen(
        "not_finite",
        "fail",
        "The loss is no longer a number",
        "It rose before it broke: the steps were too large." if rising else "It broke suddenly, without rising first.",
        on=loss,
        between=(step, int(loss.steps[-1])),
        remedy=f"{_LOWER_RATE}."
        if rising
        else "Look at the batch of this step, and for a logarithm or a division in the loss; then try a lower rate.",
        values_not_finite=count,
        last_number=number(float(before[-1])) if len(before) else "none",
    )


def diverged(curves: Curves) -> Iterator[Finding]:
    """The training loss ends above where it began, or has lost most of what it had gained; for good."""
    loss = curves.loss
    if loss is None or len(loss.levels) < 4 or curves.train_loss is None:
        return
    best = int(np.argmin(loss.levels))
    lowest, end = float(loss.levels[best]), loss.end
    start = max(loss.start, float(loss.levels[0]))
    gained, clear = start - lowest, 5 * loss.noise
    numbers = {"start": number(start), "lowest": number(lowest), "end": number(end)}
    place = (float(loss.level_steps[best]), float(loss.steps[-1]))
    if loss.lasting(loss.levels > start + max(0.2 * abs(start), clear)):
        yield seen(
            "diverged",
            "fail",
            "Training diverges",
            "The loss ends above where it began.",
            on=loss,
            between=place,
            remedy=f"{_LOWER_RATE}. A loss with the wrong sign and gradients that are never cleared look the same.",
            **numbers,
        )
    elif gained > clear and loss.lasting(loss.levels > lowest + max(0.4 * gained, clear)) and end > lowest:
        yield seen(
            "diverged",
            "fail",
            "Training loses again what it had learned",
            f"After its lowest value the loss rises and stays up: {(end - lowest) / gained:.0%} of the gain are lost.",
            on=loss,
            between=place,
            remedy=f"{_LOWER_RATE}. Check that gradients are cleared before each step.",
            **numbers,
        )


def oscillates(curves: Curves) -> Iterator[Finding]:
    """The training loss swings up and down, from step to step or over many of them."""
    loss = curves.train_loss
    if loss is None or len(loss.levels) < 8:
        return
    gained = max(loss.start, float(loss.levels[0])) - float(loss.levels.min())
    noisy = loss.per_level >= 3 or curves.by_step  # single batches; whole epochs hardly have noise
    late = loss.levels[len(loss.levels) // 5 :]
    swings = turns(late, max(0.15 * gained, 8 * loss.noise if noisy else 0.0, 1e-12))
    where = (float(loss.level_steps[len(loss.levels) // 5]), float(loss.steps[-1]))
    remedy = f"{_LOWER_RATE}; larger batches help too."
    if len(swings) >= 4:
        follows = _restarts(curves.rates) >= 2
        yield seen(
            "oscillates",
            "note" if follows else "warn",
            "The loss swings with the learning rate" if follows else "The loss swings up and down",
            "Each restart of the schedule throws it up again, as such schedules do."
            if follows
            else f"It turned {len(swings)} times by more than 15 % of all that was gained.",
            on=loss,
            between=where,
            remedy="" if follows else remedy,
            swings=len(swings),
            gained=number(gained),
        )
        return
    together = _alternation(loss)
    if loss.per_level >= 3 and together < -0.5 and loss.scatter > 0.03 * gained:
        yield seen(
            "oscillates",
            "warn",
            "The loss jumps to and fro with every step",
            "Each step leads past the valley and the next one back: the learning rate is at its limit.",
            on=loss,
            between=(float(loss.steps[0]), float(loss.steps[-1])),
            remedy=remedy,
            correlation_of_neighbours=number(together),
            scatter=number(loss.scatter),
        )


def turns(values: Floats, height: float) -> list[int]:
    """The places at which a curve turns by more than `height`, up or down."""
    found: list[int] = []
    extreme, direction = 0, 0
    for place, value in enumerate(values):
        rest = value - values[extreme]
        if (direction >= 0 and rest <= -height) or (direction <= 0 and rest >= height):
            if direction:
                found.append(extreme)
            direction, extreme = (1 if rest > 0 else -1), place
        elif rest * direction > 0:
            extreme = place
        elif direction == 0 and abs(rest) < height:
            continue
    return found


def _alternation(loss: Curve) -> float:
    """The correlation of neighbours in what is left of single values without their course: 0 for independent ones."""
    finite = np.isfinite(loss.values)
    rest = loss.values[finite] - np.interp(loss.steps[finite], loss.level_steps, loss.levels)
    rest = rest[len(rest) // 3 :]
    rest = np.clip(rest, -4 * loss.scatter, 4 * loss.scatter)
    spread = float(rest @ rest)
    return float(rest[1:] @ rest[:-1] / spread) if spread else 0.0


def _restarts(rate: Curve | None) -> int:
    """How often the learning rate jumps up again after it fell."""
    if rate is None:
        return 0
    return sum(
        rate.levels[place] < rate.levels.max() / 2 for place in turns(rate.levels, float(np.ptp(rate.levels)) / 3)
    )


def spikes(curves: Curves) -> Iterator[Finding]:
    """Single high values of the training loss that go away again."""
    loss = curves.train_loss
    if loss is None or len(loss.values) < 12:
        return
    high = _spikes(loss)
    if not high.any():
        return
    places = np.flatnonzero(high)
    # Neighbours are one event.
    apart = max(1, len(loss.values) // 100)
    events = 1 + int((np.diff(places) > apart).sum())
    top = int(places[np.argmax(loss.values[places])])
    above_start = float(loss.values[top]) > loss.start
    yield seen(
        "spikes",
        "warn" if events >= 3 or above_start else "note",
        "The loss has spikes" if events > 1 else "The loss has a spike",
        f"{'They go' if events > 1 else 'It goes'} away again; the highest is at step {int(loss.steps[top]):,}.",
        on=loss,
        between=(float(loss.steps[places[0]]), float(loss.steps[places[-1]])),
        remedy="Clip gradients by their norm, and look at the batches of these steps: odd pictures or labels do this.",
        spikes=events,
        highest=number(float(loss.values[top])),
    )


def _spikes(loss: Curve) -> NDArray[np.bool_]:
    gained = max(loss.start, float(loss.levels[0])) - float(loss.levels.min())
    values = np.where(np.isfinite(loss.values), loss.values, loss.level_at(float(loss.steps[0])))
    half = max(3, min(15, len(values) // 8), len(values) // 800)
    centres = np.unique(np.linspace(0, len(values) - 1, _WINDOWS).astype(int))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, mode="edge"), 2 * half + 1)[centres]
    middles = np.median(around, axis=1)
    # The noise is measured at the place: it is larger at the start.
    noise = 1.4826 * np.median(np.abs(around - middles[:, None]), axis=1)
    every = np.arange(len(values))
    excess = values - np.interp(every, centres, middles)
    size = excess / np.maximum(np.interp(every, centres, noise), max(loss.scatter / 3, 1e-12))
    # Small batches have long tails, which are no spikes.
    high: NDArray[np.bool_] = (size > max(12.0, 5 * float(np.quantile(size, 0.98)))) & (excess > 0.3 * gained)
    high[:half] = False  # where it begins, it is falling
    return high


def validation_unsteady(curves: Curves) -> Iterator[Finding]:
    """Validation that jumps while training goes on smoothly."""
    found = curves.validation_accuracy or curves.validation_loss
    if found is None or len(found.levels) < 8:
        return
    share = found is curves.validation_accuracy
    height = 0.15 if share else 0.3 * float(found.start - found.levels.min())
    late = turns(found.levels[len(found.levels) // 5 :], max(height, 1e-12))
    last = turns(found.levels[-(1 + len(found.levels) // 2) :], max(height, 1e-12))
    if len(late) >= 4 and len(last) >= 2:
        yield seen(
            "validation_unsteady",
            "warn",
            "Validation jumps from one evaluation to the next",
            "The same network, hardly changed, gets another score: few validation pictures, a high learning rate, or "
            "validation in training mode do this.",
            on=found,
            between=(float(found.level_steps[len(found.levels) // 5]), float(found.steps[-1])),
            remedy="Call `model.eval()` before validation, use more validation pictures, or lower the learning rate "
            "towards the end.",
            swings=len(late),
        )
