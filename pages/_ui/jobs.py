"""Long work in a child process: it can be stopped at any time, and harms nothing of the server's.

A job goes on while its owner looks at other pages, is found again after a reload (its random id is in the address), and
ends ten minutes after the last of its viewers closed the app. Only as many jobs run at once as there are processors.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from featviz_core.errors import FeatVizError
from pages._ui import show
from pages._ui.job import Job

Draw = Callable[[list[Any]], None]

_KEPT_SECONDS = 600
_POLL_SECONDS = 0.5
_PARAMETER = "job"

_jobs: dict[str, Job] = {}
_guard = threading.Lock()


def ask(
    key: Hashable,
    function: str,
    *args: Any,
    start: str,
    help: str | None = None,
    draw: Draw | None = None,
    **options: Any,
) -> Any:
    """What `function` ("module:function" of the core) gives for `args` and `options`, once somebody pressed `start`.

    None until then. Remembered for the session under `key`, which has to name everything that matters. The function
    gets `progress(fraction, text)` too. Arguments and result travel between processes, so they must be picklable.
    `draw` as in `answer`.
    """
    if key not in _answers() and _job_of(key) is None:
        place = st.empty()
        if not place.button(start, type="primary", icon=":material/play_arrow:", key=f"start {function}", help=help):
            return None
        place.empty()
        begin(key, function, *args, **options)
    return answer(key, draw)


def begin(key: Hashable, function: str, *args: Any, folder: bool = False, **options: Any) -> None:
    """Start the work without asking, as `ask` does; a function with a parameter `part` may tell what is done so far.

    With `folder`, the function gets the path of an empty `folder` and a `control`: see `folder_of`.
    """
    own = tempfile.TemporaryDirectory(ignore_cleanup_errors=True) if folder else None
    job = Job(key, (function, args, options | ({"folder": own.name} if own else {})), folder=own)
    with _guard:
        _jobs[job.id] = job
        if not any(thread.name == "job reaper" for thread in threading.enumerate()):
            threading.Thread(target=_reap, name="job reaper", daemon=True).start()
    st.session_state.setdefault("jobs", {})[key] = job.id
    st.query_params[_PARAMETER] = job.id
    job.start()


def answer(key: Hashable, draw: Draw | None = None) -> Any:
    """What came of the work that was begun under `key`; None as long as it runs, after a stop and after a failure.

    Meanwhile its progress stands here, and below it what `draw(parts)` makes of what is done so far.
    """
    answers = _answers()
    if key in answers:
        return answers[key]
    job = _job_of(key)
    if job is None:
        return None
    if job.error is None:
        _progress(job.id, draw)
        return None
    _forget(job)
    if not isinstance(job.error, FeatVizError):
        raise job.error
    show.error(job.error)
    st.button("Try again", icon=":material/refresh:", key=f"again {job.request[0]}", help="Clears this message.")
    return None


def in_address() -> Hashable:
    """The key of the work in the address, which a reload has to find again; None where there is none."""
    job = _jobs.get(st.query_params.get(_PARAMETER, ""))
    return job.key if job else None


def folder_of(key: Hashable) -> Path | None:
    """Where the work that runs under `key` writes; None where it does not run, or has no folder."""
    job = _job_of(key)
    return Path(job.folder.name) if job is not None and job.folder is not None else None


def running(*kind: Hashable) -> Hashable:
    """The key, a tuple that begins with `kind`, of the work that runs for this session, or is in the address, where
    it stands from then on; None where there is none."""
    ids: dict[Hashable, str] = st.session_state.setdefault("jobs", {})
    for job_id in (st.query_params.get(_PARAMETER, ""), *ids.values()):
        job = _jobs.get(job_id)
        if (
            job is not None
            and isinstance(job.key, tuple)
            and job.key[: len(kind)] == kind
            and job.key not in _answers()
        ):
            st.query_params[_PARAMETER] = job.id
            return job.key
    return None


def answers(kind: str) -> dict[Hashable, Any]:
    """All answers of the session to keys that begin with `kind`, the oldest first."""
    return {key: found for key, found in _answers().items() if isinstance(key, tuple) and key[0] == kind}


def again(key: Hashable) -> None:
    """Forget the answer to `key`, so that it can be asked anew."""
    _answers().pop(key, None)
    if (job := _job_of(key)) is not None:
        _forget(job)


def _answers() -> dict[Hashable, Any]:
    kept: dict[Hashable, Any] = st.session_state.setdefault("answers of jobs", {})
    return kept


def _job_of(key: Hashable) -> Job | None:
    """The session's running job for `key`, or the one in the address."""
    ids: dict[Hashable, str] = st.session_state.setdefault("jobs", {})
    for job_id in (ids.get(key, ""), st.query_params.get(_PARAMETER, "")):
        found = _jobs.get(job_id)
        if found is not None and found.key == key:
            ids[key] = found.id
            return found
    return None


def _forget(job: Job) -> None:
    """End a job, and let go of it."""
    job.let_go()
    _jobs.pop(job.id, None)
    st.session_state["jobs"].pop(job.key, None)
    if st.query_params.get(_PARAMETER) == job.id:
        del st.query_params[_PARAMETER]


@st.fragment(run_every=_POLL_SECONDS)
def _progress(job_id: str, draw: Draw | None) -> None:
    job = _jobs.get(job_id)
    if job is None:
        st.rerun()
        return
    job.seen = time.monotonic()
    if (context := get_script_run_ctx()) is not None:
        job.viewers.add(context.session_id)
    if job.done:
        # The job stays in the address for a while: its answer survives a reload.
        if job.error is None:
            _answers()[job.key] = job.result
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(job.fraction, 1.0), f"Paused. {job.text}" if job.paused else job.text)
        if job.folder is None or job.finishing or job.process is None:
            _button("Stop", ":material/stop:", lambda: _forget(job), job_id, "Ends this work now.")
        else:
            label, icon = ("Go on", "play_arrow") if job.paused else ("Pause", "pause")
            text = "Waits at the next step; it keeps its place, and its memory."
            _button(label, f":material/{icon}:", job.pause_or_go_on, job_id, text)
            _button("Stop", ":material/stop:", job.finish, job_id, "Ends it at the next step, and keeps what it has.")
    if draw is not None:
        draw(list(job.parts))


def _button(label: str, icon: str, pressed: Callable[[], None], job_id: str, text: str) -> None:
    st.button(label, key=f"{label.lower()} {job_id}", icon=icon, on_click=pressed, help=text)


def _reap() -> None:
    while True:
        time.sleep(_POLL_SECONDS)
        with _guard:
            for job in _jobs.values():
                job.seen = time.monotonic() if job.viewed() else job.seen
            gone = [job for job in _jobs.values() if time.monotonic() - job.seen > _KEPT_SECONDS]
            for job in gone:
                job.let_go()
                del _jobs[job.id]
