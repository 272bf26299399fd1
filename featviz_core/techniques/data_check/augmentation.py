"""What augmentation does to the training pictures: originals beside samples, and how much is left of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from featviz_core.errors import ExperimentError, FeatVizError
from featviz_core.experiment import Experiment, Factory, fresh
from featviz_core.experiment_file import open_experiment, short
from featviz_core.experiment_model import to_pixels
from featviz_core.findings import Finding, Severity
from featviz_core.techniques.data_check.clean import Step, steps_of, without_augmentation
from featviz_core.techniques.data_check.keeping import Floats, Kept, how_much_is_kept, likeness

Progress = Callable[[float, str], None]
Pixels = NDArray[np.uint8]

_READ = 384  # pictures that are judged
_SHOWN = 8  # of them, to look at
_AGAIN = 6  # pictures that are read twice to see whether they change
_BATCH = 32

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
    make_experiment: Factory | str, *, samples: int = 7, progress: Progress | None = None
) -> AugmentationCheck:
    """Does augmentation leave of each training picture what its label says?

    Reads training pictures again and again, and without augmentation where `clean_train` or a recognised torchvision
    transform gives them. Two measures, on the input of the model's last linear layer: whether an augmented picture is
    still more like its own original than like others, and whether a linear probe that was fitted to other clean
    pictures still tells its class. Raises `ExperimentError` where the experiment cannot be made or read.
    """
    factory = open_experiment(make_experiment) if isinstance(make_experiment, str) else make_experiment
    experiment = fresh(factory)
    train, validation = (_Reader(experiment, loader) for loader in (experiment.train_loader, experiment.val_loader))
    random_train, random_validation = train.random(), validation.random()
    clean, source = _clean(experiment, train)
    pictures, kept = _judged(experiment, train, clean, samples, progress or (lambda _done, _text: None))
    return AugmentationCheck(
        source=source,
        steps=steps_of(train.dataset),
        random_train=random_train,
        random_validation=random_validation,
        pictures=pictures,
        kept=kept,
        class_names=tuple(map(str, experiment.class_names or ())),
        findings=tuple(_findings(random_train, random_validation, kept, source)),
    )


class _Reader:
    """Reads single pictures of a loader's data set, put together and unpacked as its loader would."""

    def __init__(self, experiment: Experiment, loader: Any, dataset: Any = None) -> None:
        dataset = getattr(loader, "dataset", None) if dataset is None else dataset
        listed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        self.dataset: Any = dataset if listed and not isinstance(dataset, IterableDataset) else None
        self._experiment, self._collate = experiment, getattr(loader, "collate_fn", None)
        self.count = len(dataset) if self.dataset is not None else 0

    def read(self, index: int) -> tuple[Tensor, int | None]:
        """The picture `(C, H, W)` and its class number. Raises `ExperimentError` where it cannot be read."""
        try:
            entry = self.dataset[index]
            images, targets = self._experiment.pair(self._collate([entry]) if callable(self._collate) else entry)
        except FeatVizError:
            raise
        except Exception as error:
            raise ExperimentError(f"Entry {index} of the data cannot be read: {short(error)}.") from error
        single = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
        return images[0].float(), int(targets[0]) if single else None

    def random(self) -> bool | None:
        """Whether reading the same picture again gives another one."""
        if not self.count:
            return None
        return any(not _same(self.read(i)[0], self.read(i)[0]) for i in _spread(self.count, _AGAIN) for _ in range(2))


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.nan_to_num(), second.nan_to_num())


