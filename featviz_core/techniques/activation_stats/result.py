"""What the layers of a model gave, in numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featviz_core.findings import Finding
from featviz_core.techniques.activation_stats import ruler
from featviz_core.techniques.activation_stats.histogram import Histogram
from featviz_core.techniques.activation_stats.moments import Rows, merge, standard_deviation
from featviz_core.trace import Layer

_EMPTY = Histogram(np.zeros(0), np.zeros(2, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """The activation function behind a layer, or the layer itself where it is one.

    `layer`, `type`: its address and class. `dead (C,)`: channels that were never above zero, for no picture; all False
    where its kind cannot die. `saturated`: share of sampled values in [0, 1] where it is flat; NaN where it has no
    flat end.
    """

    layer: str
    type: str
    dead: NDArray[np.bool_]
    saturated: float


@dataclass(frozen=True, slots=True, eq=False)
class LayerStats:
    """What one layer gave for all pictures.

    `channels (8, C)`: exact numbers of each channel, and `pictures (8, C)` the same of each picture's mean in it; rows
    as in `moments.FIELDS`. `ruled (BINS,)`: how many of `sampled` values fall into each bin of `ruler.EDGES`;
    `histogram`: the same in bins of the layer's own, None where no value is finite. `activation`: what follows; None
    where that is no module, or not this layer's alone.
    """

    layer: Layer
    channels: Rows
    pictures: Rows
    ruled: NDArray[np.int64]
    histogram: Histogram | None
    sampled: int
    activation: Activation | None

    @property
    def whole(self) -> Rows:
        """The numbers of all channels together, `(8,)`."""
        return merge(self.channels)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which channels `(C,)` do nothing: never above zero behind the activation; without one, zero for ever."""
        if self.activation is not None and len(self.activation.dead) == self.channels.shape[1]:
            return self.activation.dead
        return np.asarray((self.channels[3] == 0) & (self.channels[4] == 0))

    def bins(self, *, even: bool = True) -> pd.DataFrame:
        """How are the sampled values distributed? Bins with `low`, `high`, `count`, `share` of the sample in [0, 1]
        and `density`, the height to draw.

        `even`: sixty bins of one width over the range of the first batch, with the share per unit as `density`; else
        those of the ruler that hold something, with the share itself. What lies outside is in neither.
        """
        frame = (self.histogram or _EMPTY).frame() if even else ruler.filled(self.ruled)
        share = frame["count"] / max(1, self.sampled)
        return frame.assign(share=share, density=share / (frame["high"] - frame["low"]) if even else share)

    def row(self) -> dict[str, Any]:
        """The layer's row of `ActivationStats.frame`."""
        whole = self.whole
        count, mean, _, low, high, zeros, nan, inf = (float(value) for value in whole)
        return {
            "layer": self.layer.address,
            "type": self.layer.type,
            "shape": self.layer.shape,
            "mean": mean if count else math.nan,
            "std": float(standard_deviation(whole)),
            "min": low if count else math.nan,
            "max": high if count else math.nan,
            "zero_fraction": zeros / max(1.0, count + nan + inf),
            "dead_fraction": float(self.dead.mean()),
            "nan_count": int(nan),
            "inf_count": int(inf),
        }

    def channel_frame(self) -> pd.DataFrame:
        """How does each channel behave? One row a channel, in the layer's units.

        `mean`, `std`, `min`, `max` over finite values; `zero_fraction` in [0, 1]; `between`: the standard deviation of
        its mean from picture to picture; `dead`.
        """
        count, mean, _, low, high, zeros, nan, inf = self.channels
        some = count > 0
        return pd.DataFrame(
            {
                "channel": np.arange(len(count)),
                "mean": np.where(some, mean, np.nan),
                "std": standard_deviation(self.channels),
                "min": np.where(some, low, np.nan),
                "max": np.where(some, high, np.nan),
                "zero_fraction": zeros / np.maximum(1, count + nan + inf),
                "between": standard_deviation(self.pictures),
                "dead": self.dead,
            }
        )


