"""What the output check found, as numbers that can be kept, drawn and sent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding, Severity

Applied = Literal["", "softmax", "log_softmax", "sigmoid"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warn", "fail")
BINS = 10  # of the reliability curve


@dataclass(frozen=True, slots=True)
class Step:
    """One call of one layer, in the order in which they finish.

    `layer`: its address, empty for the model itself; `input_finite`, `output_finite`: whether what it was given and
    what it gave hold neither NaN nor infinity; `nan`, `inf`: how many in what it gave; `largest`: the largest finite
    absolute value in it.
    """

    layer: str
    type: str
    input_finite: bool
    output_finite: bool
    nan: int
    inf: int
    largest: float


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """How the model answers. Differences are the largest over all scores, as a share of the largest score.

    NaN is what could not be tested; `untested` says why.
    `repeat`: between two passes over the same pictures in eval mode, rounding up to `repeat_tolerance`.
    `random_layer`: where two passes begin to differ.
    `alone`: between a picture alone and in a batch, rounding up to `tolerance`; `alone_shape` is what comes for one
    alone, `alone_error` why nothing comes.
    `leak`: the gradient of a picture's scores towards another picture of the batch, as a share of that towards itself.
    `last_operation`: the function that made the scores, as the graph names it.
    `spread`: the standard deviation of a score across pictures, averaged over classes; `training_spread` the same in
    training mode, where `training (n, C)` are the scores of the first n pictures.
    `others (m, C)`: the scores of noise and, last, of a dark picture.
    `still_training`: modules that stay in training mode in `model.eval()`; `batch_statistics`: BatchNorms that keep
    no running statistics; `fresh_norms`: those that have seen no batch.
    """

    repeat: float
    alone: float
    alone_shape: tuple[int, ...]
    alone_error: str
    leak: float
    tolerance: float
    repeat_tolerance: float
    spread: float
    training_spread: float
    training: NDArray[np.floating[Any]]
    others: NDArray[np.floating[Any]]
    last_operation: str
    random_layer: str
    still_training: tuple[str, ...]
    batch_statistics: tuple[str, ...]
    fresh_norms: tuple[str, ...]
    untested: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """How the answers compare with labels.

    `targets (N,)`: class numbers, -1 where a picture counts for nothing or has no single class. `loss` and
    `uniform_loss`, that of knowing nothing (ln C for cross-entropy); NaN where there is none: without a `loss_name`,
    or where it failed as `loss_error` says. `accuracy` in [0, 1]. `ece` in [0, 1]: the expected calibration error over
    ten bins of confidence, Σ n_b/N |accuracy_b − confidence_b| (Guo et al., ICML 2017).
    """

    targets: NDArray[np.int64]
    loss: float
    uniform_loss: float
    loss_name: str
    loss_error: str
    accuracy: float
    ece: float
    bins: tuple[tuple[int, float, float], ...]
    """For each bin: how many pictures, their mean confidence, their accuracy; NaN in an empty bin."""

    def reliability(self) -> pd.DataFrame:
        """How often is the model right when it says that it is sure? One row a bin of confidence, `low` to `high`,
        with `count`, mean `confidence` and `accuracy`, all but the count in [0, 1]."""
        edges = np.linspace(0, 1, BINS + 1)
        frame = pd.DataFrame(self.bins, columns=["count", "confidence", "accuracy"])
        return frame.assign(low=edges[:-1], high=edges[1:])[["low", "high", "count", "confidence", "accuracy"]]


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """What a model gave for some pictures, and what is wrong with it.

    `shape`: of its output for all pictures; `mean`, `std` (as `torch.std`), `min` and `max` over the finite values,
    in the output's own units; NaN where there is none. `logits (N, C)`: one row of scores a picture; no rows where the
    output is none. `applied`: what was already done to them, as far as `applied_proven`. `steps`: the layers of one
    pass, with where NaN begins. `not_finite`: parameters, buffers and pictures that hold NaN or infinity. `tests`: a
    finding for everything that was tested, also where all is well.
    """

    shape: tuple[int, ...]
    mean: float
    std: float
    min: float
    max: float
    has_nan: bool
    has_inf: bool
    logits: NDArray[np.floating[Any]]
    class_names: tuple[str, ...]
    expected_classes: int | None
    applied: Applied
    applied_proven: bool
    behaviour: Behaviour | None
    labelled: Labelled | None
    steps: tuple[Step, ...]
    not_finite: tuple[str, ...]
    tests: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What to look at, the worst first; a single "ok" where there is nothing."""
        found = [test for test in self.tests if test.severity != "ok"]
        found.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
        text = f"Nothing wrong was found by {len(self.tests)} tests of the model's output."
        return tuple(found) or (Finding("output.healthy", "ok", "Healthy output", text),)

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return self.findings[0].severity

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """`(N, C)` in [0, 1]: softmax of the scores, or the scores themselves where that was already done."""
        return probabilities(self.logits, self.applied if self.applied_proven else "")

    def class_name(self, index: int) -> str:
        """The name of a class; its number where it has none."""
        return self.class_names[index] if 0 <= index < len(self.class_names) else f"class {index}"

    def frame(self) -> pd.DataFrame:
        """What does the model say to each picture? One row a picture.

        `predicted` class, its probability `confidence` in [0, 1], `entropy` of the probabilities in nats and, with
        labels, `target` and `right`. A picture with a score that is not finite has no prediction.
        """
        shares = self.probabilities
        if not shares.size:
            return pd.DataFrame(columns=["picture", "predicted", "confidence", "entropy"])
        finite = np.isfinite(shares).all(axis=1)
        best = np.where(finite, np.nan_to_num(shares, nan=-1).argmax(axis=1), -1)
        found: dict[str, Any] = {
            "picture": np.arange(len(shares)),
            "predicted": [self.class_name(int(index)) if index >= 0 else "" for index in best],
            "confidence": np.where(finite, np.nan_to_num(shares, nan=-1).max(axis=1), math.nan),
            "entropy": -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=1),
        }
        if self.labelled is not None:
            targets = self.labelled.targets
            found["target"] = [self.class_name(int(target)) if target >= 0 else "" for target in targets]
            found["right"] = best == targets
        return pd.DataFrame(found)

    def top(self, count: int = 5) -> pd.DataFrame:
        """The `count` most probable classes of each picture: `picture rank name score probability`."""
        shares = self.probabilities
        best = np.argsort(-np.nan_to_num(shares, nan=-1), axis=1, kind="stable")[:, :count]
        rows = [
            (picture, rank, self.class_name(int(index)), float(self.logits[picture, index]), shares[picture, index])
            for picture, ranked in enumerate(best)
            for rank, index in enumerate(ranked, start=1)
        ]
        return pd.DataFrame(rows, columns=["picture", "rank", "name", "score", "probability"])

    def unseen(self) -> pd.DataFrame:
        """What does the model say where there is nothing to see? `shown predicted confidence`, the last in [0, 1]."""
        if self.behaviour is None or self.behaviour.others.shape[1:] != self.logits.shape[1:]:
            return pd.DataFrame(columns=["shown", "predicted", "confidence"])
        shares = probabilities(self.behaviour.others, self.applied if self.applied_proven else "")
        shown = [*(f"noise {i}" for i in range(1, len(shares))), "a dark picture"]
        names = [self.class_name(int(row.argmax())) for row in shares]
        return pd.DataFrame({"shown": shown, "predicted": names, "confidence": shares.max(axis=1)})

    def confusion(self) -> pd.DataFrame:
        """Which class is taken for which? `target predicted count share`, the share of the target's pictures in [0, 1].

        One row for each pair of classes that occur; empty without labels.
        """
        pairs = self.confusion_pairs()
        classes = np.unique(pairs)
        rows = [
            (self.class_name(target), self.class_name(other), int((own == other).sum()), float((own == other).mean()))
            for target in np.unique(pairs[:, 0]).tolist()
            for own in [pairs[pairs[:, 0] == target, 1]]
            for other in classes.tolist()
        ]
        return pd.DataFrame(rows, columns=["target", "predicted", "count", "share"])

    def confusion_pairs(self) -> NDArray[np.int64]:
        """`(pictures, 2)`: the label and the predicted class of every picture that has both."""
        if self.labelled is None:
            return np.zeros((0, 2), np.int64)
        known = (self.labelled.targets >= 0) & np.isfinite(self.logits).all(axis=1)
        return np.stack([self.labelled.targets[known], self.logits[known].argmax(axis=1)], axis=1)

    def layers(self) -> pd.DataFrame:
        """The layers of one pass in the order in which they finish: one row for each `Step`."""
        return pd.DataFrame([asdict(step) for step in self.steps], columns=list(Step.__dataclass_fields__))

    def to_json(self) -> str:
        """The numbers and findings as JSON; `null` where there is no number."""
        numbers = {name: getattr(self, name) for name in ("shape", "mean", "std", "min", "max", "has_nan", "has_inf")}
        content: dict[str, Any] = {"schema": 1, **numbers, "applied": self.applied, "classes": list(self.class_names)}
        content["findings"] = [asdict(finding) for finding in self.findings]
        content["tests"] = [asdict(test) for test in self.tests]
        if self.labelled is not None:
            labelled = self.labelled
            content["labelled"] = {
                name: getattr(labelled, name) for name in ("loss", "uniform_loss", "accuracy", "ece")
            }
        content["pictures"] = self.frame().to_dict("records")
        content["logits"] = self.logits.tolist()
        return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def probabilities(logits: NDArray[np.floating[Any]], applied: Applied) -> NDArray[np.float64]:
    """Scores `(N, C)` as shares in [0, 1]: a softmax, or what was already done to them; NaN where not finite."""
    scores = logits.astype(np.float64)
    if applied in ("softmax", "sigmoid"):
        return scores
    with np.errstate(invalid="ignore", over="ignore"):
        if scores.shape[1] == 1:
            return np.asarray(1 / (1 + np.exp(-scores)))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-math.inf))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
