"""Optimiser: learning rate, gradients, parameters update."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from featviz_core.checklist.exhibits import Bars, Curves, Exhibit, Table, Trial, measured
from featviz_core.checklist.looks import history_seen
from featviz_core.checklist.probe import Broken, Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import (
    Change,
    by_heart,
    learned,
    own,
    practice,
    rate_times,
    setting,
    standard_loop,
    trails,
    tried,
    twin,
)
from featviz_core.ledger import ledger
from featviz_core.watch import Watch

_MOST_LEFTOVER = 1e-3  # of the new gradient's norm; without zero_grad it is of the order of 1
_SOME = 1e-5  # of the largest gradient's norm: less is nothing
_NAMED = 8


def learning_rate(probe: Probe) -> Verdict:
    """Steps have a size from which training works: as good as another rate and as a reference optimiser.

    Where training trails its twin, the rate is divided and multiplied by ten, and the other settings are put back.
    """
    groups = [
        {name: group[name] for name in _SETTINGS if name in group} for group in probe.experiment.optimizer.param_groups
    ]
    evidence: dict[str, Any] = {"settings": groups[0] if len(groups) == 1 else groups}
    sizes = _update_sizes(probe)
    exhibits: tuple[Exhibit, ...] = (
        (Bars("Update ‖Δw‖/‖w‖ of each weight", sizes, _USUAL_UPDATE, log=True),) if sizes else ()
    )
    if sizes:
        middle = sorted(sizes.values())[len(sizes) // 2]
        evidence["update ‖Δw‖/‖w‖, middle of all weights"] = measured(middle, _USUAL_UPDATE)
    if all(group.get("lr", 1) == 0 for group in probe.fresh_woken.optimizer.param_groups):
        what = "The learning rate is zero."
        return Verdict("optimizer.learning_rate", "fail", what, "proven", evidence, "Give the optimiser a rate.")
    shown = (Curves("Loss", {"as it is": own(probe).losses, "reference": twin(probe).losses}), *exhibits)
    if (verdict := _by_heart(probe, evidence, shown)) is not None:
        return verdict
    if not trails(probe):
        what = "Training gets as far as with the reference optimiser."
        if not twin(probe).train.certain and twin(probe).train.pictures >= _ENOUGH:
            what = "Nothing can be said of the rate: with the reference optimiser nothing is learned either."
            return Verdict("optimizer.learning_rate", "not_run", what, None, evidence)
        return Verdict("optimizer.learning_rate", "pass", what, "statistical", evidence, exhibits=shown)
    return _named(probe, evidence, shown)


_SETTINGS = ("lr", "momentum", "betas", "weight_decay")
_USUAL_UPDATE = (1e-4, 1e-1)
_ENOUGH = 100  # pictures, below which an accuracy says little
_LITTLE = 0.3  # of what the twin learned
# What is tried where training trails, in this order: name, what changes, how.
_CULPRITS: tuple[tuple[str, str, Change, str], ...] = (
    ("the standard loop", "the standard training step", standard_loop, "loop"),
    ("a tenth of the rate", "lr / 10", rate_times(0.1), "high"),
    ("a hundredth of the rate", "lr / 100", rate_times(0.01), "high"),
    ("ten times the rate", "lr * 10", rate_times(10.0), "low"),
    ("a hundred times the rate", "lr * 100", rate_times(100.0), "low"),
    ("no weight decay", "weight_decay=0", setting("weight_decay", 0.0), "decay"),
    ("the usual momentum", "momentum=0.9", setting("momentum", 0.9), "momentum"),
)
_WORDS = {
    "loop": (
        "Your training step learns much less than the standard one.",
        "Compare it with the standard step line by line.",
    ),
    "high": (
        "The learning rate is too high.",
        "Divide it by ten, or look for the best one with the range test of the training monitor.",
    ),
    "low": (
        "The learning rate is too low.",
        "Multiply it by ten, or look for the best one with the range test of the training monitor.",
    ),
    "decay": ("Weight decay pulls the weights to zero faster than they learn.", "Use 1e-4 with SGD, 1e-2 with AdamW."),
    "momentum": ("The momentum is too high: steps of long ago still count.", "Use 0.9."),
    "": (
        "The optimiser's settings learn much less than AdamW at 1e-3.",
        "Start from the reference: `torch.optim.AdamW(model.parameters(), lr=1e-3)`.",
    ),
}


_NEARLY = 0.8  # of the one batch


def _by_heart(probe: Probe, evidence: dict[str, Any], shown: tuple[Exhibit, ...]) -> Verdict | None:
    """One batch that cannot be learned by heart, and can with another rate, all else equal."""
    before = learned(probe)
    if before.known or not before.accuracy < _NEARLY:
        return None
    trials: list[Trial] = []
    for name, changed, change, kind in _CULPRITS:
        if kind not in ("high", "low"):
            continue
        after = by_heart(probe, change)
        trials.append(Trial(name, changed, "accuracy on one batch", before.accuracy, after.accuracy, after.known))
        if after.known:
            what, do = _WORDS[kind]
            return Verdict(
                "optimizer.learning_rate",
                "fail",
                f"{what} One batch cannot be learned by heart with it.",
                "statistical",
                evidence,
                do,
                trials=tuple(trials),
                exhibits=shown,
                fix='for group in optimizer.param_groups:\n    group["lr"] ' + ("/= 10" if kind == "high" else "*= 10"),
            )
    return None


def _named(probe: Probe, evidence: dict[str, Any], shown: tuple[Exhibit, ...]) -> Verdict:
    """Which change brings the learning back, tried one by one until one does."""
    trials: list[Trial] = []
    culprit = ""
    for name, changed, change, kind in _CULPRITS:
        if not _worth_trying(probe, kind):
            continue
        after = practice(probe, change)
        trials.append(tried(probe, name, changed, after))
        if trials[-1].helped:
            culprit = kind
            break
    trials.append(tried(probe, "the reference", "AdamW, lr=0.001, the standard step", twin(probe)))
    what, do = _WORDS[culprit]
    severe = own(probe).gain < _LITTLE * twin(probe).gain
    fix = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)"
    return Verdict(
        "optimizer.learning_rate",
        "fail" if severe else "warn",
        what,
        "statistical",
        evidence
        | {
            "learned, of what the reference learned": measured(
                round(own(probe).gain / twin(probe).gain, 3), (0.5, None)
            )
        },
        do,
        trials=tuple(trials),
        exhibits=shown,
        fix=fix,
    )


def _worth_trying(probe: Probe, kind: str) -> bool:
    groups = probe.experiment.optimizer.param_groups
    if kind == "loop":
        return probe.experiment.train_step is not None or probe.experiment.train_epoch is not None
    if kind == "decay":
        return any(group.get("weight_decay", 0) > 0 for group in groups)
    return kind != "momentum" or any(group.get("momentum", 0) > 0.95 for group in groups)


def _update_sizes(probe: Probe) -> dict[str, float]:
    """‖Δw‖/‖w‖ of each weight with two or more axes, the middle of the first steps."""
    seen = history_seen(probe)
    if seen is None:
        return {}
    frame = seen.frame()
    frame = frame[frame["parameter"].str.endswith("weight") & frame["update_ratio"].notna()]
    middle = frame.groupby("parameter", sort=False)["update_ratio"].median()
    return {str(name): float(value) for name, value in middle.items() if value > 0}


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
    if (verdict := _lost(probe, watch, evidence)) is not None:
        return verdict
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


CHECKS: dict[str, Check] = {
    "optimizer.learning_rate": learning_rate,
    "optimizer.gradients": gradients,
    "optimizer.updates": updates,
}
