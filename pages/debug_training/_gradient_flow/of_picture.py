"""The gradient of one picture's loss, for the model in the picker."""

from __future__ import annotations

from functools import partial

import streamlit as st

from featviz_core.techniques.gradient_flow import GradientFlow
from pages._ui import layers, pickers, show
from pages._ui.cached import Look
from pages._ui.pickers import Chosen
from pages.debug_training._gradient_flow import flow

_PREDICTED = "the predicted class"
_MODES = {"evaluation": False, "training": True}


def draw() -> dict[str, show.Part]:
    """The verdict and the bars; gives what stands behind the tabs."""
    chosen = pickers.chosen()
    look = chosen.look()
    show.subject(chosen, look)
    target, training = controls(look)
    found: GradientFlow = look.ask(
        "gradient_flow", chosen.picture, targets=None if target is None else (target,), training=training
    )
    show.verdict(found.findings)
    flow.findings(found.findings, found, layers.addresses(look.model))
    st.caption(f"Cross-entropy: {found.loss:.4g}. Gradient at the logits, ‖∂loss/∂logits‖: {found.output_norm:.3g}.")
    flow.bars(found)
    stem = f"gradient_flow_{chosen.model.label}".replace("/", "_")
    settings = show.manifest(chosen, look, target=target, training=training)
    return {
        "Gradient to weight": partial(flow.ratios, found),
        "By layer": partial(flow.by_layer, found),
        "Table": partial(flow.table, found),
        "Take away": partial(take_away, chosen, found, stem, settings, target, training),
    }


def controls(look: Look) -> tuple[int | None, bool]:
    """The class that the loss asks for, None for the predicted one, and whether the model is in training mode."""
    names = list(look.model.class_names)
    options = [name if names.count(name) == 1 else f"{index} {name}" for index, name in enumerate(names)]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        wanted = st.selectbox(
            "Loss for",
            [_PREDICTED, *options],
            key="towards",
            bind="query-params",
            width=320,
            help="The label that cross-entropy is computed for. A model that is sure of a class gets tiny gradients "
            "for it, and large ones for any other.",
        )
        mode = st.segmented_control(
            "Mode",
            list(_MODES),
            default="evaluation",
            required=True,
            key="mode",
            bind="query-params",
            help="In training mode, dropout drops and BatchNorm uses this one picture's own statistics. The model is "
            "left as it was.",
        )
    return None if wanted == _PREDICTED else options.index(wanted), _MODES[mode]


def take_away(
    chosen: Chosen, found: GradientFlow, stem: str, settings: bytes, target: int | None, training: bool
) -> None:
    """Numbers and settings as files, and the same in Python."""
    flow.downloads(found, stem)
    st.download_button(
        "Settings as JSON",
        settings,
        f"{stem}_settings.json",
        "application/json",
        on_click="ignore",
        help="Versions, model, picture, preprocessing, class and mode.",
    )
    options = (f", [{target}]" if target is not None else "") + (", training=True" if training else "")
    show.snippet(
        chosen,
        f"result = fv.gradient_flow(model, images{options})\n"
        'print(*result.findings, sep="\\n")\n'
        "print(result.frame())\n",
    )
