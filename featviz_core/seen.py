"""What the model saw: the picture after preprocessing, in numbers, and what the usual mistakes would change."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from PIL import Image

from featviz_core.images import upright_rgb
from featviz_core.models import LoadedModel, top_classes
from featviz_core.preprocessing import common_mistakes


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """A picture on its way into the model.

    `seen`: what is left after resizing, cutting and normalising, turned back into a picture; `box` (left, top, right,
    bottom): the part of the original that was kept, in its pixels; `steps`: what was done, in sentences;
    `channels`: one row for red, green and blue with `mean std min max` of the model's input; `answers`: the model's
    answer as it should be and under each usual mistake, with `preprocessing answer probability explanation`.
    """

    seen: Image.Image
    box: tuple[float, float, float, float]
    steps: tuple[str, ...]
    channels: pd.DataFrame
    answers: pd.DataFrame


def model_input(model: LoadedModel, picture: Image.Image) -> ModelInput:
    """What does the model see of `picture`, and would it answer the same if the usual mistakes were made?

    An answer that gets *better* under a mistake says that the model was trained with it.
    Raises `ImageError` for a picture that cannot be read, or is too thin to be resized.
    """
    preprocessing, picture = model.preprocessing, upright_rgb(picture)
    right = preprocessing(picture)
    flat = right[0].flatten(1)
    channels = pd.DataFrame(
        {
            "channel": ["red", "green", "blue"] if preprocessing.channels == 3 else ["grey"],
            "mean": flat.mean(1).tolist(),
            "std": flat.std(1).tolist(),
            "min": flat.amin(1).tolist(),
            "max": flat.amax(1).tolist(),
        }
    )
    inputs = [("As it should be", "What every page shows.", right)]
    mistakes = common_mistakes(preprocessing) if preprocessing.channels == 3 else ()
    inputs += [(m.title, m.explanation, m.apply(preprocessing, picture)) for m in mistakes]
    answers = [(title, *top_classes(model, images, count=1)[0], text) for title, text, images in inputs]
    return ModelInput(
        seen=preprocessing.undo(right),
        box=preprocessing.crop_box(picture.size),
        steps=tuple(preprocessing.describe()),
        channels=channels,
        answers=pd.DataFrame(answers, columns=["preprocessing", "answer", "probability", "explanation"]),
    )
