"""Long work in a process of its own: `python -m featviz_core.worker`.

It reads one request from standard input and writes what happens to standard output, as length-prefixed pickles:
`("progress", fraction, text)` any number of times, and `("part", value)` where the work has a parameter `part` to be
told what is done so far; then `("result", value)`, `("error", FeatVizError)` or `("crash", traceback)`. When standard
input ends, its owner is gone, and so is it, with every process it started. Until then, the owner may write `PAUSE`,
`GO_ON` and `FINISH`, for work that has a parameter `control` (a `Control`).
Whatever the work prints goes to standard error.
"""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from importlib import import_module
from typing import IO, Any

from featviz_core.errors import FeatVizError

_LENGTH = struct.Struct(">Q")


PAUSE, GO_ON, FINISH = b"p", b"g", b"f"


class Control:
    """What the owner wants of work that can wait, and that can end early with what it has."""

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()
        self._finish = False

    def hear(self, word: bytes) -> None:
        """One of `PAUSE`, `GO_ON` and `FINISH` came."""
        self._finish |= word == FINISH
        (self._going.clear if word == PAUSE else self._going.set)()

    def __call__(self) -> bool:
        """To be called between two steps: waits while there is a pause; whether to come to an end now."""
        self._going.wait()
        return self._finish


def send(stream: IO[bytes], message: object) -> None:
    """Write one message."""
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message. Raises `EOFError` where the other side has gone."""
    size = _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0]
    return pickle.loads(_exactly(stream, size))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Do the one piece of work that stands on standard input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    function, args, options = receive(sys.stdin.buffer)
    control = Control()
    threading.Thread(target=_listen, args=(control,), daemon=True).start()
    writing = threading.Lock()

    def tell(*message: object) -> None:
        with writing:
            send(answers, message)

    try:
        module, name = function.split(":")
        work = getattr(import_module(module), name)
        known = inspect.signature(work).parameters
        if "control" in known:
            options["control"] = control
        if "part" in known:
            options["part"] = lambda value: tell("part", value)
        tell("result", work(*args, progress=lambda done, text: tell("progress", done, text), **options))
    except FeatVizError as error:
        tell("error", error)
    except BaseException:  # noqa: BLE001 - the owner shows it as the bug it is
        tell("crash", traceback.format_exc())


def _listen(control: Control) -> None:
    while word := os.read(sys.stdin.fileno(), 1):
        control.hear(word)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