@dataclass(frozen=True, eq=False)
class ActivationStats:
    """What layers gave for some pictures, in the order in which they finish.

    `layers`: the numbers of each, by address. `pictures`: how many were looked at, in how many `batches`. `training`:
    whether the model was in training mode. `origin`: where the first NaN or infinity comes from, in a sentence; empty
    without one.
    """

    layers: dict[str, LayerStats]
    pictures: int
    batches: int
    training: bool
    origin: str

    def frame(self) -> pd.DataFrame:
        """How are the layers' outputs distributed? One row a layer.

        `shape`: of the output for one picture. `mean`, `std` (as `torch.std`), `min`, `max`: exact, over all finite
        values of all batches, in the layer's units; NaN where there is none. `zero_fraction`: exact zeros, in [0, 1].
        `dead_fraction`: channels in [0, 1] that were never above zero behind the activation that follows; where none
        follows, those that give nothing but zero. `nan_count`, `inf_count`: how many values are no number.
        """
        return pd.DataFrame([stats.row() for stats in self.layers.values()])

    def health(self) -> pd.DataFrame:
        """What else tells a healthy layer from a sick one? One row a layer.

        `variance_ratio`: its variance over that of the layer before. `activation`: the type of what follows it;
        `saturated_fraction`: sampled values in [0, 1] where that is flat, NaN where it nowhere is. `between_fraction`:
        standard deviation of a channel's mean from picture to picture, over the layer's own, in quadratic mean over
        channels; NaN for a single picture. `sampled`: values in its histogram.
        """
        rows = [_health(stats) for stats in self.layers.values()]
        frame = pd.DataFrame(rows)
        variance = frame.pop("variance")
        with np.errstate(divide="ignore", invalid="ignore"):
            frame.insert(1, "variance_ratio", variance / variance.shift())
        return frame

    @cached_property
    def histograms(self) -> pd.DataFrame:
        """How many sampled values of each layer fall into each bin? One row for each bin that some value reaches.

        `layer`, `low`, `high` (infinite at the open ends), `count`, and `share` of the layer's sample in [0, 1]. The
        bins are the same for all layers, and for all other pictures and models: ten to each power of ten, from a
        millionth to a million, to both sides of zero.
        """
        frames = [_coarse(stats) for stats in self.layers.values()]
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, the worst first; a single "ok" where nothing is."""
        from featviz_core.techniques.activation_stats.verdicts import findings_of

        return findings_of(self)

    def to_json(self) -> str:
        """Everything but the channels: frame, health, histograms and findings."""
        content = {
            "pictures": self.pictures,
            "batches": self.batches,
            "training": self.training,
            "layers": _records(self.frame()),
            "health": _records(self.health()),
            "histograms": _records(self.histograms),
            "findings": [
                {"code": f.code, "severity": f.severity, "title": f.title, "detail": f.detail, "where": f.where}
                | {"evidence": dict(f.evidence), "remedy": f.remedy}
                for f in self.findings
            ],
        }
        return json.dumps(_plain(content), indent=2)


def _coarse(stats: LayerStats) -> pd.DataFrame:
    frame = ruler.coarse(stats.ruled)
    frame.insert(0, "layer", stats.layer.address)
    return frame.assign(share=frame["count"] / max(1, stats.sampled))


def _health(stats: LayerStats) -> dict[str, Any]:
    own = float(standard_deviation(stats.whole))
    count, _, deviation, *_ = stats.pictures
    between = math.nan
    if count.max(initial=0) > 1 and own > 0:
        between = float(np.sqrt((deviation / np.maximum(count - 1, 1)).mean())) / own
    after = stats.activation
    return {
        "layer": stats.layer.address,
        "variance": own**2,
        "activation": after.type if after else "",
        "saturated_fraction": after.saturated if after else math.nan,
        "between_fraction": between,
        "sampled": stats.sampled,
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """Values that JSON knows: NaN and infinity become None."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
