"""What the output can be checked for: the pictures in the picker, labelled ones, or an experiment's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import streamlit as st
from PIL import Image

from featviz_core.demo.shapes import CLASS_NAMES, draw
from featviz_core.images import Picture, picture_from_image
from pages._ui import jobs, pickers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen
from pages.debug_training._output_check.view import View

if TYPE_CHECKING:
    from featviz_core.techniques.output_check import ExperimentOutput, ModelOutput

_SHAPES = 64  # numbers of the test split; those with two objects are left out
_THUMBNAIL = 96
_CHECK = "featviz_core.techniques.output_check.of_experiment:check_experiment_output"


def pictures(chosen: Chosen) -> View:
    """All pictures in the picker, for the model in the picker."""
    look = chosen.look()
    names, given = list(chosen.pictures), list(chosen.pictures.values())
    found: ModelOutput = look.ask("check_model_output", *given)

    def choose(index: int) -> None:
        st.session_state["picture"] = names[index]

    code = partial(
        show.snippet,
        chosen,
        "result = fv.check_model_output(model, images)  # any number of pictures (N, 3, H, W)\n"
        "print(*result.findings, sep='\\n')\n"
        "print(result.frame())\n",
    )
    small = [_small(look, picture) for picture in given]
    return View(found, small, names, names.index(chosen.picture_name), choose, _stem(chosen.model.label), code)


def shapes(chosen: Chosen) -> View | None:
    """Pictures of the bundled data set, whose labels are known; None for a model with other classes."""
    look = chosen.look()
    if look.model.class_names != CLASS_NAMES:
        st.info(
            f"{look.choice.label} has other classes than the data set Shapes, so its labels say nothing about it. "
            "Choose a demo model, or check the output for pictures without labels.",
            icon=":material/label_off:",
        )
        return None
    with st.spinner("Drawing pictures …"):
        drawn, labels = _labelled()
    found: ModelOutput = look.ask("check_model_output", *drawn, targets=labels)
    chosen_index, choose = _own_choice(len(drawn))
    small = [_small(look, picture) for picture in drawn]
    names = [picture.name for picture in drawn]
    stem = _stem(f"{chosen.model.label}_on_shapes")
    return View(found, small, names, chosen_index, choose, stem, partial(_shapes_code, chosen))


def experiment(chosen: Chosen) -> View | None:
    """An experiment's own model, on its own pictures and labels, with its own loss; None until it was checked."""
    project = pickers.experiment()
    result: ExperimentOutput | None = jobs.ask(
        ("output check", project.name, project.version, chosen.device),
        _CHECK,
        project.spec,
        device=chosen.device,
        start="Check the experiment's output",
        help="Makes the experiment anew in a process of its own and shows its model four batches of its data.",
    )
    if result is None:
        return None
    st.caption(f"The experiment's {result.source} data, {len(result.thumbnails)} pictures. {' '.join(result.notes)}")
    small = [Image.fromarray(thumbnail) for thumbnail in result.thumbnails]
    names = [f"{result.source} picture {index}" for index in range(len(small))]
    chosen_index, choose = _own_choice(len(small))
    code = partial(_experiment_code, project.name)
    return View(result.output, small, names, chosen_index, choose, _stem(project.name), code)


def _own_choice(count: int) -> tuple[int, Callable[[int], None]]:
    """The picture that was clicked last, for pictures that are not in the picker."""

    def choose(index: int) -> None:
        st.session_state["checked picture"] = index

    return min(st.session_state.get("checked picture", 0), count - 1), choose


@cache
def _labelled() -> tuple[list[Picture], tuple[int, ...]]:
    drawn = [(index, draw("test", index)) for index in range(_SHAPES)]
    single = [(index, one) for index, one in drawn if not one.two_objects]
    given = [picture_from_image(Image.fromarray(one.image), f"Shapes, test {index}") for index, one in single]
    return given, tuple(one.label for _, one in single)


def _small(look: Look, picture: Picture) -> Image.Image:
    seen = look.model.preprocessing.cut(picture.image)
    seen.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return seen


def _stem(name: str) -> str:
    return f"output_check_{name}".replace("/", "_")


def _shapes_code(chosen: Chosen) -> None:
    options = f", checkpoint={json.dumps(chosen.model.file, ensure_ascii=False)}" if chosen.model.file else ""
    st.code(
        "import torch\n\n"
        "import featviz_core as fv\n"
        "from featviz_core.demo.dataset import ShapesDataset\n\n"
        f'model = fv.load_model("{chosen.look().model.name}"{options})\n'
        f'images, labels = zip(*ShapesDataset("test", {_SHAPES}))\n'
        "images = model.preprocessing.normalize(torch.stack(images)).to(model.device)\n"
        "result = fv.check_model_output(model, images, targets=labels)\n"
        "print(*result.findings, sep='\\n')\n"
        "print(result.confusion())\n",
        language="python",
    )


def _experiment_code(name: str) -> None:
    st.code(
        "import featviz_core as fv\n\n"
        f"result = fv.check_experiment_output({json.dumps(name, ensure_ascii=False)})  # or the function itself\n"
        "print(*result.output.findings, sep='\\n')\n",
        language="python",
    )
