"""Damage to bytes, the kinds that find bugs in readers of files. Equal seeds give equal damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

# Sizes and counts at the edges of what fields hold, where readers allocate, loop or overflow.
_EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER = 256


def _place(data: bytes, rng: Random) -> int:
    """Half the time in the first bytes: that is where formats keep what matters."""
    end = min(len(data), _HEADER) if rng.random() < 0.5 else len(data)
    return rng.randrange(end) if end else 0


def _run(data: bytes, rng: Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 256)))


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        if changed:
            changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, rng: Random) -> bytes:
    start, stop = _run(data, rng)
    return data[:start] + rng.randbytes(stop - start) + data[stop:]


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: _place(data, rng)]


def _delete(data: bytes, rng: Random) -> bytes:
    start, stop = _run(data, rng)
    return data[:start] + data[stop:]


def _insert(data: bytes, rng: Random) -> bytes:
    start, length = _place(data, rng), rng.choice((1, 2, 3, 8, 100, 3000))
    added = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    return data[:start] + added + data[start:]


def _repeat(data: bytes, rng: Random) -> bytes:
    start, stop = _run(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 2, 50)) + data[stop:]


def _edit_number(data: bytes, rng: Random) -> bytes:
    start, width = _place(data, rng), rng.choice((1, 2, 4, 8))
    number = rng.choice(_EDGES) + rng.choice((-1, 0, 0, 1))
    raw = (number % 256**width).to_bytes(width, rng.choice(("little", "big")))
    return data[:start] + raw + data[start + width :]


_CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip,
    _overwrite,
    _truncate,
    _delete,
    _insert,
    _repeat,
    _edit_number,
    _edit_number,
)


def mutate(data: bytes, rng: Random, *, others: Sequence[bytes] = ()) -> bytes:
    """How may these bytes arrive after an accident or an attack? One to four changes, drawn from `rng`.

    Flipped bits, random runs, missing ends and middles, inserted and repeated runs, numbers set to edge values;
    and, where there are `others`, the beginning of `data` with the end of one of them.
    """
    for _ in range(rng.choice((1, 1, 2, 4))):
        if others and rng.random() < 0.1:
            other = rng.choice(others)
            data = data[: _place(data, rng)] + other[_place(other, rng) :]
        else:
            data = rng.choice(_CHANGES)(data, rng)
    return data
