"""Optimiser: gradients at each step, parameters update; the learning rate has a module of its own."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from featviz_core.checklist.exhibits import Table, measured
from featviz_core.checklist.learning_rate import learning_rate
from featviz_core.checklist.probe import Broken, Check, Probe, evidence_on
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import practice, standard_loop, tried
from featviz_core.ledger import ledger
from featviz_core.watch import Watch

_MOST_LEFTOVER = 1e-3  # of the new gradient's norm; without zero_grad it is of the order of 1
_SOME = 1e-5  # of the largest gradient's norm: less is nothing
_NAMED = 8


def gradients(probe: Probe) -> Verdict:
    """Each step gets gradients of its own, and every parameter that takes part gets one that is not zero."""
    watch = _watched(probe, "optimizer.gradients")
    trainable = watch.trainable
    evidence: dict[str, Any] = {"steps": watch.steps, "trainable parameters": len(trainable)}
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
    if (verdict := _lost(probe, watch, evidence)) is not None:
        return verdict
    without = [name for name, record in trainable.items() if record.called and not record.gradients]
    cut = _that_matter(probe, without) if without else []
    if len(cut) < len(without):
        evidence["not used for the scores"] = [name for name in without if name not in cut][:_NAMED]
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


def _that_matter(probe: Probe, names: Collection[str]) -> list[str]:
    """Those of the parameters on which the scores depend: a head that nobody uses gets no gradient, and needs none.

    All weights are moved a little first: behind a head that starts at zero nothing would matter.
    """
    experiment = probe.fresh()
    experiment.model.eval()
    parameters = dict(experiment.model.named_parameters())
    images = probe.pair[0][:2]
    found = []
    with evidence_on("model.output_shape", "The model"), torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.01 * torch.randn_like(parameter))
        before = experiment.logits(experiment.model(images))
        for name in names:
            old = parameters[name].clone()
            parameters[name].add_(1)
            if not torch.equal(before, experiment.logits(experiment.model(images))):
                found.append(name)
            parameters[name].copy_(old)
    return found


_TINY, _REDUCED = 1e-3, 100  # the norm that a step finds, and how much more had come in, where it was clipped away


def _lost(probe: Probe, watch: Watch, evidence: dict[str, Any]) -> Verdict | None:
    """Gradients that came in, and of which the optimiser finds nothing, or next to nothing."""
    norms = [(came, there) for came, there in watch.norms if math.isfinite(came + there)]
    if not norms or not any(record.held and record.nonzero for record in watch.trainable.values()):
        return None
    if all(there == 0 for _, there in norms):
        return Verdict(
            "optimizer.gradients",
            "fail",
            "Gradients come in, and every step finds none: they are cleared first, or come after the step.",
            "proven",
            evidence | {"gradient norm that steps find": measured(0.0, (1e-3, None))},
            "Keep this order: `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`.",
            fix="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
        )
    clipped = [(came, there) for came, there in norms if there < _TINY and came > _REDUCED * there]
    if len(clipped) <= len(norms) / 2:
        return None
    after = practice(probe, standard_loop)
    trial = tried(probe, "the standard loop", "gradients as they come", after)
    came, there = clipped[len(clipped) // 2]
    return Verdict(
        "optimizer.gradients",
        "fail" if trial.helped else "warn",
        f"Gradients are made {came / max(there, 1e-30):.0f} times smaller before the step: clipped to next to nothing.",
        "proven",
        evidence
        | {"gradient norm, as it comes": round(came, 4), "as the step finds it": measured(there, (_TINY, None))},
        "Clip to a norm that only the largest gradients pass, such as 1.",
        harmless=not trial.helped,
        trials=(trial,),
        fix="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
    )


def updates(probe: Probe) -> Verdict:
    """The optimiser holds every trainable parameter once, and its steps move them; the books of all parameters."""
    verdict = _updates(probe)
    fix = _BUILD_LAST if "missing" in verdict.evidence else ""
    return replace(verdict, exhibits=(_books(probe),), fix=fix)


_BUILD_LAST = (
    "model = Net().to(device)  # complete, on its device\noptimizer = type(optimizer)(model.parameters(), lr=lr)"
)
_COLUMNS = {
    "parameter": "parameter",
    "in_optimizer": "in the optimiser",
    "requires_grad": "wants gradient",
    "nonzero": "gradients",
    "moved": "moved",
    "mode": "mode",
}


def _books(probe: Probe) -> Table:
    """One row a parameter, those that do not learn as the others do marked."""
    rows = ledger(probe.experiment, probe.watched)
    marked = [number for number, row in enumerate(rows) if row.stands_out]
    cells = [tuple(getattr(row, name) for name in _COLUMNS) for row in rows]
    return Table("The books of all parameters", tuple(_COLUMNS.values()), cells, marked)


def _updates(probe: Probe) -> Verdict:
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
    if still and watch.not_finite is None:  # where there is NaN, not moving is the least
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


CHECKS: dict[str, Check] = {
    "optimizer.learning_rate": learning_rate,
    "optimizer.gradients": gradients,
    "optimizer.updates": updates,
}
