"""What lies in a checkpoint file? Its description, and each tensor's numbers once the claim about them is checked.

Nothing is allocated for a claim: a tensor is built only from as many bytes as its record in the file really has.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.checkpoints.pickles import DAMAGE, RESAVE, read_pickle
from featviz_core.checkpoints.tensors import MAX_DIMENSION, Record, read_storage
from featviz_core.errors import CheckpointError

_PIECE = 2**20  # what is read at once of a tensor's numbers
_MAX_READ = 4 * 2**20  # the largest directory, header or word that is read at once
_MAX_PICKLE = 64 * 2**20
_CONVERT = "Load it there and save the weights as .safetensors, which is the same everywhere."
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Bounded:
    """A file that refuses reads no honest checkpoint makes, before memory is set aside for them."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes, as a file does; raises `CheckpointError` when that is more than 4 MiB."""
        left = self.size - self.file.tell()
        if (count < 0 or count > _MAX_READ) and left > _MAX_READ:
            raise CheckpointError("The file's directory is damaged, or larger than that of any model.", do=RESAVE)
        return self.file.read(max(0, left) if count < 0 else min(count, max(0, left)))

    def readline(self) -> bytes:
        """The next line, of 64 KiB at most."""
        return self.file.readline(2**16)


@dataclass(frozen=True, slots=True)
class Contents:
    """`tree`: what the file describes. `record`: the numbers it refers to."""

    tree: object
    record: Record


def read_zip(file: Bounded) -> Contents:
    """The format of `torch.save` since 2020. Raises `CheckpointError` for archives of another kind."""
    archive = zipfile.ZipFile(cast(IO[bytes], file))
    entries = {info.filename: info for info in archive.infolist()}
    _refuse_programs(entries)
    roots = [name.removesuffix("data.pkl") for name in entries if name.split("/")[-1] == "data.pkl"]
    if len(roots) != 1:
        raise CheckpointError(
            "This zip archive is no checkpoint of torch: it does not hold exactly one data.pkl.",
            do="If a checkpoint lies in it, unpack it and choose that file.",
        )
    _refuse_bombs(archive.infolist(), file.size)
    root = roots[0]

    def record(key: str, nbytes: int) -> NDArray[np.uint8]:
        info = entries.get(f"{root}data/{key}")
        if info is None or info.file_size < nbytes:
            raise _too_short(key, nbytes, info.file_size if info else 0)
        return _read_entry(archive, info, nbytes)

    order = entries.get(root + "byteorder")
    if order and _read_entry(archive, order, min(order.file_size, 8)).tobytes() != b"little":
        raise CheckpointError(
            "The file was saved on a big-endian machine, whose numbers are written the other way.", do=_CONVERT
        )
    described = entries[root + "data.pkl"]
    if described.file_size > _MAX_PICKLE:
        raise CheckpointError("The file's description is larger than that of any model.", do=RESAVE)
    return Contents(read_pickle(_read_entry(archive, described, described.file_size).tobytes()).value, record)


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, nbytes: int) -> NDArray[np.uint8]:
    with archive.open(info) as stream:
        return _read(stream, nbytes)


def _refuse_programs(entries: Iterable[str]) -> None:
    for name in entries:
        *folders, last = name.split("/")
        if "code" in folders[1:] or last == "constants.pkl":
            raise CheckpointError("This is a TorchScript program, not a set of weights: it holds code.", do=RESAVE)
        if last in ("archive_format", "serialized_exported_program.json") or last.endswith((".so", ".py")):
            raise CheckpointError("This is an exported program (.pt2), not a set of weights: it holds code.", do=RESAVE)


def _refuse_bombs(entries: list[zipfile.ZipInfo], size: int) -> None:
    if len({info.filename for info in entries}) < len(entries):
        raise CheckpointError("The archive holds two files of one name; torch writes none such.", do=RESAVE)
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in entries):
        raise CheckpointError("The archive is compressed or encrypted; torch writes none such.", do=RESAVE)
    if sum(info.file_size for info in entries) > size:
        raise CheckpointError("The archive claims to hold more than the file has bytes.", do=RESAVE)


