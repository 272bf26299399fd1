"""One piece of long work in a child process: begun, paused, finished, killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from streamlit import runtime

from featviz_core.errors import FeatVizError
from featviz_core.worker import FINISH, GO_ON, PAUSE, receive, send

_ROOT = Path(__file__).resolve().parents[2]
_SLOTS = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))


class WorkerCrash(RuntimeError):
    """A bug in the work, with its traceback in the child process."""


@dataclass(eq=False)
class Job:
    """One piece of work: how far it is, what is done so far, and what became of it.

    One with a `folder` of its own, which it writes into, can be paused, and finished early with what it has.
    """

    key: Hashable
    request: tuple[str, tuple[Any, ...], dict[str, Any]]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    fraction: float = 0.0
    text: str = "Waiting for a free processor …"
    parts: list[Any] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None
    done: bool = False
    seen: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    folder: tempfile.TemporaryDirectory[str] | None = None
    viewers: set[str] = field(default_factory=set)
    paused: bool = False
    finishing: bool = False

    def start(self) -> None:
        """Begin, as soon as there is a free processor."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """End it now, with every process it started."""
        self.done = True
        process = self.process
        if process is None or process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()

    def let_go(self) -> None:
        """End it, and leave nothing of it."""
        self.stop()
        if self.folder is not None:
            self.folder.cleanup()

    def pause_or_go_on(self) -> None:
        """Wait at the next step, or go on from there."""
        self.paused = not self.paused
        self._tell(PAUSE if self.paused else GO_ON)

    def finish(self) -> None:
        """Come to an end at the next step, with what there is."""
        self.paused, self.finishing = False, True
        self._tell(FINISH)

    def _tell(self, word: bytes) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError, ValueError):  # it has just ended
                self.process.stdin.write(word)
                self.process.stdin.flush()

    def viewed(self) -> bool:
        """Whether somebody who looked at it still has the app open, on whatever page."""
        return runtime.exists() and any(map(runtime.get_instance().is_active_session, self.viewers))

    def _run(self) -> None:
        with _SLOTS:
            if self.done:
                return
            self.text = "Starting PyTorch …"
            with tempfile.TemporaryFile() as log:
                try:
                    self._work(log)
                except (EOFError, OSError) as error:
                    self.error = None if self.done else _ended(self.process, log, error)
                finally:
                    self.stop()
                    if self.process is not None:
                        self.process.wait()

    def _work(self, log: IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "featviz_core.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.process.stdin as to_child, self.process.stdout as from_child:
            send(to_child, self.request)
            while not self.done:
                kind, *content = receive(from_child)
                if kind == "progress":
                    self.fraction, self.text = content
                    continue
                if kind == "part":
                    self.parts.append(content[0])
                    continue
                if kind == "result":
                    self.result = content[0]
                else:
                    self.error = content[0] if kind == "error" else WorkerCrash(content[0])
                return


def _ended(process: subprocess.Popen[bytes] | None, log: IO[bytes], error: BaseException) -> FeatVizError:
    code = process.wait() if process is not None else None
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()[-3:]
    return FeatVizError(
        "The work ended before it was done.",
        why=f"Its process gave exit code {code} ({error or 'no answer'}). {' '.join(said)}".strip(),
        do="Often there was not enough memory: try fewer batches or a smaller model.",
    )
