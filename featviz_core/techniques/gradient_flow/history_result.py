"""What a few training steps did to every parameter, as numbers that can be kept, drawn and sent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.ledger import LedgerRow, ledger_frame
from featviz_core.techniques.gradient_flow.result import GradientFlow, plain


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """What one training step did: its `gradient_norms`, `update_ratios` and the `weight_norms` before it, one of each
    for each of `parameters`, as in `GradientHistory`."""

    parameters: tuple[str, ...]
    gradient_norms: tuple[float, ...]
    update_ratios: tuple[float, ...]
    weight_norms: tuple[float, ...]


def steps_frame(steps: Sequence[HistoryStep]) -> pd.DataFrame:
    """How large were gradient and update in each step? `step parameter layer gradient_norm update_ratio`, one row for
    each step (from 0) and parameter."""
    names = [name for step in steps for name in step.parameters]
    return pd.DataFrame(
        {
            "step": [number for number, step in enumerate(steps) for _ in step.parameters],
            "parameter": names,
            "layer": [name.rpartition(".")[0] for name in names],
            "gradient_norm": [norm for step in steps for norm in step.gradient_norms],
            "update_ratio": [ratio for step in steps for ratio in step.update_ratios],
        }
    )


@dataclass(frozen=True, slots=True, eq=False)
class GradientHistory:
    """How an experiment's gradients and weights went through a few training steps.

    `parameters`: names in network order, as in `first`: the gradient flow of the first batch, before any step.
    `gradient_norms (steps, parameters)`: ‖g‖ of the gradient that came in (the largest, where several did), NaN where
    none came, infinite where one held NaN or infinity; `update_ratios (steps, parameters)`: ‖Δw‖/‖w‖ of a whole step,
    NaN where ‖w‖ is 0 or no number; `weight_norms (steps, parameters)`: ‖w‖ before the step.
    `losses (steps,)`: as far as the loop gives them, else NaN. `optimizer_steps`: how often the optimiser stepped.
    `ledger`: one row for each parameter of the model, then for tensors that only the optimiser holds.
    """

    parameters: tuple[str, ...]
    gradient_norms: NDArray[np.float64]
    update_ratios: NDArray[np.float64]
    weight_norms: NDArray[np.float64]
    losses: NDArray[np.float64]
    optimizer_steps: int
    ledger: tuple[LedgerRow, ...]
    first: GradientFlow
    findings: tuple[Finding, ...] = ()

    @property
    def steps(self) -> int:
        """How many batches the loop went through."""
        return len(self.losses)

    @property
    def matrices(self) -> tuple[str, ...]:
        """The parameters that mix inputs into outputs: limits on update ratios are for these."""
        return tuple(parameter.parameter for parameter in self.first.parameters if parameter.is_matrix)

    def frame(self) -> pd.DataFrame:
        """How large were gradient and update in each step? As `steps_frame`."""
        tables = (self.gradient_norms, self.update_ratios, self.weight_norms)
        rows = zip(*(table.tolist() for table in tables), strict=True)
        return steps_frame([HistoryStep(self.parameters, *map(tuple, row)) for row in rows])

    def ledger_frame(self) -> pd.DataFrame:
        """Which parameter is held, wants a gradient, gets one and moves? One row for each `LedgerRow`."""
        return ledger_frame(self.ledger)

    def update_ratio(self, parameters: Sequence[str]) -> dict[str, float]:
        """The median of ‖Δw‖/‖w‖ over the steps for each of these parameters; NaN where it never was a number."""
        found: dict[str, float] = {}
        for name in parameters:
            column = self.update_ratios[:, self.parameters.index(name)]
            known = column[np.isfinite(column)]
            found[name] = float(np.median(known)) if known.size else math.nan
        return found

    def to_json(self) -> str:
        """Everything but the first batch as JSON; `null` where there is no number."""
        content: dict[str, Any] = {
            "schema": 1,
            "parameters": self.parameters,
            "losses": self.losses,
            "gradient_norms": self.gradient_norms,
            "update_ratios": self.update_ratios,
            "weight_norms": self.weight_norms,
            "optimizer_steps": self.optimizer_steps,
            "ledger": [asdict(row) for row in self.ledger],
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