def _spread(count: int, most: int) -> list[int]:
    """Numbers from all over the data; the step is odd, so that repeating orders give all of their classes."""
    step = max(1, count // most) | 1
    return sorted({place * step % count for place in range(min(most, count))})


def _clean(experiment: Experiment, train: _Reader) -> tuple[_Reader | None, str]:
    """A reader of the training pictures without augmentation, and where it has them from."""
    if experiment.clean_train is not None:
        dataset = getattr(experiment.clean_train, "dataset", experiment.clean_train)
        found = _Reader(experiment, experiment.train_loader, dataset)
        if found.count == train.count and found.count and not found.random():
            return found, "Clean pictures are those of the experiment's `clean_train`."
        return None, "The experiment's `clean_train` changes its pictures, or has not as many as the training data."
    stripped = without_augmentation(train.dataset)
    if stripped is not None:
        found = _Reader(experiment, experiment.train_loader, stripped)
        if not found.random():
            return found, "Clean pictures are what the torchvision transform leaves without its random steps."
    return None, "There are no clean pictures to compare with: give the experiment `clean_train`."


def _judged(
    experiment: Experiment, train: _Reader, clean: _Reader | None, samples: int, progress: Progress
) -> tuple[tuple[AugmentedPicture, ...], Kept | None]:
    """The pictures to look at, and how much of all that were read is left."""
    numbers = _spread(train.count, _READ) if train.count else []
    originals: list[Tensor] = []
    changed: list[Tensor] = []
    labels: list[int | None] = []
    for done, number in enumerate(numbers if clean is not None else []):
        assert clean is not None
        originals.append(clean.read(number)[0])
        changed.append(train.read(number)[0])
        labels.append(clean.read(number)[1])
        progress(0.8 * (done + 1) / len(numbers), f"Reading picture {done + 1} of {len(numbers)} twice")
    chosen = list(range(0, len(numbers), max(1, len(numbers) // _SHOWN)))[:_SHOWN]
    readings = [[train.read(numbers[place])[0] for _ in range(samples)] for place in chosen]
    shown_labels = [train.read(numbers[place])[1] for place in chosen]
    kept: Kept | None = None
    alike = np.full((len(chosen), samples), math.nan)
    if originals:
        progress(0.85, "Asking the model for features")
        space = _features(experiment, originals)
        known = np.array(labels, np.int64) if None not in labels else None
        kept = how_much_is_kept(space, _features(experiment, changed), known)
        seen = _features(experiment, [image for row in readings for image in row])
        alike = likeness(space, seen, np.repeat(np.array(chosen), samples)).reshape(alike.shape)
    everything = [image for row in readings for image in row] + [originals[place] for place in chosen if originals]
    pixels = to_pixels(everything, experiment.normalization)
    pictures = [
        AugmentedPicture(
            index=numbers[place],
            label=shown_labels[row],
            clean=pixels[len(chosen) * samples + row] if originals else None,
            samples=tuple(pixels[row * samples : (row + 1) * samples]),
            likeness=tuple(map(float, alike[row])),
        )
        for row, place in enumerate(chosen)
    ]
    return tuple(pictures), kept


def _features(experiment: Experiment, images: Sequence[Tensor]) -> Floats:
    """What the model's last linear layer is given for each picture `(n, d)`; its output where it has none."""
    model = experiment.model.eval()
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    rows: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows.append(inputs[0].detach())

    hook = heads[-1].register_forward_pre_hook(note) if heads else None
    try:
        with torch.no_grad():
            for batch in _batches(images):
                before = len(rows)
                output = model(batch.to(experiment.device))
                if len(rows) == before:
                    rows.append(experiment.logits(output))
                elif len(rows[-1]) != len(batch):  # a layer that sees all tokens of all pictures in one row each
                    rows[-1] = rows[-1].reshape(len(batch), -1, rows[-1].shape[-1]).mean(1)
    except FeatVizError:
        raise
    except Exception as error:
        raise ExperimentError(f"The experiment's model fails on its own data: {short(error)}.") from error
    finally:
        if hook is not None:
            hook.remove()
    return (
        torch.cat([row.flatten(1) if row.ndim == 2 else row.flatten(1, -2).mean(1) for row in rows])
        .double()
        .cpu()
        .numpy()
    )


def _batches(images: Sequence[Tensor]) -> list[Tensor]:
    """In their order, as many in one tensor as have the same size."""
    found: list[list[Tensor]] = []
    for image in images:
        if found and len(found[-1]) < _BATCH and found[-1][0].shape == image.shape:
            found[-1].append(image)
        else:
            found.append([image])
    return [torch.stack(batch) for batch in found]


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
