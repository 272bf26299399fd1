"""The README's pictures, taken from the running app.

python -m tests.e2e.screenshots [--out FOLDER]
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.e2e.app_driver import ROOT, Visitor, launch, serving, visiting

_FEATURE_MAPS = "feature_maps?layer=trunk_output.block1&sort=spread&scale=channel&channel=2"


def save(visitor: Visitor, path: Path) -> None:
    """What the visitor sees, without the mouse."""
    visitor.page.mouse.move(0, 0)
    visitor.page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(visitor.page.screenshot())).convert("RGB")
    shot.save(path, optimize=True)
    print(f"{path}: {shot.width}×{shot.height}, {path.stat().st_size / 1000:.0f} KB")


def main() -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Take the README's pictures from the running app.")
    parser.add_argument("--out", type=Path, default=ROOT / "assets")
    out: Path = parser.parse_args().out
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        launch(playwright) as browser,
        serving(Path(folder) / "log.txt") as server,
    ):
        shots: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("feature_maps", _FEATURE_MAPS, {"color_scheme": "light"}),
            ("dark", _FEATURE_MAPS + "&colors=magma", {"color_scheme": "dark"}),
        )
        for name, address, settings in shots:
            with visiting(browser, server, viewport={"width": 1440, "height": 860}, **settings) as visitor:
                visitor.opens(address)
                visitor.chart("mosaic").wait_for()
                visitor.rests()
                save(visitor, out / f"screenshot_{name}.png")


if __name__ == "__main__":
    main()
