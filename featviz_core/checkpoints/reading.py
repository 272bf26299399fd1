"""From a file of unknown origin to named tensors."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from featviz_core.checkpoints.class_names import as_class_names
from featviz_core.checkpoints.containers import Bounded, Contents, read_legacy, read_safetensors, read_zip
from featviz_core.checkpoints.pickles import DAMAGE, RESAVE
from featviz_core.checkpoints.tensors import Builder, is_tensor
from featviz_core.errors import CheckpointError

MAX_BYTES = 16 * 2**30
# Where training scripts put the weights, the usual first.
_WHERE = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "module",
    "params",
    "weights",
    "ema",
    "model_ema",
    "ema_model",
)
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.module.")
_NAMES_UNDER = ("class_names", "classes", "names", "categories", "class_to_idx")
_MOST = 0.9  # share of the keys that have to begin with a prefix before it is taken off
_MOST_PREFIXES = 8
_MOST_TIED = 16  # how often tensors may share the same numbers, on average
_BROKEN = (
    *DAMAGE,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    RecursionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The weights in a file: `state` by name, as the model's own `state_dict` has them.

    `notes`: what was done on the way, in plain sentences; `sha256` of the file; `class_names` where the file holds
    any.
    """

    name: str
    state: dict[str, Tensor]
    sha256: str
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None


def read_checkpoint(source: bytes | Path, *, name: str = "checkpoint", max_bytes: int = MAX_BYTES) -> Checkpoint:
    """Which weights does this file hold? A `.safetensors` file or a saved `state_dict`, told by content.

    The weights may lie under a name such as `state_dict`, and their names behind a prefix such as `module.`. Nothing
    in the file is run, and no memory is set aside for numbers that the file does not hold.
    Raises `CheckpointError` for code, for claims that do not hold, and for everything that cannot be read.
    """
    with _opened(source, name) as file, _named(name):
        size = file.seek(0, io.SEEK_END)
        if not size:
            raise CheckpointError(
                f"{name} is empty.", why="The file has 0 bytes.", do="Choose another file, or copy it again."
            )
        if size > max_bytes:
            raise CheckpointError(
                f"{name} is too large.", why=f"It has {size:,} bytes; at most {max_bytes:,} are read.", do=RESAVE
            )
        file.seek(0)
        start = file.read(9)
        file.seek(0)
        bounded = Bounded(file, size)
        notes: list[str] = []
        if start[8:9] == b"{":
            tensors, metadata = read_safetensors(source, bounded)
            tree: Mapping[Any, object] = metadata
        else:
            contents = _contents(start, bounded, name)
            tree = contents.tree if isinstance(contents.tree, dict) else {}
            tensors = _build(contents, size, notes)
        if not tensors:
            raise CheckpointError(f"{name} holds no named tensors.", do=RESAVE)
        state = _without_prefixes(tensors, notes)
        found = next((names for key in _NAMES_UNDER if (names := as_class_names(tree.get(key)))), None)
        return Checkpoint(name, state, _digest(file), tuple(notes), found)


@contextmanager
def _opened(source: bytes | Path, name: str) -> Iterator[IO[bytes]]:
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise CheckpointError(
            f"{name} cannot be opened.", why=f"The system says: {error.strerror or error}.", do="Choose another file."
        ) from error
    with file:
        yield file


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn whatever a broken file raises into one error that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except _BROKEN as error:
        said = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{name} is damaged or was cut off.", why=f"Reading it ended with: {said}.", do="Copy or save it again."
        ) from error


def _contents(start: bytes, file: Bounded, name: str) -> Contents:
    if start.startswith(b"PK"):
        return read_zip(file)
    if start.startswith(b"\x80"):
        return read_legacy(file)
    raise CheckpointError(
        f"{name} is no checkpoint.",
        why=f"It begins with the bytes {start[:8].hex(' ')}; expected a .safetensors file or a file of torch.save.",
        do=RESAVE,
    )


def _build(contents: Contents, size: int, notes: list[str]) -> dict[str, Tensor]:
    found = _weights(contents.tree, notes)
    builder = Builder(contents.record, limit=_MOST_TIED * size)
    left_out = sum(not is_tensor(node) for node in found.values())
    if left_out:
        notes.append(f"{left_out} entries that are no tensors were left out.")
    return {key: builder.build(key, node) for key, node in found.items() if is_tensor(node)}


def _weights(tree: object, notes: list[str]) -> dict[str, object]:
    """The dict of named tensors that are most likely the weights; loose tensors beside it are scores and counters."""
    known: dict[int, int] = {}
    for _ in range(4):
        if not isinstance(tree, dict):
            break
        named = {str(key): node for key, node in tree.items() if isinstance(key, str)}
        inside = {key: node for key, node in named.items() if isinstance(node, dict) and _count_tensors(node, known)}
        key = next((key for key in _WHERE if key in inside), None)
        if key is None and any(is_tensor(node) for node in named.values()):
            return named
        if not inside:
            break
        key = key or max(inside, key=lambda key: _count_tensors(inside[key], known))
        others = f"; {', '.join(other for other in inside if other != key)[:80]} left aside" if len(inside) > 1 else ""
        notes.append(f"The weights were found under '{key[:40]}'{others}.")
        tree = inside[key]
    raise CheckpointError("The file holds no named tensors.", why="Expected a dict of names and tensors.", do=RESAVE)


def _count_tensors(node: dict[object, object], known: dict[int, int]) -> int:
    """How many tensors lie in it under names (an optimiser numbers its own)? Each dict is looked through once."""
    if id(node) not in known:
        known[id(node)] = 0  # in case it holds itself
        known[id(node)] = sum(
            _count_tensors(value, known) if isinstance(value, dict) else is_tensor(value)
            for key, value in node.items()
            if isinstance(key, str)
        )
    return known[id(node)]


def _without_prefixes(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    taken = []
    for _ in range(_MOST_PREFIXES):
        prefix = next((prefix for prefix in _PREFIXES if _is_common(prefix, tensors)), None)
        if prefix is None:
            break
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
        taken.append(f"'{prefix}'")
    if taken:
        notes.append(f"{', '.join(taken)} was taken off the names.")
    return tensors


def _is_common(prefix: str, tensors: Mapping[str, Tensor]) -> bool:
    having = sum(key.startswith(prefix) for key in tensors)
    stripped = {key.removeprefix(prefix) for key in tensors}
    return having >= _MOST * len(tensors) and len(stripped) == len(tensors)


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(2**22):
        digest.update(piece)
    return digest.hexdigest()
