"""Which tensor does a description mean, and does the file hold as many numbers as it claims?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz_core.checkpoints.pickles import RESAVE, Call, Name, Reference
from featviz_core.errors import CheckpointError

Record = Callable[[str, int], NDArray[np.uint8]]
"""`record(key, nbytes)`: that many bytes of what the file holds under a key. Raises when it holds fewer."""

MAX_DIMENSION, _MAX_DIMENSIONS = 2**40, 32
_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "Untyped": torch.uint8,
}
_DTYPES = (*_STORAGES.values(), torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
_WRAPPERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_BUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_OTHER_KINDS = {"_rebuild_qtensor": "quantised", "_rebuild_sparse_tensor": "sparse"}


def is_tensor(node: object) -> bool:
    """Does this node describe a tensor of any kind?"""
    if not isinstance(node, Call) or not isinstance(node.function, Name):
        return False
    name = node.function.name
    return name in _WRAPPERS or name in _BUILDERS or name in _OTHER_KINDS or name == "_rebuild_from_type_v2"


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a description says of its tensor; offset and stride count numbers of `dtype`."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.size)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def is_covered(self) -> bool:
        """Does every number exist in the storage, and none serve in so many places that there are more than it has?"""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        end = (last + 1) * self.dtype.itemsize
        return self.numel == 0 or (self.nbytes <= self.storage.nbytes and end <= self.storage.nbytes)


class Builder:
    """Turns descriptions into tensors. Tensors that share numbers in the file share memory here.

    `limit`: how many bytes all tensors together may claim, however often they share the same numbers.
    """

    def __init__(self, record: Record, limit: int) -> None:
        self._record, self._left = record, limit
        self._storages: dict[str, tuple[_Storage, Tensor]] = {}

    def build(self, key: str, node: object) -> Tensor:
        """The tensor that `node` describes; raises `CheckpointError` where the file does not hold what it claims."""
        claim = _claim(key, node)
        if not claim.is_covered():
            raise CheckpointError(
                f"'{key[:80]}' claims {claim.numel:,} numbers, where the file holds "
                f"{claim.storage.nbytes // claim.dtype.itemsize:,}.",
                why="The file is damaged, was made to exhaust memory, or holds an expanded view.",
                do=RESAVE,
            )
        self._left -= claim.nbytes
        if self._left < 0:
            raise CheckpointError("The tensors in the file claim the same numbers over and over.", do=RESAVE)
        storage, numbers = self._storages.get(claim.storage.key, (claim.storage, None))
        if storage != claim.storage:
            raise ValueError("two sizes for one storage")
        if numbers is None:
            numbers = torch.from_numpy(self._record(storage.key, storage.nbytes))
            self._storages[storage.key] = (storage, numbers)
        if not claim.numel:
            return torch.empty(claim.size, dtype=claim.dtype)
        return numbers.view(claim.dtype).as_strided(claim.size, claim.stride, claim.offset)


def _claim(key: str, node: object) -> _Claim:
    for _ in range(4):  # a parameter around a tensor, and both inside a subclass
        if not isinstance(node, Call) or not isinstance(node.function, Name):
            break
        name, args = node.function.name, node.args
        if name in _OTHER_KINDS:
            raise CheckpointError(f"'{key[:80]}' is a {_OTHER_KINDS[name]} tensor, which cannot be shown.", do=RESAVE)
        if name in _BUILDERS:
            where, offset, size, stride, *rest = args
            storage = read_storage(where)
            dtype = _dtype(rest[2]) if name.endswith("v3") else storage.dtype
            (start,) = _whole_numbers((offset,))
            return _Claim(storage, dtype, start, _whole_numbers(size), _whole_numbers(stride))
        if name in _WRAPPERS:
            node = args[0]
        else:
            function, _, inner = args[:3]
            node = Call(function, inner) if isinstance(inner, tuple) else None
    raise ValueError("no tensor")


def read_storage(reference: object) -> _Storage:
    """Where the numbers of a tensor lie, as torch writes it: ("storage", type, key, device, count[, view])."""
    fields = reference.value if isinstance(reference, Reference) else None
    if not isinstance(fields, tuple) or len(fields) < 5 or fields[0] != "storage" or any(fields[5:]):
        raise ValueError("no storage")
    if not isinstance(fields[2], str):
        raise ValueError("a storage without a name")
    dtype = _storage_dtype(fields[1])
    return _Storage(fields[2], dtype, _whole_numbers((fields[4],))[0] * dtype.itemsize)


def _storage_dtype(name: object) -> torch.dtype:
    kind = name.name.removesuffix("Storage") if isinstance(name, Name) else ""
    if kind not in _STORAGES:
        raise _unknown_kind(name)
    return _STORAGES[kind]


def _whole_numbers(values: object) -> tuple[int, ...]:
    """Sizes, strides or offsets: a tuple, or a `torch.Size` of one, of whole numbers from 0 to 2**40."""
    if isinstance(values, Call) and len(values.args) == 1:
        values = values.args[0]
    if not isinstance(values, tuple | list):
        raise ValueError("no sizes")
    found = tuple(value for value in values if type(value) is int and 0 <= value <= MAX_DIMENSION)
    if len(found) < len(values) or len(found) > _MAX_DIMENSIONS:
        raise ValueError("sizes that are none")
    return found


def _dtype(name: object) -> torch.dtype:
    for dtype in _DTYPES:
        if isinstance(name, Name) and str(dtype) == str(name):
            return dtype
    raise _unknown_kind(name)


def _unknown_kind(name: object) -> CheckpointError:
    kind = str(name) if isinstance(name, Name) else "one without a name"
    return CheckpointError(f"The file holds numbers of a kind that no vision model uses: {kind}.", do=RESAVE)
