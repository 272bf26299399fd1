"""The learning-rate range test of an experiment."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from featviz_core import run_charts
from pages._ui import jobs, pickers, show

_TEST = "featviz_core.techniques.training_monitor.rate_test:rate_test"
_STEPS = (80, 160, 320)


def draw() -> None:
    """The test, its chart and what it says of the experiment's own rate."""
    experiment_, steps_ = st.columns([3, 2], gap="medium")
    with experiment_:
        project = pickers.experiment()
    with steps_:
        steps = st.segmented_control(
            "Training steps",
            _STEPS,
            default=160,
            required=True,
            key="rate_steps",
            bind="query-params",
            help="How many rates are tried between 1e-7 and 10, one with each step. More steps give a smoother curve.",
        )
    device = pickers.chosen().device
    found: Any = jobs.ask(
        ("rate test", project.name, project.version, steps, device),
        _TEST,
        project.spec,
        start="Try learning rates",
        help="Trains a fresh copy in a process of its own while the rate rises; nothing is kept.",
        steps=steps,
        device=device,
    )
    if found is None:
        return
    show.findings(found.findings)
    places = {"yours": found.own, "suggested": found.suggested, "too high from here": found.too_high}
    marks = [(rate, f"{label}: {rate:.1e}") for label, rate in places.items() if rate is not None]
    if not found.frame().empty:
        chart = run_charts.rate_test(found.frame(), pd.DataFrame(marks, columns=["rate", "label"]))
        st.altair_chart(chart, width="stretch", alt="The loss over the learning rate")
    st.caption(
        "The faint line is the loss of each batch, the other one its running mean. A good rate lies where the loss "
        "falls fastest, well before it rises. To train with it, put it into the field *Learning rate* of *train here*."
    )
    st.download_button(
        "Losses as CSV",
        found.frame().to_csv(index=False).encode(),
        f"rate_test_{project.name}.csv".replace("/", "_"),
        "text/csv",
        on_click="ignore",
        help="A row for each rate: the loss after the step with it.",
    )
