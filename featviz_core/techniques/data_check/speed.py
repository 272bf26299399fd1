"""How fast the loader is, how long a model step waits for its pictures, and what other settings would give."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader, IterableDataset

from featviz_core.experiment import Experiment, Factory, fresh, train_step
from featviz_core.experiment_file import at_home, short
from featviz_core.findings import Finding

Progress = Callable[[float, str], None]

WORKERS = (0, 1, 2, 4)
"""The numbers of loader workers that are tried, besides the loader's own."""

_WAITING = 0.25  # share of the time, above which the model starves
_WORTH = 1.15  # times as fast, below which a change is not worth it
_MOST_FOR_STEP = 50  # batches a step is timed over at most


@dataclass(frozen=True, slots=True)
class LoaderSetting:
    """One setting of the loader, measured.

    `loading`: pictures a second of the loader alone, after its first batch; `first_batch`: seconds until that one, with
    the start of the workers; `training`: pictures a second with a training step after each batch; `waiting`: share of
    that time, 0 to 1, in which the step waited for its batch. NaN where something could not be measured: `problem`
    says why.
    """

    workers: int
    pin_memory: bool
    current: bool
    loading: float
    first_batch: float
    training: float
    waiting: float
    problem: str = ""

    @property
    def name(self) -> str:
        """The setting as it is written in code."""
        return f"num_workers={self.workers}" + (", pin_memory=True" if self.pin_memory else "")


@dataclass(frozen=True, slots=True)
class LoaderSpeed:
    """How fast the training loader is, for each setting that was tried; the loader's own comes first.

    `batch_size`: pictures in a batch; `device`: where the steps ran; `findings`: what to do.
    """

    settings: tuple[LoaderSetting, ...]
    batch_size: int
    device: str
    findings: tuple[Finding, ...]

    @property
    def current(self) -> LoaderSetting:
        """The loader as it is."""
        return self.settings[0]

    @property
    def best(self) -> LoaderSetting:
        """The setting with the most pictures a second in training; of two about as fast, the one that takes less."""
        ranked = sorted(self.settings, key=lambda setting: (setting.workers, setting.pin_memory))
        fastest = max(map(_rate, ranked))
        return next(setting for setting in ranked if _rate(setting) * _WORTH >= fastest)

    def frame(self) -> pd.DataFrame:
        """One row for each setting: `setting loading training waiting first_batch current problem`."""
        return pd.DataFrame(
            {
                "setting": [setting.name for setting in self.settings],
                **{
                    name: [getattr(setting, name) for setting in self.settings]
                    for name in ("loading", "training", "waiting", "first_batch", "current", "problem")
                },
            }
        )


def check_loader_speed(
    make_experiment: Factory | str, *, seconds: float = 2.0, device: str = "cpu", progress: Progress | None = None
) -> LoaderSpeed:
    """Does the training wait for its pictures, and would another `num_workers` or `pin_memory` help?

    Each setting is measured for about `seconds` alone and for as long with a training step after each batch; starting
    workers takes its own time. The steps train an experiment of its own. `pin_memory` is tried where torch finds CUDA.
    Raises `ExperimentError` where the experiment cannot be made.
    """
    measured: list[LoaderSetting] = []
    size = 0
    with at_home(make_experiment) as factory:
        experiment = fresh(factory, device=device)
        plan = _plan(experiment.train_loader)
        for number, (workers, pinned, loader) in enumerate(plan):
            if progress is not None:
                progress(number / len(plan), f"Timing num_workers={workers}" + (", pin_memory=True" if pinned else ""))
            setting, pictures = _measure(experiment, loader, seconds, workers, pinned, current=number == 0)
            measured.append(setting)
            size = size or pictures
    found = LoaderSpeed(tuple(measured), size, str(experiment.device), ())
    return replace(found, findings=tuple(_findings(found)))


def _rate(setting: LoaderSetting) -> float:
    rate = setting.loading if math.isnan(setting.training) else setting.training
    return 0.0 if math.isnan(rate) else rate


def _plan(loader: Any) -> list[tuple[int, bool, Any]]:
    """The loader itself, and what it would be with other settings."""
    own = (int(getattr(loader, "num_workers", 0)), bool(getattr(loader, "pin_memory", False)))
    # Several workers over an iterable data set each give all of it, unless it shares itself out.
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return [(*own, loader)]
    pins = (False, True) if torch.cuda.is_available() else (own[1],)
    others = [(workers, pinned) for pinned in pins for workers in WORKERS if (workers, pinned) != own]
    return [(*own, loader), *((*other, _like(loader, *other)) for other in others)]


