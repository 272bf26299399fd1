"""What the checks ask of an experiment. Each fact is worked out once, on objects of its own, when first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from featviz_core.checklist.report import Verdict
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, Factory, FewBatches, evaluate_on, few_batches, fresh, train_on
from featviz_core.experiment_file import own_lines, short
from featviz_core.watch import Watch, watching

Budget = Literal["quick", "full"]
T = TypeVar("T")

_STEPS = 4  # of the optimiser that are watched: leftovers and zero-initialised branches show by the second
_ROUNDS = 6  # over the kept batches until there are so many


class Broken(Exception):
    """Something of the user's raised, which is evidence on the item `item`; the checks after it cannot run."""

    def __init__(self, item: str, verdict: Verdict) -> None:
        super().__init__(item)
        self.item, self.verdict = item, verdict


@dataclass(frozen=True, slots=True)
class Size:
    """How much is looked at: batches for the watched loop, batches for labels and duplicates; steps of a short
    training, and of learning one batch by heart."""

    batches: int
    labels: int
    steps: int
    by_heart: int


SIZES: Mapping[Budget, Size] = {
    "quick": Size(batches=8, labels=64, steps=144, by_heart=150),
    "full": Size(batches=16, labels=1000, steps=400, by_heart=300),
}
_SMALL = 6e9  # floating-point operations of a step, forward and backward, up to which all steps are made
_FEWEST = 12


class once(Generic[T]):
    """A function of a `Probe`, worked out once for each; where that raised `Broken`, it raises the same again."""

    def __init__(self, work: Callable[[Probe], T]) -> None:
        self._work = work

    def __call__(self, probe: Probe) -> T:
        """What was found out, now or before."""
        if self not in probe.known:
            try:
                probe.known[self] = self._work(probe)
            except Broken as broken:
                probe.known[self] = broken
        found = probe.known[self]
        if isinstance(found, Broken):
            raise found
        return found  # type: ignore[no-any-return]


class fact(once[T]):
    """The same as a property of `Probe`."""

    def __get__(self, probe: Probe, _owner: type[Probe]) -> T:
        return self(probe)


