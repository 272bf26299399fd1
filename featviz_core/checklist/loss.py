"""Loss: sensible value, falls, has gradients."""

from __future__ import annotations

from featviz_core.checklist.probe import Check, Probe
from featviz_core.checklist.report import Verdict

_NOT_YET = "FeatViz does not check this by itself yet."


def value(probe: Probe) -> Verdict:
    """The loss can be computed; whether its first value is sensible is not judged yet."""
    loss = probe.loss
    if loss.numel() != 1:
        what = f"The loss gives {tuple(loss.shape)} numbers instead of one."
        return Verdict("loss.value", "fail", what, "proven", {}, 'Average it: `reduction="mean"`, or `.mean()`.')
    return Verdict("loss.value", "not_run", _NOT_YET, None, {"first loss": float(loss.detach())})


def decreases(probe: Probe) -> Verdict:
    """The user's loop runs; whether it gets anywhere is not judged yet."""
    return Verdict("loss.decreases", "not_run", _NOT_YET, None, {"losses": probe.watched.losses})


def gradients(probe: Probe) -> Verdict:
    """The loss hangs together with the parameters: backward reaches some of them."""
    loss = probe.loss
    got = [name for name, record in probe.watched.trainable.items() if record.gradients]
    evidence = {"parameters with a gradient": len(got), "trainable parameters": len(probe.watched.trainable)}
    if not probe.watched.trainable:
        do = "Set `requires_grad` on what is to be trained; a frozen trunk needs at least a trainable head."
        return Verdict("loss.gradients", "fail", "No parameter wants gradients.", "proven", evidence, do)
    if got:
        what = "Backward from the loss reaches the parameters."
        return Verdict("loss.gradients", "pass", what, "proven", evidence)
    what = (
        "Backward reaches no parameter" + ("" if loss.requires_grad else ": the loss does not require gradients") + "."
    )
    do = "Look for `.detach()`, `.item()`, `.data`, `torch.tensor(...)`, `no_grad` or argmax between model and loss."
    return Verdict("loss.gradients", "fail", what, "proven", evidence, do)


CHECKS: dict[str, Check] = {"loss.value": value, "loss.decreases": decreases, "loss.gradients": gradients}
