"""Training: over- and underfitting, curves, convergence."""

from __future__ import annotations

from featviz_core.checklist.probe import Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.watch import Phase, Watch, is_normalization


def curves(probe: Probe) -> Verdict:
    """Training is measured in training mode and validation in evaluation mode, as seen in the user's own loop."""
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
        return Verdict("training.curves", "fail", what, "proven", evidence, do)
    # A frozen BatchNorm is made on purpose; anything else in evaluation mode, or the whole model, is not.
    others = [name for name in wrong["training"] if not is_normalization(modules[name])]
    whole = watch.modes["training"][""][False] > 0
    if wrong["training"] and (others or whole):
        what = f"Training runs in evaluation mode ({', '.join((others or wrong['training'])[:2])})."
        do = "Call `model.train()` before every epoch, after validation too."
        return Verdict("training.curves", "fail", what, "proven", evidence, do)
    if not watch.metrics:
        what = "There is no validation; training runs in training mode."
        return Verdict("training.curves", "pass", what, "proven", evidence)
    if watch.graphs:
        what = "Validation keeps gradients' graphs: the numbers are right, but memory is wasted."
        do = "Put validation under `torch.no_grad()`."
        return Verdict("training.curves", "warn", what, "proven", evidence, do, harmless=True)
    return Verdict("training.curves", "pass", "Training and validation run in their own modes.", "proven", evidence)


def _in_wrong_mode(watch: Watch, phase: Phase) -> list[str]:
    right = phase == "training"
    return [name for name, seen in watch.modes[phase].items() if name and seen[not right]]


CHECKS: dict[str, Check] = {"training.curves": curves}
