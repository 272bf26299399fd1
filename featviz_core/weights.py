"""How do published weights get here whole, and is a file that lies here the right one?

Files lie in torch's hub cache, where torchvision looks for them too. A download is written beside its target under
a name of its own, checked against the hash in the published name, and put in place in one step: whatever kills the
process, the cache holds the whole file or none.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener

from featviz_core.errors import WeightsError
from featviz_core.zoo import ZooModel, ZooWeights

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[float, str], object]
"""Called as `progress(fraction in [0, 1], text)`; whatever it raises cancels the work and is passed on."""

_MEBIBYTE = 2**20
_BLOCK = 2**18
_CONNECT_SECONDS = 1.5
_REPORT_SECONDS = 0.1
_STALE_SECONDS = 600.0  # a running download writes all the time: a part untouched for this long was left behind
_HASH = re.compile(r"-([0-9a-f]{8,})\.[a-z]+$")
_LOCKS: dict[Path, threading.Lock] = {}


def weights_file(weights: ZooWeights) -> Path:
    """Where does the file of these weights lie once downloaded? In torch's hub cache; works before torch is imported.

    Honours `torch.hub.set_dir`, `TORCH_HOME` and `XDG_CACHE_HOME`.
    """
    if "torch" in sys.modules:
        hub = Path(sys.modules["torch"].hub.get_dir())
    else:
        cache = Path(os.getenv("XDG_CACHE_HOME", "~/.cache")) / "torch"
        hub = Path(os.getenv("TORCH_HOME", str(cache))).expanduser() / "hub"
    return hub / "checkpoints" / weights.filename


def is_cached(weights: ZooWeights) -> bool:
    """Is there a file for these weights? It may still be damaged: `verify` tells."""
    return weights_file(weights).is_file()


def memory_bytes(model: ZooModel, weights: ZooWeights | None = None) -> int:
    """How many bytes of memory does a model take while it loads? Running it on pictures comes on top."""
    parameters = max(model.parameters, weights.parameters if weights else 0)
    return 4 * parameters + (int(weights.megabytes * _MEBIBYTE) if weights else 0)


def verify(path: Path, weights: ZooWeights, *, progress: Progress | None = None) -> None:
    """Is this the file that was published? Raises `WeightsError` naming the file if not, or if it cannot be read."""
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while block := file.read(4 * _MEBIBYTE):
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done / max(size, done), f"Checking {path.name}")
    except OSError as error:
        raise WeightsError(
            f"The weights file {path.name} cannot be read: {error.strerror or error}.",
            do=f"Delete it or allow reading it ({path.parent}), then download it again.",
        ) from error
    if not digest.hexdigest().startswith(_hash_prefix(weights)):
        raise WeightsError(
            f"The file {path.name} of {weights.model} ({weights.name}) is damaged.",
            why=f"Its SHA-256 should begin with {_hash_prefix(weights)}, but begins with {digest.hexdigest()[:8]}.",
            do="Download it again; that replaces the damaged file.",
        )


def download(
    weights: ZooWeights, *, progress: Progress | None = None, timeout: float = 20.0, again: bool = False
) -> Path:
    """Fetches published weights into the hub cache, unless they lie there, and gives the path of the whole file.

    `timeout` is how many seconds the server may be silent; a server that cannot be reached is given up within 2 s.
    `again` replaces a file that is there. Whatever `progress` raises cancels. Raises `WeightsError` when the file
    that is there is damaged, the server cannot be reached, breaks off or sends something else, or the disk is full.
    """
    target = weights_file(weights)
    with _one_at_a_time(target, progress):
        if target.is_file() and not again:
            verify(target, weights, progress=progress)
            return target
        part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_parts(target)
            # Open() rather than mkstemp(): other users of a shared cache may read what the umask lets them.
            with part.open("xb") as file:
                _fetch(weights, file, progress, timeout)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            raise WeightsError(
                f"{weights.filename} cannot be stored: {error.strerror or error}.",
                do=f"Make room and allow writing in {target.parent}, or set TORCH_HOME to another folder.",
            ) from error
        finally:
            with suppress(OSError):  # gone already, or its folder never came to be
                part.unlink()
    return target


def load_state(path: Path) -> dict[str, Tensor]:
    """Reads a published file, runs none of its code, and gives its tensors as float32 under the names used today.

    For files checked by `verify`; a checkpoint from elsewhere goes through `featviz_core.checkpoints`.
    The tensors may share memory with the file: copy them before changing them. Raises `WeightsError`.
    """
    import pickle
    import zipfile

    import torch

    try:
        mapped = zipfile.is_zipfile(path)  # older files are a plain pickle, which cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        for name in [name for name, tensor in state.items() if tensor.dtype is torch.float16]:
            state[name] = state[name].float()
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        KeyError,
        pickle.PickleError,
    ) as error:
        raise WeightsError(
            f"The weights file {path.name} cannot be loaded.",
            why=str(error).split("\n", 1)[0][:200] or type(error).__name__,
            do="Download it again; that replaces the file.",
        ) from error
    return rename_legacy_keys(state)


_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")


def rename_legacy_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gives tensors the names that torchvision uses today: DenseNet's files say `norm.1` where it says `norm1`."""
    for key in list(state):
        if found := _DENSENET.match(key):
            state[found[1] + found[2]] = state.pop(key)
    return state


def _hash_prefix(weights: ZooWeights) -> str:
    found = _HASH.search(weights.filename)
    if not found:
        raise WeightsError(f"The name {weights.filename} states no hash, so the file cannot be checked.")
    return found[1]


