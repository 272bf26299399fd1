"""Data: range, labels, augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.checklist.exhibits import Curves, Pictures, Trial, pictures
from featviz_core.checklist.labels import labels
from featviz_core.checklist.looks import augmentation_seen, data_seen, found, verdict_of
from featviz_core.checklist.probe import Broken, Check, Probe
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import Scores, own, practice
from featviz_core.errors import FeatVizError
from featviz_core.experiment import Experiment
from featviz_core.experiment_model import to_pixels
from featviz_core.techniques.data_check.augmentation import AugmentationCheck

_RANGE = ("data.", "loader.failed", "loader.empty")
_SHOWN = 8


def range_of_pictures(probe: Probe) -> Verdict:
    """Pictures are finite, of the right type and layout, and in the range that the stated or usual normalisation gives.

    A range that looks wrong is tried: the same training behind a layer that gives each channel mean 0 and spread 1, or
    validation pictures with training's.
    """
    _ = probe.pair, probe.validation
    if (verdict := _form(probe)) is not None:
        return verdict
    low, high, broken = float("inf"), float("-inf"), None
    for number, (images, _targets) in enumerate(probe.experiment.pairs(probe.batches)):
        if broken is None and images.is_floating_point() and (bad := (~images.isfinite()).flatten(1).any(1)).any():
            broken = f"Picture {int(bad.float().argmax())} of batch {number} holds NaN or Inf."
        finite = images[images.isfinite()] if images.is_floating_point() else images
        if finite.numel():
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    seen = {"shape": str(tuple(probe.pair[0].shape)), "smallest": low, "largest": high}
    if broken is not None:
        return Verdict(
            "data.range",
            "fail",
            broken,
            "proven",
            seen,
            "Find the file or the transform it comes from: a division by a standard deviation of zero, a logarithm of "
            "zero, or a damaged file. `torch.isfinite(image).all()` in the data set's `__getitem__` names the picture.",
        )
    if (verdict := _all_the_same(probe, seen)) is not None:
        return verdict
    looked = data_seen(probe)
    findings = found(looked.findings, _RANGE) if looked is not None else []
    shown = {"exhibits": _shown(probe)}
    if not findings:
        what = "Values are finite and in a usual range."
        return Verdict("data.range", "pass", what, "statistical", seen, **shown)  # type: ignore[arg-type]
    verdict = verdict_of("data.range", findings, **shown)
    verdict = replace(verdict, evidence={**seen, **verdict.evidence})
    in_validation = "validation" in findings[0].where
    if verdict.grade == "proven" or (verdict.status != "fail" and not in_validation):
        return verdict
    trial = (_like_training if in_validation else _normalised)(probe, findings[0].code)
    if trial.helped:
        return replace(verdict, status="fail", grade="statistical", trials=(trial,))
    harmless = verdict.status == "fail" and own(probe).train.certain
    return replace(verdict, status="warn" if harmless else verdict.status, harmless=harmless, trials=(trial,))


_FORMS: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ("of type {dtype}, which its weights are not", "images.float()", lambda images: images.float()),
    (
        "with colours last, {shape}",
        "images.permute(0, 3, 1, 2).float()",
        lambda images: images.permute(0, 3, 1, 2).float(),
    ),
)


def _form(probe: Probe) -> Verdict | None:
    """A fail where the model raises for pictures as they come, and takes them in another type or order."""
    try:
        _ = probe.logits
    except Broken as broken:
        images, _targets = probe.pair
        for problem, code, change in () if _taken(probe, lambda: images) else _FORMS:
            if not _taken(probe, partial(change, images)):
                continue
            shown = problem.format(dtype=str(images.dtype).removeprefix("torch."), shape=tuple(images.shape))
            what = f"The model refuses pictures {shown}."
            do = f"Convert them in the data set's transform: the model takes `{code}`."
            return Verdict("data.range", "fail", what, "proven", broken.verdict.evidence, do)
    return None


def _taken(probe: Probe, images: Callable[[], Tensor]) -> bool:
    """Whether the model gives anything at all for pictures in this form."""
    try:
        probe.fresh().model(images())
    except Exception:  # noqa: BLE001 - the user's model; another form may do
        return False
    return True


def _all_the_same(probe: Probe, seen: dict[str, Any]) -> Verdict | None:
    """Proven where no training picture differs from another."""
    first = probe.pair[0][:1]
    count = 0
    for images, _targets in probe.experiment.pairs(probe.batches):
        if images.shape[1:] != first.shape[1:] or bool((images != first).any()):
            return None
        count += len(images)
    if count < _SHOWN:
        return None
    what = f"All of the first {count} training pictures are the same."
    do = "Look at the data set's `__getitem__`: does it use its index, and does it read the file?"
    shown = _shown(probe)
    return Verdict("data.range", "fail", what, "proven", seen | {"pictures": count}, do, exhibits=shown)


def _normalised(probe: Probe, _code: str) -> Trial:
    """The same training with standardised pictures."""
    mean, std = _moments(probe, probe.batches)

    def behind(experiment: Experiment) -> Experiment:
        return replace(experiment, model=_Changed(experiment.model, lambda images: (images - mean) / std))

    after = practice(probe, behind)
    return Trial(
        "pictures normalised",
        "(image - mean) / std, by channel",
        f"share of the training pictures learned after {probe.steps} steps",
        round(own(probe).gain, 3),
        round(after.gain, 3),
        after.gain > own(probe).gain + 0.1,
    )


def _like_training(probe: Probe, code: str) -> Trial:
    """The same training, and then validation pictures with training's mean and spread, or order of channels."""
    (mean, std), (own_mean, own_std) = (_moments(probe, part) for part in (probe.batches, probe.validation or ()))

    def matched(images: Tensor) -> Tensor:
        return images.flip(1) if code == "data.channel_order" else (images - own_mean) / own_std * std + mean

    def behind(experiment: Experiment) -> Experiment:
        return replace(experiment, model=_Changed(experiment.model, matched, only_evaluating=True))

    before, after = own(probe).validation, practice(probe, behind).validation
    told, then = (math.nan if one is None else round(one.accuracy, 3) for one in (before, after))
    return Trial(
        "validation pictures like training's",
        "channels reversed" if code == "data.channel_order" else "the mean and spread of each channel",
        f"validation accuracy after {probe.steps} steps",
        told,
        then,
        helped=after is not None and after.certain and then > told + 0.1,
    )


