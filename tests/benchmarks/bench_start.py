"""How long until somebody can read the home page, against an empty Streamlit page?

    python -m tests.benchmarks.bench_start [--rounds N]

Each round starts both servers anew and opens each in a browser context without a cache. Measured is what the visitor
waits for: from pressing Enter to the title (for FeatViz: and the first technique's question) being on the screen. The
goal is a ratio of at most 1.5.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from featviz_core.catalog import abouts
from tests.e2e.app_driver import launch, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GOAL = 1.5


def seconds_until_read(browser: Browser, script: str, texts: tuple[str, ...], log: Path) -> float:
    """From Enter to all `texts` being visible, on a server that nobody has visited yet."""
    with serving(log, script) as server:
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(120_000)
        start = time.perf_counter()
        page.goto(server.url, wait_until="commit")
        page.get_by_role("heading", level=1).wait_for()
        for text in texts:
            page.get_by_text(text).first.wait_for()
        waited = time.perf_counter() - start
        context.close()
    return waited


def main() -> None:
    """Print the two medians and their ratio."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Time to a readable home page against an empty Streamlit page.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds: int = parser.parse_args().rounds
    question = next(iter(abouts().values())).question
    times: dict[str, list[float]] = {"empty": [], "home": []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        empty = Path(folder) / "empty.py"
        empty.write_text('import streamlit as st\n\nst.title("Empty")\n')
        browser = launch(playwright)
        for number in range(rounds + 1):
            pair = (("empty", str(empty), ()), ("home", "app.py", (question,)))
            for name, script, texts in pair if number % 2 else reversed(pair):
                waited = seconds_until_read(browser, script, texts, Path(folder) / "log.txt")
                if number:  # the first round warms the disk
                    times[name].append(waited)
                    print(f"round {number}: {name:5} {waited:.2f} s", flush=True)
        browser.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"medians: empty {medians['empty']:.2f} s, home {medians['home']:.2f} s")
    print(f"ratio {medians['home'] / medians['empty']:.2f} (goal: at most {GOAL})")


if __name__ == "__main__":
    main()
