"""Whether labels say anything about their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.batches import images_and_targets
from featviz_core.checklist.exhibits import Trial, measured
from featviz_core.checklist.looks import attempt, augmentation_seen, data_seen, found, mixing
from featviz_core.checklist.probe import Broken, Probe, once
from featviz_core.checklist.report import Verdict
from featviz_core.checklist.trainings import Practice, Scores, practice, reference, twin
from featviz_core.errors import FeatVizError
from featviz_core.experiment import Experiment, few_batches
from featviz_core.techniques.data_check.disagreement import Features, Table, out_of_fold, told_by

_LEAST = 100  # pictures of either kind, below which nothing is said of what labels mean
_A_CLASS = 8  # training pictures of each class
_PATIENCE = 3  # times as many steps until the pictures are learned by heart
_LEARNED = 0.8  # of the training pictures, by heart
_SOMETHING = 0.1


@dataclass(frozen=True, slots=True)
class _Told:
    """Labels that a linear discriminant tells, as shares with their standard errors: of training pictures from the
    others of them, of validation from all training pictures, and from those alone whose own label it tells, `kept` of
    `pictures`."""

    inside: tuple[float, float]
    validation: tuple[float, float]
    from_kept: float
    kept: int
    pictures: int
    guessing: float

    @property
    def noisy(self) -> bool:
        """Whether validation labels are told better than training's own."""
        (inside, one), (other, two) = self.inside, self.validation
        return other - inside > max(_NOISE, _SIGMAS * math.hypot(one, two))

    @property
    def meaningful(self) -> bool:
        """Whether both are told, for certain, better than by guessing."""
        return all(share > self.guessing + _SIGMAS * error for share, error in (self.inside, self.validation))


def noisy(probe: Probe) -> Verdict | None:
    """Training labels of which many are drawn by chance: what is learned from them holds better for validation
    pictures than for themselves.

    A linear discriminant on the fresh network's features averages such labels out, and tells right ones that it is
    then asked for. Without noise both are told as well.
    """
    seen = _told(probe)
    if seen is None or not seen.noisy:
        return None
    inside, validation = seen.inside[0], seen.validation[0]
    right = min(1.0, max(0.0, (inside - seen.guessing) / (validation - seen.guessing)))
    evidence = {
        "training labels told, out of fold": measured(round(inside, 3), (round(validation - _NOISE, 3), None)),
        "validation labels told": round(validation, 3),
        "guessing": round(seen.guessing, 3),
        "labels that seem right": measured(round(right, 2), (0.9, None)),
    }
    trial = Trial(
        "only pictures whose label fits",
        f"{seen.kept} of {seen.pictures} training pictures",
        "validation labels that a linear probe tells",
        round(validation, 3),
        round(seen.from_kept, 3),
        helped=seen.from_kept > validation,
    )
    return Verdict(
        "data.labels",
        "fail" if trial.helped else "warn",
        f"About {1 - right:.0%} of the training labels seem to be drawn by chance: what they teach holds better for "
        "validation pictures than for themselves.",
        "statistical",
        evidence,
        "Look at the doubted labels of the data check, and at where the training labels come from.",
        trials=(trial,),
        fix='fv.check_experiment_data("my_experiment.py", num_batches=None, model=True).suspects_of("disagreement")',
    )


@once
def _told(probe: Probe) -> _Told | None:
    """What is told of either kind; None where there is too little to say."""
    train, validation = _described(probe, training=True), _described(probe, training=False)
    if train is None or validation is None or min(len(train.labels), len(validation.labels)) < _LEAST:
        return None
    classes, numbers = np.unique(train.labels, return_inverse=True)
    if len(classes) < 2 or np.bincount(numbers).min() < _A_CLASS or not np.isin(validation.labels, classes).all():
        return None
    asked = np.searchsorted(classes, validation.labels)
    told = out_of_fold(train.rows, numbers, train.half).argmax(1)
    validated = _recall(told_by(train.rows, numbers, validation.rows).argmax(1), asked)
    kept = told == numbers
    from_kept = 0.0
    if np.bincount(numbers[kept], minlength=len(classes)).min() > 1:
        from_kept, _ = _recall(told_by(train.rows[kept], numbers[kept], validation.rows).argmax(1), asked)
    return _Told(_recall(told, numbers), validated, from_kept, int(kept.sum()), len(kept), 1 / len(classes))


