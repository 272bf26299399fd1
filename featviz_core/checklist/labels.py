"""Whether every label is one that the loss can use, and whether labels say anything about their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.batches import describe
from featviz_core.checklist.exhibits import Bars
from featviz_core.checklist.label_meaning import meaningless, noisy
from featviz_core.checklist.looks import data_seen, found, verdict_of
from featviz_core.checklist.probe import Broken, Probe, evidence_on
from featviz_core.checklist.report import Verdict


def labels(probe: Probe) -> Verdict:
    """Every label can be used by the loss: as many as pictures, in 0..C-1 or one row of finite numbers a picture."""
    for where, number, images, targets in _labelled(probe):
        problem = _problem(probe, images, targets)
        if problem is not None:
            what, evidence, remedy = problem
            evidence = {"where": f"{where} batch {number}", **evidence}
            return Verdict("data.labels", "fail", what, "proven", evidence, remedy)
    try:
        _ = probe.loss
    except Broken as broken:
        if (mended := _form_that_works(probe)) is not None:
            what = f"The loss refuses labels of this form: {describe(probe.pair[1])}."
            remedy = f"Convert them in the data set or `unpack`: `{mended}`."
            return Verdict("data.labels", "fail", what, "proven", broken.verdict.evidence, remedy)
        if (text := _text(probe.pair[1])) is not None:
            what = f"The loss refuses labels that are text, such as {text!r}."
            remedy = "Number the classes in the data set: `class_names.index(label)`."
            return Verdict("data.labels", "fail", what, "proven", broken.verdict.evidence, remedy)
    seen = data_seen(probe)
    if seen is not None and (findings := found(seen.findings, ("labels.", "loader.unshuffled"))):
        return verdict_of("data.labels", findings, exhibits=_balance(probe))
    for check in (noisy, meaningless):
        if (verdict := check(probe)) is not None:
            return verdict
    counts = _class_counts(probe)
    evidence = {"classes": probe.classes, "seen": len(counts), "pictures": sum(counts.values())} if counts else {}
    what = "Every label seen is one that the loss can use."
    return Verdict("data.labels", "pass", what, "proven", evidence, exhibits=_balance(probe))


def _labelled(probe: Probe) -> Iterator[tuple[str, int, Tensor, Any]]:
    _ = probe.pair
    for where, loader in (("training", probe.experiment.train_loader), ("validation", probe.experiment.val_loader)):
        with evidence_on("data.range", f"The {where} loader"):
            for number, batch in enumerate(islice(() if loader is None else loader, probe.size.labels)):
                yield where, number, *probe.experiment.pair(batch)


def _problem(probe: Probe, images: Tensor, targets: Any) -> tuple[str, dict[str, Any], str] | None:
    if not isinstance(targets, Tensor):
        return None  # whatever it is, the loss decides
    if targets.ndim and len(targets) != len(images):
        return (
            "There are not as many labels as pictures.",
            {"pictures": len(images), "labels": len(targets)},
            "Check the data set's `__getitem__` and the loader's `collate_fn`.",
        )
    if targets.is_floating_point():
        if not targets.isfinite().all():
            return "A label is NaN or Inf.", {}, "Check where the labels are read: an empty field becomes NaN."
        return None
    if targets.ndim != 1 or targets.dtype == torch.bool or not _indexes_classes(probe):
        return None
    ignored = getattr(probe.experiment.loss_fn, "ignore_index", -100)
    used = targets[targets != ignored]
    classes = probe.meant_classes
    if classes is None or not used.numel():
        return None
    low, high = int(used.min()), int(used.max())
    if low >= 0 and high < classes:
        return None
    off_by_one = high == classes and _smallest(probe) == 1
    return (
        f"Label {high if high >= classes else low} is outside of 0 to {classes - 1}.",
        {"smallest label": low, "largest label": high, "classes": classes},
        "They count from 1: subtract 1."
        if off_by_one
        else "Give the model as many outputs as there are classes, or mend the labels. Class numbers are 0 to C-1.",
    )


def _smallest(probe: Probe) -> int:
    """The smallest class number of all that are looked at."""
    ignored = getattr(probe.experiment.loss_fn, "ignore_index", -100)
    return min(int(y[y != ignored].min()) for _, _, _, y in _labelled(probe) if bool((y != ignored).any()))


def _indexes_classes(probe: Probe) -> bool:
    """Whether labels are class numbers: any loss but those that are known to take something else."""
    others = (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.KLDivLoss)
    return not isinstance(probe.experiment.loss_fn, others)


_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "labels.long()": lambda t: t.long(),
    "labels.squeeze(1).long()": lambda t: t.squeeze(1).long(),
    "labels.argmax(1)": lambda t: t.argmax(1),
    "labels.float()": lambda t: t.float(),
    "labels.float()[:, None]": lambda t: t.float()[:, None],
}


def _form_that_works(probe: Probe) -> str | None:
    """Another form of the labels that the loss takes, which proves that their form is the matter."""
    targets = probe.pair[1]
    if not isinstance(targets, Tensor):
        return None
    for code, change in _FORMS.items():
        try:
            loss = probe.experiment.loss_fn(probe.logits.detach(), change(targets))
        except Exception:  # noqa: BLE001 - this form is not it either
            continue
        if loss.isfinite().all():
            return code
    return None


def _text(targets: Any) -> str | None:
    """The first label that is a text."""
    listed = targets if isinstance(targets, list | tuple) else ()
    return next((label for label in listed if isinstance(label, str)), None)


def _class_counts(probe: Probe) -> dict[int, int]:
    counts: dict[int, int] = {}
    for _, targets in probe.experiment.pairs(probe.batches):
        if isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point():
            for label in targets.tolist():
                counts[label] = counts.get(label, 0) + 1
    return counts


def _balance(probe: Probe) -> tuple[Bars, ...]:
    counts, names = _class_counts(probe), probe.experiment.class_names or ()
    titles = {str(names[label]) if 0 <= label < len(names) else str(label): n for label, n in sorted(counts.items())}
    return (Bars("Pictures of each class in the first batches", titles),) if titles else ()
