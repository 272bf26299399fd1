"""Training from the page: it goes on while its owner looks at other pages, and leaves a run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from featviz_core.diagnosis import diagnose
from featviz_core.errors import FeatVizError
from featviz_core.runs import Run, follow_run, read_run
from pages._ui import jobs, pickers, show
from pages.debug_training._training_monitor import view

_TRAIN = "featviz_core.techniques.training_monitor.training:train"
KIND = "training"
_AT_ONCE = ("curve.not_finite", "curve.diverged", "curve.rate_zero")  # what more steps cannot mend


def runs() -> list[Run]:
    """The trainings of this session that have ended; above them the one that runs, or how to start one."""
    key = jobs.running(KIND)
    if key is None:
        _start()
    else:
        st.markdown(f"**{key[2]}** trains. You can look at other pages meanwhile.")  # type: ignore[index]
        jobs.answer(key, draw=partial(_so_far, key))
    ended = jobs.answers(KIND)
    for training in ended.values():
        if training.problem is not None:
            show.error(training.problem)
    return [_run(training) for training in reversed(ended.values())]


def _start() -> None:
    experiment_, epochs_, rate_ = st.columns([3, 1, 1], gap="medium")
    with experiment_:
        project = pickers.experiment()
    with epochs_:
        epochs = st.number_input(
            "Epochs",
            1,
            10_000,
            None,
            key="epochs",
            bind="query-params",
            placeholder="its own",
            help="How often to go through the training pictures; left empty, as often as the experiment says.",
        )
    with rate_:
        rate = st.number_input(
            "Learning rate",
            1e-10,
            1e3,
            None,
            key="rate",
            bind="query-params",
            format="%.2e",
            placeholder="its own",
            help="Of the optimiser's first group, the others keep their ratio to it; left empty, the experiment's own.",
        )
    if st.button(
        "Start training",
        type="primary",
        icon=":material/play_arrow:",
        help="Makes the experiment anew in a process of its own and trains it by its own loop. The run can be "
        "downloaded at the end, and on the way by stopping.",
    ):
        number = len(jobs.answers(KIND)) + 1
        name = f"{project.name.removeprefix('demo/').partition('.')[0]}-{number}"
        key = (KIND, secrets.token_hex(4), name)
        options: dict[str, Any] = {"name": name, "epochs": epochs, "rate": rate, "device": pickers.chosen().device}
        jobs.begin(key, _TRAIN, project.spec, folder=True, **options)
        st.rerun()


def _so_far(key: Any, _parts: list[Any]) -> None:
    """The charts while it trains; what goes badly wrong is said at once."""
    followers: dict[Any, Any] = st.session_state.setdefault("followed trainings", {})
    folder = jobs.folder_of(key)
    try:
        if key not in followers:
            followers.clear()
            followers[key] = follow_run(folder) if folder is not None else None
        run: Run = followers[key].update()
    except FeatVizError:  # nothing is written yet
        followers.pop(key, None)
        st.caption("The charts come with the first values.")
        return
    view.live(run)
    show.findings([finding for finding in diagnose(run.frame(), run.roles) if finding.code in _AT_ONCE])


def _run(training: Any) -> Run:
    """The run of a training that has ended, read once."""
    kept: dict[str, Run] = st.session_state.setdefault("trained runs", {})
    if training.name not in kept:
        kept[training.name] = read_run({f"{training.name}.zip": training.data})
    return kept[training.name]


def downloads(names: Sequence[str]) -> None:
    """The runs of these trainings as they were written, for TensorBoard or this page, and how they ended."""
    for training in jobs.answers(KIND).values():
        if training.name not in names:
            continue
        said = {"done": "trained to the end", "stopped": "was stopped", "failed": "ended with an error"}
        with st.container(horizontal=True, vertical_alignment="center"):
            st.download_button(
                f"{training.name} as a zip",
                training.data,
                f"{training.name}.zip",
                "application/zip",
                icon=":material/download:",
                on_click="ignore",
                help="The run's folder, which `tensorboard --logdir` and this page open.",
            )
            text = f"{said[training.outcome]} after {training.steps:,} steps, {training.epochs} epochs"
            st.caption(f"It {text} and {training.seconds:.0f} s.")
