"""The model picker: the bundled models, torchvision's architectures, and where their weights come from."""

from __future__ import annotations

import streamlit as st

from featviz_core.demo.models import DEMO_MODELS
from featviz_core.zoo import ZOO
from pages._ui.cached import ModelChoice

_DEMO = {f"demo/{name}": card for name, card in DEMO_MODELS.items()}
_FRESH = "freshly initialised"


def draw() -> ModelChoice:
    """Draw the picker and give what was chosen."""
    name = st.selectbox(
        "Model",
        [*_DEMO, *ZOO],
        key="model",
        bind="query-params",
        help="The demo models are trained and need no network. The others are torchvision's architectures; "
        "type to search among them.",
    )
    if name in _DEMO:
        st.caption(_DEMO[name].description)
        return ModelChoice(name)
    return ModelChoice(name)
