"""What the answer for one class owes to each attention weight: gradients, and the explanations made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import placed
from featviz_core.errors import ModelError
from featviz_core.layouts import first_tensor
from featviz_core.techniques.attention_maps import rollout
from featviz_core.techniques.attention_maps.layers import (
    Attended,
    AttentionLayer,
    attended_by,
    find,
    grouped,
    on_grid,
)
from featviz_core.techniques.attention_maps.watching import Seen, Watch
from featviz_core.trace import explained

# Attention kept in autograd's graph; more than this would take the machine's memory.
_MOST_BYTES = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Attention with the gradient of the target's score towards it, both `(N, heads, queries, keys)`, by address;
    `value_norms` as in `Attended`; `targets (N,)` the classes; `legrad (N, h, w)` where it was asked for."""

    layers: tuple[AttentionLayer, ...]
    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    value_norms: dict[str, Tensor]
    targets: tuple[int, ...]
    legrad: NDArray[np.float32] | None

    def arrays(self, kept: dict[str, Tensor]) -> list[NDArray[np.float32]]:
        """What was `kept` for each layer, first to last, as arrays."""
        return [kept[layer.address].cpu().numpy() for layer in self.layers]

    def weighted(self) -> list[NDArray[np.float32]]:
        """`E_heads[(∇A ⊙ A)⁺]` of each layer, `(N, queries, keys)`."""
        return [
            (self.gradients[a] * self.weights[a]).clamp(min=0).mean(1).cpu().numpy()
            for a in (layer.address for layer in self.layers)
        ]


def attention_gradients(
    model: Model,
    images: Tensor,
    *,
    target: int | Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
    legrad: bool = False,
) -> Graded:
    """How would the score of class `target` (one for all or one each; by default the model's answer) change with each
    attention weight? One forward and one backward pass, `.grad` of the parameters is never touched.

    Raises `ModelError` and `LayerError` as `attention_maps` does, and `ModelError` for a target that is no class or
    attention that takes more than 1 GB.
    """
    found = find(model, images, layers)
    _check_size(found, len(images))
    raw: dict[str, Tensor] = {}
    attended: dict[str, Attended] = {}
    with borrowed(model) as module, torch.enable_grad(), explained(module, images.shape[1:]):
        module.requires_grad_(False)
        wanted = {(layer.name, layer.call): layer for layer in found}

        def see(seen: Seen) -> None:
            if layer := wanted.get((seen.name, seen.call)):
                raw[layer.address] = seen.weights
                attended[layer.address] = attended_by(module, layer, seen, len(images))

        blocks = blocks_of(module, found) if legrad else []
        ends = _Ends(module, blocks)
        with Watch(module, see, only={layer.name for layer in found}, values=True, graph=True):
            pictures = placed(images, module)
            score, targets = _score(module, pictures, target)
        towards = _towards(score, [raw[layer.address] for layer in found])
        leg = _legrad(module, pictures, targets, raw, found, ends) if blocks else None
        graded = {
            layer.address: _like(attended[layer.address], g, len(images))
            for layer, g in zip(found, towards, strict=True)
        }
    norms = {address: a.value_norms.detach() for address, a in attended.items() if a.value_norms is not None}
    weights = {address: a.weights.detach() for address, a in attended.items()}
    return Graded(found, weights, graded, norms, targets, leg)


def _check_size(layers: Sequence[AttentionLayer], batch: int) -> None:
    need = 4 * batch * sum(layer.heads * layer.layout.queries * layer.layout.keys for layer in layers)
    if need > _MOST_BYTES:
        raise ModelError(
            "The attention of all layers is too large to follow back.",
            why=f"It takes {need / 2**30:.1f} GB, of which {_MOST_BYTES / 2**30:.0f} GB are allowed.",
            do="Choose fewer layers, fewer pictures, or a model for smaller pictures.",
        )


def _score(module: nn.Module, pictures: Tensor, target: int | Sequence[int] | None) -> tuple[Tensor, tuple[int, ...]]:
    """The sum of each picture's logit of its target, and the targets."""
    logits = first_tensor(module(pictures))
    if logits is None or logits.ndim != 2:
        got = "none" if logits is None else str(tuple(logits.shape))
        raise ModelError("The model gives no class scores.", why=f"Expected logits (N, classes), got {got}.")
    targets = _targets(logits, target)
    return logits.gather(1, torch.tensor(targets, device=logits.device)[:, None]).sum(), targets


def _targets(logits: Tensor, target: int | Sequence[int] | None) -> tuple[int, ...]:
    if target is None:
        return tuple(int(i) for i in logits.argmax(1))
    targets = (target,) * len(logits) if isinstance(target, int) else tuple(int(t) for t in target)
    if len(targets) != len(logits) or not all(0 <= t < logits.shape[1] for t in targets):
        raise ModelError(
            "The target is no class of this model.",
            why=f"Expected one of 0 to {logits.shape[1] - 1} for each of {len(logits)} pictures, got {target}.",
        )
    return targets


