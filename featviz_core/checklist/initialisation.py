"""Initialisation: whether the weights start where training can begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from featviz_core.checklist.exhibits import Bars, Curves, Trial, measured
from featviz_core.checklist.looks import activation_findings, activation_stats_seen, found
from featviz_core.checklist.loss_value import guessing, started_too_large
from featviz_core.checklist.probe import Probe
from featviz_core.checklist.report import Status, Verdict
from featviz_core.checklist.trainings import (
    Practice,
    first_loss_anew,
    practice,
    started_anew,
    trails,
    tried,
    twin,
)
from featviz_core.techniques.activation_stats.result import ActivationStats

_HARM = 0.1  # of the training pictures: a mistake that costs less does no harm here
_ENOUGH = 100  # pictures, below which an accuracy says little


def initialisation(probe: Probe) -> Verdict:
    """Every layer passes on what it gets, units are not all alike, and the answer depends on the picture.

    What looks wrong is tried: the same network initialised as PyTorch does, both with the reference optimiser.
    """
    if not probe.pair[0].isfinite().all():
        return Verdict("model.init", "not_run", "Not judged: the pictures hold NaN or Inf.", explained_by="data.range")
    if not all(parameter.isfinite().all() for parameter in probe.experiment.model.parameters()):
        return Verdict("model.init", "not_run", "Not judged: a weight is NaN or Inf.", explained_by="model.finite")
    spread, exhibits = probe.spread_after_a_step, _spreads(activation_stats_seen(probe))
    evidence = {"spread of the scores between pictures, after a step": measured(spread, (_LEAST_SPREAD, None))}

    def judged(status: Status, what: str, remedy: str = "", trials: tuple[Trial, ...] = ()) -> Verdict:
        return Verdict("model.init", status, what, "statistical", evidence, remedy, exhibits=exhibits, trials=trials)

    alike = _alike(probe)
    findings = found(activation_findings(probe), _LAYERS)
    problem = bool(alike or [f for f in findings if f.severity == "fail"] or spread < _LEAST_SPREAD)
    if not problem and started_too_large(probe):
        first, anew = float(probe.loss.detach()), first_loss_anew(probe)
        evidence["first loss"] = measured(first, (None, guessing(probe) + 1))
        what = f"The first loss is {first:.3g}, and {anew:.3g} from PyTorch's own weights: these are too large."
        return judged("warn", what, _START)
    if not problem and not _weak_start(probe):
        return judged("pass", "Every layer passes on what it gets, and pictures get different scores.")
    trial, after = _anew(probe)
    if not trial.helped and not problem:
        return judged("pass", "Every layer passes on what it gets; another start learns no better.", trials=(trial,))
    if not trial.helped and not alike:
        if (larger := _larger_scores(probe)) is not None:
            what = "Scores are so small that the loss hardly tells them apart, and little is learned."
            return judged("fail", what, _DIVIDED, (larger,))
        if twin(probe).train.certain:
            what = "Layers look unusual at the start, and the network learns all the same."
            return judged("pass", what, trials=(trial,))
    if alike:
        what = f"All units of {alike[0]} start with the same weights, so they stay copies of each other."
    elif findings:
        what = f"{findings[0].title.rstrip('.')}."
    elif spread < _LEAST_SPREAD:
        what = "The answer hardly depends on the picture."
    else:
        what = "From these initial weights the network does not learn; from PyTorch's own it does."
    losses = {"as it is": twin(probe).losses, "initialised anew": after.losses}
    return replace(
        judged("fail", what, findings[0].remedy if findings else _START, (trial,)),
        grade="proven" if alike else "statistical",
        evidence=evidence | ({"layers": [f.where for f in findings if f.where][:6]} if findings else {}),
        exhibits=(*exhibits, Curves("Loss with the reference optimiser", losses)),
        fix="for layer in model.modules():\n    if isinstance(layer, nn.Conv2d | nn.Linear):\n"
        '        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")\n        nn.init.zeros_(layer.bias)',
        query={"layer": findings[0].where} if findings and findings[0].where else {},
    )


_LAYERS = (
    "activation.dead",
    "activation.exploding",
    "activation.vanishing",
    "activation.huge",
    "activation.degenerate",
)
_LEAST_SPREAD = 1e-3
_START = "Leave the weights as PyTorch makes them, or use one of the known ways (He for ReLU, Xavier for tanh)."
_DIVIDED = (
    "Do not divide scores, by a temperature or a number of features, before the loss; or start with a larger head."
)


_MOST = 1e4  # times


def _larger_scores(probe: Probe) -> Trial | None:
    """Where scores hardly differ between pictures and little is learned: the trial with larger ones, if it helps."""
    if probe.spread_after_a_step >= _LEAST_SPREAD or not trails(probe):
        return None
    factor = min(_MOST, 1 / max(probe.spread_after_a_step, 1 / _MOST))
    after = practice(probe, lambda experiment: replace(experiment, model=_Scaled(experiment.model, factor)))
    trial = tried(probe, "larger scores", f"scores * {factor:.3g}", after)
    return trial if trial.helped else None


class _Scaled(nn.Module):
    """A model with its scores multiplied."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images: Any) -> Any:
        return tree_map(lambda part: part * self.factor if isinstance(part, Tensor) else part, self.model(images))


def _weak_start(probe: Probe) -> bool:
    """Whether the twin learns nothing, which the start may be guilty of."""
    return not twin(probe).train.certain and twin(probe).train.pictures >= _ENOUGH


def _anew(probe: Probe) -> tuple[Trial, Practice]:
    """The twin, initialised as PyTorch does."""
    after = practice(probe, started_anew)
    figure = f"share of the training pictures learned after {probe.steps} steps"
    before = twin(probe).gain
    helped = after.train.certain and after.gain > before + max(_HARM, 0.3 * after.gain)
    return Trial(
        "initialised anew",
        "reset_parameters() on every layer",
        figure,
        round(before, 3),
        round(after.gain, 3),
        helped,
    ), after


def _alike(probe: Probe) -> list[str]:
    """Layers, the last one aside, whose units all have the same weights, not zero."""
    layers = [
        (name, module)
        for name, module in probe.experiment.model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and len(module.weight) > 1 and module.weight.requires_grad
    ]
    return [
        name
        for name, module in layers[:-1]
        if bool((module.weight == module.weight[:1]).all()) and bool(module.weight.any())
    ]


def _spreads(stats: ActivationStats | None) -> tuple[Bars, ...]:
    if stats is None:
        return ()
    frame = stats.frame().dropna(subset="std")
    values = dict(zip(frame["layer"].astype(str), frame["std"].astype(float).tolist(), strict=True))
    return (Bars("Spread (σ) of each layer's output", values, log=True),) if values else ()
