"""Loading a checkpoint into a model, with a word on everything that did not go without saying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featviz_core.checkpoints.architecture import COUNTER, guess_architecture
from featviz_core.checkpoints.reading import Checkpoint
from featviz_core.errors import CheckpointError
from featviz_core.weights import rename_legacy_keys

_ENOUGH = 0.5  # share of the model's numbers that a checkpoint has to bring
_GROUPS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class FitReport:
    """How well did a checkpoint fit? `num_classes` the head now has (None where the model has no plain head),
    `matched` the share in [0, 1] of the model's numbers that came from the file, and `notes` in plain sentences."""

    num_classes: int | None
    matched: float
    notes: tuple[str, ...]


def fit_checkpoint(
    module: nn.Module, checkpoint: Checkpoint, *, resize_head: bool = True
) -> tuple[nn.Module, FitReport]:
    """Load the weights into `module`, which is changed and given back.

    A head with another number of classes is resized to the checkpoint's. Weights that are missing keep the values
    they have; those that fit nowhere are left out; both are said.
    Raises `CheckpointError` when less than half of the model's numbers are in the file.
    """
    state = rename_legacy_keys(dict(checkpoint.state))
    notes = _resize_heads(module, state) if resize_head else []
    own = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    matched = _numbers(fitting) / max(_numbers(own), 1)
    if matched < _ENOUGH:
        raise _misfit(module, checkpoint, matched)
    notes += _describe(own, state, fitting)
    complete = module.state_dict()  # carries version numbers, without which MNASNet takes nothing
    complete.update({key: value.to(own[key].dtype) for key, value in fitting.items()})
    module.load_state_dict(complete)
    head = _head(module)
    return module, FitReport(head[1].weight.shape[0] if head else None, matched, tuple(notes))


def _head(module: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d] | None:
    """The classifier: the last linear layer or convolution in the order of definition."""
    layers = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else None


def _resize_heads(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Give the head, and the auxiliary heads beside it, as many outputs as the checkpoint's has."""
    head = _head(module)
    if head is None or f"{head[0]}.weight" not in state:
        return []
    (before, *inputs), (after, *rest) = head[1].weight.shape, state[f"{head[0]}.weight"].shape or (0,)
    if before == after or not after or inputs != rest:
        return []
    for name, layer in module.named_modules():
        weight = state.get(f"{name}.weight")
        if not isinstance(layer, nn.Linear | nn.Conv2d) or weight is None:
            continue
        if layer.weight.shape[0] == before and weight.shape == (after, *layer.weight.shape[1:]):
            _resize(layer, after)
    return [f"The head was resized from {before:,} to {after:,} classes."]


def _resize(layer: nn.Linear | nn.Conv2d, outputs: int) -> None:
    layer.weight = nn.Parameter(layer.weight.new_zeros(outputs, *layer.weight.shape[1:]))
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.new_zeros(outputs))
    if isinstance(layer, nn.Linear):
        layer.out_features = outputs
    else:
        layer.out_channels = outputs


def _describe(own: Mapping[str, Tensor], state: Mapping[str, Tensor], fitting: Mapping[str, Tensor]) -> list[str]:
    notes = []
    if missing := [key for key in own if key not in state and not key.endswith(COUNTER)]:
        notes.append(f"{len(missing)} weights are not in the file and keep their fresh values: {_grouped(missing)}.")
    if unexpected := [key for key in state if key not in own and not key.endswith(COUNTER)]:
        notes.append(f"{len(unexpected)} weights in the file fit nowhere and were left out: {_grouped(unexpected)}.")
    if other := [key for key in state if key in own and key not in fitting]:
        notes.append(f"{len(other)} weights have another shape and were left out: {_grouped(other)}.")
    kinds = {str(v.dtype).removeprefix("torch.") for k, v in fitting.items() if own[k].is_floating_point()}
    if kinds - {"float32"}:
        notes.append(f"Numbers were converted from {', '.join(sorted(kinds - {'float32'}))} to float32.")
    odd = [k for k, v in fitting.items() if v.is_floating_point() and not torch.isfinite(v.float()).all()]
    if odd:
        notes.append(f"{len(odd)} weights hold NaN or infinity: {_grouped(odd)}.")
    return notes


def _grouped(keys: Iterable[str]) -> str:
    """Keys by the module they lie in, the largest groups first: `layer4 (30), fc (2)`."""
    groups = Counter(key.split(".")[0][:40] for key in keys)
    shown = ", ".join(f"{name} ({count})" for name, count in groups.most_common(_GROUPS_SHOWN))
    return shown + (f" and {len(groups) - _GROUPS_SHOWN} more" if len(groups) > _GROUPS_SHOWN else "")


def _misfit(module: nn.Module, checkpoint: Checkpoint, matched: float) -> CheckpointError:
    try:
        likely = guess_architecture(checkpoint.state)[:3]
    except CheckpointError:
        likely = []
    return CheckpointError(
        f"{checkpoint.name} does not fit {type(module).__name__}.",
        why=f"Only {matched:.0%} of the model's numbers are in the file.",
        do=f"It looks like {' or '.join(likely)}: choose that."
        if likely
        else "Choose the architecture it was made for.",
    )


def _numbers(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith(COUNTER))
