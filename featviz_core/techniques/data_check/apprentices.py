"""Judges of labels for an experiment whose model has not learned yet: copies that learn from half of the pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from featviz_core.experiment import Experiment, Factory, fresh
from featviz_core.techniques.data_check.disagreement import Features, Table, out_of_fold

_TELLS = 0.9  # accuracy of the model's own features, from which nobody need learn
_MOST_BYTES = 256 << 20  # of pictures that are kept to learn from
_BATCH = 32
_LESSONS = 15_000  # pictures that an apprentice sees, again and again the same
_SECONDS = 120  # that an apprentice learns at most
_RATE = 1e-3


@dataclass(slots=True)
class Apprentices:
    """Collects `Features` of an experiment's model and, where they do not tell the classes apart, those of two copies.

    Each copy learns the labels of one half of the pictures, by cross-entropy and AdamW, and tells the features of the
    other half: no picture takes part in what judges it. Whichever features name more labels out of fold are used.
    `tell(fraction, text)` says how far that is.
    """

    experiment: Experiment
    factory: Factory
    classes: int
    tell: Callable[[float, str], None]
    seconds: float = 0.0
    _own: Features = field(init=False)
    _images: list[Tensor] = field(default_factory=list)
    _bytes: int = 0
    _found: Table | None = None

    def __post_init__(self) -> None:
        self._own = Features(self.experiment.model)

    def see(self, images: Tensor, labels: NDArray[np.int64]) -> None:
        """Take in a batch."""
        fits = not self._images or self._images[0].shape[1:] == images.shape[1:]
        if fits and self._bytes < _MOST_BYTES and sum(map(len, self._images)) == len(self._own.labels):
            self._images.append(images.clone())
            self._bytes += images.nbytes
        self._own.see(images, labels)
        self.seconds = self._own.seconds

    def finish(self) -> None:
        """No more will come: now it is tried who can judge."""
        self._own.finish()
        began = time.perf_counter()
        self._found = own = self._own.table()
        before = _accuracy(own)
        if before < _TELLS and self._images:
            learned = self._learned(own.labels)
            self._found = learned if _accuracy(learned) > before else own
        self.seconds = self._own.seconds + time.perf_counter() - began

    def table(self) -> Table:
        """The features that name most labels."""
        assert self._found is not None, "not finished"
        return self._found

    def _learned(self, labels: NDArray[np.int64]) -> Table:
        images = torch.cat(self._images)[: len(labels)]
        labels = labels[: len(images)]
        half = np.zeros(len(images), np.int64)
        half[np.argsort(labels, kind="stable")] = np.arange(len(images)) % 2
        parts: list[NDArray[np.float32]] = []
        for turn in (0, 1):
            experiment = fresh(self.factory)
            pupils = torch.from_numpy(np.flatnonzero((half != turn) & (labels >= 0) & (labels < self.classes)))
            self._teach(experiment, images[pupils], torch.from_numpy(labels)[pupils], turn)
            features = Features(experiment.model)
            with torch.no_grad():
                features.see(images[half == turn], labels[half == turn])
                features.finish()
            parts.append(features.table().rows)
        rows = np.empty((len(images), parts[0].shape[1]), np.float32)
        for turn, part in enumerate(parts):
            rows[half == turn] = part
        return Table(rows, labels, half)

    def _teach(self, experiment: Experiment, images: Tensor, labels: Tensor, turn: int) -> None:
        model = experiment.model.train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_RATE)
        end = time.perf_counter() + _SECONDS
        seen = 0
        while seen < _LESSONS and time.perf_counter() < end:
            for batch in torch.split(torch.randperm(len(images)), _BATCH):
                if len(batch) < 2:  # BatchNorm cannot learn from one
                    continue
                self.tell(0.15 * (turn + seen / _LESSONS), "Copies of the model learn, to judge the labels")
                logits = experiment.logits(model(images[batch].to(experiment.device)))
                loss = F.cross_entropy(logits.float(), labels[batch].to(experiment.device))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                seen += len(batch)
                if seen >= _LESSONS or time.perf_counter() > end:
                    break


def _accuracy(table: Table) -> float:
    """Share of labels that the features name, out of fold; 0 where nothing can be said."""
    usable = (table.labels >= 0) & np.isfinite(table.rows).all(1)
    classes, numbers = np.unique(table.labels[usable], return_inverse=True)
    if len(classes) < 2:
        return 0.0
    chance = out_of_fold(table.rows[usable], numbers, table.half[usable])
    return float((chance.argmax(1) == numbers).mean())
