"""The data check: one pass over each loader, then every verdict from what the pass left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch

from featviz_core.batches import images_and_targets
from featviz_core.borrowing import Model, borrowed
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, fresh, own_randomness
from featviz_core.experiment_file import at_home
from featviz_core.techniques.data_check.apprentices import Apprentices
from featviz_core.techniques.data_check.collect import Unpack, collect
from featviz_core.techniques.data_check.disagreement import Features, Judge
from featviz_core.techniques.data_check.normalizations import Stated
from featviz_core.techniques.data_check.result import DataCheck
from featviz_core.techniques.data_check.verdicts import Progress, Verdicts

_PASS = 0.9  # of the time, for the progress bar


def check_dataloader(
    loader: Iterable[Any],
    *,
    num_batches: int | None = 3,
    validation: Iterable[Any] | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    model: Model | None = None,
    unpack: Unpack | None = None,
    normalization: Stated | None = None,
    clean_train: Any = None,
    progress: Progress | None = None,
) -> DataCheck:
    """Is what these loaders give what a model should learn from?

    Looks at the first `num_batches` of `loader` (training) and of `validation`, at all of them for None, in one pass
    each; of a picture it keeps some numbers, two hashes of 64 bits and a grey thumbnail of 16×16. `unpack(batch)`
    gives (images, targets) where a batch is no pair; `normalization` is the (mean, std) that the pipeline is meant to
    use. With a `model`, any that can look at these pictures, labels that its features speak against are looked for
    among the first 4,000. `num_classes` is C where no `class_names` say it.

    A batch that raises is a finding. The loaders, the model and all random numbers are left as they were; workers of
    the loader are started anew. Augmented pictures match none of their copies: for those, entries of the data set and
    files are compared, and pictures without augmentation, read in a pass of their own from `clean_train` (a data set
    with the same entries) or from what a torchvision transform leaves without its random steps.

    Raises `ExperimentError` for an empty training loader and for batches that hold no pictures, `ModelError` where
    the model cannot look at them.
    """
    judge = Features(model) if model is not None else None
    report = _Report(progress, [loader] if validation is None else [loader, validation], num_batches)
    unpack_batch: Unpack = partial(images_and_targets, unpack=unpack)
    return _checked(report, judge, unpack_batch, num_classes, class_names, normalization, clean_train)


def _checked(
    report: _Report,
    judge: Judge | None,
    unpack: Unpack,
    num_classes: int | None,
    class_names: Sequence[str] | None,
    normalization: Stated | None,
    clean_train: Any,
) -> DataCheck:
    with own_randomness():
        splits = []
        for name, own in zip(("train", "validation"), report.loaders, strict=False):
            look = judge.see if judge is not None and name == "train" else None
            tell = partial(report.batch, name)
            splits.append(collect(name, own, unpack, num_batches=report.num_batches, tell=tell, also=look))
        if not len(splits[0]) and not splits[0].failures:
            raise ExperimentError(
                "The training loader gave no batch.", do="Check its data set, its sampler and `drop_last`."
            )
        return Verdicts(
            splits, unpack, num_classes, class_names, normalization, judge, clean_train, report.step
        ).result()


def check_experiment_data(
    make_experiment: Factory | str,
    *,
    num_batches: int | None = 3,
    model: bool | Model = False,
    progress: Progress | None = None,
) -> DataCheck:
    """Is what an experiment's loaders give what its model should learn from?

    `make_experiment` is a factory, or a text that `open_experiment` understands. `model=True` judges labels by the
    features of the experiment's own model; where they hardly tell the classes apart, because it is not trained yet,
    by those of two copies that learn from the pictures seen, each from the half that the other judges (within two
    minutes each). Another model may be given instead.

    Raises `ExperimentError` as `check_dataloader` does, and where the factory fails.
    """
    with at_home(make_experiment) as factory:
        experiment = fresh(factory)
        loaders = [loader for loader in (experiment.train_loader, experiment.val_loader) if loader is not None]
        report, classes = _Report(progress, loaders, num_batches), _outputs(experiment)
        judge: Judge | None = None
        if model is True and classes is not None and classes > 1:
            judge = Apprentices(experiment, factory, classes, report.step)
        elif model is not False:
            judge = Features(experiment.model if model is True else model)
        unpack: Unpack = partial(images_and_targets, unpack=experiment.unpack)
        return _checked(
            report,
            judge,
            unpack,
            classes,
            experiment.class_names,
            experiment.normalization,
            experiment.clean_train,
        )


def _outputs(experiment: Experiment) -> int | None:
    """C, by the model's answer to two pictures; None where loader or model fail, which is told elsewhere."""
    try:
        images, _ = next(experiment.pairs(experiment.train_loader))
        with borrowed(experiment.model) as model, torch.no_grad():
            logits = experiment.logits(model(images[:2]))
    except Exception:  # noqa: BLE001 - user code
        return None
    return int(logits.shape[1]) if logits.ndim == 2 else None


class _Report:
    """Says how far the passes are."""

    def __init__(self, progress: Progress | None, loaders: list[Iterable[Any]], num_batches: int | None) -> None:
        self.loaders, self.num_batches = loaders, num_batches
        self._progress = progress
        self._sizes = [_batches(loader, num_batches) for loader in loaders]
        self._done = 0

    def batch(self, name: str, number: int) -> None:
        """`number` batches of a split have come."""
        if self._progress is None:
            return
        self._done += 1
        known = None not in self._sizes
        share = self._done / max(1, sum(size or 0 for size in self._sizes)) if known else 1 - 0.98**self._done
        self._progress(min(share, 1.0) * _PASS, f"{name}: batch {number}")

    def step(self, fraction: float, text: str) -> None:
        """After the passes: `fraction` in [0, 1] of what is left."""
        if self._progress is not None:
            self._progress(_PASS + (1 - _PASS) * fraction, text)


def _batches(loader: Any, num_batches: int | None) -> int | None:
    try:
        length = len(loader)
    except (TypeError, NotImplementedError):
        return num_batches
    return length if num_batches is None else min(length, num_batches)
