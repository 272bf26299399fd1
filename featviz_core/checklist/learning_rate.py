"""Whether steps have a size from which training works, and which setting is at fault where they have not."""

from __future__ import annotations

from typing import Any

from featviz_core.checklist.exhibits import Bars, Curves, Exhibit, Trial, measured
from featviz_core.checklist.looks import history_seen
from featviz_core.checklist.probe import Probe
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
from featviz_core.experiment import Experiment


def learning_rate(probe: Probe) -> Verdict:
    """Steps have a size from which training works: as good as another rate and as a reference optimiser.

    Where training trails its twin, the rate is divided and multiplied by ten, and the other settings are put back.
    """
    groups = [
        {name: group[name] for name in _SETTINGS if name in group} for group in probe.experiment.optimizer.param_groups
    ]
    evidence: dict[str, Any] = {"settings": groups[0] if len(groups) == 1 else groups} | probe.shortened
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
        for check in (_long_memory, _large_steps):
            if (verdict := check(probe, evidence, shown)) is not None:
                return verdict
        what = "Training gets as far as with the reference optimiser."
        if not twin(probe).train.certain and twin(probe).train.pictures >= _ENOUGH:
            what = "Nothing can be said of the rate: with the reference optimiser nothing is learned either."
            return Verdict("optimizer.learning_rate", "not_run", what, None, evidence)
        return Verdict("optimizer.learning_rate", "pass", what, "statistical", evidence, exhibits=shown)
    return _named(probe, evidence, shown)


_SETTINGS = ("lr", "momentum", "betas", "weight_decay")
_USUAL_UPDATE = (1e-4, 2e-1)  # healthy set-ups reach .15 in their first steps
_ENOUGH = 100  # pictures, below which an accuracy says little
_LITTLE = 0.3  # of what the twin learned
_LONG = 0.99  # of momentum: the last hundred steps
_LARGE = 0.1  # update ‖Δw‖/‖w‖
_LEFT, _FURTHER = 0.05, 10  # training loss that is left, and how many times lower another gets


def usual_momentum(experiment: Experiment) -> Experiment:
    """Where momentum, or the first of Adam's betas, is unusually high: the usual ones."""
    for group in experiment.optimizer.param_groups:
        if _momentum(group) > _HIGH_MOMENTUM:
            group |= {"momentum": 0.9} if "momentum" in group else {"betas": (0.9, 0.999)}
    return experiment


_HIGH_MOMENTUM = 0.95


def _momentum(group: dict[str, Any]) -> float:
    """Of a group of parameters: its momentum, or the first of its betas."""
    return float(group.get("momentum", group.get("betas", (0.0,))[0]))


# What is tried where training trails, in this order: name, what changes, how.
_CULPRITS: tuple[tuple[str, str, Change, str], ...] = (
    ("the standard loop", "the standard training step", standard_loop, "loop"),
    ("a tenth of the rate", "lr / 10", rate_times(0.1), "high"),
    ("a hundredth of the rate", "lr / 100", rate_times(0.01), "high"),
    ("ten times the rate", "lr * 10", rate_times(10.0), "low"),
    ("a hundred times the rate", "lr * 100", rate_times(100.0), "low"),
    ("no weight decay", "weight_decay=0", setting("weight_decay", 0.0), "decay"),
    ("the usual momentum", "momentum 0.9", usual_momentum, "momentum"),
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


def _long_memory(probe: Probe, evidence: dict[str, Any], shown: tuple[Exhibit, ...]) -> Verdict | None:
    """A momentum by which steps of long ago still count: it does its harm later than a short training can show."""
    momentum = max(map(_momentum, probe.experiment.optimizer.param_groups))
    if not _LONG < momentum < 1:
        return None
    trial = tried(probe, "the usual momentum", "0.9", practice(probe, usual_momentum))
    return Verdict(
        "optimizer.learning_rate",
        "fail" if trial.helped else "warn",
        f"With a momentum of {momentum:.6g}, the last {1 / (1 - momentum):,.0f} steps count: it hardly turns.",
        "statistical" if trial.helped else "heuristic",
        evidence | {"momentum": measured(momentum, (None, _LONG))},
        _WORDS["momentum"][1],
        trials=(trial,),
        exhibits=shown,
    )


def _large_steps(probe: Probe, evidence: dict[str, Any], shown: tuple[Exhibit, ...]) -> Verdict | None:
    """Steps about as large as the weights, that get much further down when they are a tenth as large."""
    sizes = sorted(_update_sizes(probe).values())
    if not sizes or sizes[len(sizes) // 2] < _LARGE:
        return None
    before, after = own(probe).train, practice(probe, rate_times(0.1)).train
    if not (before.loss > _LEFT and after.loss < before.loss / _FURTHER):
        return None
    trial = Trial(
        "a tenth of the rate",
        "lr / 10",
        f"training loss after {probe.steps} steps",
        round(before.loss, 4),
        round(after.loss, 4),
        helped=True,
    )
    what, do = _WORDS["high"]
    return Verdict(
        "optimizer.learning_rate", "warn", what, "statistical", evidence, do, trials=(trial,), exhibits=shown
    )


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
    return kind != "momentum" or any(_momentum(group) > _HIGH_MOMENTUM for group in groups)


def _update_sizes(probe: Probe) -> dict[str, float]:
    """‖Δw‖/‖w‖ of each weight with two or more axes, the middle of the first steps."""
    seen = history_seen(probe)
    if seen is None:
        return {}
    frame = seen.frame()
    frame = frame[frame["parameter"].str.endswith("weight") & frame["update_ratio"].notna()]
    middle = frame.groupby("parameter", sort=False)["update_ratio"].median()
    return {str(name): float(value) for name, value in middle.items() if value > 0}
