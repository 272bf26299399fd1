"""What the browser tests share: a real server, a real browser, and a visitor who knows where things are.

Things are found by what a person sees (labels, roles), or by the widgets' fixed keys where there is no label.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

with suppress(ImportError):  # then nobody visits
    from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Playwright

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0  # seconds: a busy machine takes its time
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


VISITORS: list[Visitor] = []
"""Those who are here now."""


class Server:
    """`streamlit run <script>` on a free port of this machine."""

    def __init__(self, log: Path, script: str = "app.py", *arguments: str) -> None:
        self.port, self.log = free_port(), log
        self.url = f"http://localhost:{self.port}"
        settings = {
            "STREAMLIT_SERVER_PORT": str(self.port),
            "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
            "STREAMLIT_SERVER_HEADLESS": "true",
            "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
        }
        command = [sys.executable, "-m", "streamlit", "run", script]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--", *arguments] if arguments else command,
                cwd=ROOT,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Until the server says that it is healthy."""
        end = time.monotonic() + PATIENCE
        while not self._healthy():
            assert self.process.poll() is None, f"The server ended:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"The server did not get ready:\n{self.log.read_text()}"
            time.sleep(0.05)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_stcore/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End it, gently first."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


@contextmanager
def serving(log: Path, script: str = "app.py", *arguments: str) -> Iterator[Server]:
    """A healthy server, stopped at the end."""
    server = Server(log, script, *arguments)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def chromium() -> str | None:
    """Where the system's Chromium is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def launch(playwright: Playwright) -> Browser:
    """A fresh browser."""
    return playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))


@contextmanager
def visiting(browser: Browser, server: Server, **settings: Any) -> Iterator[Visitor]:
    """A visitor with cookies and cache of their own; at the end, nothing may have gone wrong anywhere."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **settings})
    context.set_default_timeout(PATIENCE * 1000)
    visitor = Visitor(context.new_page(), server)
    VISITORS.append(visitor)
    try:
        yield visitor
        visitor.sees_no_error()
    except Exception as error:
        error.add_note(visitor.tells())
        raise
    finally:
        VISITORS.remove(visitor)
        context.close()


class Visitor:
    """A person in front of a page of FeatViz."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.crashes: list[str] = []
        page.on("pageerror", lambda error: self.crashes.append(str(error)))

    def tells(self) -> str:
        """Where they are and what they see, for whoever reads of a failed test; a picture is left beside the log."""
        picture = self.server.log.with_name(f"{uuid.uuid4().hex}.png")
        self.page.screenshot(path=picture)
        return f"{self.page.url} looks like {picture} and says: {' '.join(self.says().split())[:4000]}"

    # Going places

    def opens(self, path: str = "") -> None:
        """Type an address and wait until the page is complete."""
        self.page.goto(f"{self.server.url}/{path}")
        self.rests()

    def clicks_link(self, name: str) -> None:
        """Click a page in the menu."""
        self.page.get_by_role("navigation").get_by_role("link", name=name).click()
        self.page.get_by_role("main").get_by_role("heading", level=1).wait_for()
        self.rests()

    def rests(self) -> None:
        """Wait until the app has nothing more to do: twice, because a click takes a moment to arrive."""
        for _ in range(2):
            self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
            self.page.wait_for_timeout(150)

    # Looking

    def heading(self) -> str:
        """The page's title."""
        return self.page.get_by_role("main").get_by_role("heading", level=1).inner_text()

    def picker(self, label: str) -> Locator:
        """A selection box by its label."""
        return self.page.get_by_role("combobox", name=label, exact=True)

    def picked(self, label: str) -> str:
        """What stands in a selection box now."""
        return self.picker(label).input_value()

    def comes_to_see(self, **picked: str) -> None:
        """Wait until these stand in the selection boxes; `Sort_by` is the label `Sort by`."""
        for label, value in picked.items():
            expect(self.picker(label.replace("_", " "))).to_have_value(value, timeout=PATIENCE * 1000)

    def number(self, label: str) -> Locator:
        """A number field by its label."""
        return self.page.get_by_role("spinbutton", name=label, exact=True)

    def channel(self) -> int:
        """The channel that is enlarged now."""
        return int(self.number("Channel").input_value())

    def comes_to_see_channel(self, channel: int) -> None:
        """Wait until this channel is enlarged."""
        expect(self.number("Channel")).to_have_value(str(channel), timeout=PATIENCE * 1000)

    def leaves_channel(self, channel: int) -> None:
        """Wait until another channel is enlarged than this."""
        expect(self.number("Channel")).not_to_have_value(str(channel), timeout=PATIENCE * 1000)

    def chart(self, key: str) -> Locator:
        """A picture that can be clicked, by its key."""
        return self.page.locator(f".st-key-{key} .marks")

    def says(self) -> str:
        """All text on the page."""
        return self.page.locator("body").inner_text()

    def sees_no_error(self) -> None:
        """Neither a traceback nor a failure of the page itself."""
        assert not self.crashes, self.crashes
        assert self.page.get_by_test_id("stException").count() == 0, self.says()
        assert "Traceback" not in self.says()
        assert "Page not found" not in self.says()

    # Doing

    def picks(self, label: str, option: str) -> None:
        """Type into a selection box and take what it offers."""
        field = self.picker(label)
        field.click()
        field.fill(option)
        self.page.get_by_role("option", name=option, exact=True).click()
        self.comes_to_see(**{label: option})
        self.rests()

    def uploads(self, name: str, data: bytes | Path, *, label: str = "Your own pictures") -> None:
        """Give a file to an upload field and wait until it is there."""
        region = self.page.get_by_role("region", name=label, exact=True)
        payload = data if isinstance(data, Path) else {"name": name, "mimeType": "", "buffer": data}
        region.locator("input[type=file]").set_input_files(payload)
        region.get_by_text(name).first.wait_for()
        self.rests()

    def clicks_tile(self, key: str, column: int, row: int, columns: int, rows: int, *, caption: int = 0) -> None:
        """Click a tile of a picture; the mouse has to move there first, as a hand does."""
        chart = self.chart(key)
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        x = box["x"] + box["width"] * (column + 0.5) / columns
        y = box["y"] + (box["height"] - caption) * (row + 0.5) / rows
        self.page.mouse.move(x - 3, y - 3)
        self.page.mouse.move(x, y)
        self.page.wait_for_timeout(100)
        self.page.mouse.click(x, y)
        self.rests()

    def opens_tab(self, name: str) -> None:
        """Open one of the parts at the end of a page."""
        self.page.get_by_role("tab", name=name).click()
        self.rests()

    def downloads(self, label: str) -> tuple[str, bytes]:
        """Press a download button; the file's name and content."""
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name=label).click()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    def downloads_maps(self, layer: str, picture: str) -> np.ndarray:
        """The values behind the feature maps, once the page is about this layer and picture."""
        snippet = self.page.get_by_test_id("stCode")
        expect(snippet).to_contain_text(f'layer="{layer}"', timeout=PATIENCE * 1000)
        expect(snippet).to_contain_text(picture, timeout=PATIENCE * 1000)
        return np.load(io.BytesIO(self.downloads("Values as NPY")[1]))


def picture_file(seed: int) -> bytes:
    """A PNG that no other seed gives: coloured noise with a bright box."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((200, 150), Image.Resampling.BICUBIC)
    coarse.paste((255, 255, 255), (20 + 7 * (seed % 10), 30, 90 + 7 * (seed % 10), 100))
    buffer = io.BytesIO()
    coarse.save(buffer, "PNG")
    return buffer.getvalue()
