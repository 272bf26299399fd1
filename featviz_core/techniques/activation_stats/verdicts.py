"""What is wrong with the way through a model, from the numbers of its layers.

The limits leave healthy networks alone, fresh and trained: trends count, levels do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featviz_core.findings import Finding
from featviz_core.techniques.activation_stats.activations import ONE_ENDED

if TYPE_CHECKING:
    from featviz_core.techniques.activation_stats.result import ActivationStats

DEAD = 0.5  # of a layer's channels
_FEW_PICTURES = 8  # leave healthy channels silent
_DECADES = 2.0  # of the spread, from the first layer to the last along a straight line
_STRAIGHT = 0.8  # correlation with that line
_SATURATED = {False: 0.6, True: 0.9}  # of the values; by whether the function has one end
_SAME = 1e-3  # spread from picture to picture, relative to the layer's
_HALF_LARGEST = 65504.0  # of float16
_LISTED = 6


def findings_of(stats: ActivationStats) -> tuple[Finding, ...]:
    """What is wrong, the worst first; a single "ok" where nothing is."""
    table = stats.frame().merge(stats.health(), on="layer")
    found = [finding for test in _TESTS for finding in test(stats, table)]
    found.sort(key=lambda finding: ("fail", "warn", "note").index(finding.severity))
    if found:
        return tuple(found)
    text = f"Neither trend nor silence nor a number that is none, for {stats.pictures} pictures."
    return (Finding("activation.healthy", "ok", "Healthy activations", text, f"{len(table)} layers"),)


def _not_finite(stats: ActivationStats, table: pd.DataFrame) -> list[Finding]:
    sick = table[table["nan_count"] + table["inf_count"] > 0]
    if sick.empty:
        return []
    first = sick.iloc[0]
    evidence = {"nan_count": int(first["nan_count"]), "inf_count": int(first["inf_count"]), "layers": len(sick)}
    return [
        Finding(
            "activation.nan",
            "fail",
            f"Values that are no numbers, in {_count(sick)}",
            stats.origin or "They are there for some batches only, and no longer for the first one that held any.",
            first["layer"],
            evidence | {"healthy": "none"},
            "Look at that layer's weights first, then for a division, logarithm or root of zero; with float16, for "
            "values beyond 65,504.",
        )
    ]


def _dead(stats: ActivationStats, table: pd.DataFrame) -> list[Finding]:
    sick = table[table["dead_fraction"] > DEAD]
    if sick.empty:
        return []
    few, whole = stats.pictures < _FEW_PICTURES, bool((sick["dead_fraction"] == 1).any())
    detail = f"Most of their channels give nothing for any of the {stats.pictures} pictures, so no gradient reaches "
    detail += "their weights."
    if few:
        detail += f" Fewer than {_FEW_PICTURES} pictures can leave healthy channels silent: look at more."
    return [
        Finding(
            "activation.dead",
            "fail" if whole else "note" if few else "warn",
            f"Dead channels in {_count(sick)}",
            detail,
            _where(sick),
            {"dead_fraction": _numbers(sick["dead_fraction"]), "healthy": f"up to {DEAD}"},
            "Lower the learning rate, look for large negative biases, start again from He initialisation; a "
            "normalisation before the activation, or LeakyReLU, keeps channels alive.",
        )
    ]


def _trend(_stats: ActivationStats, table: pd.DataFrame) -> list[Finding]:
    spread = table["std"].to_numpy(float)
    known = np.isfinite(spread) & (spread > 0)
    if known.sum() < 3:
        return []
    place, size = np.flatnonzero(known), np.log10(spread[known])
    if np.ptp(size) == 0:
        return []
    slope = float(np.polyfit(place, size, 1)[0])
    change = slope * float(place[-1] - place[0])
    if abs(np.corrcoef(place, size)[0, 1]) < _STRAIGHT or abs(change) < _DECADES:
        return []
    shrinks = change < 0
    return [
        Finding(
            "activation.vanishing" if shrinks else "activation.exploding",
            "fail" if abs(change) > 2 * _DECADES else "warn",
            "The signal vanishes" if shrinks else "The signal explodes",
            f"From layer to layer the spread {'shrinks' if shrinks else 'grows'} by a factor of "
            f"{10 ** abs(slope):.2g}, in all by {10 ** abs(change):.2g}.",
            f"{table['layer'].iloc[place[0]]} … {table['layer'].iloc[place[-1]]}",
            {"std_first": float(spread[known][0]), "std_last": float(spread[known][-1])}
            | {"decades": change, "healthy": f"less than {_DECADES:.0f} powers of ten in a straight line"},
            f"The weights start too {'small' if shrinks else 'large'} for this depth: He or Glorot initialisation, "
            "normalisation layers, or residual connections.",
        )
    ]


def _huge(_stats: ActivationStats, table: pd.DataFrame) -> list[Finding]:
    largest = table[["min", "max"]].abs().max(axis=1)
    sick = table[largest > _HALF_LARGEST]
    if sick.empty:
        return []
    return [
        Finding(
            "activation.huge",
            "warn",
            f"Values beyond float16 in {_count(sick)}",
            "In half precision they would become infinite, and from there NaN.",
            _where(sick),
            {"largest": float(largest.max()), "healthy": f"below {_HALF_LARGEST:,.0f}"},
            "Normalise the pictures and the activations, lower the learning rate, or use bfloat16.",
        )
    ]


def _saturated(_stats: ActivationStats, table: pd.DataFrame) -> list[Finding]:
    limits = table["activation"].isin(list(ONE_ENDED)).map(_SATURATED)
    sick = table[table["saturated_fraction"] > limits]
    if sick.empty:
        return []
    kinds = ", ".join(dict.fromkeys(sick["activation"]))
    return [
        Finding(
            "activation.saturated",
            "warn",
            f"Saturated {kinds} behind {_count(sick)}",
            "Nearly all values lie where the function is flat, so hardly any gradient comes back through it.",
            _where(sick),
            {"saturated_fraction": _numbers(sick["saturated_fraction"])}
            | {"healthy": f"up to {_SATURATED[False]}; {_SATURATED[True]} where one side is flat"},
            "Smaller weights at the start (Glorot), normalised inputs, or a normalisation before the activation.",
        )
    ]


def _degenerate(stats: ActivationStats, table: pd.DataFrame) -> list[Finding]:
    if stats.pictures < 2:
        return []
    gone = np.flatnonzero((table["dead_fraction"] == 1) | (table["nan_count"] + table["inf_count"] > 0))
    # What follows a dead or broken layer is its consequence.
    before = table.iloc[: gone[0] if len(gone) else len(table)]
    same = before[(before["std"] == 0) | (before["between_fraction"] < _SAME)]
    if same.empty:
        return []
    first = same.iloc[0]["layer"] == table.iloc[0]["layer"]
    last_only = len(same) == 1 and same.index[0] == table.index[-1]
    return [
        Finding(
            "activation.degenerate",
            "note" if last_only else "warn",
            f"The same for every picture: {_count(same)}",
            "Their channels do not differ from picture to picture, so nothing behind them can tell pictures apart.",
            _where(same),
            {"between_fraction": _numbers(same["between_fraction"]), "healthy": f"at least {_SAME}"},
            "Even the first layer: are the pictures all alike?"
            if first
            else "Weights of zero at the start may be meant; otherwise look at the layer before the first of them.",
        )
    ]


_TESTS: tuple[Callable[[ActivationStats, pd.DataFrame], list[Finding]], ...] = (
    _not_finite,
    _dead,
    _trend,
    _huge,
    _saturated,
    _degenerate,
)


def _count(sick: pd.DataFrame) -> str:
    return "1 layer" if len(sick) == 1 else f"{len(sick)} layers"


def _where(sick: pd.DataFrame) -> str:
    names = list(sick["layer"])
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _numbers(values: Sequence[float] | pd.Series[float]) -> list[float]:
    return [round(float(value), 4) for value in list(values)[:_LISTED]]
