"""What does a pickle describe? Read as data: nothing named in it is ever imported, built or called.

`torch.load(weights_only=True)` allocates what a file claims before anybody can look at the claim, and twice let code
through. Here the opcodes are walked with `pickletools`: containers become containers, and whatever would be a call
stays a description of it (`Call`), which `containers` turns into tensors where it describes one.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from featviz_core.errors import CheckpointError

RESAVE = 'Save the weights alone, in Python where you trust the file: torch.save(model.state_dict(), "weights.pth").'
"""The way out of most refusals."""

DAMAGE = (ValueError, LookupError, TypeError, OverflowError, AttributeError)
"""What walking a broken pickle raises."""

MAX_OPCODES = 1_000_000  # a state dict takes about 35 for each tensor
_SCALARS = (str, int, bytes, float, type(None))


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that the pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:120]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call that loading the pickle in the usual way would make; never made."""

    function: object
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Something stored outside the pickle (a tensor's numbers)."""

    value: object


@dataclass(frozen=True, slots=True)
class Description:
    """`value`: what a pickle describes. `references`: what it says is stored elsewhere."""

    value: object
    references: tuple[Reference, ...]


def read_pickle(file: IO[bytes] | bytes) -> Description:
    """Walks one pickle, up to its end mark. Raises `CheckpointError` for code, and of `DAMAGE` where it is broken."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MAX_OPCODES:
            raise CheckpointError(
                f"The file describes more than {MAX_OPCODES:,} things, far more than the weights of a model.",
                do=RESAVE,
            )
        if opcode.name == "STOP":
            break
        action = _ACTIONS.get(opcode.name)
        if action is None:
            raise _code(f"the instruction {opcode.name}")
        action(machine, argument)
    return Description(machine.stack[-1], tuple(machine.references))


def _code(what: str) -> CheckpointError:
    return CheckpointError(
        f"The file holds more than tensors: loading it in the usual way would run code, here {what}. "
        "None of it was run.",
        why="A file from elsewhere is opened only when it holds nothing but weights.",
        do=RESAVE,
    )


class _Machine:
    """The stack machine that pickles are programs for, without the power to call anything."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.references: list[Reference] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._pairs_left = MAX_OPCODES

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self._marks.append(len(self.stack))

    def since_mark(self) -> list[object]:
        start = self._marks.pop()
        if start > len(self.stack):
            raise ValueError("a mark above the stack")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self.stack.pop()

    def last(self, count: int) -> tuple[object, ...]:
        items = tuple(self.stack[len(self.stack) - count :])
        if len(items) < count:
            raise ValueError("too little on the stack")
        del self.stack[len(self.stack) - count :]
        return items

    def remember(self, index: object) -> None:
        self._memo[int(str(index))] = self.stack[-1]

    def recall(self, index: object) -> None:
        self.push(self._memo[int(str(index))])

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items for something that takes none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, _SCALARS):  # hashing nested tuples can take forever, and weights have names
                target[key] = value

    def add_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Call):
            raise ValueError("items for something that takes none")

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        found = Name(module, name)
        if not is_inert(found):
            raise _code(str(found))
        self.push(found)

    def call(self, function: object, args: object) -> None:
        if not isinstance(function, Name):
            raise _code("a call of something that has no name")
        if not isinstance(args, tuple):
            raise ValueError("a call without arguments")
        if function.module == "collections" and function.name in ("OrderedDict", "defaultdict", "Counter"):
            self.push(self._pairs(args))
        else:
            self.push(Call(function, args))

    def _pairs(self, args: tuple[object, ...]) -> dict[object, object]:
        """The dict that OrderedDict(pairs) gives; Python 2 wrote it with the pairs as its argument."""
        pairs = args[0] if args and isinstance(args[0], list) else []
        self._pairs_left -= len(pairs)
        if self._pairs_left < 0:
            raise ValueError("the same pairs over and over")
        items = [tuple(pair) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        return {key: value for key, value in items if isinstance(key, _SCALARS)}

    def build(self) -> None:
        """Drops an object's own state, such as the version numbers that torch keeps beside a state dict."""
        self.last(1)
        if not self.stack:
            raise ValueError("a state without an object")

    def dictionary(self, items: list[object]) -> None:
        self.push({})
        self.set_items(items)

    def refer(self, value: object) -> None:
        reference = Reference(value)
        self.references.append(reference)
        self.push(reference)


_INERT = {
    "collections": "OrderedDict defaultdict Counter deque",
    "builtins": "set frozenset list dict tuple int float bool str bytes bytearray complex slice range",
    "__builtin__": "set frozenset list dict tuple int float bool str unicode long bytearray complex slice xrange",
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "datetime": "datetime date time timedelta timezone",
    "_codecs": "encode",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "torch": "Size device Tensor",
    "torch.nn.parameter": "Parameter Buffer",
    "torch.serialization": "_get_layout",
    "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter "
    "_rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor",
    "torch._tensor": "_rebuild_from_type_v2",
    "torch.storage": "UntypedStorage TypedStorage",
}
_INERT_NAMES = {Name(module, name) for module, names in _INERT.items() for name in names.split()}


def is_inert(name: Name) -> bool:
    """Is this one of the names that files with weights and plain settings hold? Even these are never called."""
    storage = name.module in ("torch", "torch.cuda") and name.name.endswith("Storage")
    dtype = name.module == "torch" and name.name.startswith(("float", "bfloat", "int", "uint", "bool", "complex"))
    return name in _INERT_NAMES or storage or dtype


_LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(_LITERALS.split(), _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda _p, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "MEMOIZE": lambda p, _: p.memoize(),
    "NONE": lambda p, _: p.push(None),
    "NEWTRUE": lambda p, _: p.push(True),
    "NEWFALSE": lambda p, _: p.push(False),
    "MARK": lambda p, _: p.mark(),
    "POP": lambda p, _: p.pop(),
    "POP_MARK": lambda p, _: p.since_mark(),
    "DUP": lambda p, _: p.push(p.stack[-1]),
    "EMPTY_TUPLE": lambda p, _: p.push(()),
    "TUPLE1": lambda p, _: p.push(p.last(1)),
    "TUPLE2": lambda p, _: p.push(p.last(2)),
    "TUPLE3": lambda p, _: p.push(p.last(3)),
    "TUPLE": lambda p, _: p.push(tuple(p.since_mark())),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda p, _: p.push([])),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda p, _: p.push(p.since_mark())),
    "APPEND": lambda p, _: p.add_items(list(p.last(1))),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda p, _: p.add_items(p.since_mark())),
    "EMPTY_DICT": lambda p, _: p.push({}),
    "DICT": lambda p, _: p.dictionary(p.since_mark()),
    "SETITEM": lambda p, _: p.set_items(list(p.last(2))),
    "SETITEMS": lambda p, _: p.set_items(p.since_mark()),
    "GLOBAL": lambda p, names: p.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda p, _: p.name(*p.last(2)),
    "REDUCE": lambda p, _: p.call(*p.last(2)),
    "NEWOBJ": lambda p, _: p.call(*p.last(2)),
    "NEWOBJ_EX": lambda p, _: p.call(*p.last(3)[:2]),
    "BUILD": lambda p, _: p.build(),
    "PERSID": _Machine.refer,
    "BINPERSID": lambda p, _: p.refer(*p.last(1)),
}
"""What each opcode does. Those left out (extension codes, out-of-band buffers, INST, OBJ) occur in no checkpoint."""
