"""A few real training steps of an experiment: gradients and updates over time, and the ledger of its parameters."""

from __future__ import annotations

import json
from functools import partial

import pandas as pd
import streamlit as st

from featviz_core import charts, layer_charts
from featviz_core.techniques import gradient_flow as technique
from featviz_core.techniques.gradient_flow import GradientHistory, HistoryStep
from pages._ui import jobs, pickers, show
from pages._ui.project import Project
from pages.debug_training._gradient_flow import flow

_HISTORY = "featviz_core.techniques.gradient_flow.history:gradient_history"
_STEPS = (8, 20, 50)
_SHOWN = {"gradient ‖g‖": "gradient_norm", "update ‖Δw‖/‖w‖": "update_ratio"}
_UPDATES = (1e-5, 1.0)  # what the colours of update ratios stand for


def draw() -> dict[str, show.Part] | None:
    """The verdict and the heat maps; gives what stands behind the tabs, None until the steps are done."""
    chosen_, steps_ = st.columns([3, 2], gap="large")
    with chosen_:
        project = pickers.experiment()
    with steps_:
        steps = st.segmented_control(
            "Training steps",
            _STEPS,
            default=20,
            required=True,
            key="steps",
            bind="query-params",
            help="How many batches the experiment's own loop trains on, on a copy. The first steps are larger than "
            "the later ones, so 20 tell more than 8.",
        )
    found: GradientHistory | None = jobs.ask(
        ("gradient history", project.name, project.version, steps, pickers.chosen().device),
        _HISTORY,
        project.spec,
        steps=steps,
        device=pickers.chosen().device,
        start="Train and watch",
        help="Makes the experiment anew in a process of its own, and trains it for a few steps. Nothing is kept.",
        draw=so_far,
    )
    if found is None:
        return None
    show.verdict(found.findings)
    named = [layer for finding in found.findings for layer in finding.evidence.get("layers", ())]
    flow.findings(found.findings, found.first, named, model=project.name)
    over_time(found)
    return {
        "Ledger": partial(ledger, found),
        "First batch": partial(first_batch, found),
        "Gradient to weight": partial(flow.ratios, found.first),
        "By layer": partial(flow.by_layer, found.first),
        "Take away": partial(take_away, project, found),
    }


def so_far(steps: list[HistoryStep]) -> None:
    """The heat maps while the experiment trains: a column comes with each step."""
    frame = technique.steps_frame(steps)
    if not frame.empty:
        for place, title in zip(st.columns(2, gap="large"), _SHOWN, strict=True):
            with place:
                st.markdown(f"**{title}** so far")
                heat_map(frame, title)


def over_time(found: GradientHistory) -> None:
    """One row a parameter, one column a step; the loss beside it."""
    left, right = st.columns([5, 2], gap="large")
    with left:
        shown = st.segmented_control(
            "Over the steps",
            list(_SHOWN),
            default="gradient ‖g‖",
            required=True,
            key="shown",
            bind="query-params",
            help="How large each parameter's gradient was, or by what share of itself each step changed it.",
        )
        heat_map(found.frame(), shown)
    with right:
        st.markdown("**Loss**")
        losses = pd.DataFrame({"step": range(found.steps), "loss": found.losses, "curve": "loss"})
        if losses["loss"].notna().any():
            st.altair_chart(charts.course(losses, "step", "loss", color="curve"), alt="The loss of each step")
        else:
            st.caption("The loop gives no number for it.")
        st.caption(f"{found.steps} batches, {found.optimizer_steps} steps of the optimiser.")


