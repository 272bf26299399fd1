"""What there is to see of a verdict, drawn."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from featviz_core.checklist import charts
from featviz_core.checklist.exhibits import Exhibit, Pictures, Table, Trial

_MARKED = "rgba(224, 82, 77, 0.18)"
_TALLEST = 400


def draw(exhibit: Exhibit) -> None:
    """One exhibit with its title."""
    st.markdown(f"**{exhibit.title}**")
    if isinstance(exhibit, Pictures):
        st.image(list(exhibit.files), caption=list(exhibit.captions), width=96)
    elif isinstance(exhibit, Table):
        frame = pd.DataFrame(exhibit.rows, columns=list(exhibit.columns))
        marked = set(exhibit.marked)
        st.dataframe(
            frame.style.apply(
                lambda row: [f"background-color: {_MARKED}" if row.name in marked else ""] * len(row), axis=1
            ),
            hide_index=True,
            height=min(38 + 35 * len(frame), _TALLEST),
        )
    else:
        st.altair_chart(charts.exhibit(exhibit), alt=exhibit.title)


def trials(tried: tuple[Trial, ...]) -> None:
    """What was tried on copies: before and after."""
    if not tried:
        return
    st.markdown("**Tried on copies**")
    rows = {
        "what": [f"{trial.name}: {trial.changed}" for trial in tried],
        tried[0].figure: [f"{trial.before:.3g} → {trial.after:.3g}" for trial in tried],
        "helped": ["yes" if trial.helped else "no" for trial in tried],
    }
    st.table(rows, hide_index=True)