def _moments(probe: Probe, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Mean and spread of each channel, `(C, 1, 1)`."""
    values = torch.cat([images.float().transpose(0, 1).flatten(1) for images, _ in probe.experiment.pairs(batches)], 1)
    return values.mean(1)[:, None, None], values.std(1).clamp(min=1e-6)[:, None, None]


class _Changed(nn.Module):
    """A model whose pictures are changed first; with `only_evaluating`, not those it learns from."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor], *, only_evaluating: bool = False) -> None:
        super().__init__()
        self.model, self.change, self.only_evaluating = model, change, only_evaluating

    def forward(self, images: Tensor) -> Any:
        return self.model(images if self.training and self.only_evaluating else self.change(images))


def _shown(probe: Probe) -> tuple[Pictures, ...]:
    """The first training pictures as a person sees them, with their labels."""
    images, targets = probe.pair
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        return ()
    names = probe.experiment.class_names or ()
    several = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    given = targets.tolist()[:_SHOWN] if several else [""] * _SHOWN
    captions = [str(names[n]) if isinstance(n, int) and 0 <= n < len(names) else str(n) for n in given]
    some = [image.float().cpu() for image in images[:_SHOWN]]
    arrays = to_pixels(some, probe.experiment.normalization)
    return (pictures("Training pictures and their labels", arrays, captions[: len(arrays)]),)


def augmentation(probe: Probe) -> Verdict:
    """Augmentation leaves what the label says, and validation is not augmented."""
    seen = augmentation_seen(probe)
    if isinstance(seen, FeatVizError):
        return Verdict("data.augmentation", "not_run", f"Pictures cannot be read by number: {seen.what}")
    shown = {"exhibits": _augmented(seen)}
    looked = data_seen(probe)
    told = (*seen.findings, *(looked.findings if looked is not None else ()))
    # What the features of a broken network say is no evidence.
    findings = [f for f in found(told, ("augmentation.",)) if f.severity == "fail" or own(probe).train.certain]
    if findings:
        verdict = verdict_of("data.augmentation", findings, **shown)
        return verdict if verdict.grade == "proven" else _without(probe, verdict)
    if seen.kept is None:
        what = seen.source if seen.random_train else "Training pictures are the same each time: nothing is augmented."
        status = "not_run" if seen.random_train else "pass"
        return Verdict("data.augmentation", status, what, "proven" if status == "pass" else None, **shown)  # type: ignore[arg-type]
    what = "Augmented pictures still show what their label says." if seen.random_train else "Nothing is augmented."
    evidence = {"told from clean pictures": round(seen.kept.clean, 3), "from augmented": round(seen.kept.changed, 3)}
    return Verdict("data.augmentation", "pass", what, "statistical", evidence, **shown)  # type: ignore[arg-type]


def _without(probe: Probe, verdict: Verdict) -> Verdict:
    """The verdict after the same training without augmentation: it is red where less is learned with it, or where what
    is learned holds much less for validation."""
    clean = probe.clean_batches
    if clean is None:
        return replace(verdict, status="warn")
    before, after = own(probe), practice(probe, on=clean)
    helped = verdict.status == "fail" and after.gain > before.gain + 0.1
    figure, shown = f"share of the training pictures learned after {probe.steps} steps", (before.gain, after.gain)
    if not helped and before.validation is not None and after.validation is not None:
        helped = _holds_better(after.validation, before.validation)
        figure = f"validation accuracy after {probe.steps} steps"
        shown = (before.validation.accuracy, after.validation.accuracy)
    trial = Trial("no augmentation", "the same pictures, clean", figure, round(shown[0], 3), round(shown[1], 3), helped)
    exhibits = (*verdict.exhibits, Curves("Loss", {"augmented": before.losses, "clean": after.losses}))
    return replace(verdict, status="fail" if helped else "warn", trials=(trial,), exhibits=exhibits)


_MUCH = 0.2  # of validation accuracy: strong augmentation that is worth it costs a short training some, too


def _holds_better(after: Scores, before: Scores) -> bool:
    """Whether something holds for validation pictures where nothing did, or much more than did."""
    return after.certain and (not before.certain or after.accuracy - before.accuracy > _MUCH)


def _augmented(seen: AugmentationCheck) -> tuple[Pictures, ...]:
    names = seen.class_names
    arrays, captions = [], []
    for picture in seen.pictures[:4]:
        name = names[picture.label] if picture.label is not None and picture.label < len(names) else ""
        arrays += [array for array in (picture.clean, *picture.samples[:1]) if array is not None]
        captions += [f"{name}, clean"] * (picture.clean is not None) + [f"{name}, augmented"] * bool(picture.samples)
    return (pictures("Clean and augmented", arrays, captions),) if arrays and seen.random_train else ()


CHECKS: dict[str, Check] = {"data.range": range_of_pictures, "data.labels": labels, "data.augmentation": augmentation}
