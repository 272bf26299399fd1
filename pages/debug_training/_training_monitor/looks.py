"""What a run holds besides its three curves: distributions, layers over the steps, pictures; and two runs compared."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from featviz_core import layer_charts, run_charts
from featviz_core.runs import Run
from featviz_core.runs.tags import GRADIENT, UPDATE
from featviz_core.techniques.training_monitor import compare
from pages._ui import show

_LAYERS = {"gradient ‖g‖": GRADIENT, "update ‖Δw‖/‖w‖": UPDATE}
_UPDATES = (1e-5, 1.0)  # what the colours of update ratios stand for
_MOST_COLUMNS = 120  # steps of a heat map
_MOST_ROWS = 34  # of a heat map without scrolling
_MOST_SHOWN = 160  # histograms beside each other


def one_of(runs: Sequence[Run], key: str) -> Run:
    """The run to look into, where several are shown."""
    if len(runs) == 1:
        return runs[0]
    name = st.selectbox("Run", [run.name for run in runs], key=key, width=320, help="The run that is looked into.")
    return next(run for run in runs if run.name == name)


def distributions(runs: Sequence[Run]) -> None:
    """How the values of a weight, a gradient or an activation were distributed, over the steps."""
    run = one_of(runs, "distributions of")
    tags = list(dict.fromkeys(one.tag for one in run.logged_histograms))
    tag = st.selectbox(
        "Distribution of", tags, key="distribution", width=480, help="What the training wrote histograms of."
    )
    found = sorted((one for one in run.logged_histograms if one.tag == tag), key=lambda one: one.step)
    found = found[:: max(1, -(-len(found) // _MOST_SHOWN))]
    rows = []
    following = [one.step for one in found[1:]] + [2 * found[-1].step - found[-2].step if len(found) > 1 else 1]
    for one, until in zip(found, following, strict=True):
        share = one.counts / (one.counts.sum() or 1)
        width = np.maximum(one.high - one.low, 1e-30)
        bins = {"low": one.low, "high": one.high, "share": share, "density": share / width}
        kept = np.isfinite(one.low) & np.isfinite(one.high) & (share > 0)
        rows.append(pd.DataFrame(bins)[kept].assign(step=one.step, next=max(until, one.step + 1)))
    frame = pd.concat(rows, ignore_index=True)
    st.altair_chart(run_charts.ridges(frame), width="stretch", alt=f"Distribution of {tag} over the steps")
    st.caption("Brighter: more of the values lie there. Healthy ones widen or drift slowly; a line at zero is dead.")


def layers(runs: Sequence[Run]) -> None:
    """Gradient and update of each parameter over the steps, as colours."""
    run = one_of(runs, "layers of")
    there = [name for name, start in _LAYERS.items() if any(tag.startswith(start) for tag in run.scalars)]
    shown = st.segmented_control(
        "Of each parameter",
        there,
        default=there[0],
        required=True,
        key="layers_shown",
        help="How large its gradient was, or by what share of itself a step changed it. Healthy updates: 1e-4 to 1e-1.",
    )
    start = _LAYERS[shown]
    parts = []
    for tag, series in run.scalars.items():
        if tag.startswith(start):
            kept = np.unique(np.linspace(0, len(series) - 1, _MOST_COLUMNS).astype(int))
            parts.append(
                pd.DataFrame(
                    {"name": tag.removeprefix(start), "step": series.steps[kept], "value": series.values[kept]}
                )
            )
    frame = pd.concat(parts, ignore_index=True)
    known = frame["value"][(frame["value"] > 0) & np.isfinite(frame["value"])]
    if known.empty:
        st.info("There is nothing to draw: no value above zero.", icon=":material/info:")
        return
    steps = np.unique(frame["step"])
    apart = int(np.median(np.diff(steps))) if len(steps) > 1 else 1
    domain = _UPDATES if start == UPDATE else (float(known.min()), float(known.max()))
    chart = layer_charts.over_steps(frame, "value", title=shown, domain=domain, apart=apart)
    with st.container(height=640 if frame["name"].nunique() > _MOST_ROWS else "content", border=False):
        st.altair_chart(chart, width="stretch", alt=f"{shown} of each parameter over the steps")
    st.caption(
        f"Each column is one look into the model, {len(steps)} from step {steps[0]:,} to {steps[-1]:,}. "
        "Empty: exactly zero, or not finite."
    )


def pictures(runs: Sequence[Run]) -> None:
    """The run's pictures, as they were at a step."""
    run = one_of(runs, "pictures of")
    steps = sorted({image.step for image in run.images})
    step = steps[0]
    if len(steps) > 1:
        step = st.select_slider(
            "Step", steps, steps[-1], key="picture_step", help="When in the training the pictures were written."
        )
    shown = [image for image in run.images if image.step == step]
    for place, image in zip(st.columns(4) * (1 + len(shown) // 4), shown, strict=False):
        with place:
            try:
                st.image(Image.open(io.BytesIO(image.data)).convert("RGB"), width="stretch", alt=image.tag)
            except (OSError, SyntaxError, Image.DecompressionBombError):
                st.caption("This picture cannot be read.")
            st.caption(image.tag)


def comparison(runs: Sequence[Run]) -> None:
    """Two runs: where they part, and what each reached."""
    names = [run.name for run in runs]
    with st.container(horizontal=True):
        first = st.selectbox("First run", names, 0, key="first_run", width=320, help="What is compared with.")
        second = st.selectbox("Second run", names, 1, key="second_run", width=320, help="What is compared.")
    if first == second:
        st.info("Choose two different runs.", icon=":material/info:")
        return
    pair = [next(run for run in runs if run.name == name) for name in (first, second)]
    show.findings(compare.partings(*pair))
    numbers = st.column_config.NumberColumn(format="%.4g")
    frame = compare.differences(*pair)
    config = {"first": numbers, "second": numbers, "difference": numbers}
    st.dataframe(frame, hide_index=True, column_config=config)
    st.caption(f"First: {first}. Second: {second}. What differs most comes first.")
