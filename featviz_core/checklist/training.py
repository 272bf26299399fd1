"""Training: over- and underfitting, curves, convergence."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch

from featviz_core.checklist.exhibits import Curves, Exhibit, measured
from featviz_core.checklist.looks import data_seen, found, verdict_of
from featviz_core.checklist.probe import Check, Probe, evidence_on
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import own, practice, scores, tried, twin
from featviz_core.experiment import Experiment, evaluate_on, train_on
from featviz_core.watch import Phase, Watch, is_normalization

_GAP = 0.1  # by which validation may be worse than training on the same footing
_ROUNDING = 1e-4
_METRIC = 0.03  # accuracy that the experiment's own may differ by: a mean of batches instead of pictures
_DEAD = 1e-3  # of the highest rate
_WARM = 0.1  # of the rate given, which some epoch should reach
_HALF = 0.5
_FEW = 8  # training pictures of a class, below which little can hold for others


def fit(probe: Probe) -> Verdict:
    """No validation picture is among those for training, and what is learned holds for other pictures."""
    seen = data_seen(probe)
    if seen is not None and (leaks := found(seen.findings, ("leak.",))):
        return verdict_of("training.fit", leaks)
    practice = own(probe)
    if practice.validation is None:
        what = "There is no validation data: whether anything holds for other pictures cannot be seen."
        return Verdict("training.fit", "not_run", what)
    evidence = {
        "training accuracy": round(practice.train.accuracy, 3),
        "validation accuracy": round(practice.validation.accuracy, 3),
        "guessing": round(practice.validation.guessing, 3),
        "training pictures": practice.train.pictures,
        "validation pictures": practice.validation.pictures,
    }
    classes = probe.classes or 1
    if 0 < probe.in_training < _FEW * classes:
        what = f"There are {probe.in_training} training pictures for {classes} classes: they are learned by heart."
        do = "Look whether a debugging subset stayed in the configuration; otherwise start from a pretrained network."
        few = evidence | {"pictures of a class": measured(round(probe.in_training / classes, 1), (_FEW, None))}
        return Verdict("training.fit", "warn", what, "heuristic", few, do)
    curve: tuple[Exhibit, ...] = (Curves("Training loss", {"as it is": practice.losses}),) if practice.losses else ()
    what = "No validation picture is among the training pictures."
    if practice.validation.certain:
        what += " What was learned from a few batches holds for validation, too."
    return Verdict("training.fit", "pass", what, "proven", evidence, exhibits=curve)


def curves(probe: Probe) -> Verdict:
    """Training is measured in training mode and validation in evaluation mode, as seen in the user's own loop; two
    validation passes agree, change nothing, and give the numbers they should."""
    watch = probe.watched
    modules = dict(probe.experiment.model.named_modules())
    wrong = {phase: _in_wrong_mode(watch, phase) for phase in watch.modes}
    evidence: dict[str, object] = {
        f"layers_in_the_wrong_mode_in_{phase}": names for phase, names in wrong.items() if names
    }
    evidence |= {"validation": watch.metrics} if watch.metrics else {}
    if wrong["validation"]:
        what = f"Validation runs in training mode ({', '.join(wrong['validation'][:2])})."
        do = "Call `model.eval()` before validation and `model.train()` after it."
        return Verdict("training.curves", "fail", what, "proven", evidence, do, fix=_VALIDATION)
    # A frozen BatchNorm is made on purpose; anything else in evaluation mode, or the whole model, is not.
    others = [name for name in wrong["training"] if not is_normalization(modules[name])]
    whole = watch.modes["training"][""][False] > 0
    if wrong["training"] and (others or whole):
        what = f"Training runs in evaluation mode ({', '.join((others or wrong['training'])[:2])})."
        do = "Call `model.train()` before every epoch, after validation too."
        return Verdict("training.curves", "fail", what, "proven", evidence, do, fix=_VALIDATION)
    if (verdict := _still_statistics(probe, evidence)) is not None:
        return verdict
    if not watch.metrics:
        what = "There is no validation; training runs in training mode."
        return Verdict("training.curves", "pass", what, "proven", evidence)
    if (verdict := _two_passes(probe, evidence)) is not None:
        return verdict
    if watch.graphs:
        what = "Validation keeps gradients' graphs: the numbers are right, but memory is wasted."
        do = "Put validation under `torch.no_grad()`."
        return Verdict("training.curves", "warn", what, "proven", evidence, do, harmless=True)
    return Verdict("training.curves", "pass", "Training and validation run in their own modes.", "proven", evidence)


_VALIDATION = """for epoch in range(epochs):
    model.train()
    ...               # training
    model.eval()
    with torch.no_grad():
        ...           # validation"""


