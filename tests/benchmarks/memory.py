"""How much memory does the server take while somebody walks through all pages with the demo models?

    python -m tests.benchmarks.memory

Linux only: read from /proc. Streamlit Community Cloud gives an app 690 MB to 2.7 GB.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from featviz_core.catalog import abouts
from featviz_core.demo.models import DEMO_MODELS, weights_path
from tests.e2e.app_driver import Server, Visitor, launch, serving, visiting


def megabytes(server: Server, figure: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most so far) of the server, in MB of 10**6 bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{figure}:\s+(\d+) kB", status, flags=re.M)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def walk(visitor: Visitor) -> None:
    """Every technique with every demo model whose weights are there."""
    models = [f"demo/{name}" for name in DEMO_MODELS if weights_path(name).is_file()]
    for slug in abouts():
        for model in models:
            visitor.opens(f"{slug}?{urlencode({'model': model})}")
            visitor.page.get_by_role("heading", level=1).wait_for()
            visitor.rests()
            print(f"{slug} with {model}: {megabytes(visitor.server, 'VmRSS'):.0f} MB", flush=True)


def main() -> None:
    """Print the memory after each page, for one visitor and then for a second one beside them."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        launch(playwright) as browser,
        serving(Path(folder) / "log.txt") as server,
    ):
        print(f"started: {megabytes(server, 'VmRSS'):.0f} MB")
        with visiting(browser, server) as first, visiting(browser, server) as second:
            first.opens()
            first.page.get_by_role("img", name="a live result").first.wait_for()
            print(f"home page, PyTorch loaded: {megabytes(server, 'VmRSS'):.0f} MB")
            walk(first)
            print("a second visitor:")
            walk(second)
        print(f"the most at any time: {megabytes(server, 'VmHWM'):.0f} MB")


if __name__ == "__main__":
    main()
