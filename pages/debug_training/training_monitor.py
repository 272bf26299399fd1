"""How does a training go? Its curves, what they say, and trainings that can be started from here."""

from __future__ import annotations

from functools import partial

import streamlit as st

import featviz_core as fv
from pages._ui import jobs, launch, show
from pages.debug_training._training_monitor import details, rate, sources, train, view

_RATES = "learning-rate test"


def page() -> None:
    about = show.header("training_monitor")
    names = [name for name in sources.SOURCES if name != "your runs folder" or launch.options().runs is not None]
    names.append(_RATES)
    # A reload, or a way back, has to lead to what trains.
    trains = jobs.running(train.KIND) is not None or bool(jobs.answers(train.KIND))
    source = st.segmented_control(
        "Look at",
        names,
        default=sources.TRAIN_HERE if trains else names[0],
        required=True,
        key="look_at",
        bind="query-params",
        help="Made-up runs to begin with, a training that you start here, logs from your computer, the folder of runs "
        "that the app was started with (`-- --runs FOLDER`), or which learning rate suits an experiment.",
    )
    parts: dict[str, show.Part] = {}
    try:
        if source == _RATES:
            rate.draw()
        else:
            parts = looked_at(sources.SOURCES[source]())
    except fv.FeatVizError as error:
        show.error(error)
    show.tabs({"How to read this": partial(show.how_to_read, about)} | parts)


def looked_at(found: list[fv.Run]) -> dict[str, show.Part]:
    """The verdict and the charts of the chosen runs; gives what stands behind the tabs."""
    shown = sources.chosen(found)
    if not shown:
        return {}
    opened = [sources.opened(run, details.by_hand(run)) for run in shown]
    view.charts(opened)
    view.verdicts(opened)
    train.downloads([run.name for run in shown])
    return details.parts(opened)


page()