class Probe:
    """An experiment's factory, and what was found out with it so far."""

    def __init__(self, make_experiment: Factory, *, device: str, budget: Budget, seed: int) -> None:
        self.make, self.device, self._seed = make_experiment, device, seed
        self.size = SIZES[budget]
        self.known: dict[object, Any] = {}
        self.unseen: dict[str, str] = {}
        """By item, which look at the experiment could not be made, and why."""

    def fresh(self) -> Experiment:
        """A new experiment, equal to every other."""
        return fresh(self.make, seed=self._seed, device=self.device)

    @fact
    def experiment(self) -> Experiment:
        """One to look at. It is never trained."""
        return self.fresh()

    @fact
    def fresh_woken(self) -> Experiment:
        """One to look at, its warm-up done."""
        experiment = self.fresh()
        wake(experiment)
        return experiment

    @fact
    def batches(self) -> FewBatches:
        """The first training batches. Raises `Broken`, as all facts do where something of the user's raises."""
        with evidence_on("data.range", "The training loader"):
            return few_batches(self.experiment, self.experiment.train_loader, self.size.batches)

    @fact
    def validation(self) -> FewBatches | None:
        """The first validation batches, if there are any."""
        if self.experiment.val_loader is None:
            return None
        with evidence_on("data.range", "The validation loader"):
            return few_batches(self.experiment, self.experiment.val_loader, self.size.batches)

    @fact
    def pair(self) -> tuple[Tensor, Any]:
        """The first training batch as (images, targets)."""
        with evidence_on("data.range", "Unpacking a batch"):
            return self.experiment.pair(next(iter(self.batches)))

    @fact
    def clean_loader(self) -> DataLoader[Any] | None:
        """The training pictures without augmentation, in any order; None where there is no `clean_train`."""
        loader: Any = self.experiment.train_loader
        if self.experiment.clean_train is None or not isinstance(loader, DataLoader):
            return None
        data = getattr(self.experiment.clean_train, "dataset", self.experiment.clean_train)
        return DataLoader(data, batch_size=loader.batch_size, shuffle=True, collate_fn=loader.collate_fn)

    @fact
    def clean_batches(self) -> list[Any] | None:
        """As many training batches of the `clean_loader`."""
        if self.clean_loader is None:
            return None
        with evidence_on("data.range", "The clean training data"):
            return list(few_batches(self.fresh(), self.clean_loader, self.size.batches))

    @property
    def pictures(self) -> int:
        """How many pictures the first training batches hold."""
        return len(self.batches.dataset)

    @property
    def in_training(self) -> int:
        """How many training pictures there are in all; 0 where the loader does not say."""
        data: Any = getattr(self.experiment.train_loader, "dataset", ())
        return len(data) if hasattr(data, "__len__") else 0

    @fact
    def effort(self) -> float:
        """How many floating-point operations a training step takes, forward and backward."""
        from torch.utils.flop_counter import FlopCounterMode

        images, _ = self.pair
        with evidence_on("model.output_shape", "The model"), FlopCounterMode(display=False) as counter, torch.no_grad():
            self.fresh().model(images)
        return 3.0 * float(counter.get_total_flops())

    @property
    def steps(self) -> int:
        """Steps of a short training: fewer for larger models."""
        return self._affordable(self.size.steps)

    @property
    def by_heart(self) -> int:
        """Steps for learning one batch by heart, at most."""
        return self._affordable(self.size.by_heart)

    @property
    def shortened(self) -> dict[str, str]:
        """For the evidence, where the model is too large for all steps: how many are made."""
        if self.steps == self.size.steps:
            return {}
        return {"short trainings": f"{self.steps} of {self.size.steps} steps, because the model is large"}

    def _affordable(self, steps: int) -> int:
        return max(_FEWEST, min(steps, int(steps * _SMALL / max(self.effort, 1.0))))

    @fact
    def logits(self) -> Tensor:
        """What a fresh model in training mode gives for the first batch, with its graph."""
        experiment = self.fresh()
        experiment.model.train()
        images, _ = self.pair
        with evidence_on("model.output_shape", "The model"):
            return experiment.logits(experiment.model(images))

    @fact
    def classes(self) -> int | None:
        """How many scores the model gives for each picture; None where it gives no (N, C)."""
        return int(self.logits.shape[1]) if self.logits.ndim == 2 else None

    @property
    def meant_classes(self) -> int | None:
        """How many classes there are meant to be: as many as have names, else as there are scores."""
        names = self.experiment.class_names
        return len(names) if names else self.classes

    @fact
    def loss(self) -> Tensor:
        """The loss of these scores, with its graph."""
        _, targets = self.pair
        with evidence_on("loss.value", "The loss"):
            return self.experiment.loss_fn(self.logits, targets)

    @fact
    def spread_after_a_step(self) -> float:
        """How far a score differs between pictures (σ, averaged over classes) in training mode, after one step of Adam:
        heads that start at zero are meant to give the same for all at first."""
        _ = self.loss
        experiment = self.fresh()
        images, targets = self.pair
        parameters = [parameter for parameter in experiment.model.parameters() if parameter.requires_grad]
        experiment.model.train()
        with evidence_on("model.output_shape", "The model"):
            logits = experiment.logits(experiment.model(images))
            loss = experiment.loss_fn(logits, targets)
            if parameters and loss.requires_grad and loss.numel() == 1:
                loss.backward()  # type: ignore[no-untyped-call]
                torch.optim.Adam(parameters, lr=1e-3).step()
            with torch.no_grad():
                logits = experiment.logits(experiment.model(images))
        return (
            float(logits.detach().float().flatten(1).std(0).mean()) if logits.ndim > 1 and len(logits) > 1 else math.inf
        )

    @fact
    def watched(self) -> Watch:
        """A few steps of the user's own training on the kept batches, their validation, and one more step."""
        experiment = self.fresh()
        wake(experiment)
        kept, validation = self.batches, self.validation
        with watching(experiment) as watch:
            with evidence_on("loss.decreases", "The training loop"):
                for _ in range(_ROUNDS):
                    watch.losses += train_on(experiment, kept, scheduler=False)
                    if watch.steps >= _STEPS:
                        break
            if validation is not None:
                watch.phase = "validation"
                with evidence_on("training.curves", "Validation"):
                    watch.metrics = evaluate_on(experiment, validation)
                watch.phase = "training"
                # Once more, for the mode that validation leaves behind.
                with evidence_on("loss.decreases", "The training loop, after validation,"):
                    train_on(experiment, kept, scheduler=False)
        return watch


def wake(experiment: Experiment) -> None:
    """Give groups whose rate a warm-up starts near zero the rate it leads to, and those of a cycle one between its
    lowest and its highest: probes never step the scheduler."""
    for group in experiment.optimizer.param_groups:
        if "max_lr" in group:  # OneCycleLR, CyclicLR
            group["lr"] = math.sqrt(group["lr"] * group["max_lr"])
        elif group.get("lr", 0) < _WARMING * group.get("initial_lr", 0):
            group["lr"] = group["initial_lr"]


_WARMING = 0.05  # of the rate that the scheduler was given


@contextmanager
def evidence_on(item: str, what: str) -> Iterator[None]:
    """What something of the user's raises inside becomes `Broken` on `item`."""
    try:
        yield
    except Broken:
        raise
    except ExperimentError as error:
        remedy = error.do or "Mend it and run the checklist again."
        raise Broken(item, Verdict(item, "fail", f"{error.what} {error.why}".strip(), "proven", {}, remedy)) from error
    except Exception as error:
        trace = own_lines(error)
        raise Broken(
            item,
            Verdict(
                item,
                "fail",
                f"{what} raised {short(error)}.",
                "proven",
                {"exception": type(error).__name__, "trace": trace[-2000:]},
                "Mend what the last line of the trace names, and run the checklist again.",
            ),
        ) from error


Check = Callable[[Probe], Verdict]
