"""FullGrad: the score taken apart into what the picture and every bias contribute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz_core.borrowing import borrowed
from featviz_core.capture import gradients
from featviz_core.techniques.class_activation.evidence import Evidence, method, share, to_maps
from featviz_core.trace import Layer, trace


@method(
    "fullgrad",
    "FullGrad",
    formula="ψ(∂y/∂X ⊙ X) + Σ_layers Σ_k ψ(g_k · b_k) with ψ = upsample(minmax(|·|))",
    paper=("Srinivas and Fleuret, Full-Gradient Representation (NeurIPS 2019)", "https://arxiv.org/abs/1905.00780"),
    needs="gradients",
    cost="one forward pass and one backward pass a target, through the whole model",
    signed=False,
    whole_model=True,
)
def fullgrad(seen: Evidence) -> Tensor:
    """What each place of the picture and of every layer with a bias contributes to the score, whatever its sign."""
    size = tuple(seen.image.shape[2:])
    of_image, of_biases = decomposition(seen)
    total = _psi(of_image, size)
    for part in of_biases:
        total = total + _psi(part, size)
    return total


def decomposition(seen: Evidence) -> tuple[Tensor, list[Tensor]]:
    """The score's parts: `(T, C, H, W)` of the picture and `(T, C, h, w)` of each layer with a bias.

    In a network of ReLUs without biases behind the last map, all parts together sum up to the score.
    """
    with borrowed(seen.model) as module:
        whole = _WithPicture(module)
        biases = _biases(whole, tuple(seen.image.shape[1:]))
        layers = ["picture", *biases]
        found = gradients(whole, seen.image, layers=layers, scalars=lambda output: list(seen.scores_in(output)[0]))
    picture = torch.cat(found.gradients["picture"]) * found.activations["picture"]
    parts = []
    for address, (layer, bias) in biases.items():
        maps = torch.cat([to_maps(layer, gradient) for gradient in found.gradients[address]])
        parts.append(maps * bias[:, None, None])
    return picture.float(), parts


class _WithPicture(nn.Module):
    """A model whose picture is a layer too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.picture = nn.Identity()
        self.model = model

    def forward(self, picture: Tensor) -> object:
        """The model's answer."""
        return self.model(self.picture(picture))


def _biases(module: nn.Module, shape: tuple[int, ...]) -> dict[str, tuple[Layer, Tensor]]:
    """Each layer with places that adds a bias `(C,)`, by address."""
    found = {}
    for layer in trace(module, shape).layers:
        if layer.layout is not None and layer.layout.kind != "vector" and layer.order >= 0:
            bias = _bias(module.get_submodule(layer.name))
            found.update({} if bias is None else {layer.address: (layer, bias)})
    return found


def _bias(module: nn.Module) -> Tensor | None:
    """What a module adds to each channel; of a BatchNorm in eval mode, what is left for an input of zero."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        if module.running_mean is None or module.running_var is None:
            return None
        scale = torch.rsqrt(module.running_var + module.eps)
        gain = scale if module.weight is None else module.weight * scale
        shift = -module.running_mean * gain
        return (shift if module.bias is None else shift + module.bias).detach().float()
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear | nn.LayerNorm | nn.GroupNorm):
        return None if module.bias is None else module.bias.detach().float()
    return None


def _psi(parts: Tensor, size: tuple[int, ...]) -> Tensor:
    """Parts `(T, C, h, w)` without sign, each channel stretched to [0, 1] and resized, summed up: `(T, H, W)`."""
    size_of = parts.abs()
    low, high = size_of.amin((2, 3), keepdim=True), size_of.amax((2, 3), keepdim=True)
    stretched = share(size_of - low, high - low).sum(1, keepdim=True)
    return F.interpolate(stretched, size=size, mode="bilinear", align_corners=False)[:, 0]
