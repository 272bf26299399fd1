"""Work for child processes in tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from featviz_core.errors import ImageError


def double(value: int, *, progress: Any, add: int = 0) -> int:
    progress(0.5, "half way")
    print("printed text must not disturb the answers")
    return 2 * value + add


def count(to: int, *, progress: Any, part: Any) -> str:
    for number in range(to):
        part(number)
    return "counted"


def refuse(*, progress: Any) -> None:
    raise ImageError("No.", do="Try another.")


def stumble(*, progress: Any) -> None:
    raise ZeroDivisionError("a bug")


def vanish(*, progress: Any) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(7)


def wait(note: str, *, progress: Any) -> None:
    """Writes the process ids of itself and of a child of its own into the file `note`, and waits for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(note).write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    progress(0.1, "waiting")
    time.sleep(600)


def steps(*, folder: str, progress: Any, control: Any) -> int:
    """Counts in a file until it is told to finish."""
    for step in range(10_000):
        (Path(folder) / "steps").write_text(str(step))
        if control():
            return step
        time.sleep(0.01)
    return -1
