"""How does a training go? The curves of an uploaded run, and what they say."""

from __future__ import annotations

import streamlit as st

import featviz_core as fv
from pages._ui import show


def page() -> None:
    about = show.header("training_monitor")
    uploads = st.file_uploader(
        "A run's log",
        accept_multiple_files=True,
        help="TensorBoard event files, CSV, JSON lines, or a zip of a run's folder. Nothing is written to disk.",
    )
    if uploads:
        try:
            run = fv.read_run({upload.name: upload.getvalue() for upload in uploads})
        except fv.FeatVizError as error:
            show.error(error)
        else:
            show.findings(run.findings)
            st.dataframe(run.frame(), hide_index=True)
    show.how_to_read(about)


page()
