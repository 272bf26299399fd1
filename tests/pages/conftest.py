"""The app without a browser: Streamlit's AppTest, started from app.py as `streamlit run` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui import cached, jobs

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds a run may take on a busy machine


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """No work that a test leaves behind is taken for the next one's."""
    yield
    with jobs._guard:
        for job in jobs._jobs.values():
            job.let_go()
        jobs._jobs.clear()


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """`open_page("pages/look_inside/x.py", layer="stem")`: the page as a new visitor gets it, by a link.

    On the CPU, where the library's own results are reckoned that pages are compared with.
    """

    def visit(path: str = "", **link: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
        app.query_params.update(link)  # for the frame's pickers
        app.run()
        if cached._warming is not None:  # or a half-imported torch would be lying about in the next test
            cached._warming.join()
        for module in ("models", "devices"):
            monkeypatch.setattr(f"featviz_core.{module}.best_device", lambda: "cpu")
        if path:
            app.switch_page(path)  # knows the pages only after a run, and empties the link
            app.query_params.update(link)
            app.run()
        assert not app.exception, app.exception
        return app

    return visit


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are done here and now instead of in a process of their own; what is drawn meanwhile is drawn at the end."""

    def ask(key: Any, function: str, *args: Any, start: str, help: str, draw: Any = None, **options: Any) -> Any:
        module, _, name = function.partition(":")
        parts: list[Any] = []
        given = {} if draw is None else {"part": parts.append}
        found = getattr(import_module(module), name)(*args, **options, **given)
        if draw is not None:
            draw(parts)
        return found

    monkeypatch.setattr(jobs, "ask", ask)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | Callable[[], bytes]]:
    """What stands behind the download buttons, by file name: AppTest shows only that they are there."""
    import streamlit as st

    found: dict[str, bytes | Callable[[], bytes]] = {}
    button = st.download_button

    def noted(label: str, data: Any, file_name: str, *arguments: Any, **options: Any) -> bool:
        found[file_name] = data
        return button(label, data, file_name, *arguments, **options)

    monkeypatch.setattr(st, "download_button", noted)
    return found
