"""What is being looked at on the page of the activation statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from PIL import Image

from featviz_core.techniques.activation_stats import ActivationStats, TopPictures
from pages._ui import layers


@dataclass(frozen=True, slots=True)
class Compared:
    """Two looks at models of one structure, and what to call them."""

    first_name: str
    second_name: str
    first: ActivationStats
    second: ActivationStats


@dataclass(frozen=True, slots=True)
class Strongest:
    """The pictures that a layer's channels answer to most, and all pictures there were, as the model saw them."""

    found: TopPictures
    pictures: Sequence[Image.Image]


@dataclass(frozen=True, slots=True)
class Source:
    """Numbers, and where they come from.

    `link`: what the address of another page needs to open on the same model. `stem` begins the names of files; `code`
    does the same without the app. `compare` draws the controls of a comparison and gives it, None until it is there;
    `strongest(address)` does so for the top pictures of a layer.
    """

    stats: ActivationStats
    link: dict[str, str]
    stem: str
    code: Callable[[], None]
    compare: Callable[[], Compared | None]
    strongest: Callable[[str], Strongest | None]


@dataclass(frozen=True, slots=True)
class View:
    """A source with one row a layer of everything that is known about it, and the layer to look at closely."""

    source: Source
    frame: pd.DataFrame
    address: str

    @property
    def names(self) -> list[str]:
        """Short names of all layers, in order."""
        return [layers.short(address) for address in self.frame["layer"]]