def _still_statistics(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    """Normalisations that run in training mode, and whose running statistics training never changes: evaluation mode
    then normalises by what they were at the start."""
    experiment = probe.fresh()
    ran = probe.watched.modes["training"]
    before = {
        name: module.running_mean.clone()
        for name, module in experiment.model.named_modules()
        if is_normalization(module) and getattr(module, "running_mean", None) is not None and ran[name][True]
    }
    if not before:
        return None
    train_on(experiment, probe.batches, scheduler=False)
    still = [
        name for name, mean in before.items() if torch.equal(mean, experiment.model.get_buffer(f"{name}.running_mean"))
    ]
    if not still:
        return None

    def usual(experiment: Experiment) -> Experiment:
        for name in still:
            experiment.model.get_submodule(name).momentum = 0.1  # type: ignore[assignment]
        return experiment

    trial = tried(probe, "the usual momentum", "momentum=0.1 in BatchNorm", practice(probe, usual))
    return Verdict(
        "training.curves",
        "fail" if trial.helped else "warn",
        f"{still[0]}{f' and {len(still) - 1} more' if still[1:] else ''}: the running statistics never change, so that "
        "evaluation mode normalises by their first values.",
        "proven",
        evidence | {"running statistics that stay": still[:6]},
        "Leave BatchNorm's `momentum` at 0.1; it is the weight of the new, not of the old.",
        harmless=not trial.helped,
        trials=(trial,),
    )


def _two_passes(probe: Probe, evidence: dict[str, Any]) -> Verdict | None:
    """What two passes of the user's own validation give on one model, and what FeatViz makes of the same pictures."""
    validation = probe.validation
    if validation is None:
        return None
    experiment = probe.fresh()
    train_on(experiment, probe.batches, scheduler=False)
    with evidence_on("training.curves", "Validation"):
        first = evaluate_on(experiment, validation)
        before = {name: value.clone() for name, value in experiment.model.state_dict().items()}
        second = evaluate_on(experiment, validation)
    after = experiment.model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value.nan_to_num(), after[name].nan_to_num())]
    evidence |= {"first pass": first, "second pass": second}
    if changed:
        what = f"Validation changes the model: {changed[0]} is another afterwards."
        do = "Validation only looks: no `optimizer.step()`, no `model.train()`, under `torch.no_grad()`."
        return Verdict(
            "training.curves", "fail", what, "proven", evidence | {"changed": changed[:6]}, do, fix=_VALIDATION
        )
    if any(abs(first[name] - second[name]) > _ROUNDING * max(1, abs(first[name])) for name in first):
        what = "Two validation passes over the same pictures give different numbers."
        do = "Look for dropout or other randomness that is on in validation."
        return Verdict("training.curves", "fail", what, "proven", evidence, do)
    return _metrics(first, scores(experiment, validation).accuracy, evidence) if probe.experiment.evaluate else None


def _metrics(own_numbers: dict[str, float], right: float, evidence: dict[str, Any]) -> Verdict | None:
    accuracy = own_numbers["accuracy"]
    if math.isnan(right) or math.isnan(accuracy):
        return None
    evidence |= {"accuracy": measured(round(accuracy, 4), (round(right - _METRIC, 4), round(right + _METRIC, 4)))}
    if abs(accuracy - right) <= _METRIC:
        return None
    if abs(accuracy - 100 * right) <= 100 * _METRIC:
        return None  # in per cent
    return Verdict(
        "training.curves",
        "fail",
        f"Your validation reports an accuracy of {accuracy:.3g}; on the same pictures it is {right:.3g}.",
        "proven",
        evidence,
        "Count the pictures whose highest score (`argmax(1)`) is the label's, and divide by the number of pictures.",
        fix="correct += int((logits.argmax(1) == targets).sum())\ntotal += len(targets)",
    )