def _towards(score: Tensor, weights: list[Tensor], *, keep: bool = True) -> list[Tensor]:
    if not score.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    found = torch.autograd.grad(score, weights, retain_graph=keep, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def _like(attended: Attended, gradient: Tensor, batch: int) -> Tensor:
    """A gradient laid out as the attention it belongs to."""
    return on_grid(grouped(gradient, batch, attended.layer.address), attended.layer).float()


def blocks_of(module: nn.Module, layers: Sequence[AttentionLayer]) -> list[str]:
    """The names of the blocks that hold one attention layer each, in a row: children of one numbered container.

    Empty where there is no such row.
    """
    for depth in range(1, max(layer.name.count(".") for layer in layers) + 2):
        blocks = [".".join(layer.name.split(".")[:depth]) for layer in layers]
        parents = {name.rpartition(".")[0] for name in blocks}
        if len(set(blocks)) == len(layers) and len(parents) == 1:
            around = module.get_submodule(parents.pop())
            return blocks if isinstance(around, nn.Sequential | nn.ModuleList) else []
    return []


class _Ends:
    """Keeps what each block gives, inside the graph, and can put it in place of all blocks."""

    def __init__(self, module: nn.Module, blocks: Sequence[str]) -> None:
        self._blocks = [module.get_submodule(name) for name in blocks]
        self.given: list[Any] = []
        self._hooks = [block.register_forward_hook(self._keep) for block in self._blocks]

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.given.append(output)

    def put(self, output: Any) -> None:
        """From now on every block gives `output`, without computing anything."""
        for hook in self._hooks:
            hook.remove()
        for block in self._blocks:
            block.forward = lambda *_args, **_kwargs: output


def _legrad(
    module: nn.Module,
    pictures: Tensor,
    targets: tuple[int, ...],
    raw: dict[str, Tensor],
    layers: Sequence[AttentionLayer],
    ends: _Ends,
) -> NDArray[np.float32]:
    """LeGrad: each layer's output is classified by the model's own head; the positive gradients of that score towards
    the layer's attention, averaged over heads and queries, are summed over layers. Source: Bousselham et al.,
    ICCV 2025.
    """
    total: Tensor | None = None
    for layer, given in zip(layers, list(ends.given), strict=True):
        ends.put(given)
        score, _ = _score(module, pictures, targets)
        (gradient,) = _towards(score, [raw[layer.address]])
        received = gradient.clamp(min=0).mean((1, 2))
        total = received if total is None else total + received
    assert total is not None
    layout = layers[-1].layout
    return total[:, len(layout.prefix) :].reshape(-1, *layout.grid).float().cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class Explanations:
    """Where the model looks, in one map `(h, w)` for each way to say so, in that way's own units; `target` is the class
    that those with gradients explain."""

    maps: dict[str, NDArray[np.float32]]
    target: int


def attention_explanations(
    model: Model,
    images: Tensor,
    *,
    target: int | None = None,
    fusion: rollout.Fusion = "mean",
    discard: float = 0.0,
    residual: float = 0.5,
) -> Explanations:
    """Where does the model look for class `target` in `images` (1, C, H, W), by each method for all layers at once?

    `rollout` and `value rollout` (attention times the length of the value, Kobayashi et al. 2020) do not know the
    class; `gradient rollout`, `relevance` (Chefer et al. 2021) and `LeGrad` do.

    Raises `ModelError` as `attention_gradients` does, and for a model whose layers look at windows or at grids of
    different sizes.
    """
    rollout.check_one_grid([layer.layout for layer in find(model, images, None)])
    graded = attention_gradients(model, images, target=target, legrad=True)
    layout = graded.layers[-1].layout
    options: dict[str, Any] = {"discard": discard, "residual": residual, "prefix": len(layout.prefix)}
    weights, weighted = graded.arrays(graded.weights), graded.weighted()
    joint = {
        "rollout": rollout.roll_out((rollout.fuse(w, fusion) for w in weights), **options),
        "gradient rollout": rollout.roll_out(weighted, **options),
        "relevance": rollout.relevance_of(weighted),
    }
    if len(graded.value_norms) == len(graded.layers):
        norms = graded.arrays(graded.value_norms)
        scaled = (rollout.fuse(w * n[:, :, None], fusion) for w, n in zip(weights, norms, strict=True))
        joint["value rollout"] = rollout.roll_out((_rows_of_one(s) for s in scaled), **options)
    maps = {name: rollout.to_map(matrix, layout)[0] for name, matrix in joint.items()}
    if graded.legrad is not None:
        maps["LeGrad"] = graded.legrad[0]
    return Explanations(maps, graded.targets[0])


def _rows_of_one(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = matrix / np.maximum(matrix.sum(-1, keepdims=True), 1e-12)
    return rows
