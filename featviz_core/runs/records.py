"""The records in a TensorBoard event file, by TensorBoard's own reader, and on past damage.

A record is its length (8 bytes), a checksum of that (4), the data, and a checksum of the data (4). TensorBoard's
reader stops at the first record that is not right. Here the place is noted, the next record is looked for, and reading
goes on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tensorboard.compat.tensorflow_stub.errors import DataLossError, OutOfRangeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New, masked_crc32c

_HEAD = struct.Struct("<QI")
_FRAME = _HEAD.size + 4
# Lengths fit in four bytes, so the upper four are zero; and no record is empty.
_MAY_BE_HEAD = re.compile(rb"(?=(?!\0{4}).{4}\0{4})", re.DOTALL)
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record: where it starts, where it ends, and its data."""

    place: int
    end: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """`length` bytes from `place` on that are no record; `cut`: the file ends inside what may become one."""

    place: int
    length: int
    reason: str
    cut: bool = False

    @property
    def end(self) -> int:
        """Where what comes behind it starts."""
        return self.place + self.length


class _Reader(PyRecordReader_New):  # type: ignore[misc]
    """TensorBoard's reader, over a file that is open already: it can start anywhere, and read uploads."""

    def __init__(self, file: BinaryIO) -> None:
        self.filename, self.file_handle = "", file
        self.curr_event, self._buffer, self._buffer_pos = None, b"", 0


def records(file: BinaryIO, place: int = 0) -> Iterator[Record | Gap]:
    """Everything in `file` from `place` on, in order: records, and the gaps between them."""
    while True:
        file.seek(place)
        reader = _Reader(file)
        try:
            while True:
                reader.GetNext()
                data = reader.record()
                end = place + _FRAME + len(data)
                yield Record(place, end, data)
                place = end
        except OutOfRangeError:
            return
        except DataLossError:
            gap = _gap(file, place)
            yield gap
            if gap.cut:
                return
            place = gap.end


def _gap(file: BinaryIO, place: int) -> Gap:
    """What is wrong with the record at `place`, and how far one has to go to the next."""
    size = file.seek(0, 2)
    length = _length(file, place)
    if size - place < _HEAD.size or (length is not None and place + _FRAME + length > size):
        return Gap(place, size - place, "the file ends in the middle of a record", cut=True)
    if length is None:
        return Gap(place, _next(file, place + 1, size) - place, "a record's length does not match its checksum")
    end = place + _FRAME + length
    if end < size and _length(file, end) is None:  # bytes are missing or too many: the next record is elsewhere
        end = _next(file, place + _HEAD.size, size)
    return Gap(place, end - place, "a record does not match its checksum")


def _length(file: BinaryIO, place: int) -> int | None:
    """How long the record at `place` is, if one starts there."""
    file.seek(place)
    return _checked(file.read(_HEAD.size))


def _checked(head: bytes) -> int | None:
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    return int(length) if masked_crc32c(head[:8]) == checksum else None


def _next(file: BinaryIO, place: int, size: int) -> int:
    """Where the next record starts, from `place` on; `size` where none does."""
    while place < size:
        file.seek(place)
        chunk = file.read(_CHUNK + _HEAD.size - 1)
        for found in _MAY_BE_HEAD.finditer(chunk):
            if found.start() < _CHUNK and _checked(chunk[found.start() : found.start() + _HEAD.size]) is not None:
                return place + found.start()
        place += _CHUNK
    return size