_NOISE = 0.1
_SIGMAS = 3.5


def _described(probe: Probe, *, training: bool) -> Table | None:
    """What the fresh network's head is given for training pictures without augmentation, or for validation pictures;
    None where there are none, or where labels are no class numbers."""
    experiment = probe.fresh()
    loader = experiment.val_loader
    if training:
        seen = augmentation_seen(probe)
        augmented = isinstance(seen, FeatVizError) or seen.random_train is not False
        loader = probe.clean_loader or (None if augmented else experiment.train_loader)
    if loader is None:
        return None
    kind = "training" if training else "validation"
    table = attempt(
        probe, ("data.labels",), f"The look at {kind} labels", lambda: _features(experiment, loader, probe.size.labels)
    )
    if table is None:
        return None
    usable = (table.labels >= 0) & np.isfinite(table.rows).all(1)
    return Table(table.rows[usable], table.labels[usable], table.half[usable])


def _features(experiment: Experiment, loader: Iterable[Any], batches: int) -> Table | None:
    """Of the first `batches`; None where labels are no class numbers."""
    features = Features(experiment.model)
    for images, targets in islice(experiment.pairs(loader), batches):
        if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
            return None
        features.see(images, targets.cpu().numpy())
    features.finish()
    return features.table()


def _recall(told: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[float, float]:
    """The mean over classes of the share that is told, whatever their sizes, and its standard error."""
    sizes = np.bincount(right)
    there = sizes > 0
    shares = np.bincount(right, told == right)[there] / sizes[there]
    return float(shares.mean()), float(np.sqrt((shares * (1 - shares) / sizes[there]).sum())) / int(there.sum())


@once
def patient(probe: Probe) -> Practice:
    """The twin, until it knows the training pictures by heart or three times as many steps are made."""
    return practice(probe, reference, steps=_PATIENCE * probe.steps)


def meaningless(probe: Probe) -> Verdict | None:
    """Labels that nothing but learning by heart helps with: what is learned does not hold for validation at all.

    A network that learned some hundred pictures by heart is always a little better than guessing on others, as long as
    labels say what pictures show. Dealing the labels out at random must then make a difference.
    """
    if _otherwise_explained(probe):
        return None
    after = patient(probe)
    if after.validation is None or after.gain < _LEARNED or (tried := _tried(probe, after.validation)) is None:
        return None
    random = practice(probe, _with_pairs, on=_dealt_out(probe), steps=_PATIENCE * probe.steps)
    dealt_out = random.validation.accuracy if random.validation is not None else 0.0
    # One network that was unlucky with labels dealt out at random must not make others look good.
    guessing, reached = after.validation.guessing, sum(tried) / len(tried)
    by_chance = max(dealt_out, guessing)
    if _better(reached, by_chance, after.validation.pictures):
        return None
    evidence = {
        "training pictures learned": measured(round(after.train.accuracy, 3), (0.9, None)),
        "validation accuracy": measured(round(reached, 3), (round(guessing + 0.05, 3), None)),
        "guessing": round(guessing, 3),
    }
    dealt = Trial(
        "labels dealt out at random",
        "the same pictures, labels shuffled",
        "validation accuracy",
        round(reached, 3),
        round(by_chance, 3),
        helped=False,
    )
    return Verdict(
        "data.labels",
        "fail" if _validation_can_be_told(probe) else "warn",
        "Training labels say nothing about validation pictures: they can be learned by heart, and no better than "
        "labels dealt out at random.",
        "statistical",
        evidence,
        "Look at twenty training and twenty validation pictures beside their labels. Files and labels may have been "
        "sorted, filtered or shuffled apart, or the two parts number their classes differently.",
        trials=(dealt,),
        fix="files = sorted(folder.iterdir())                # one list, in one order\n"
        "samples = [(file, label_of(file)) for file in files]  # picture and label stay together",
    )


def _otherwise_explained(probe: Probe) -> bool:
    """Whether nothing can be said of labels, or something else explains that what is learned does not hold."""
    try:
        close = twin(probe)
    except Broken:
        return True  # told by the item that broke
    if mixing(probe):
        return True  # what a network says that takes one picture for another is no evidence
    if (told := _told(probe)) is not None and told.meaningful:
        return True  # even an untrained network tells them
    if (seen := data_seen(probe)) is not None and found(seen.findings, ("data.shift", "data.channel_order")):
        return True  # validation pictures are others: no wonder that what is learned does not hold for them
    if not _enough(probe, close) or close.validation is None or close.validation.certain:
        return True
    return close.gain < _SOMETHING  # it learns nothing at all, which is another item's matter


def _tried(probe: Probe, first: Scores) -> list[float] | None:
    """Validation accuracies of the reference after the first batches (`first`), after more pictures, and after clean
    ones; None where one of them holds for certain."""
    tried = [first]
    # It may take more pictures than the first batches hold, or augmentation may leave too little of them.
    for batches in (_many, lambda probe: probe.clean_batches):
        if tried[-1].certain:
            return None
        if on := batches(probe):
            after = practice(probe, reference, on=on, steps=_PATIENCE * probe.steps).validation
            tried += [after] if after is not None else []
    return None if tried[-1].certain else [one.accuracy for one in tried]


_FOLDS = 4


def _validation_can_be_told(probe: Probe) -> bool:
    """Whether validation pictures teach each other's labels, out of fold: then these pictures can be learned from so
    few, and it is training's labels that say nothing. Where they cannot, right labels may look the same."""
    pairs = [_Pair(pair) for pair in probe.fresh().pairs(probe.validation or ())]
    right, judged = 0.0, 0
    for fold in range(_FOLDS):
        others = [pair.without(fold, _FOLDS) for pair in pairs if len(pair[0]) >= _FOLDS]
        if not others or (after := practice(probe, _with_pairs, on=others)).validation is None:
            return False
        # It was judged on all of them, those that it learned from included.
        known = after.validation
        right += known.accuracy * known.pictures - after.train.accuracy * after.train.pictures
        judged += known.pictures - after.train.pictures
        if judged > 0 and replace(known, accuracy=right / judged, pictures=judged).certain:
            return True  # the other folds would say so too
    return False


def _many(probe: Probe) -> list[Any]:
    """As many training batches as are read for labels, and as fit into some memory."""
    each = max(1, probe.pair[0].nbytes)
    experiment = probe.fresh()
    return list(few_batches(experiment, experiment.train_loader, max(1, min(probe.size.labels, _MOST_BYTES // each))))


_MOST_BYTES = 256 << 20
_BETTER = 2.0  # standard errors


def _better(one: float, other: float, pictures: int) -> bool:
    """Whether one accuracy on so many pictures is better than another by more than chance gives."""
    error = math.sqrt((one * (1 - one) + other * (1 - other)) / max(1, pictures))
    return one - other > _BETTER * error


def _enough(probe: Probe, seen: Practice) -> bool:
    """Whether there are enough pictures for an accuracy to say something."""
    if seen.validation is None or math.isnan(seen.train.accuracy) or probe.classes is None:
        return False
    few = min(seen.train.pictures, seen.validation.pictures) < _LEAST
    return not few and seen.train.pictures >= _A_CLASS * probe.classes


class _Pair(tuple[Tensor, Tensor]):
    """Images and labels, whatever the structure of the experiment's own batches."""

    def without(self, fold: int, folds: int) -> _Pair:
        """The same without the pictures that chance, always the same, puts into a fold."""
        images, targets = self
        kept = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)) % folds != fold
        return _Pair((images[kept.to(images.device)], targets[kept.to(targets.device)]))


def _with_pairs(experiment: Experiment) -> Experiment:
    """`reference`, on a loop that takes a `_Pair` as it is."""
    own = experiment.unpack
    return replace(
        reference(experiment),
        unpack=lambda batch: batch if isinstance(batch, _Pair) else images_and_targets(batch, own),
    )


def _dealt_out(probe: Probe) -> list[_Pair]:
    """The first training batches with their labels dealt out anew."""
    pairs = list(probe.experiment.pairs(probe.batches))
    labels = torch.cat([targets for _, targets in pairs])
    mixed = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(labels.device)]
    parts = torch.split(mixed, [len(images) for images, _ in pairs])
    return [_Pair((images, own)) for (images, _), own in zip(pairs, parts, strict=True)]
