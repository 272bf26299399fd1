"""Work in a child process: its answer, its errors, and that nothing is left of it when it is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from featviz_core.errors import FeatVizError, ImageError
from featviz_core.worker import receive, send
from pages._ui import job as job_module
from pages._ui import jobs
from pages._ui.job import Job, WorkerCrash

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60


def until(true: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def started(function: str, *args: Any, **options: Any) -> Job:
    job = Job("key", (f"tests.work:{function}", args, options))
    job.start()
    return job


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_answer_comes_back_and_printing_does_not_disturb_it():
    job = started("double", 4, add=1)
    until(lambda: job.done, "the end")
    assert job.result == 9
    assert job.error is None
    assert (job.fraction, job.text) == (0.5, "half way")


def test_what_is_done_so_far_comes_in_parts():
    job = started("count", 3)
    until(lambda: job.done, "the end")
    assert (job.parts, job.result) == ([0, 1, 2], "counted")


def test_errors_for_people_come_back_as_they_are():
    job = started("refuse")
    until(lambda: job.done, "the end")
    assert isinstance(job.error, ImageError)
    assert (job.error.what, job.error.do) == ("No.", "Try another.")


def test_a_bug_stays_a_bug():
    job = started("stumble")
    until(lambda: job.done, "the end")
    assert isinstance(job.error, WorkerCrash)
    assert "ZeroDivisionError: a bug" in str(job.error)


def test_a_process_that_dies_says_so():
    job = started("vanish")
    until(lambda: job.done, "the end")
    assert isinstance(job.error, FeatVizError)
    assert "exit code 7" in job.error.why
    assert "last words" in job.error.why


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_stopping_ends_the_process_and_those_it_started(tmp_path):
    note = tmp_path / "pids"
    job = started("wait", str(note))
    until(lambda: job.text == "waiting", "the start")
    pids = [int(pid) for pid in note.read_text(encoding="utf-8").split()]
    assert all(map(alive, pids))
    job.stop()
    until(lambda: not any(map(alive, pids)), "the end of both")
    assert job.error is None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_work_ends_with_the_server_that_wanted_it(tmp_path):
    note = tmp_path / "pids"
    child = subprocess.Popen(
        [sys.executable, "-m", "featviz_core.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    send(child.stdin, ("tests.work:wait", (str(note),), {}))
    assert receive(child.stdout) == ("progress", 0.1, "waiting")
    pids = [int(pid) for pid in note.read_text(encoding="utf-8").split()]
    child.stdin.close()
    until(lambda: not any(map(alive, pids)), "the end of both")
    child.wait()
    child.stdout.close()


def test_no_more_run_at_once_than_there_are_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(job_module, "_SLOTS", threading.BoundedSemaphore(1))
    first = started("wait", str(tmp_path / "pids"))
    until(lambda: first.text == "waiting", "the start")
    second, third = started("double", 1), started("double", 2)
    time.sleep(0.3)
    assert second.text.startswith("Waiting for")
    third.stop()  # before its turn
    first.stop()
    until(lambda: second.done, "its turn")
    assert second.result == 2
    assert third.result is None


def test_jobs_that_nobody_looks_at_end(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "_KEPT_SECONDS", 1)
    app = AppTest.from_string(_PAGE.format(function="wait", args=[str(tmp_path / "pids")]), default_timeout=PATIENCE)
    app.run()
    app.button[0].click().run()
    job = until(lambda: next(iter(jobs._jobs.values()), None), "the start")
    until(lambda: job.done and not jobs._jobs, "the end")
    assert job.result is None
    assert job.process.wait(timeout=PATIENCE) != 0  # it was ended, it did not finish


# On a page

_PAGE = """
import streamlit as st
from pages._ui import jobs
result = jobs.ask("key", "tests.work:{function}", *{args}, start="Go", help="Starts it.")
st.write("nothing yet" if result is None else f"result {{result}}")
if result is not None:
    st.button("Again", on_click=jobs.again, args=("key",))
"""


def page(function: str, *args: Any) -> AppTest:
    return AppTest.from_string(_PAGE.format(function=function, args=args), default_timeout=PATIENCE).run()


def ended(app: AppTest, job: Job) -> AppTest:
    until(lambda: job.done, "the end")
    return app.run()


def running(app: AppTest) -> Job:
    app.button[0].click().run()
    return jobs._jobs["".join(app.query_params["job"])]


def test_a_page_shows_the_answer_until_it_is_asked_again():
    app = page("double", 21)
    job = running(app)
    assert [button.label for button in app.button] == ["Stop"]
    ended(app, job)
    assert app.markdown[0].value == "result 42"
    app.button[0].click().run()
    assert app.markdown[0].value == "nothing yet"
    assert app.button[0].label == "Go"


def test_a_reload_finds_the_work_again():
    app = page("double", 21)
    job = running(app)
    until(lambda: job.done, "the end")
    somebody = AppTest.from_string(_PAGE.format(function="double", args=[21]), default_timeout=PATIENCE)
    somebody.query_params["job"] = job.id
    somebody.run()
    assert somebody.markdown[0].value == "result 42"
    other = AppTest.from_string(_PAGE.format(function="double", args=[21]).replace('"key"', '"other"'))
    other.query_params["job"] = job.id
    assert other.run().markdown[0].value == "nothing yet"


def test_stop_brings_the_start_button_back(tmp_path):
    app = page("wait", str(tmp_path / "pids"))
    job = running(app)
    app.button[0].click().run()
    assert job.done
    assert app.button[0].label == "Go"


def test_an_error_is_shown_with_a_way_to_try_again():
    app = page("refuse")
    ended(app, running(app))
    assert "No." in app.error[0].value
    assert app.button[0].label == "Try again"
    app.button[0].click().run()
    assert app.button[0].label == "Go"


def test_work_in_a_folder_waits_goes_on_and_ends_with_what_it_has(tmp_path: Path):
    job = Job("key", ("tests.work:steps", (), {"folder": str(tmp_path)}))
    job.start()
    done = tmp_path / "steps"
    until(lambda: done.is_file() and int(done.read_text() or 0) > 2, "some steps")
    job.pause_or_go_on()
    time.sleep(0.2)
    before = done.read_text()
    time.sleep(0.3)
    assert done.read_text() == before
    job.pause_or_go_on()
    until(lambda: done.read_text() not in ("", before), "another step")
    job.finish()
    until(lambda: job.done, "the end")
    assert job.error is None
    assert job.result > int(before)


def test_a_paused_job_can_be_finished_and_a_viewer_elsewhere_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    job = Job("key", ("tests.work:steps", (), {"folder": str(tmp_path)}))
    job.start()
    until(lambda: (tmp_path / "steps").is_file(), "a step")
    job.pause_or_go_on()
    job.finish()
    until(lambda: job.done, "the end")
    assert not job.viewed()
    job.viewers.add("somebody")
    monkeypatch.setattr(job_module.runtime, "exists", lambda: True)
    monkeypatch.setattr(
        job_module.runtime, "get_instance", lambda: SimpleNamespace(is_active_session="somebody".__eq__)
    )
    assert job.viewed()