@contextmanager
def _one_at_a_time(target: Path, progress: Progress | None) -> Iterator[None]:
    """Lets one thread fetch a file while the others wait for it. Other processes each write a part of their own."""
    lock = _LOCKS.setdefault(target, threading.Lock())
    while not lock.acquire(timeout=2 * _REPORT_SECONDS):
        if progress:
            progress(0.0, f"Waiting: somebody else here is downloading {target.name}")
    try:
        yield
    finally:
        lock.release()


def _remove_stale_parts(target: Path) -> None:
    for part in target.parent.glob(f"{target.name}.*.part"):
        try:
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()
        except OSError:  # another process was faster, or owns it: either way it is not ours to remove
            continue


def _fetch(weights: ZooWeights, file: BinaryIO, progress: Progress | None, timeout: float) -> None:
    digest, done, next_report = hashlib.sha256(), 0, 0.0
    with _open(weights, timeout) as response:
        announced = _announced_bytes(weights, response, Path(file.name).parent)
        total = announced or round(weights.megabytes * _MEBIBYTE)
        while block := _next_block(weights, response, done):
            file.write(block)
            digest.update(block)
            done += len(block)
            if done > _most_bytes(weights):
                raise _not_published(weights, f"it goes on after {done / _MEBIBYTE:.1f} MB")
            if progress and time.monotonic() >= next_report:
                next_report = time.monotonic() + _REPORT_SECONDS
                progress(
                    min(done / total, 1.0),
                    f"{weights.filename}: {done / _MEBIBYTE:.1f} of {total / _MEBIBYTE:.1f} MB",
                )
    if announced and done < announced:
        raise _broke_off(weights, done)
    if not digest.hexdigest().startswith(_hash_prefix(weights)):
        raise _not_published(weights, f"its SHA-256 begins with {digest.hexdigest()[:8]}")


def _open(weights: ZooWeights, timeout: float) -> HTTPResponse:
    request = Request(weights.url, headers={"User-Agent": "featviz"})
    try:
        response: HTTPResponse = build_opener(_HttpHandler, _HttpsHandler).open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        raise _unavailable(weights, f"answered {error.code} ({error.reason})") from error
    except (HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _unavailable(weights, f"cannot be reached ({reason or type(error).__name__})") from error
    return response


def _announced_bytes(weights: ZooWeights, response: HTTPResponse, folder: Path) -> int | None:
    """What the server says the file's size is, None if it says nothing. Raises when that is wrong, or does not fit."""
    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isdecimal() and len(length) < 20 else None
    if announced is not None and announced > _most_bytes(weights):
        raise _not_published(weights, f"it has {announced / _MEBIBYTE:.1f} MB")
    needed, free = announced or _most_bytes(weights), shutil.disk_usage(folder).free
    if free < needed + 64 * _MEBIBYTE:
        raise WeightsError(
            f"There is no room for {weights.filename}: it has {needed / _MEBIBYTE:.0f} MB, "
            f"and {free / _MEBIBYTE:.0f} MB are free in {folder}.",
            do="Make room, or set TORCH_HOME to a folder on another disk.",
        )
    return announced


def _next_block(weights: ZooWeights, response: HTTPResponse, done: int) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (HTTPException, OSError, ValueError) as error:
        raise _broke_off(weights, done) from error


def _most_bytes(weights: ZooWeights) -> int:
    return round(weights.megabytes * 1.01 * _MEBIBYTE) + _MEBIBYTE


def _unavailable(weights: ZooWeights, why: str) -> WeightsError:
    return WeightsError(
        f"The weights {weights.name} of {weights.model} are not on this computer, "
        f"and {urlsplit(weights.url).hostname} {why}.",
        do="Choose the model freshly initialised, or a demo model: neither needs a network. "
        f"Or put the file {weights.filename} ({weights.megabytes:.0f} MB) into {weights_file(weights).parent}.",
    )


def _broke_off(weights: ZooWeights, done: int) -> WeightsError:
    return WeightsError(
        f"The download of {weights.filename} broke off after {done / _MEBIBYTE:.1f} of {weights.megabytes:.1f} MB; "
        "nothing of it was kept.",
        do="Try again, or choose the model freshly initialised.",
    )


def _not_published(weights: ZooWeights, why: str) -> WeightsError:
    return WeightsError(
        f"{urlsplit(weights.url).hostname} did not send the published file {weights.filename}: {why}, expected are "
        f"{weights.megabytes:.1f} MB with a SHA-256 that begins with {_hash_prefix(weights)}. Nothing of it was kept.",
        do="Try again later; if a proxy or a sign-in page answers in its place, sign in first.",
    )


def _connect(address: tuple[str, int], timeout: float | None, *_: object) -> socket.socket:
    """`socket.create_connection`, but looking up the name and trying all its addresses take 1.5 s at most."""
    answer: SimpleQueue[socket.socket | OSError] = SimpleQueue()

    def attempt() -> None:
        try:
            answer.put(socket.create_connection(address, timeout=_CONNECT_SECONDS))
        except OSError as error:
            answer.put(error)

    threading.Thread(target=attempt, daemon=True).start()  # a name look-up cannot be given a limit or be stopped
    try:
        found = answer.get(timeout=_CONNECT_SECONDS)
    except Empty:
        raise TimeoutError(f"no connection within {_CONNECT_SECONDS} s") from None
    if isinstance(found, OSError):
        raise found
    found.settimeout(timeout)
    return found


class _Http(HTTPConnection):
    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._create_connection = _connect


class _Https(HTTPSConnection):
    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._create_connection = _connect


class _HttpHandler(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Http, req)


class _HttpsHandler(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Https, req)