def read_legacy(file: Bounded) -> Contents:
    """The format of `torch.save` before 2020: pickles one after another, then the numbers of each storage."""
    pickles = cast(IO[bytes], file)
    if read_pickle(pickles).value != _LEGACY_MAGIC or read_pickle(pickles).value != _LEGACY_PROTOCOL:
        raise CheckpointError("The file is a pickle, but not one that torch wrote.", do=RESAVE)
    read_pickle(pickles)  # the machine that saved it
    description, keys = read_pickle(pickles), read_pickle(pickles).value
    storages = {storage.key: storage for storage in map(read_storage, description.references)}
    starts: dict[str, int] = {}
    for key in keys if isinstance(keys, list) else ():
        # Hashing nested tuples can take forever, and so can reading one storage over and over.
        if not isinstance(key, str) or key in starts:
            raise ValueError("a key that is no text, or comes twice")
        storage, start = storages[key], file.tell() + 8
        (count,) = struct.unpack("<q", file.read(8))
        if count * storage.dtype.itemsize != storage.nbytes or start + storage.nbytes > file.size:
            raise _too_short(storage.key, storage.nbytes, file.size - start)
        starts[storage.key] = start
        file.seek(start + storage.nbytes)

    def record(key: str, nbytes: int) -> NDArray[np.uint8]:
        if starts[key] + nbytes > file.size:
            raise _too_short(key, nbytes, file.size - starts[key])
        file.seek(starts[key])
        return _read(file, nbytes)

    return Contents(description.value, record)


def read_safetensors(source: bytes | Path, file: Bounded) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a `.safetensors` file. Raises `CheckpointError` for claims that do not hold."""
    header = _safetensors_header(file)
    try:
        tensors: dict[str, Tensor] = (
            safetensors.torch.load(source) if isinstance(source, bytes) else safetensors.torch.load_file(source)
        )
    except (safetensors.SafetensorError, RuntimeError, *DAMAGE) as error:
        raise CheckpointError(f"The file is no valid .safetensors file: {str(error)[:200]}.", do=RESAVE) from error
    metadata = header.get("__metadata__")
    return tensors, metadata if isinstance(metadata, dict) else {}


def _safetensors_header(file: Bounded) -> dict[str, object]:
    """The header, checked for what the library takes as it comes: its length, double names, absurd sizes."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_MAX_READ, file.size - 8):
        raise CheckpointError(f"The .safetensors header claims {length:,} bytes, more than a model needs.", do=RESAVE)

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(pairs)) < len(pairs):
            raise CheckpointError("The .safetensors header names something twice.", do=RESAVE)
        return found

    header = json.loads(file.read(length).decode(), object_pairs_hook=once)
    for entry in header.values() if isinstance(header, dict) else ():
        shape = entry.get("shape", []) if isinstance(entry, dict) else []
        if (
            not isinstance(shape, list)
            or len(shape) > 32
            or not all(type(n) is int and 0 <= n <= MAX_DIMENSION for n in shape)
        ):
            raise CheckpointError("The .safetensors header holds a shape that cannot be.", do=RESAVE)
    return header if isinstance(header, dict) else {}


def _read(stream: IO[bytes] | Bounded, nbytes: int) -> NDArray[np.uint8]:
    """The next `nbytes` bytes, in pieces: no single large read. Raises `EOFError` when there are fewer."""
    numbers = np.empty(nbytes, np.uint8)
    for start in range(0, nbytes, _PIECE):
        piece = stream.read(min(_PIECE, nbytes - start))
        if len(piece) < min(_PIECE, nbytes - start):
            raise EOFError
        numbers[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return numbers


def _too_short(key: str, claimed: int, held: int) -> CheckpointError:
    return CheckpointError(
        f"The file claims {claimed:,} bytes for one of its tensors (storage {key[:40]}), but holds {max(0, held):,}.",
        why="It is damaged, was cut off, or was made to exhaust memory.",
        do="Copy or save it again.",
    )
