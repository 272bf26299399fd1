"""Two looks at models of one structure, layer by layer: where do they part?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from featviz_core.errors import ModelError
from featviz_core.techniques.activation_stats.result import ActivationStats

APART = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class ActivationComparison:
    """How much the layers' distributions differ.

    `frame`: one row for each layer that both have, in order: `mean` and `std` of the `first` and the `second`;
    `shift`, |Δmean| over the larger standard deviation; `ratio`, the second's standard deviation over the first's;
    `apart`, the larger of `shift` and |ln ratio|, infinite where only one holds NaN or infinity. `diverging`: the first
    layer with `apart` above 0.1, a tenth of a standard deviation; empty where there is none.
    """

    frame: pd.DataFrame
    diverging: str


def compare_activations(first: ActivationStats, second: ActivationStats) -> ActivationComparison:
    """From which layer on do two looks differ: two pictures, two modes, two states of one model?

    Raises `ModelError` where they have no layer in common.
    """
    ours, theirs = first.frame(), second.frame()
    both = ours.merge(theirs, on="layer", suffixes=("_first", "_second"))
    if both.empty:
        raise ModelError("The two have no layer in common.", do="Compare models of the same structure.")
    frame = both[["layer", "mean_first", "mean_second", "std_first", "std_second"]].copy()
    larger = frame[["std_first", "std_second"]].max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        frame["shift"] = _ratio((frame["mean_second"] - frame["mean_first"]).abs(), larger)
        frame["ratio"] = frame["std_second"] / frame["std_first"]
        frame["apart"] = np.maximum(frame["shift"], np.log(frame["ratio"]).abs().where(larger > 0, 0))
    sick = [both[f"nan_count_{side}"] + both[f"inf_count_{side}"] > 0 for side in ("first", "second")]
    frame.loc[sick[0] != sick[1], "apart"] = math.inf
    diverging = frame.loc[frame["apart"] > APART, "layer"]
    return ActivationComparison(frame, str(diverging.iloc[0]) if len(diverging) else "")


def _ratio(part: pd.Series[float], whole: pd.Series[float]) -> pd.Series[float]:
    """`part / whole`, where nothing over nothing is nothing."""
    return (part / whole).where(part > 0, 0)
