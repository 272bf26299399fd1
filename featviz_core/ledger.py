"""The books of an experiment's parameters: who is held, wants a gradient, gets one, and moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from featviz_core.experiment import Experiment
    from featviz_core.watch import Watch

_LEFTOVER = 1e-3  # of an old gradient, relative to the new one: less is rounding


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One parameter in the books: of the model, of the optimiser, or of both.

    `parameter`: its name; `layer`: the module that owns it; `in_model`: False for a tensor that only the optimiser
    holds; `in_optimizer`: how often it is held, 1 being right for a parameter that learns; `requires_grad`: whether it
    wants a gradient; `gradients`: how many came in, and `nonzero` how many of them were not all zero; `leftover`: the
    largest norm of an old gradient that was still there when a new one came in, relative to the new one; `moved`:
    whether it is another after these steps; `learning_rate`: what the optimiser has for it, 0 where it has nothing;
    `mode`: in which its layer ran: "train", "eval", "both", or "" where it never ran.
    """

    parameter: str
    layer: str
    shape: tuple[int, ...]
    in_model: bool
    in_optimizer: int
    requires_grad: bool
    gradients: int
    nonzero: int
    leftover: float
    moved: bool
    learning_rate: float
    mode: str

    @property
    def stands_out(self) -> bool:
        """Whether it does not learn as the others do."""
        learns = self.in_model and self.requires_grad and self.nonzero > 0 and self.moved
        return not learns or self.in_optimizer != 1 or self.leftover > _LEFTOVER


def ledger(experiment: Experiment, watch: Watch) -> tuple[LedgerRow, ...]:
    """Which parameter is held, wants a gradient, gets one and moves? What `watch` saw of the experiment or an equal
    one: one row for each parameter of the model, then for tensors that only the optimiser holds."""
    return (*(_row(name, watch) for name in watch.records), *_strangers(experiment))


def ledger_frame(rows: Iterable[LedgerRow]) -> pd.DataFrame:
    """One row for each `LedgerRow`, with its fields as columns."""
    return pd.DataFrame([asdict(row) for row in rows], columns=list(LedgerRow.__dataclass_fields__))


def _row(name: str, watch: Watch) -> LedgerRow:
    record, layer = watch.records[name], name.rpartition(".")[0]
    modes = watch.modes["training"].get(layer) or watch.modes["training"].get("")
    kinds = {True: "train", False: "eval"}
    ran = [kinds[mode] for mode, count in modes.items() if count] if modes else []
    return LedgerRow(
        parameter=name,
        layer=layer,
        shape=record.shape,
        in_model=True,
        in_optimizer=record.held,
        requires_grad=record.trainable,
        gradients=record.gradients,
        nonzero=record.nonzero,
        leftover=record.leftover,
        moved=record.moved,
        learning_rate=record.rate,
        mode="both" if len(ran) > 1 else "".join(ran),
    )


def _strangers(experiment: Experiment) -> Iterator[LedgerRow]:
    """Tensors that the optimiser holds and neither the model nor the loss knows."""
    parts = (experiment.model, experiment.loss_fn)
    own = {id(parameter) for part in parts if hasattr(part, "parameters") for parameter in part.parameters()}
    number = 0
    for group in experiment.optimizer.param_groups:
        for tensor in group["params"]:
            if id(tensor) in own:
                continue
            number += 1
            shape, rate = tuple(tensor.shape), float(group.get("lr", 0.0))
            name = f"not the model's, {number}"
            yield LedgerRow(name, "", shape, False, 1, tensor.requires_grad, 0, 0, 0.0, False, rate, "")
