"""What stands behind the tabs of a run: its names, distributions, layers and pictures, and what to take away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from featviz_core.runs import Run
from featviz_core.runs.tags import GRADIENT, UPDATE
from pages._ui import show
from pages.debug_training._training_monitor import looks
from pages.debug_training._training_monitor.view import Opened

_NONE = "none of these"
_ROLES = [
    *("loss/train", "loss/validation", "loss/train_eval", "accuracy/train", "accuracy/validation"),
    *("accuracy/train_eval", "loss/test", "accuracy/test", "lr", "epoch", _NONE),
]


def parts(opened: Sequence[Opened]) -> dict[str, show.Part]:
    """The tabs."""
    runs = [one.run for one in opened]
    layered = [run for run in runs if any(tag.startswith((GRADIENT, UPDATE)) for tag in run.scalars)]
    there = {
        "Compare": (looks.comparison, runs if len(runs) > 1 else []),
        "Distributions": (looks.distributions, [run for run in runs if run.logged_histograms]),
        "Layers": (looks.layers, layered),
        "Pictures": (looks.pictures, [run for run in runs if run.images]),
        "Names": (names, runs),
        "Take away": (take_away, runs),
    }
    return {name: partial(draw, having) for name, (draw, having) in there.items() if having}


def by_hand(run: Run) -> dict[str, Any]:
    """What the visitor said that this run's tags stand for."""
    said: dict[str, dict[str, Any]] = st.session_state.setdefault("roles by hand", {})
    return {tag: role for tag, role in said.get(run.name, {}).items() if tag in run.scalars}


def names(runs: Sequence[Run]) -> None:
    """What each tag is taken for; it can be said otherwise."""
    st.markdown(
        "What each name in the log is taken for. Change it where the guess is wrong: charts and verdict follow."
    )
    for run in runs:
        taken = {tag: "/".join(filter(None, (role.metric, role.split))) for tag, role in run.roles.items()}
        frame = pd.DataFrame(
            {
                "name": list(run.scalars),
                "values": [len(one) for one in run.scalars.values()],
                "taken for": [taken.get(tag, _NONE) for tag in run.scalars],
            }
        )
        columns = st.column_config
        changed = st.data_editor(
            frame,
            hide_index=True,
            disabled=["name", "values"],
            # Another one once something was said: its table has changed.
            key=f"names of {run.name} {sorted(by_hand(run).items())}",
            column_config={
                "values": columns.NumberColumn(format="localized"),
                "taken for": columns.SelectboxColumn(
                    options=_ROLES, required=True, help="Loss, accuracy, rate or none."
                ),
            },
        )
        said = changed[changed["taken for"] != frame["taken for"]]
        if len(said):
            kept = st.session_state["roles by hand"].setdefault(run.name, {})
            for tag, role in zip(said["name"], said["taken for"], strict=True):
                kept[tag] = None if role == _NONE else role
            st.rerun()


def take_away(runs: Sequence[Run]) -> None:
    """Every value as a table, and the same in Python."""
    with st.container(horizontal=True):
        for run in runs:
            st.download_button(
                f"{run.name} as CSV",
                lambda run=run: run.frame().to_csv(index=False).encode(),
                f"{run.name.replace('/', '_')}.csv",
                "text/csv",
                on_click="ignore",
                help="Every value: step, wall time, tag, value.",
            )
    st.code(
        "import featviz_core as fv\n"
        "from featviz_core.diagnosis import diagnose\n\n"
        'run = fv.read_run("runs/first")\n'
        'print(*run.findings, *diagnose(run.frame(), run.roles), sep="\\n")\n'
        "print(run.frame())\n",
        language="python",
    )
