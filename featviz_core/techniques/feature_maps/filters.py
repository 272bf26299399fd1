"""A layer's kernels, where looking at them says something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from featviz_core.borrowing import Model, borrowed
from featviz_core.trace import no_such_layer, split_address


@dataclass(frozen=True, slots=True, eq=False)
class ChannelKernels:
    """A convolution's weights, `(out, in, kh, kw)`, float32. With three input channels they can be shown in colour."""

    weights: NDArray[np.float32]

    @property
    def colored(self) -> bool:
        """Whether the kernels look at red, green and blue."""
        return bool(self.weights.shape[1] == 3)

    def rgb(self, channel: int) -> NDArray[np.uint8]:
        """The kernel of one output channel in colour, `(kh, kw, 3)`, 0 to 255; zero is mid-grey.

        All kernels share one scale, so weak ones look grey. Raises `ValueError` where there are not three inputs.
        """
        if not self.colored:
            raise ValueError(f"Expected kernels over 3 input channels, got {self.weights.shape[1]}.")
        largest = float(np.abs(self.weights).max()) or 1.0
        scaled = (self.weights[channel].transpose(1, 2, 0) / largest + 1) * 127.5
        return np.asarray(scaled + 0.5, np.uint8)


def kernels(model: Model, *, layer: str) -> ChannelKernels | None:
    """Which pattern does each channel of `layer` look for? None where it is not a 2-D convolution with kernels
    larger than 1×1, whose weights can be looked at as pictures.

    Raises `LayerError` where there is no such layer.
    """
    name, _ = split_address(layer)
    with borrowed(model) as module:
        modules = dict(module.named_modules())
        if name not in modules:
            raise no_such_layer(name, modules)
        found = modules[name]
        if not isinstance(found, nn.Conv2d) or max(found.kernel_size) == 1:
            return None
        return ChannelKernels(found.weight.detach().float().cpu().numpy().copy())
