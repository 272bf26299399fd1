"""Which axis is what: turning any layer's output into channel maps `(N, C, h, w)`.

Shapes alone cannot tell `(N, 7, 7, 768)` from channels first, nor windows from rows. So a layout follows from what
the module *does* (a convolution puts channels first, a `LayerNorm` normalises the last axis, `Permute` moves axes),
and where the module does not say (an activation, a residual sum), from the tensor it was given or made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from featviz_core.errors import LayerError

Kind = Literal["channels_first", "channels_last", "tokens", "windows", "vector"]

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
    nn.PixelShuffle,
)
_GATHERING = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
_CHANNELS_LAST = (nn.LayerNorm, nn.RMSNorm, nn.Linear)
_MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """How a layer's output is laid out on the picture.

    `grid` is (h, w) of tokens, or (rows, columns) of windows; `prefix` counts the class, distillation and register
    tokens before the picture's; `window` is a window's side; `swapped` says that windows and their insides have
    changed places (MaxViT's grid attention); `batch_dim` is 1 for sequence-first tokens.
    """

    kind: Kind
    grid: tuple[int, int] = (1, 1)
    prefix: int = 0
    window: int = 1
    swapped: bool = False
    batch_dim: int = 0

    def to_maps(self, output: Tensor) -> Tensor:
        """Lay `output` out as channel maps `(N, C, h, w)`; prefix tokens are left out."""
        match self.kind:
            case "channels_first":
                return output
            case "channels_last":
                return output.permute(0, 3, 1, 2)
            case "vector":
                return output[:, :, None, None]
            case "tokens":
                tokens = output.transpose(0, 1) if self.batch_dim else output
                return tokens[:, self.prefix :].transpose(1, 2).reshape(len(tokens), -1, *self.grid)
            case "windows":
                return self._stitch(output.transpose(1, 2) if self.swapped else output)

    def _stitch(self, windows: Tensor) -> Tensor:
        rows, columns = self.grid
        side = self.window
        apart = windows.reshape(len(windows), rows, columns, side, side, windows.shape[-1])
        return apart.permute(0, 5, 1, 3, 2, 4).reshape(len(windows), -1, rows * side, columns * side)


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor in a module's output (a tuple, list or dict of tensors), or None."""
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)


def unreadable(layer: str, shape: tuple[int, ...]) -> LayerError:
    """The error for a layer whose output cannot be laid on the picture."""
    return LayerError(
        f"Layer '{layer}' gives nothing that can be laid on the picture.",
        why=f"Its output has the shape {tuple(shape)}; expected channel maps, tokens, windows or one vector a picture.",
        do="Choose the block around it, or the layer before or after it.",
    )


class LayoutTracker:
    """Follows the layouts through one forward pass over `batch` pictures."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._seen: list[tuple[Tensor, Layout]] = []
        self._picture: tuple[int, int] | None = None

    def see(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Layout | None:
        """The layout of the output that `module` just gave, or None where it is not laid out on the picture."""
        tensor = first_tensor(output)
        if tensor is None:
            return None
        layout = self._layout(module, first_tensor(inputs), tensor)
        if layout is not None:
            self._seen.append((tensor, layout))
            # By module: what else has four axes may be the heads of an attention.
            if isinstance(module, _CHANNELS_FIRST) and tensor.ndim == 4 and tensor.shape[-1] > 1:
                self._picture = (tensor.shape[2], tensor.shape[3])
        return layout

    def _layout(self, module: nn.Module, given: Tensor | None, output: Tensor) -> Layout | None:
        if output.ndim == 3 and self._batch in output.shape[:2]:
            return None if isinstance(module, _GATHERING) else self._tokens(output)
        if output.ndim not in (2, 4) or output.shape[0] != self._batch:
            return None
        if output.ndim == 2:
            return Layout("vector")
        before = None if given is None else self._known(given) or self._same_shape(given)
        kind = type(module).__name__
        if kind == "WindowPartition" and given is not None:
            side = math.isqrt(output.shape[2])
            return Layout("windows", grid=(given.shape[2] // side, given.shape[3] // side), window=side)
        if kind == "WindowDepartition":
            return Layout("channels_first")
        if before is not None and before.kind == "windows" and output.shape[1:3] != (1, 1):
            return self._still_windows(before, kind, output)
        if kind == "Permute" and before is not None:
            return Layout("channels_last" if before.kind == "channels_first" else "channels_first")
        if isinstance(module, _CHANNELS_FIRST) or kind == "LayerNorm2d":
            return Layout("channels_first")
        if isinstance(module, _CHANNELS_LAST):
            return Layout("channels_last")
        return self._known(output) or self._same_shape(output) or Layout("channels_first")

    def _still_windows(self, before: Layout, kind: str, output: Tensor) -> Layout:
        known = self._known(output)
        if known is not None:
            return known
        swapped = before.swapped != (kind == "SwapAxes")
        return Layout("windows", grid=before.grid, window=before.window, swapped=swapped)

    def _tokens(self, output: Tensor) -> Layout:
        """Tokens on the grid of the last convolution that fits; else on a square, else in one row."""
        batch_dim = 0 if output.shape[0] == self._batch else 1
        count = output.shape[1 - batch_dim]
        if self._picture is not None:
            prefix = count - math.prod(self._picture)
            if 0 <= prefix <= _MOST_PREFIX_TOKENS:
                return Layout("tokens", grid=self._picture, prefix=prefix, batch_dim=batch_dim)
        for prefix in (0, 1):
            side = math.isqrt(max(count - prefix, 0))
            if side > 1 and side * side == count - prefix:
                return Layout("tokens", grid=(side, side), prefix=prefix, batch_dim=batch_dim)
        return Layout("tokens", grid=(1, count), batch_dim=batch_dim)

    def _known(self, tensor: Tensor) -> Layout | None:
        return next((layout for seen, layout in reversed(self._seen) if seen is tensor), None)

    def _same_shape(self, tensor: Tensor) -> Layout | None:
        return next((layout for seen, layout in reversed(self._seen) if seen.shape == tensor.shape), None)
