"""What augmentation does to the training pictures: originals beside samples, and how much is left of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import Experiment, Factory, fresh
from featviz_core.experiment_file import at_home, short
from featviz_core.experiment_model import to_pixels
from featviz_core.findings import Finding, Severity
from featviz_core.techniques.data_check.clean import Step, steps_of, without_augmentation
from featviz_core.techniques.data_check.disagreement import Features
from featviz_core.techniques.data_check.entries import Entries, spread
from featviz_core.techniques.data_check.keeping import Floats, Kept, how_much_is_kept, likeness

Progress = Callable[[float, str], None]
Pixels = NDArray[np.uint8]

_READ = 384  # pictures that are judged
_SHOWN = 8  # of them, to look at

# Seen on 20 augmentations of three demo set-ups: healthy ones keep .35 to 1 of a fresh network's probe and .69 to 1
# of the likeness, ruinous ones up to .15 and .5 to .6.
_KNOWS = 0.1  # accuracy beyond guessing, below which the probe has no say
_TRAINED = 0.6  # accuracy from which the features are taken for learned ones
_LITTLE, _NOTHING = 0.5, 0.2  # share of that knowledge that is left
_UNLIKE = 0.62


@dataclass(frozen=True, slots=True, eq=False)
class AugmentedPicture:
    """One training picture and what augmentation makes of it, to be looked at.

    `index` in the data set, `label` its class or None. `clean (h, w, 3)` uint8, None where it cannot be had;
    `samples`: as many readings of it. `likeness`, one for each sample, 0 to 1: the share of other originals that it is
    less like than its own; NaN without clean pictures.
    """

    index: int
    label: int | None
    clean: Pixels | None
    samples: tuple[Pixels, ...]
    likeness: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AugmentationCheck:
    """What augmentation does.

    `source`: where the clean pictures come from, a sentence. `steps`: the recognised transform. `random_train`,
    `random_validation`: whether reading the same picture twice gives two pictures; None where nothing can be read by
    number. `kept`: how much is left of the pictures, None without clean ones. `class_names` as in the experiment.
    """

    source: str
    steps: tuple[Step, ...]
    random_train: bool | None
    random_validation: bool | None
    pictures: tuple[AugmentedPicture, ...]
    kept: Kept | None
    class_names: tuple[str, ...]
    findings: tuple[Finding, ...]

    def frame(self) -> pd.DataFrame:
        """How the probe does: `pictures accuracy` for clean ones, augmented ones and guessing; empty without it."""
        rows = [] if self.kept is None else [self.kept.clean, self.kept.changed, self.kept.chance]
        return pd.DataFrame({"pictures": ["clean", "augmented", "guessing"][: len(rows)], "accuracy": rows})


def check_augmentation(
    make_experiment: Factory | str, *, samples: int = 7, device: str = "cpu", progress: Progress | None = None
) -> AugmentationCheck:
    """Does augmentation leave of each training picture what its label says?

    Reads training pictures again and again, and without augmentation where `clean_train` or a recognised torchvision
    transform gives them. Two measures, on the input of the model's last linear layer: whether an augmented picture is
    still more like its own original than like others, and whether a linear probe that was fitted to other clean
    pictures still tells its class. Raises `ExperimentError` where the experiment cannot be made or read.
    """
    report = progress or (lambda _done, _text: None)
    with at_home(make_experiment) as factory:
        experiment = fresh(factory, device=device)
        train, validation = (Entries(one, experiment.pair) for one in (experiment.train_loader, experiment.val_loader))
        random_train, random_validation = train.random(), validation.random()
        clean, source = _clean(experiment, train)
        read = _Read(train, clean, samples, report)
        report(0.85, "Asking the model for features")
        kept, likenesses = _kept(experiment, read)
    return AugmentationCheck(
        source=source,
        steps=steps_of(train.dataset),
        random_train=random_train,
        random_validation=random_validation,
        pictures=tuple(_pictures(experiment, read, likenesses)),
        kept=kept,
        class_names=tuple(map(str, experiment.class_names or ())),
        findings=tuple(_findings(random_train, random_validation, kept, source)),
    )


def _clean(experiment: Experiment, train: Entries) -> tuple[Entries | None, str]:
    """The training pictures without augmentation, and where they come from."""
    if experiment.clean_train is not None:
        dataset = getattr(experiment.clean_train, "dataset", experiment.clean_train)
        found = Entries(experiment.train_loader, experiment.pair, dataset)
        if found.count == train.count and found.random() is False:
            return found, "Clean pictures are those of the experiment's `clean_train`."
        return None, "The experiment's `clean_train` changes its pictures, or has not as many as the training data."
    stripped = without_augmentation(train.dataset)
    if stripped is not None:
        found = Entries(experiment.train_loader, experiment.pair, stripped)
        if found.random() is False:
            return found, "Clean pictures are what the torchvision transform leaves without its random steps."
    return None, "There are no clean pictures to compare with: give the experiment `clean_train`."


class _Read:
    """Training pictures from all over the data: the clean `originals` and one augmented reading of each in `changed`,
    both empty without clean ones; for the few at the places `shown`, `samples` of augmented `readings` each."""

    def __init__(self, train: Entries, clean: Entries | None, samples: int, progress: Progress) -> None:
        self.numbers = spread(train.count, _READ)
        self.originals: list[Tensor] = []
        self.changed: list[Tensor] = []
        self.labels: list[int | None] = []
        for done, number in enumerate(self.numbers if clean is not None else (), start=1):
            assert clean is not None
            original, label = _single(clean, number)
            self.originals.append(original)
            self.labels.append(label)
            self.changed.append(_single(train, number)[0])
            progress(0.8 * done / len(self.numbers), f"Reading picture {done} of {len(self.numbers)} twice")
        self.shown = list(range(0, len(self.numbers), max(1, len(self.numbers) // _SHOWN)))[:_SHOWN]
        again = [[_single(train, self.numbers[place]) for _ in range(samples)] for place in self.shown]
        self.readings = [[image for image, _ in row] for row in again]
        self.shown_labels = [row[0][1] for row in again]


def _single(entries: Entries, index: int) -> tuple[Tensor, int | None]:
    """The picture `(C, H, W)` and its class number, None where it has no single one."""
    images, targets = entries.read(index)
    single = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return images[0].float(), int(targets[0]) if single else None


def _kept(experiment: Experiment, read: _Read) -> tuple[Kept | None, Floats]:
    """How much of the pictures is left, and the likeness `(shown, samples)` of each reading; NaN without originals."""
    rows = [image for row in read.readings for image in row]
    shape = (len(read.readings), len(read.readings[0]) if read.readings else 0)
    if not read.originals:
        return None, np.full(len(rows), math.nan).reshape(shape)
    space = _features(experiment, read.originals)
    labels = np.array(read.labels, np.int64) if None not in read.labels else None
    kept = how_much_is_kept(space, _features(experiment, read.changed), labels)
    own = np.repeat(np.array(read.shown), [len(row) for row in read.readings])
    return kept, likeness(space, _features(experiment, rows), own).reshape(shape)


def _features(experiment: Experiment, images: Sequence[Tensor]) -> Floats:
    """What the model's last linear layer is given for each picture `(n, d)`, its output where it has none; 0 for what
    is no number."""
    found = Features(experiment.model)
    try:
        for image in images:
            found.see(image[None], np.full(1, -1))
        found.finish()
    except FeatVizError:
        raise
    except Exception as error:
        raise ExperimentError(f"The experiment's model fails on its own data: {short(error)}.") from error
    return np.nan_to_num(found.table().rows.astype(np.float64), posinf=0, neginf=0)


def _pictures(experiment: Experiment, read: _Read, likenesses: Floats) -> Iterator[AugmentedPicture]:
    """Those to look at, all shown with one normalisation."""
    originals = [read.originals[place] for place in read.shown] if read.originals else []
    rows = [image for row in read.readings for image in row]
    pixels = iter(to_pixels([image.cpu() for image in (*originals, *rows)], experiment.normalization))
    cleans: list[Pixels | None] = [next(pixels) for _ in originals] or [None] * len(read.shown)
    for place, clean, label, row, alike in zip(
        read.shown, cleans, read.shown_labels, read.readings, likenesses, strict=True
    ):
        shown = tuple(next(pixels) for _ in row)
        yield AugmentedPicture(read.numbers[place], label, clean, shown, tuple(map(float, alike)))


# Verdicts


def _findings(train: bool | None, validation: bool | None, kept: Kept | None, source: str) -> list[Finding]:
    found: list[Finding] = []
    if validation:
        found.append(
            Finding(
                "augmentation.validation",
                "warn",
                "Validation pictures are augmented at random",
                "Reading the same validation picture twice gives two pictures, so its figures change from run to run.",
                "validation",
                {"same picture twice": "differs", "healthy": "equal"},
                "Give validation a transform without random steps.",
            )
        )
    if train is False:
        text = "Reading the same training picture twice gives the same picture."
        found.append(Finding("augmentation.none", "note", "Training pictures are not augmented", text, "train"))
    if train and kept is None:
        found.append(Finding("augmentation.unknown", "note", "The augmentation could not be judged", source, "train"))
    if train and kept is not None:
        found += _verdict(kept)
    return found


def _verdict(kept: Kept) -> list[Finding]:
    alike = float(kept.likeness.mean())
    known = kept.clean - kept.chance
    left = (kept.changed - kept.chance) / known if known > 0 else math.nan
    evidence = {
        "accuracy on clean": round(kept.clean, 3),
        "accuracy on augmented": round(kept.changed, 3),
        "guessing": round(kept.chance, 3),
        "likeness to the own original": round(alike, 3),
        "healthy": f"likeness above {_UNLIKE}, more than {_LITTLE:.0%} of the accuracy beyond guessing",
    }
    remedy = "Look at the samples; weaken the step that hides what the label names. A `clean_train` that lists other "
    remedy += "pictures under the same numbers looks like this, too."
    found: list[Finding] = []
    if alike < _UNLIKE:
        text = f"Beside others, a sample is nearer to its own original in {alike:.0%} of cases; guessing gives 50 %."
        found.append(
            Finding(
                "augmentation.unlike",
                "warn",
                "Augmented pictures are unlike their originals",
                text,
                "train",
                evidence,
                remedy,
            )
        )
    told = (
        f"A linear probe on the model's features is right on {kept.clean:.0%} of clean pictures and {kept.changed:.0%} "
        f"of augmented ones; guessing gives {kept.chance:.0%}."
    )
    trained = kept.clean >= _TRAINED
    if known >= _KNOWS and left < (_LITTLE if trained else _NOTHING):
        severity: Severity = "fail" if trained and left < _NOTHING else "warn"
        title = "Augmentation destroys what the label says"
        found.append(Finding("augmentation.destructive", severity, title, told, "train", evidence, remedy))
    if not found:
        title = "Augmented pictures keep what they show"
        found.append(Finding("augmentation.healthy", "ok", title, told if known >= _KNOWS else "", "train", evidence))
    return found
