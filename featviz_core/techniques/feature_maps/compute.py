"""The feature maps of one layer, and what they say about each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from featviz_core import drawing
from featviz_core.borrowing import Model
from featviz_core.capture import record
from featviz_core.layouts import first_tensor, unreadable
from featviz_core.trace import Layer

Order = Literal["channel", "mean", "max", "spread", "sparsity"]
ORDERS: tuple[Order, ...] = ("channel", "mean", "max", "spread", "sparsity")

# A channel's values count as one value when they differ by less than float32 can tell at their size.
_SAME = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """What a layer gave for some pictures.

    `maps` is `(N, C, h, w)`, float32, in the layer's own units; a vector `(N, C)` becomes `(N, C, 1, 1)`, tokens lie
    on their grid without the class token.
    """

    layer: Layer
    maps: NDArray[np.float32]

    def frame(self, image: int = 0) -> pd.DataFrame:
        """How active is each channel for picture `image`? One row a channel.

        `mean`, `min` and `max` in the layer's units; `spread` the standard deviation over positions; `sparsity` the
        share of positions in [0, 1] with exactly zero; `dead` where a channel gives one value everywhere, `finite`
        where it holds neither NaN nor infinity.
        """
        flat = self._flat(image)
        with np.errstate(invalid="ignore", over="ignore"):
            return pd.DataFrame(
                {
                    "channel": np.arange(len(flat)),
                    "mean": flat.mean(axis=1, dtype=np.float64),
                    "min": flat.min(axis=1),
                    "max": flat.max(axis=1),
                    "spread": flat.std(axis=1, dtype=np.float64),
                    "sparsity": (flat == 0).mean(axis=1),
                    "dead": self.dead(image),
                    "finite": np.isfinite(flat).all(axis=1),
                }
            )

    def dead(self, image: int = 0) -> NDArray[np.bool_]:
        """Which channels `(C,)` give one value everywhere for picture `image`? Of a vector, those that are zero."""
        flat = self._flat(image)
        if flat.shape[1] == 1:
            return np.asarray(flat[:, 0] == 0)
        low, high = flat.min(axis=1), flat.max(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            same = high - low <= _SAME * np.maximum(np.abs(low), np.abs(high))
        return np.asarray(same & np.isfinite(low) & np.isfinite(high))

    def _flat(self, image: int) -> NDArray[np.float32]:
        flat: NDArray[np.float32] = self.maps[image].reshape(self.maps.shape[1], -1)
        return flat

    def value_range(self, image: int = 0) -> tuple[float, float]:
        """The smallest and the largest finite value over all channels of picture `image`; (0, 0) where none is."""
        finite = self.maps[image][np.isfinite(self.maps[image])]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

    def ranked(self, by: Order = "channel", image: int = 0) -> list[int]:
        """The channels in order: by number, or by the largest `mean`, `max`, `spread` or `sparsity` first.

        Raises `ValueError` for another order.
        """
        if by not in ORDERS:
            raise ValueError(f"Expected an order of {', '.join(ORDERS)}, got {by!r}.")
        frame = self.frame(image)
        ranked = frame if by == "channel" else frame.sort_values(by, ascending=False, kind="stable", na_position="last")
        return [int(channel) for channel in ranked["channel"]]

    def mosaic(
        self,
        image: int = 0,
        *,
        channels: list[int] | None = None,
        **style: Any,
    ) -> drawing.Mosaic:
        """All channels (or `channels`, in that order) of one picture as a single picture; dead ones are crossed out.

        `style` goes to `drawing.mosaic`: `scale`, `color_map`, `tile`, `columns`, `low`, `high`.
        """
        shown = list(range(self.maps.shape[1])) if channels is None else channels
        return drawing.mosaic(self.maps[image][shown], dead=self.dead(image)[shown], **style)


def feature_maps(model: Model, images: Tensor, *, layer: str) -> FeatureMaps:
    """What does each channel of `layer` see in `images` (N, C, H, W)?

    The forward pass ends behind the layer. `layer` is a module's dotted name, with `#1` for the first of several
    calls (the bare name stands for the last).

    Raises `LayerError` for a layer that does not exist, is never called, or gives nothing that lies on the picture;
    `ModelError` for pictures that the model cannot look at. Source: Zeiler and Fergus, ECCV 2014.
    """
    recording = record(model, images, layers=[layer])
    return from_output(recording.layers[layer], recording.outputs[layer])


def from_output(layer: Layer, output: Any) -> FeatureMaps:
    """The feature maps in what `layer` gave."""
    tensor = first_tensor(output)
    if tensor is None or layer.layout is None:
        raise unreadable(layer.address, () if tensor is None else tuple(tensor.shape))
    maps = layer.layout.to_maps(tensor).detach().float().cpu().numpy()
    return FeatureMaps(layer, np.ascontiguousarray(maps))
