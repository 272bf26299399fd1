"""What is being looked at on the attention page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from featviz_core.techniques import attention_maps as technique
from pages._ui.cached import Look
from pages._ui.pickers import Chosen

AVERAGE = "average"

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """The choices on the page: a layer, a head or their average, the query that looks, and how it is drawn."""

    chosen: Chosen
    look: Look
    overview: technique.AttentionOverview
    layer: technique.AttentionLayer
    head: str
    query: int
    measure: str
    color_map: str

    @property
    def picture(self) -> Image.Image:
        """The part of the picture that the model sees."""
        return self.look.model.preprocessing.cut(self.chosen.picture.image)

    @property
    def query_name(self) -> str:
        """The query in words."""
        name = self.layer.layout.query_names()[self.query]
        if name in self.layer.layout.prefix:
            return f"the {name} token"
        return f"place {name}" if "," in name else name

    def maps(self) -> technique.AttentionMaps:
        """The layer's attention for the picture."""
        found: technique.AttentionMaps = self.look.ask(
            "attention_maps", self.chosen.picture, layers=(self.layer.address,), value_norms=True
        )
        return found

    def weights(self) -> Array:
        """`(heads, queries, keys)` of the layer, as they are or times the length of the values."""
        maps, address = self.maps(), self.layer.address
        if self.measure == "attention" or address not in maps.value_norms:
            return maps.weights[address][0]
        weighted: Array = maps.value_weighted(address)[0]
        return weighted

    def looks(self) -> Array:
        """What the query sees in each head, `(heads, h, w)`."""
        return self.layer.layout.to_picture(self.weights()[:, self.query], self.query)

    def heat(self) -> Array:
        """What the query sees in the chosen head or on average, `(h, w)`."""
        looks = self.looks()
        heat: Array = looks.mean(axis=0) if self.head == AVERAGE else looks[int(self.head)]
        return heat

    def on_prefix(self) -> list[tuple[str, float]]:
        """How much of the query's attention lies on each prefix token, a share in [0, 1]."""
        row = self.of_head(self.maps().weights[self.layer.address][0])[self.query]
        return [(name, float(row[i])) for i, name in enumerate(self.layer.layout.prefix)]

    def of_head(self, weights: Array) -> Array:
        """`(queries, keys)` of the chosen head or on average."""
        chosen: Array = weights.mean(axis=0) if self.head == AVERAGE else weights[int(self.head)]
        return chosen

    def statistics(self) -> pd.Series:
        """The numbers of the chosen head; of all heads of the layer on average."""
        frame = self.overview.frame[self.overview.frame["layer"] == self.layer.address]
        if self.head != AVERAGE:
            return frame[frame["head"] == int(self.head)].iloc[0]
        return frame.mean(numeric_only=True)

    @staticmethod
    def blocks(heat: Array, size: tuple[int, int]) -> Array:
        """A map at `size` (width, height) pixels with one even block for each token."""
        rows = (np.arange(size[1]) * heat.shape[0]) // size[1]
        columns = (np.arange(size[0]) * heat.shape[1]) // size[0]
        blocks: Array = heat[rows[:, None], columns[None]]
        return blocks
