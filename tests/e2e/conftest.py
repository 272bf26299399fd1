"""A server and a browser for all browser tests of a worker; without Chromium they skip with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.app_driver import VISITORS, Server, Visitor, chromium, launch, serving, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# An exact word, so that a typing mistake does not quietly turn the tests off where they are wanted.
REQUIRED = os.environ.get("FEATVIZ_BROWSER", "")


def _missing() -> str:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not installed"
    return "" if chromium() else "Chromium is not installed"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; visitors do not share anything in it."""
    if REQUIRED not in ("", "required"):
        pytest.fail(f"FEATVIZ_BROWSER is {REQUIRED!r}; expected 'required' or nothing")
    if missing := _missing():
        if REQUIRED:
            pytest.fail(f"{missing}, and FEATVIZ_BROWSER=required")
        pytest.skip(f"{missing}: the tests in a real browser need both")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="session")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app as the README starts it. After all tests, its log must hold no traceback."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(log) as running:
        yield running
        assert running.process.poll() is None, f"The server died:\n{log.read_text()}"
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def visit(browser: Browser, server: Server) -> Callable[..., AbstractContextManager[Visitor]]:
    """`with visit() as visitor`: somebody new, who has never been here."""
    return partial(visiting, browser, server)


@pytest.fixture
def visitor(visit: Callable[..., Any]) -> Iterator[Visitor]:
    """Somebody new, who has never been here."""
    with visit() as somebody:
        yield somebody


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a test fails, say what its visitors had before their eyes."""
    report = yield
    if report.when == "call" and report.failed:
        report.sections += [("What the visitor saw", visitor.tells()) for visitor in VISITORS]
    return report
