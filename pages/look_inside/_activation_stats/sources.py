"""Whose activations: those of the model in the picker, or of an experiment's own on its own data."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import streamlit as st

from featviz_core.techniques.activation_stats import ActivationStats
from pages._ui import jobs, layers, pickers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen
from pages.look_inside._activation_stats import compare, strongest
from pages.look_inside._activation_stats.view import Source

KINDS = ("convolution", "linear", "activation", "normalisation", "attention", "block")
_DEFAULT = ("convolution", "linear")
_WORK = "featviz_core.techniques.activation_stats.of_experiment:experiment_activations"


def one_picture(chosen: Chosen) -> Source:
    """The model in the picker on the picture in the picker."""
    return _of_pictures(chosen, [chosen.picture_name])


def all_pictures(chosen: Chosen) -> Source:
    """The model in the picker on all pictures there are."""
    return _of_pictures(chosen, list(chosen.pictures))


def _of_pictures(chosen: Chosen, names: list[str]) -> Source:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds, training = _kinds(), _training()
    look, given = chosen.look(), [chosen.pictures[name] for name in names]
    options = {"layers": _addresses(look, kinds), "training": training}
    stats: ActivationStats = look.ask("activation_stats", *given, **options)
    said = "" if set(kinds) == set(_DEFAULT) else f", layers={json.dumps(options['layers'])}"
    code = partial(
        show.snippet,
        chosen,
        f"result = fv.activation_stats(model, images{said}{', training=True' if training else ''})\n"
        "print(result.frame())\n"
        "print(*result.findings, sep='\\n')\n",
    )
    model = chosen.model
    link = {"picture": chosen.picture_name}
    # An uploaded checkpoint cannot be named in an address; it stays in the picker.
    link |= {"model": model.label or model.file} if model.checkpoint is None else {}
    link |= {"weights": model.weights} if model.weights else {}
    return Source(
        stats,
        link,
        _stem(model.label or model.file),
        code,
        partial(compare.models, chosen, look, given, options, stats),
        partial(strongest.of_pictures, chosen, look),
    )


def of_experiment(chosen: Chosen) -> Source | None:
    """An experiment's own model on its own data; None until it was looked at."""
    project = pickers.experiment()
    options = _options(chosen.device)

    def ask(start: str, **other: Any) -> ActivationStats | None:
        asked = options | other
        key = ("activation stats", project.name, project.version, *sorted(asked.items()))
        about = "Makes the experiment anew in a process of its own; nothing of it is changed."
        found: ActivationStats | None = jobs.ask(key, _WORK, project.spec, start=start, help=about, **asked)
        return found

    stats = ask("Look at the experiment's layers")
    if stats is None:
        return None
    trained = f"after {options['steps']} steps of its training" if options["steps"] else "before any training"
    st.caption(f"{stats.pictures:,} pictures of the experiment's {options['split']} data, {trained}.")
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value != "automatic")
    lines = (
        "import featviz_core as fv\n\n"
        f"result = fv.experiment_activations({json.dumps(project.name, ensure_ascii=False)}{given})\n"
        "print(result.frame())\n"
        "print(*result.findings, sep='\\n')\n"
    )
    return Source(
        stats,
        {"experiment": project.name, "model": project.name},
        _stem(project.name),
        partial(st.code, lines, language="python"),
        partial(compare.steps, ask, options, stats),
        partial(
            strongest.of_experiment, project, {name: options[name] for name in ("split", "batches", "steps", "device")}
        ),
    )


def _options(device: str) -> dict[str, Any]:
    """What `experiment_activations` is asked for."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds, training = _kinds(), _training()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = st.segmented_control(
            "Data",
            ["validation", "train"],
            default="validation",
            required=True,
            key="split",
            bind="query-params",
            help="Which of the experiment's loaders gives the pictures.",
        )
        batches = st.number_input(
            "Batches",
            1,
            1000,
            8,
            key="batches",
            bind="query-params",
            width=130,
            help="Memory does not grow with their number.",
        )
        steps = st.number_input(
            "Train first, steps",
            0,
            2000,
            0,
            key="steps",
            bind="query-params",
            width=150,
            help="Steps of the experiment's own training before its layers are looked at.",
        )
    return {
        "device": device,
        "split": split,
        "batches": int(batches),
        "steps": int(steps),
        "kinds": kinds,
        "training": training,
    }


def _kinds() -> tuple[str, ...]:
    picked = st.pills(
        "Layers",
        KINDS,
        selection_mode="multi",
        default=_DEFAULT,
        key="kinds",
        bind="query-params",
        help="Convolutions and linear layers say most. Blocks are the modules around others.",
    )
    return tuple(kind for kind in KINDS if kind in picked) or _DEFAULT


def _training() -> bool:
    return st.toggle(
        "Training mode",
        key="training",
        bind="query-params",
        help="BatchNorm takes the pictures' own statistics and dropout drops. The model is left as it was.",
    )


def _addresses(look: Look, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The layers of these kinds, as far as they are called; all that can be looked at where there is none."""
    found = [layer for layer in look.model.layers() if layer.kind in kinds and layer.shape is not None and layer.name]
    if not found:
        st.info("This model has no such layer; here are all that can be looked at.", icon=":material/layers_clear:")
        return tuple(layers.addresses(look.model))
    return tuple(layer.address for layer in found)


def _stem(name: str) -> str:
    return f"activation_stats_{name}".replace("/", "_")
