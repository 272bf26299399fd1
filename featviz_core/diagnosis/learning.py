"""Does it learn, how fast, and is the learning rate to blame?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from featviz_core.diagnosis.curves import Curve, Curves, Floats
from featviz_core.diagnosis.evidence import number, seen
from featviz_core.findings import Finding

_GOOD = 0.9  # accuracy from which on nobody asks why it does not learn
_UPDATES = (1e-4, 1e-1)
_STANDSTILL = 1e-5


def nothing_learned(curves: Curves) -> Iterator[Finding]:
    """The loss stays where it was, or, after a fall from absurd heights, the accuracy does."""
    loss, accuracy = curves.loss, curves.accuracy
    if loss is None or len(loss.levels) < 4:
        return
    began = len(loss.levels) // 20
    flat = flat_between(loss, began, len(loss.levels))
    if accuracy is not None:
        better = float(np.median(accuracy.levels[-3:])) - min(accuracy.start, float(accuracy.levels[0]))
        learned = better > max(0.04, 4 * accuracy.doubt) or accuracy.end > _GOOD
    else:
        learned = loss.start - loss.end > max(0.05 * abs(loss.start), 4 * loss.doubt) and loss.start < 20
    if not flat or learned:
        return
    early = float(np.nanmax(np.where(np.isfinite(loss.values), loss.values, np.nan)[: max(2, len(loss.values) // 5)]))
    wild = early > 3 * max(abs(loss.end), 1e-9)
    yield seen(
        "nothing_learned",
        "fail" if accuracy is not None or curves.by_step else "warn",
        "Nothing is learned",
        f"After values of up to {early:.3g} the loss falls to {loss.end:.3g} and stays: the network gives up its "
        "inputs and answers by the shares of the classes."
        if wild
        else "The loss stays where it began.",
        on=loss,
        between=(float(loss.steps[0]), float(loss.steps[-1])),
        remedy="Check the scale of the pictures, and lower the learning rate by a factor of 10 or 100."
        if wild
        else "Run the debug checklist: labels, frozen or forgotten parameters, dead layers, a learning rate that is "
        "far too low or far too high.",
        start=number(loss.start),
        end=number(loss.end),
        **({"accuracy": number(accuracy.end)} if accuracy else {}),
    )


def flat_between(curve: Curve, first: int, last: int) -> bool:
    """Whether the levels from `first` to before `last` go neither up nor down, as far as the noise lets one see."""
    part = curve.levels[first:last]
    third = max(1, len(part) // 3)
    change = abs(float(np.median(part[-third:])) - float(np.median(part[:third])))
    # Three standard errors of the difference of two medians of so many levels.
    doubt = min(3.0, 3 * 1.25 * np.sqrt(2 / third)) * curve.noise
    return bool(change <= max(0.02 * abs(curve.start), 0.02 * float(np.ptp(curve.levels)), doubt))


def rate_too_low(curves: Curves) -> Iterator[Finding]:
    """A loss that falls evenly, almost on a straight line, and has hardly come down at the end."""
    loss = curves.loss
    if loss is None or len(loss.levels) < 8 or not curves.by_step:
        return
    moving = _typical_updates(curves)
    if moving and float(np.median([*moving.values()])) > _UPDATES[0]:
        return  # the steps are as large as they should be: what is missing is more of them
    start = float(loss.levels[0])
    gained = start - loss.end
    half = (start - loss.level_at((loss.steps[0] + loss.steps[-1]) / 2)) / gained if gained > 0 else 0.0
    even = _rank_correlation(loss.levels) < -0.85
    if gained > 6 * loss.noise and even and 0.3 < half < 0.7 and loss.end > 0.5 * start:
        yield seen(
            "rate_too_low",
            "warn",
            "The learning rate is too low",
            f"The loss falls evenly and has come down by no more than {gained / start:.0%}: each step is small "
            "for what there is to learn.",
            on=loss,
            between=(float(loss.steps[0]), float(loss.steps[-1])),
            remedy="Raise the learning rate by a factor of 3 to 10; the range test finds how far it can go.",
            start=number(start),
            end=number(loss.end),
            gained_by_half_time=number(half),
        )


def _rank_correlation(values: Floats) -> float:
    ranks = np.argsort(np.argsort(values)).astype(float)
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def updates(curves: Curves) -> Iterator[Finding]:
    """How much a step changes the weights, where the log says so."""
    typical = _typical_updates(curves)
    still = [one for one in curves.updates if one.tag not in typical]
    if still:
        yield seen(
            "not_moving",
            "note",
            f"{len(still)} of {len(curves.updates)} weights do not move",
            "Their updates are exactly zero. That is right for layers that are frozen on purpose.",
            on=still[0],
            between=(float(still[0].steps[0]), float(still[0].steps[-1])),
            remedy="Otherwise the optimiser does not hold them, or no gradient gets there, as behind dead ReLUs: the "
            "gradient flow's ledger tells which.",
        )
    if not typical:
        return
    middle = float(np.median([*typical.values()]))
    first = curves.updates[0]
    place = (float(first.steps[0]), float(first.steps[-1]))
    numbers = {"typical_update": number(middle), "healthy": _UPDATES, "parameters": len(typical)}
    if middle > _UPDATES[1]:
        yield seen(
            "rate_too_high",
            "warn",
            "The learning rate is too high",
            f"A typical step changes a weight by {middle:.0%} of itself; a hundredth is plenty.",
            on=max(typical, key=lambda tag: typical[tag]),
            between=place,
            remedy="Lower the learning rate by a factor of 3 to 10.",
            **numbers,
        )
    elif middle < _UPDATES[0] and _first_update(curves, typical) < _UPDATES[0]:
        yield seen(
            "rate_too_low",
            "fail" if middle < _STANDSTILL else "warn",
            "The learning rate is too low",
            f"A typical step changes a weight by {middle:.1g} of itself: it hardly moves.",
            on=min(typical, key=lambda tag: typical[tag]),
            between=place,
            remedy="Raise the learning rate by a factor of 10, and check that the gradients are not tiny.",
            **numbers,
        )


def _typical_updates(curves: Curves) -> dict[str, float]:
    """The update size of each weight, after the start of the run; only of those that move at all."""
    found = {one.tag: float(np.median(one.levels[len(one.levels) // 3 :])) for one in curves.updates}
    return {tag: size for tag, size in found.items() if size > 0}


def _first_update(curves: Curves, moving: Iterable[str]) -> float:
    """The update size at the start: steps that were large and died out speak of a dead network, not of its rate."""
    return float(np.median([one.levels[0] for one in curves.updates if one.tag in moving]))


def rate_zero(curves: Curves) -> Iterator[Finding]:
    """A learning rate that is zero from the first step to the last."""
    rate = curves.rates
    if rate is not None and float(np.nanmax(rate.values)) <= 0:
        yield seen(
            "rate_zero",
            "fail",
            "The learning rate is zero",
            "It is zero in every step that was logged.",
            on=rate,
            between=(float(rate.steps[0]), float(rate.steps[-1])),
            remedy="Give the optimiser a learning rate, and check what the schedule makes of it.",
        )


def rate_killed(curves: Curves) -> Iterator[Finding]:
    """A schedule that takes the learning rate to almost nothing while there still was much to gain."""
    rate, loss = curves.rates, curves.loss
    if rate is None or loss is None or len(loss.levels) < 8:
        return
    highest = float(np.nanmax(rate.values))
    if highest <= 0:
        return
    alive = np.flatnonzero(rate.values > 0.005 * highest)
    died, end = float(rate.steps[alive[-1]]), float(loss.steps[-1])
    length = end - float(loss.steps[0])
    if length <= 0 or end - died < 0.3 * length:
        return
    window = min(end - died, died - float(loss.steps[0]))
    before = loss.level_at(died - window / 2) - loss.level_at(died)
    after = loss.level_at(died) - loss.end
    gained = loss.start - loss.end
    if gained > 0 and before > max(0.08 * gained, 4 * loss.noise) and after < before / 3:
        yield seen(
            "rate_killed",
            "warn",
            "The schedule ends learning too soon",
            f"From step {died:,.0f} on the learning rate is below 0.5 % of its highest, and the loss, which was still "
            "falling, stands still.",
            on=rate,
            between=(died, end),
            remedy="Let the schedule last as long as training does: `T_max`, `total_steps` and milestones are counted "
            "in epochs or in batches, depending on where `scheduler.step()` is called.",
            highest_rate=number(highest),
            gained_just_before=number(before),
            gained_afterwards=number(after),
        )


def plateau(curves: Curves) -> Iterator[Finding]:
    """More than half of the run in which nothing was gained."""
    loss = curves.loss
    if loss is None or len(loss.levels) < 10:
        return
    gained = loss.start - float(loss.levels.min())
    close = np.flatnonzero(loss.levels <= loss.end + max(0.03 * gained, 2 * loss.noise))
    since = float(loss.level_steps[close[0]])
    share = (float(loss.steps[-1]) - since) / max(1.0, float(loss.steps[-1] - loss.steps[0]))
    if gained > 4 * loss.doubt and share > 0.5 and flat_between(loss, int(close[0]), len(loss.levels)):
        yield seen(
            "plateau",
            "note",
            "Nothing more is gained",
            f"For the last {share:.0%} of the run the loss stays at {loss.end:.3g}.",
            on=loss,
            between=(since, float(loss.steps[-1])),
            remedy="Lower the learning rate here by a factor of 10, or use a larger network; where the result is good "
            "enough, stop earlier.",
            level=number(loss.end),
        )


def stopped_early(curves: Curves) -> Iterator[Finding]:
    """Still improving clearly in the last fifth of the run."""
    judged = curves.validation_loss if curves.validation_loss and len(curves.validation_loss.levels) >= 6 else None
    loss = judged or curves.loss
    if loss is None or len(loss.levels) < 6:
        return
    if curves.rates is not None and float(curves.rates.levels[-1]) < 0.1 * float(np.nanmax(curves.rates.values)):
        return  # the schedule has come to its end
    gained = loss.start - loss.end
    late = _gained_late(loss)
    done = curves.accuracy is not None and curves.accuracy.end > 0.97
    if gained > 4 * loss.doubt and late > 0.08 * gained and not done:
        forecast = extrapolated(loss)
        more = f" At this pace it would be done near step {forecast[1]:,}." if forecast else ""
        yield seen(
            "stopped_early",
            "warn",
            "Training stopped while it was still improving",
            f"The last fifth of the run brought {late / gained:.0%} of all that was gained.{more}",
            on=loss,
            between=(loss.steps[0] + 0.8 * (loss.steps[-1] - loss.steps[0]), float(loss.steps[-1])),
            remedy="Train longer, with a schedule that is as long.",
            gained_in_the_last_fifth=number(late),
            gained=number(gained),
            **({"expected_loss": number(forecast[0])} if forecast else {}),
        )


def _gained_late(loss: Curve) -> float:
    """What the last fifth of the run brought, by the slope of the last third; 0 where the noise is larger."""
    part = len(loss.levels) // 3 + 2
    t, y = loss.level_steps[-part:].astype(float), loss.levels[-part:]
    t = t - t.mean()
    slope = float(t @ y / (t @ t)) if t.any() else 0.0
    certain = abs(slope) > 3 * loss.noise / float(np.sqrt(t @ t)) if t.any() else False
    return -slope * 0.2 * float(loss.steps[-1] - loss.steps[0]) if certain else 0.0


def speed(curves: Curves) -> Iterator[Finding]:
    """When 90 % of the improvement were there, and what more is to be expected."""
    loss = curves.loss
    if loss is None or len(loss.levels) < 6:
        return
    gained = loss.start - loss.end
    if gained <= 4 * loss.doubt or gained <= 0:
        return
    there = loss.levels <= loss.start - 0.9 * gained
    step = int(loss.level_steps[int(np.argmax(there))])
    forecast = extrapolated(loss)
    expected: dict[str, Any] = {}
    if forecast is not None and forecast[1] > loss.steps[-1]:
        expected = {"expected_loss": number(forecast[0]), "expected_by_step": forecast[1]}
        more = f" Going on, it may come to {forecast[0]:.3g}, near step {forecast[1]:,}."
    yield seen(
        "speed",
        "ok",
        f"90 % of the improvement were there by step {step:,}",
        f"The loss went from {loss.start:.3g} to {loss.end:.3g} in {int(loss.steps[-1]):,} steps."
        + (more if expected else ""),
        on=loss,
        between=(float(step), float(step)),
        **expected,
    )


def extrapolated(loss: Curve) -> tuple[float, int] | None:
    """Where the loss is heading and the step at which it is within 1 % of the gain there.

    A fit of a + b·exp(-t / τ) to the last two thirds of the levels. None where these bend the wrong way, or where the
    end is further off than three times the run was long: that would be guessing.
    """
    first = len(loss.levels) // 3
    t = (loss.level_steps[first:] - loss.level_steps[first]).astype(float)
    y = loss.levels[first:]
    length = float(loss.steps[-1] - loss.steps[0])
    if len(t) < 4 or length <= 0:
        return None
    best: tuple[float, float, float, float] | None = None
    for tau in length * np.geomspace(0.05, 2, 40):
        basis = np.stack([np.ones_like(t), np.exp(-t / tau)], axis=1)
        (a, b), *_ = np.linalg.lstsq(basis, y, rcond=None)
        error = float(np.square(basis @ (a, b) - y).sum())
        if best is None or error < best[0]:
            best = (error, float(a), float(b), float(tau))
    assert best is not None
    _, a, b, tau = best
    if b <= 0 or a < 0:
        return None
    gained = max(loss.start - a, 1e-12)
    step = float(loss.level_steps[first]) + tau * float(np.log(max(b / (0.01 * gained), 1.0)))
    return (a, int(step)) if step <= loss.steps[0] + 3 * length else None
