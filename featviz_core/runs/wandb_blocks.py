"""The records in Weights & Biases' own file of a run, in LevelDB's log format, and on past damage.

Blocks of 32 KiB hold pieces of records: a checksum (CRC-32) of what follows it, a length, whether this is a whole
record, its first piece, a middle one or the last, and the data. No piece crosses the end of a block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from featviz_core.runs.records import Gap, Record

START = b":W&B\xe1\xbe"
HEADER = 7  # bytes: the start, and a version
_BLOCK = 2**15
_HEAD = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_BAD = "a piece of the file does not match its checksum"


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: int
    data: bytes
    end: int


def wandb_records(file: BinaryIO, place: int = HEADER) -> Iterator[Record | Gap]:
    """Everything in `file` from `place` on, in order: records, and the gaps between them."""
    base = place - place % _BLOCK
    file.seek(base)
    for found in _records(file.read(), place - base):
        if isinstance(found, Record):
            yield Record(found.place + base, found.end + base, found.data)
        else:
            yield Gap(found.place + base, found.length, found.reason, found.cut)


def last_records(file: BinaryIO) -> list[Record]:
    """The records at the end of `file`: those that begin in its last block, or in the one before."""
    blocks = file.seek(0, 2) // _BLOCK
    return [found for found in wandb_records(file, max(HEADER, (blocks - 1) * _BLOCK)) if isinstance(found, Record)]


def _records(data: bytes, place: int) -> Iterator[Record | Gap]:
    start, parts = place, list[bytes]()
    while True:
        place = _past_padding(place)
        start = start if parts else place
        if place >= len(data) or _is_cut(data, place):
            if start < len(data):
                yield Gap(start, len(data) - start, "the file ends in the middle of a record", cut=True)
            return
        piece = _piece(data, place)
        if piece is None or (piece.kind in (_MIDDLE, _LAST)) != bool(parts):
            if piece is None or not parts:  # else a record begins here, and only the one before it never ended
                place = _next(data, place + 1)
            yield Gap(start, place - start, "a piece of a record is missing or does not match its checksum")
            parts = []
            continue
        parts.append(piece.data)
        place = piece.end
        if piece.kind in (_WHOLE, _LAST):
            yield Record(start, place, b"".join(parts))
            parts = []


def _past_padding(place: int) -> int:
    left = _BLOCK - place % _BLOCK
    return place + left if left < _HEAD.size else place


def _is_cut(data: bytes, place: int) -> bool:
    """Whether the file ends inside what may become a piece."""
    if place + _HEAD.size > len(data):
        return True
    length = _HEAD.unpack_from(data, place)[1]
    return bool(len(data) < place + _HEAD.size + length <= place - place % _BLOCK + _BLOCK)


def _piece(data: bytes, place: int) -> _Piece | None:
    """The piece at `place`, if one starts there."""
    checksum, length, kind = _HEAD.unpack_from(data, place)
    end = place + _HEAD.size + length
    right = _WHOLE <= kind <= _LAST and end <= place - place % _BLOCK + _BLOCK
    if not right or zlib.crc32(memoryview(data)[place + 6 : end]) != checksum:
        return None
    return _Piece(kind, data[place + _HEAD.size : end], end)


def _next(data: bytes, place: int) -> int:
    """Where the next piece starts, from `place` on: in the same block, or at the start of the next."""
    end = min(place - place % _BLOCK + _BLOCK, len(data))
    starts = (start for start in range(place, end - _HEAD.size) if _piece(data, start) is not None)
    return next(starts, end)
