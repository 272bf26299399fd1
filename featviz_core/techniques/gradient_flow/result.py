"""What came back through a network, parameter by parameter, as numbers that can be kept, drawn and sent."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from featviz_core.findings import Finding

State = Literal["reached", "frozen", "detached", "unused"]


@dataclass(frozen=True, slots=True)
class ParameterGradient:
    """The gradient g = ∂loss/∂w of one parameter w.

    `layer`: the dotted name of the module that owns it, empty for the model itself; `type`: that module's type.
    `state`: "reached" by a gradient; "frozen", because it wants none (`requires_grad` is False); "detached", because
    its layer ran but its answer does not reach the loss; "unused", because its layer never ran.
    `mean_abs`, `max_abs`: of |g|, and `norm` ‖g‖₂, in units of the loss per unit of weight; `weight_norm`: ‖w‖₂;
    `zero_fraction`: share of values that are exactly zero, in [0, 1]; `dead_fraction`: share of output units (rows,
    filters) whose every value is exactly zero, in [0, 1]; `nan_count`, `inf_count`: how many values are no numbers.
    All are NaN or 0 where there is no gradient.
    """

    parameter: str
    layer: str
    type: str
    shape: tuple[int, ...]
    state: State
    weight_norm: float
    mean_abs: float = math.nan
    max_abs: float = math.nan
    norm: float = math.nan
    zero_fraction: float = math.nan
    dead_fraction: float = math.nan
    nan_count: int = 0
    inf_count: int = 0

    @property
    def ratio(self) -> float:
        """‖g‖/‖w‖: how large the gradient is for such a weight; NaN for a weight that is all zero."""
        return self.norm / self.weight_norm if self.weight_norm > 0 else math.nan

    @property
    def is_matrix(self) -> bool:
        """Whether it mixes inputs into several outputs: convolutions and linear layers, neither biases nor scales."""
        return len(self.shape) > 1 and self.shape[0] > 1 and math.prod(self.shape) > self.shape[0]

    @property
    def usual_norm(self) -> float:
        """‖w‖ of a matrix as PyTorch starts it: uniform with variance 1/(3 · inputs), so ‖w‖² is near outputs/3.

        Against this, gradients and steps of heads that start near zero on purpose are not large."""
        return math.sqrt(self.shape[0] / 3) if self.is_matrix else 0.0

    @property
    def finite(self) -> bool:
        """Whether there is a gradient, and all of it is numbers."""
        return self.state == "reached" and not self.nan_count and not self.inf_count


@dataclass(frozen=True, slots=True)
class GradientFlow:
    """How far a loss's gradient comes, from the last layer back to the first.

    `loss`: its value; `pictures`: how many it is for; `training`: whether the model was in training mode;
    `output_norm`: ‖∂loss/∂logits‖, what the network was given to pass back, NaN where the loss does not hang on the
    logits. `parameters`: in network order, that is the order in which their layers run, with those that never run
    last. `findings`: what to look at, the worst first.
    """

    loss: float
    pictures: int
    training: bool
    output_norm: float
    parameters: tuple[ParameterGradient, ...]
    findings: tuple[Finding, ...] = ()

    def frame(self) -> pd.DataFrame:
        """How large is each parameter's gradient? One row a parameter, in network order:

        `parameter layer shape mean_abs max_abs norm weight_norm ratio`, then `state zero_fraction dead_fraction
        nan_count inf_count`, as in `ParameterGradient`.
        """
        columns = [
            *("parameter", "layer", "shape", "mean_abs", "max_abs", "norm", "weight_norm", "ratio", "state"),
            *("zero_fraction", "dead_fraction", "nan_count", "inf_count"),
        ]
        return pd.DataFrame([[getattr(p, name) for name in columns] for p in self.parameters], columns=columns)

    def layers(self) -> pd.DataFrame:
        """How large is each layer's gradient, all its parameters together? `layer type parameters norm weight_norm
        ratio`, in network order; NaN for a layer without a gradient."""
        rows = []
        for layer in dict.fromkeys(p.layer for p in self.parameters):
            own = [p for p in self.parameters if p.layer == layer]
            reached = [p for p in own if p.state == "reached"]
            norm = math.hypot(*(p.norm for p in reached)) if reached else math.nan
            weight_norm = math.hypot(*(p.weight_norm for p in own))
            count = sum(math.prod(p.shape) for p in own)
            rows.append((layer, own[0].type, count, norm, weight_norm, norm / weight_norm if weight_norm else math.nan))
        return pd.DataFrame(rows, columns=["layer", "type", "parameters", "norm", "weight_norm", "ratio"])

    def to_json(self) -> str:
        """The numbers and findings as JSON; `null` where there is no number."""
        content = {"schema": 1, **asdict(self), "parameters": self.frame().to_dict("records")}
        return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: a number that is none becomes None."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