def _in_wrong_mode(watch: Watch, phase: Phase) -> list[str]:
    right = phase == "training"
    return [name for name, seen in watch.modes[phase].items() if name and seen[not right]]


def convergence(probe: Probe) -> Verdict:
    """Training has steps of some size for most of its epochs, and gets somewhere."""
    rates, raised = _schedule(probe)
    per_epoch = max(1, _length(probe.experiment.train_loader))
    evidence: dict[str, Any] = {"epochs": probe.experiment.epochs, "steps in an epoch": per_epoch} | probe.shortened
    exhibits: tuple[Exhibit, ...] = (Curves("Learning rate", {"lr": rates}, x="epoch"),) if len(rates) > 1 else ()
    if raised:
        what = f"The scheduler raises before training ends: {raised}"
        do = "Its length has to fit the epochs, or the steps where it is stepped with every batch."
        return Verdict("training.convergence", "fail", what, "proven", evidence, do, exhibits=exhibits)
    if len(rates) > 1:
        full = max(*rates, *(group.get("initial_lr", 0.0) for group in probe.experiment.optimizer.param_groups))
        if max(rates) < _WARM * full:
            what = f"The rate never gets above {max(rates) / full:.2%} of what the optimiser was given."
            do = "Let the warm-up end after a few epochs, and step the scheduler as often as it was made for."
            return Verdict("training.convergence", "fail", what, "proven", evidence, do, exhibits=exhibits)
        alive = sum(rate > _DEAD * full for rate in rates) / len(rates)
        evidence["share of training with more than a thousandth of the rate"] = measured(round(alive, 3), (_HALF, None))
        if alive < _HALF:
            what = f"The schedule takes the learning rate away: after {alive:.0%} of training it is below a thousandth."
            do = "Check the schedule's length and factor, and whether it is stepped once an epoch or with every batch."
            fix = 'fv.Experiment(..., scheduler_step="epoch")  # or "batch": as your loop steps it'
            return Verdict("training.convergence", "fail", what, "proven", evidence, do, exhibits=exhibits, fix=fix)
    learned = own(probe)
    if learned.losses:
        exhibits = (
            *exhibits,
            Curves("Loss of the first steps", {"as it is": learned.losses, "reference": twin(probe).losses}),
        )
    if learned.train.certain or learned.train.pictures < 100:
        what = "The rate lasts as long as training does, and the first steps get somewhere."
        return Verdict("training.convergence", "pass", what, "statistical", evidence, exhibits=exhibits)
    if twin(probe).train.certain:
        what = f"After {probe.steps} steps on a few batches nothing is learned; with the reference optimiser it is."
        do = "See the learning rate and the loop above."
        return Verdict("training.convergence", "warn", what, "statistical", evidence, do, exhibits=exhibits)
    what = f"After {probe.steps} steps on a few batches nothing is learned yet, with the reference optimiser neither."
    return Verdict(
        "training.convergence", "warn", what, "heuristic", evidence, "Look at the items above.", exhibits=exhibits
    )


def _length(loader: Any) -> int:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return 0


def _schedule(probe: Probe) -> tuple[list[float], str]:
    """The largest learning rate of each epoch as the scheduler gives it, and what it raised; nothing without one."""
    experiment = probe.fresh()
    scheduler, every = experiment.scheduler, experiment.scheduler_step
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    steps = _length(experiment.train_loader) if every == "batch" else 1
    if scheduler is None or every == "own" or plateau or not steps:
        return [], ""
    rates: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser was not stepped
        for _ in range(experiment.epochs):
            rates.append(max(float(group["lr"]) for group in experiment.optimizer.param_groups))
            try:
                for _ in range(steps):
                    scheduler.step()
            except Exception as error:  # noqa: BLE001 - the user's own scheduler
                return rates, str(error)
    return rates, ""


CHECKS: dict[str, Check] = {"training.fit": fit, "training.curves": curves, "training.convergence": convergence}
