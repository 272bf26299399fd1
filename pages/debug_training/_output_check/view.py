"""What is being looked at on the page of the output check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from featviz_core.techniques.output_check import ModelOutput


@dataclass(frozen=True, slots=True)
class View:
    """The check's result, with the pictures that it is about.

    `pictures`: small, as the model saw them; `names` say which they are; `chosen` is the one to look at closely, and
    `choose(index)` another. `stem` begins the names of files, `code` does the same without the app.
    """

    found: ModelOutput
    pictures: Sequence[Image.Image]
    names: Sequence[str]
    chosen: int
    choose: Callable[[int], None]
    stem: str
    code: Callable[[], None]