def _like(loader: DataLoader[Any], workers: int, pinned: bool) -> DataLoader[Any]:
    """A loader like `loader` with other settings."""
    order: dict[str, Any] = (
        {"batch_sampler": loader.batch_sampler}
        if loader.batch_sampler is not None
        else {"batch_size": None, "sampler": loader.sampler}
    )
    return DataLoader(
        loader.dataset,
        **order,
        collate_fn=loader.collate_fn,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        multiprocessing_context=loader.multiprocessing_context if workers else None,
    )


def _measure(
    experiment: Experiment, loader: Iterable[Any], seconds: float, workers: int, pinned: bool, *, current: bool
) -> tuple[LoaderSetting, int]:
    """One setting, and how many pictures its first batch held."""
    nothing = math.nan
    try:
        loading, first, size = _load_alone(experiment, loader, seconds)
    except Exception as error:  # noqa: BLE001 - a setting that the user's data set cannot take is a result
        return LoaderSetting(workers, pinned, current, nothing, nothing, nothing, nothing, short(error)), 0
    try:
        training, waiting = _load_and_train(experiment, loader, seconds)
    except Exception as error:  # noqa: BLE001 - likewise
        problem = f"No training step could be timed: {short(error)}"
        return LoaderSetting(workers, pinned, current, loading, first, nothing, nothing, problem), size
    return LoaderSetting(workers, pinned, current, loading, first, training, waiting), size


def _load_alone(experiment: Experiment, loader: Iterable[Any], seconds: float) -> tuple[float, float, int]:
    """Pictures a second, seconds until the first batch, and its size."""
    began = time.perf_counter()
    source = iter(loader)
    size = len(experiment.pair(next(source))[0])
    start = time.perf_counter()
    pictures = 0
    for batch in source:
        pictures += len(experiment.pair(batch)[0])
        if time.perf_counter() - start > seconds:
            break
    taken = time.perf_counter() - start
    del source  # stops the workers
    first = start - began
    return (pictures / taken if pictures else size / first), first, size


def _load_and_train(experiment: Experiment, loader: Iterable[Any], seconds: float) -> tuple[float, float]:
    """Pictures a second with a training step after each batch, and the share of the time spent waiting for batches."""
    body = experiment.train_step or train_step
    experiment.model.train()
    waited, pictures, start = 0.0, 0, 0.0
    for number, (images, targets, seconds_waited) in enumerate(_timed(experiment, loader)):
        if number == 0:  # the start of the workers, and of what the model sets up once
            body(experiment, images, targets)
            _finish(experiment)
            start = time.perf_counter()
            continue
        body(experiment, images, targets)
        _finish(experiment)
        waited, pictures = waited + seconds_waited, pictures + len(images)
        if time.perf_counter() - start > seconds or number > _MOST_FOR_STEP:
            break
    taken = time.perf_counter() - start
    return (pictures / taken, waited / taken) if pictures else (math.nan, math.nan)


def _timed(experiment: Experiment, loader: Iterable[Any]) -> Iterator[tuple[Any, Any, float]]:
    source = iter(loader)
    while True:
        began = time.perf_counter()
        try:
            images, targets = experiment.pair(next(source))
        except StopIteration:
            return
        yield images, targets, time.perf_counter() - began


def _finish(experiment: Experiment) -> None:
    """Wait until a GPU has done what it was asked for."""
    if experiment.device.type == "cuda":
        torch.cuda.synchronize()


def _findings(speed: LoaderSpeed) -> list[Finding]:
    own, best = speed.current, speed.best
    if own.problem and math.isnan(own.loading):
        return [Finding("loader.failed", "fail", "The training loader could not be timed", f"{own.problem}.", "train")]
    gain = _rate(best) / _rate(own) if _rate(own) else math.inf
    evidence = {
        "pictures a second": round(own.loading, 1),
        "training, pictures a second": round(own.training, 1),
        "waiting": round(own.waiting, 3),
        "healthy": f"waiting below {_WAITING}",
    }
    starving = own.waiting > _WAITING
    if best is not own and gain >= _WORTH:
        return [
            Finding(
                "loader.slow",
                "warn" if starving else "note",
                f"{best.name} would give {gain:.1f} times as many pictures a second",
                f"With {own.name} the model waits for {own.waiting:.0%} of the time.",
                "train",
                evidence | {"faster": best.name, "gain": round(gain, 2)},
                f"Use `DataLoader(..., {best.name})`.",
            )
        ]
    if starving:
        return [
            Finding(
                "loader.slow",
                "warn",
                f"The model waits for its pictures {own.waiting:.0%} of the time",
                "No other setting that was tried is faster on this machine.",
                "train",
                evidence,
                "Make the files smaller once and for all, keep decoded pictures in memory, or decode on the GPU.",
            )
        ]
    text = f"The model waits for {own.waiting:.0%} of the time." if own.waiting == own.waiting else own.problem
    return [Finding("loader.speed", "ok", f"{own.name} is as fast as it gets here", text, "train", evidence)]
