"""The learning-rate range test: which rates let the loss fall, and which throw it up."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, fresh, own_randomness, seed_everything, train_on
from featviz_core.experiment_file import at_home, own_lines, short
from featviz_core.findings import Finding
from featviz_core.techniques.training_monitor.lines import smoothed
from featviz_core.techniques.training_monitor.steps import Finish, Steps
from featviz_core.techniques.training_monitor.training import set_rate

Progress = Callable[[float, str], None]
Floats = NDArray[np.float64]

_SMOOTHING = 0.8
_BLOWN_UP = 4.0  # times the first loss: there is nothing more to learn
_FEWEST = 20
_HARDLY = 0.1  # of the whole fall


@dataclass(frozen=True, slots=True, eq=False)
class RateTest:
    """What the loss did at each rate.

    `rates (T,)` rising; `losses (T,)`: of the batch after the step with that rate; `smooth (T,)`: their debiased
    exponential mean. `own`: the optimiser's rate; `suggested`: where the loss falls fastest, `lowest`: where it is
    lowest, None where it never falls; `too_high`: where it is above its start again, None where it never is.
    """

    rates: Floats
    losses: Floats
    smooth: Floats
    own: float
    suggested: float | None
    lowest: float | None
    too_high: float | None
    findings: tuple[Finding, ...] = ()

    def frame(self) -> pd.DataFrame:
        """`rate loss smooth`, a row for each rate."""
        return pd.DataFrame({"rate": self.rates, "loss": self.losses, "smooth": self.smooth})


def rate_test(
    make_experiment: Factory | str | Experiment,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 160,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> RateTest:
    """Which learning rate suits this experiment? Trains it while the rate of the first group rises from `low` to
    `high`, by the same factor with each of the `steps`; other groups keep their ratio to it. Ends early where the loss
    is four times its first value.

    A factory gives a fresh experiment; an `Experiment` itself is left as it was: weights, buffers, gradients,
    optimiser, modes and random numbers. After Smith, Cyclical Learning Rates (WACV 2017).

    Raises `ExperimentError` for a range that is none, and where the experiment's own code raises.
    """
    if not 0 < low < high or steps < _FEWEST:
        raise ExperimentError(
            "The learning rates cannot be tried.",
            why=f"Expected 0 < low < high and at least {_FEWEST} steps, got {low:g}, {high:g} and {steps}.",
        )
    with nullcontext(None) if isinstance(make_experiment, Experiment) else at_home(make_experiment) as factory:
        if isinstance(make_experiment, Experiment):
            with own_randomness(), _restored(make_experiment):
                seed_everything(seed)
                return _judged(*_tried(make_experiment, np.geomspace(low, high, steps), progress))
        assert factory is not None
        experiment = fresh(factory, seed=seed, device=device)
        return _judged(*_tried(experiment, np.geomspace(low, high, steps), progress))


@contextmanager
def _restored(experiment: Experiment) -> Iterator[None]:
    """Whatever happens inside, the model and the optimiser are as they were."""
    model, optimizer = experiment.model, experiment.optimizer
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    modes = {module: module.training for module in model.modules()}
    gradients = {p: None if p.grad is None else p.grad.clone() for p in model.parameters()}
    with ExitStack() as stack:
        for module, mode in modes.items():
            stack.callback(setattr, module, "training", mode)
        for parameter, gradient in gradients.items():
            stack.callback(setattr, parameter, "grad", gradient)
        stack.callback(optimizer.load_state_dict, state)
        stack.callback(model.load_state_dict, weights)
        yield


def _tried(experiment: Experiment, rates: Floats, progress: Progress | None) -> tuple[Floats, Floats, float]:
    """The rates that were tried, the losses of the batches after them, and the optimiser's own rate."""
    own = float(experiment.optimizer.param_groups[0]["lr"])
    losses: list[float] = []

    def batches() -> Iterator[Any]:
        while True:
            before = len(losses)
            for batch in experiment.train_loader:
                set_rate(experiment.optimizer, float(rates[min(len(losses), len(rates) - 1)]))
                yield batch
            if len(losses) == before:
                raise ExperimentError("The loop took no step.", do="Check the training loader and the loop.")

    def done(loss: float | None, _accuracy: float | None) -> None:
        if loss is None:
            raise ExperimentError("The loop gives no loss.", do="Return the loss from `train_step`.")
        losses.append(loss)
        if progress is not None:
            progress(
                len(losses) / (len(rates) + 1), f"Rate {rates[min(len(losses), len(rates)) - 1]:.1e}: loss {loss:.4g}"
            )
        if len(losses) > len(rates) or not math.isfinite(loss) or loss > _BLOWN_UP * max(abs(min(losses)), losses[0]):
            raise Finish

    groups = [dict(group) for group in experiment.optimizer.param_groups]
    try:
        with Steps(experiment, done) as watched:
            train_on(experiment, watched.of(batches()), scheduler=False)
    except Finish:
        pass
    except ExperimentError:
        raise
    except (Exception, SystemExit) as error:
        what = f"The training ended after {len(losses):,} steps: {short(error)}."
        raise ExperimentError(what, trace=own_lines(error)) from error
    finally:
        for group, before in zip(experiment.optimizer.param_groups, groups, strict=True):
            group.update({name: before[name] for name in ("lr", "initial_lr") if name in before})
    after = np.array(losses[1:], np.float64)
    return rates[: len(after)], after, own


