"""Optimiser: learning rate, gradients, parameters update."""

from __future__ import annotations

from collections.abc import Collection

from featviz_core.checklist.exhibits import measured
from featviz_core.checklist.probe import Broken, Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.watch import Watch

_MOST_LEFTOVER = 1e-3  # of the new gradient's norm; without zero_grad it is of the order of 1
_SOME = 1e-5  # of the largest gradient's norm: less is nothing
_NAMED = 8


def gradients(probe: Probe) -> Verdict:
    """Each step gets gradients of its own, and every parameter that takes part gets one that is not zero."""
    watch = _watched(probe, "optimizer.gradients")
    trainable = watch.trainable
    evidence = {"steps": watch.steps, "trainable parameters": len(trainable)}
    # Only what the optimiser holds: its `zero_grad` cannot clear the others.
    old = {
        name: record.leftover for name, record in trainable.items() if record.held and record.leftover > _MOST_LEFTOVER
    }
    if old:
        worst = max(old.values())
        return Verdict(
            "optimizer.gradients",
            "fail",
            f"Gradients of earlier steps are still there when new ones come in, in {len(old)} parameters.",
            "proven",
            evidence | {"old gradient relative to new": measured(worst, 0)},
            "Call `optimizer.zero_grad()` once for every `optimizer.step()`, before `backward()`.",
        )
    cut = [name for name, record in trainable.items() if record.called and not record.gradients]
    if cut:
        return Verdict(
            "optimizer.gradients",
            "fail",
            f"{_some(cut)}: run in the forward pass, but backward does not reach {_them(cut)}.",
            "proven",
            evidence | {"without gradient": cut[:_NAMED]},
            "Look for `.detach()`, `.data`, `no_grad` or a replaced output behind these layers; freeze them with "
            "`requires_grad_(False)` if that is meant.",
        )
    zero = [name for name, r in trainable.items() if r.gradients > 1 and not r.nonzero and len(r.shape) > 1]
    if zero:
        return Verdict(
            "optimizer.gradients",
            "fail",
            f"{_some(zero)}: every gradient is exactly zero.",
            "proven",
            evidence | {"zero gradient": zero[:_NAMED]},
            "Something behind these layers passes nothing back: units that are always off (dead ReLUs, a saturated "
            "gate), a weight of zero, or a score that the loss ignores. Activation statistics show where.",
        )
    return Verdict("optimizer.gradients", "pass", "Each step gets this step's gradients.", "proven", evidence)


def updates(probe: Probe) -> Verdict:
    """The optimiser holds every trainable parameter once, and its steps move them."""
    watch = _watched(probe, "optimizer.updates")
    trainable = watch.trainable
    missing = [name for name, record in trainable.items() if not record.held]
    twice = [name for name, record in trainable.items() if record.held > 1]
    evidence = {
        "trainable parameters": len(trainable),
        "in_the_optimiser": len(trainable) - len(missing),
        "tensors that are not the model's": watch.strangers,
        "steps": watch.steps,
    }
    if missing:
        what = f"The optimiser does not hold {_some(missing)}."
        do = "Build it after the model is complete and on its final parts: `Optimizer(model.parameters(), lr=...)`."
        if watch.strangers:
            do += " It holds tensors of another model: the model was replaced after the optimiser was made."
        return Verdict("optimizer.updates", "fail", what, "proven", evidence | {"missing": missing[:_NAMED]}, do)
    if twice:
        what = f"The optimiser holds {_some(twice)} more than once, so each step moves {_them(twice)} twice."
        do = "Name every parameter in one group only."
        return Verdict("optimizer.updates", "fail", what, "proven", evidence | {"twice": twice[:_NAMED]}, do)
    if not watch.steps:
        what = "The loop never called the experiment's optimiser."
        do = "Call `experiment.optimizer.step()` after `backward()`."
        return Verdict("optimizer.updates", "fail", what, "proven", evidence, do)
    # A bias before a normalisation has no effect; rounding errors are all it gets.
    some = _SOME * max(record.largest for record in trainable.values())
    still = [n for n, record in trainable.items() if record.largest > some and not record.moved and record.rate > 0]
    if still:
        what = f"{_some(still)}: got gradients and did not move in {watch.steps} steps."
        do = "The update may be too small for the number type, or something puts the old values back."
        return Verdict("optimizer.updates", "fail", what, "proven", evidence | {"still": still[:_NAMED]}, do)
    frozen = len(watch.records) - len(trainable)
    what = "The optimiser holds every trainable parameter once and moves it."
    return Verdict("optimizer.updates", "pass", what, "proven", evidence | {"frozen parameters": frozen})


def _watched(probe: Probe, item: str) -> Watch:
    """The watched loop; without any gradient there is nothing to say about them."""
    watch = probe.watched
    if not any(record.gradients for record in watch.trainable.values()):
        raise Broken("loss.gradients", Verdict(item, "not_run", ""))
    return watch


def _some(names: Collection[str]) -> str:
    first = ", ".join(list(names)[:2])
    return first if len(names) <= 2 else f"{first} and {len(names) - 2} more"


def _them(names: Collection[str]) -> str:
    return "it" if len(names) == 1 else "them"


CHECKS: dict[str, Check] = {"optimizer.gradients": gradients, "optimizer.updates": updates}
