"""What the techniques find in an experiment, and their findings as verdicts on the checklist's items."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from featviz_core.checklist.probe import Broken, Probe, once
from featviz_core.checklist.report import Verdict
from featviz_core.errors import FeatVizError
from featviz_core.experiment_file import short
from featviz_core.findings import Finding
from featviz_core.techniques.activation_stats.of_experiment import experiment_activations
from featviz_core.techniques.activation_stats.result import ActivationStats
from featviz_core.techniques.data_check.augmentation import AugmentationCheck, check_augmentation
from featviz_core.techniques.data_check.compute import check_dataloader
from featviz_core.techniques.data_check.result import DataCheck
from featviz_core.techniques.gradient_flow.history import gradient_history
from featviz_core.techniques.gradient_flow.history_result import GradientHistory
from featviz_core.techniques.output_check.of_experiment import check_experiment_output

# What holds without exception; everything else that the techniques say is statistical, a warning a rule of thumb.
_PROVEN = {
    *("data.finite", "data.dtype", "data.layout", "data.size", "labels.range", "labels.shape", "labels.dtype"),
    *("leak.exact", "leak.file", "loader.failed", "augmentation.validation", "output.mixes_samples"),
    *("output.alone_differs", "output.softmax_applied", "output.shape", "output.classes", "activation.nan"),
}
_STEPS = 8
T = TypeVar("T")


def attempt(probe: Probe, items: Collection[str], name: str, look: Callable[[], T]) -> T | None:
    """What the look sees; None where it raises, which the evidence of `items` then says: they were judged without."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - user code runs in it
        probe.unseen |= dict.fromkeys(items, f"{name} could not be made: {short(error)}")
        return None


@once
def data_seen(probe: Probe) -> DataCheck | None:
    """The data check of the first batches; None where it cannot be made."""
    experiment = probe.fresh()
    try:
        classes = probe.meant_classes
    except Broken:  # told where the model is asked
        classes = None
    return attempt(
        probe,
        ("data.range", "data.labels", "training.fit"),
        "The data check",
        lambda: check_dataloader(
            experiment.train_loader,
            num_batches=probe.size.labels,
            validation=experiment.val_loader,
            num_classes=classes,
            class_names=experiment.class_names,
            unpack=experiment.unpack,
            normalization=experiment.normalization,
            clean_train=experiment.clean_train,
        ),
    )


@once
def augmentation_seen(probe: Probe) -> AugmentationCheck | FeatVizError:
    """What augmentation does, or why that cannot be seen."""
    try:
        return check_augmentation(probe.make, samples=2, device=probe.device)
    except FeatVizError as error:
        return error


@once
def output_findings(probe: Probe) -> tuple[Finding, ...]:
    """What the output check finds; nothing where it cannot be made."""
    seen = attempt(
        probe,
        ("model.output_shape",),
        "The output check",
        lambda: check_experiment_output(probe.make, batches=2, device=probe.device),
    )
    return () if seen is None else seen.output.findings


def mixing(probe: Probe) -> list[Finding]:
    """What shows that a picture's scores depend on the others of its batch, in evaluation mode."""
    return found(output_findings(probe), ("output.mixes_samples", "output.alone_differs", "output.alone_fails"))


@once
def activation_stats_seen(probe: Probe) -> ActivationStats | None:
    """The layers of the fresh model on training pictures; None where they cannot be watched."""
    return attempt(
        probe,
        ("model.init",),
        "Activation statistics",
        lambda: experiment_activations(probe.make, split="train", batches=2, device=probe.device),
    )


def activation_findings(probe: Probe) -> tuple[Finding, ...]:
    """What the layers of the fresh model show."""
    stats = activation_stats_seen(probe)
    return () if stats is None else stats.findings


@once
def history_seen(probe: Probe) -> GradientHistory | None:
    """Gradients and updates over the first steps; None where the loop breaks."""
    _ = probe.watched
    try:
        return gradient_history(probe.make, steps=_STEPS, device=probe.device)
    except FeatVizError:
        return None


def found(findings: Sequence[Finding], codes: Collection[str]) -> list[Finding]:
    """Those of `codes` (whole, or as far as their dot: `leak.`) that warn or fail, the worst first."""
    order = {"fail": 0, "warn": 1}
    chosen = [
        finding
        for finding in findings
        if finding.severity in order
        and any(finding.code == c or (c[-1] == "." and finding.code.startswith(c)) for c in codes)
    ]
    return sorted(chosen, key=lambda finding: order[finding.severity])


def verdict_of(item: str, findings: Sequence[Finding], **more: Any) -> Verdict:
    """The worst of `findings` (not empty, worst first) as the item's verdict; the others go into the evidence."""
    worst = findings[0]
    status = "fail" if worst.severity == "fail" else "warn"
    grade = "proven" if worst.code in _PROVEN else "statistical" if status == "fail" else "heuristic"
    evidence: dict[str, Any] = {"finding": worst.code, **_plain(worst.evidence)}
    if worst.where:
        evidence["where"] = worst.where
    if others := [finding.title for finding in findings[1:] if finding.title != worst.title]:
        evidence["also"] = others[:4]
    summary = " ".join(filter(None, (f"{worst.title.rstrip('.')}.", worst.detail)))
    given: dict[str, Any] = {"remedy": worst.remedy, "evidence": evidence} | more
    return Verdict(item, status, summary, grade, **given)  # type: ignore[arg-type]


def _plain(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and short texts only: a report is no place for arrays."""
    kinds = (int, float, str, bool, list, tuple, dict)
    return {name: value for name, value in evidence.items() if isinstance(value, kinds)}