def _judged(rates: Floats, losses: Floats, own: float) -> RateTest:
    smooth = smoothed(losses, _SMOOTHING)
    suggested, lowest, too_high = _places(rates, smooth, losses)
    still = lowest is not None and _fallen(rates, smooth, own, lowest) < _HARDLY
    findings = tuple(_about(own, suggested, lowest, too_high, len(losses), still=still))
    return RateTest(rates, losses, smooth, own, suggested, lowest, too_high, findings)


def _places(rates: Floats, smooth: Floats, losses: Floats) -> tuple[float | None, float | None, float | None]:
    """Where the loss falls fastest, where it is lowest, and where it is above its start again."""
    if len(rates) < _FEWEST:
        return None, None, float(rates[-1]) if len(rates) else None
    tenth = max(3, len(rates) // 10)
    start = float(np.median(losses[:tenth]))
    scatter = 1.4826 * float(np.median(np.abs(np.diff(losses[: 3 * tenth])))) / math.sqrt(2)
    # Three standard errors of the running mean and the start's median.
    doubt = 3 * scatter * math.sqrt((1 - _SMOOTHING) / (1 + _SMOOTHING) + 1.57 / tenth)
    known = np.where(np.isfinite(smooth), smooth, np.inf)
    lowest = int(np.argmin(known))
    # The last loss may have shot up too fast for the mean to follow.
    shot_up = np.r_[np.zeros(len(losses) - 1, bool), not losses[-1] <= 2 * abs(start)]
    above = np.flatnonzero(((known > start + doubt) | shot_up)[lowest:])
    too_high = float(rates[lowest + above[0]]) if len(above) else None
    if start - known[lowest] < max(doubt, 0.02 * abs(start)) or lowest <= tenth:
        return None, None, too_high
    # The slope over a window: neighbours alone would find the noise.
    falls = known[: lowest - tenth + 1] - known[tenth : lowest + 1]
    return float(rates[int(np.argmax(falls)) + tenth // 2]), float(rates[lowest]), too_high


def _fallen(rates: Floats, smooth: Floats, own: float, lowest: float) -> float:
    """What share of its fall to the rate `lowest` the loss has behind it at the rate `own`."""
    start = float(np.median(smooth[: max(3, len(rates) // 10)]))
    at_own, at_lowest = np.interp(np.log([max(own, rates[0]), lowest]), np.log(rates), smooth)
    return float((start - at_own) / (start - at_lowest or 1.0))


def _about(
    own: float, suggested: float | None, lowest: float | None, too_high: float | None, steps: int, *, still: bool
) -> Iterator[Finding]:
    numbers = {"own": own} | ({"suggested": float(f"{suggested:.2g}")} if suggested else {})
    if suggested is None or lowest is None:
        detail = f"In {steps} steps the loss fell at none of the rates by more than its noise."
        remedy = "Try more steps. Where the loss does not fall then either, run the debug checklist."
        yield Finding("rate.none", "note", "No learning rate stands out", detail, "", numbers, remedy)
        return
    remedy = f"Try {suggested:.1e}."
    if own >= (too_high or math.inf):
        detail = f"From {too_high:.1e} on, the loss is above its start; the optimiser's rate is {own:.1e}."
        yield Finding("rate.too_high", "warn", "Your learning rate is too high", detail, "", numbers, remedy)
    elif own > 3 * lowest or own > 1000 * suggested:
        detail = f"The loss falls fastest at {suggested:.1e}, is lowest at {lowest:.1e}, and yours is {own:.1e}."
        yield Finding("rate.high", "warn", "Your learning rate is on the high side", detail, "", numbers, remedy)
    elif own < suggested / 30 and still:
        detail = f"At {own:.1e} the loss hardly moves; it falls fastest at {suggested:.1e}."
        yield Finding("rate.low", "warn", "Your learning rate is on the low side", detail, "", numbers, remedy)
    else:
        detail = f"The loss falls fastest at {suggested:.1e} and is lowest at {lowest:.1e}; yours is {own:.1e}."
        yield Finding("rate.fits", "ok", "Your learning rate fits", detail, "", numbers)