def heat_map(frame: pd.DataFrame, shown: str) -> None:
    """Layers × steps of one of `_SHOWN`."""
    value = _SHOWN[shown]
    known = frame[value][(frame[value] > 0) & (frame[value] < float("inf"))]
    if known.empty:
        st.info("There is nothing to draw: no value above zero.", icon=":material/info:")
        return
    domain = _UPDATES if value == "update_ratio" else (float(known.min()), float(known.max()))
    chart = layer_charts.over_steps(frame.rename(columns={"parameter": "name"}), value, title=shown, domain=domain)
    flow.scrolled(chart, frame["parameter"].nunique(), f"{shown} of each parameter over the steps")
    st.caption("Empty: exactly zero, no gradient, or not finite.")


def ledger(found: GradientHistory) -> None:
    """One row a parameter: is it held, does it want a gradient, does it get one, does it move?"""
    frame = found.ledger_frame()
    st.markdown(
        f"**{int(frame['in_model'].sum())}** parameters in the model, "
        f"**{int(((frame['in_optimizer'] > 0) & frame['in_model']).sum())}** of them in the optimiser, "
        f"**{int(frame['requires_grad'][frame['in_model']].sum())}** want a gradient, "
        f"**{int((frame['nonzero'] > 0).sum())}** get one, **{int(frame['moved'].sum())}** moved."
    )
    only_odd = st.toggle(
        "Only rows that stand out", key="odd", bind="query-params", help="Those that do not learn as the others do."
    )
    shown = frame[[row.stands_out for row in found.ledger]] if only_odd else frame
    shown = shown.assign(shape=shown["shape"].map(lambda shape: "×".join(map(str, shape)))).drop(columns="layer")
    columns = st.column_config
    st.dataframe(
        shown,
        hide_index=True,
        column_config={
            "in_model": columns.CheckboxColumn("in model"),
            "in_optimizer": columns.NumberColumn("in optimiser", help="How often the optimiser holds it: 1 is right."),
            "requires_grad": columns.CheckboxColumn("wants gradient"),
            "gradients": columns.NumberColumn("gradients", help="How many came in."),
            "nonzero": columns.NumberColumn("not zero", help="How many of them were not all zero."),
            "leftover": columns.NumberColumn(
                "old gradient", format="%.2g", help="Still there when a new one came in, relative to that. Healthy: 0."
            ),
            "moved": columns.CheckboxColumn("moved"),
            "learning_rate": columns.NumberColumn("learning rate", format="%.2g"),
            "mode": columns.TextColumn("mode", help="In which mode its layer ran."),
        },
    )


def first_batch(found: GradientHistory) -> None:
    """The first batch's gradients, before any step."""
    first = found.first
    st.caption(f"Loss {first.loss:.4g} of {first.pictures} pictures, in training mode, before any step.")
    flow.bars(first)
    flow.table(first)


def take_away(project: Project, found: GradientHistory) -> None:
    """Everything as files, and the same in Python."""
    stem = f"gradient_history_{project.name}".replace("/", "_")
    with st.container(horizontal=True):
        st.download_button(
            "Steps as CSV",
            lambda: found.frame().to_csv(index=False).encode(),
            f"{stem}.csv",
            "text/csv",
            on_click="ignore",
            help="Gradient norm and update ratio of each parameter in each step.",
        )
        st.download_button(
            "Ledger as CSV",
            lambda: found.ledger_frame().to_csv(index=False).encode(),
            f"{stem}_ledger.csv",
            "text/csv",
            on_click="ignore",
            help="One row a parameter: held, wants a gradient, gets one, moves.",
        )
        st.download_button(
            "Everything as JSON",
            lambda: found.to_json().encode(),
            f"{stem}.json",
            "application/json",
            on_click="ignore",
            help="Losses, norms, ratios, ledger and findings.",
        )
    flow.downloads(found.first, f"{stem}_first_batch", of="First batch")
    st.code(
        "import featviz_core as fv\n\n"
        f"result = fv.gradient_history({json.dumps(project.name, ensure_ascii=False)}, steps={found.steps})"
        "  # or the function itself\n"
        'print(*result.findings, sep="\\n")\n'
        "print(result.ledger_frame())\n",
        language="python",
    )
