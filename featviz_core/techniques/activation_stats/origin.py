"""Where the first value that is no number comes from."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import placed
from featviz_core.experiment import own_randomness, seed_everything


def origin_of(model: Model, images: Tensor, *, training: bool) -> str:
    """Which layer turns finite numbers into NaN or infinity for `images` (N, C, H, W)? One sentence; empty if none.

    The pictures themselves, or a layer's own weights, may be to blame.
    """
    if not bool(images.isfinite().all()):
        return "The pictures already hold NaN or infinity."
    found: list[str] = []

    def leave(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        # Modules finish from the inside out, so the first to be found is the smallest.
        if not found and _finite(inputs) and not _finite(output):
            found.append(_sentence(name, module))

    with own_randomness(), borrowed(model, training=training) as module, torch.no_grad():
        seed_everything(0)
        for name, inner in module.named_modules():
            inner.register_forward_hook(partial(leave, name))
        module(placed(images, module))
    return next(iter(found), "")


def _finite(value: Any) -> bool:
    return all(bool(leaf.isfinite().all()) for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _sentence(name: str, module: nn.Module) -> str:
    where = f"`{name}` ({type(module).__name__})" if name else "The model itself"
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    sick = [inner for inner, tensor in own if not _finite(tensor)]
    said = f"{where} is the first to give NaN or infinity for finite input"
    return f"{said}: its {' and '.join(sick)} hold some." if sick else f"{said}."
