"""Checkpoints made to do harm, written opcode by opcode: none of them may run anything or exhaust the machine."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
NUMBERS = struct.pack("<6f", *range(6))


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(*values: int) -> bytes:
    return tuple_of(*map(number, values))


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def dict_of(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + item for key, item in items.items()) + b"u"


def tensor(
    *,
    key: bytes = text("0"),
    kind: bytes = named("torch", "FloatStorage"),
    count: int = 6,
    offset: int = 0,
    size: bytes = numbers(2, 3),
    stride: bytes = numbers(3, 1),
) -> bytes:
    storage = tuple_of(text("storage"), kind, key, text("cpu"), number(count)) + b"Q"
    rest = (number(offset), size, stride, b"\x89", call(named("collections", "OrderedDict")))
    return call(named("torch._utils", "_rebuild_tensor_v2"), storage, *rest)


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def zipped(pickled: bytes, *, root: str = "archive", more: dict[str, bytes] | None = None, **options: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        entries = {"data.pkl": pickled, "byteorder": b"little", "data/0": NUMBERS, "version": b"3\n", **(more or {})}
        for name, data in entries.items():
            archive.writestr(f"{root}/{name}", data)
    return buffer.getvalue()


def legacy(pickled: bytes, keys: bytes = pickle.dumps(["0"], 2), storages: bytes = b"") -> bytes:
    return MAGIC + pickled + keys + (storages or struct.pack("<q", 6) + NUMBERS)


def doubled(times: int = 60) -> bytes:
    """A tuple that would hold 2**60 texts if anybody wrote it out."""
    return text("ha") + b"2\x86" * times


# --- code -----------------------------------------------------------------------------------------------------------

GADGETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "os.system": ("os", "system", ("touch {}",)),
    "posix.system": ("posix", "system", ("touch {}",)),
    "builtins.eval": ("builtins", "eval", ("open('{}', 'w')",)),
    "builtins.exec": ("builtins", "exec", ("open('{}', 'w')",)),
    "__builtin__.eval": ("__builtin__", "eval", ("open('{}', 'w')",)),
    "builtins.open": ("builtins", "open", ("{}", "w")),
    "subprocess.getoutput": ("subprocess", "getoutput", ("touch {}",)),
    "pty.spawn": ("pty", "spawn", ("touch {}",)),
    "runpy.run_path": ("runpy", "run_path", ("{}",)),
    "getattr": ("builtins", "getattr", ("{}", "x")),
    "importlib": ("importlib", "import_module", ("{}",)),
    "attrgetter": ("operator", "attrgetter", ("{}",)),
    "partial": ("functools", "partial", ("{}",)),
    "torch.hub.load": ("torch.hub", "load", ("{}", "model")),
    "torch.load": ("torch.serialization", "load", ("{}",)),
    "torch.jit.load": ("torch.jit._serialization", "load", ("{}",)),
    "torch.save": ("torch", "save", ("x", "{}")),
    "load_library": ("torch._ops", "ops.load_library", ("{}",)),
    "numpy.save": ("numpy", "save", ("{}", "x")),
    "numpy.load": ("numpy", "load", ("{}",)),
    "Path.touch": ("pathlib", "Path.touch", ("{}",)),
    "bare name": ("nt", "system", ("touch {}",)),
}


def gadget(name: str, marker: Path) -> bytes:
    module, function, arguments = GADGETS[name]
    return call(named(module, function), *(text(argument.format(marker)) for argument in arguments))


class Reduced:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, (f"touch {self.marker}",)


def _saved(value: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def _exported() -> bytes:
    """The names that `torch.export.save` gives its entries."""
    names = {"archive_format": b"pt2", "models/model.json": b"{}", "data/weights/weight_0": NUMBERS}
    return zipped(program(b"}"), more=names)


def _shell(marker: Path) -> bytes:
    return text(f"touch {marker}")


CODE: dict[str, Callable[[Path], bytes]] = {
    "object with __reduce__": lambda m: _saved({"weight": torch.ones(2), "x": Reduced(m)}),
    "object with __reduce__, legacy": lambda m: _saved([Reduced(m)], _use_new_zipfile_serialization=False),
    "code before the magic number": lambda m: program(gadget("os.system", m)) + legacy(program(tensor())),
    "code in place of the keys": lambda m: legacy(program(tensor()), keys=program(gadget("os.system", m))),
    "code dropped from the stack": lambda m: zipped(program(gadget("os.system", m) + b"0" + dict_of(w=tensor()))),
    "STACK_GLOBAL": lambda m: zipped(b"\x80\x04" + text("os") + text("system") + b"\x93" + _shell(m) + b"\x85R."),
    "STACK_GLOBAL from the memo": lambda m: zipped(
        b"\x80\x04" + text("system") + b"\x940" + text("os") + b"h\x00\x93" + _shell(m) + b"\x85R."
    ),
    "dotted name in a harmless module": lambda m: zipped(
        b"\x80\x04" + text("pathlib") + text("os.system") + b"\x93" + _shell(m) + b"\x85R."
    ),
    "dotted name behind torch": lambda m: zipped(
        b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93" + _shell(m) + b"\x85R."
    ),
    "INST": lambda m: zipped(f"(S'touch {m}'\nios\nsystem\n.".encode()),
    "OBJ": lambda m: zipped(b"(cos\nsystem\n" + _shell(m) + b"o."),
    "OBJ of a harmless class": lambda m: zipped(program(b"(ccollections\nOrderedDict\n" + _shell(m) + b"o")),
    "NEWOBJ": lambda m: zipped(program(named("subprocess", "Popen") + _shell(m) + b"\x85\x81")),
    "NEWOBJ_EX": lambda m: zipped(b"\x80\x04" + named("subprocess", "Popen") + _shell(m) + b"\x85}\x92."),
    "extension code": lambda m: zipped(program(b"\x82\x01" + _shell(m) + b"\x85R")),
    "extension codes, wide": lambda m: zipped(program(b"\x84\x01\x02\x03\x04" + _shell(m) + b"\x85R")),
    "out-of-band buffer": lambda _: zipped(b"\x80\x05\x97\x98."),
    "BUILD with __setstate__": lambda m: zipped(
        program(named("torch.nn.modules.module", "Module") + b")\x81" + dict_of(x=_shell(m)) + b"b")
    ),
    "code in a persistent id": lambda m: zipped(program(dict_of(w=gadget("os.system", m) + b"Q"))),
    "a class as storage type": lambda _: zipped(program(dict_of(w=tensor(kind=named("os", "system"))))),
    "a default factory": lambda _: zipped(
        program(call(named("collections", "defaultdict"), named("os", "system")) + text("w") + tensor() + b"s")
    ),
    "calling what a call gave": lambda m: zipped(program(call(call(named("torch", "Size"), _shell(m)), _shell(m)))),
    "calling a text": lambda m: zipped(program(call(text("os.system"), _shell(m)))),
    "a whole module": lambda _: _saved(nn.Sequential(nn.Linear(2, 2))),
    "a whole module, legacy": lambda _: _saved(nn.Linear(2, 2), _use_new_zipfile_serialization=False),
    "a state dict with a function": lambda _: _saved({"weight": torch.ones(2), "activation": nn.functional.relu}),
    "TorchScript": lambda _: _script(),
    "an exported program": lambda _: _exported(),
    "TorchScript beside weights": lambda _: zipped(
        program(dict_of(w=tensor())), more={"code/__torch__.py": b"import os", "constants.pkl": b"."}
    ),
    **{f"gadget {name}": lambda m, name=name: zipped(program(dict_of(w=gadget(name, m)))) for name in GADGETS},
}
"""By name: a checkpoint that runs something, creating the file it is given, in a reader that trusts it."""


# --- bombs and lies --------------------------------------------------------------------------------------------------


def _two_of_one_name() -> bytes:
    data = zipped(program(dict_of(w=tensor())), more={"data/1": NUMBERS})
    return data.replace(b"data/1", b"data/0")


def _crowded_zip(count: int) -> bytes:
    """A directory of that many entries, all of which lie at the same place."""
    header = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    directory = b"".join(header + b"%07d" % index for index in range(count))
    start = b"PK\x03\x04" + bytes(26)
    size = len(directory)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count % 65536, count % 65536, size, len(start), 0)
    return start + directory + end


def _overlapping() -> bytes:
    """Many entries, each of which claims all of the file."""
    data = bytearray(zipped(program(dict_of(w=tensor()))))
    place = data.rindex(b"PK\x01\x02")
    data[place + 20 : place + 28] = struct.pack("<II", len(data), len(data))
    return bytes(data)


def _dicts_in_dicts(count: int = 2000, depth: int = 6) -> bytes:
    body = b"}"
    for level in range(depth):
        entries = b"".join(text(str(index)) + b"h" + bytes([level]) for index in range(count))
        body += b"q" + bytes([level]) + b"0}(" + entries + b"u"
    return body


def _same_pairs(times: int = 200_000) -> bytes:
    pair = number(1) + number(2) + b"\x86q\x010"
    pairs = pair + b"](" + b"h\x01" * 200_000 + b"eq\x020" + named("collections", "OrderedDict") + b"q\x030"
    return pairs + b"(" + b"h\x03h\x02\x85R" * times + b"t"


def _claim(**claims: bytes | int) -> bytes:
    return zipped(program(dict_of(w=tensor(**claims))))


def safetensors(header: object, data: bytes = NUMBERS, *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def _entry(shape: object = (2, 3), offsets: object = (0, 24), dtype: object = "F32") -> bytes:
    return safetensors({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})


_TWICE = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}

BOMBS: dict[str, Callable[[], bytes]] = {
    "compressed numbers": lambda: zipped(
        program(dict_of(w=tensor())), more={"data/0": bytes(10**8)}, compression=zipfile.ZIP_DEFLATED
    ),
    "two entries of one name": _two_of_one_name,
    "a directory of a million entries": lambda: _crowded_zip(1_000_000),
    "a directory of 70,000 entries": lambda: _crowded_zip(70_000),
    "entries that claim the whole file": _overlapping,
    "an entry with an absolute name only": lambda: zipped(program(b"}"), root=""),
    "numbers in another folder": lambda: _claim(key=text("../../etc/passwd")),
    "a storage of 10**12 numbers": lambda: _claim(count=10**12, size=numbers(10**12), stride=numbers(1)),
    "a view of 10**12 numbers": lambda: _claim(size=numbers(10**6, 10**6), stride=numbers(0, 0)),
    "more dimensions than torch has": lambda: _claim(size=numbers(*[1] * 70), stride=numbers(*[1] * 70)),
    "sizes whose product overflows": lambda: _claim(size=numbers(*[2**39] * 30), stride=numbers(*[0] * 30)),
    "a stride beyond the end": lambda: _claim(stride=numbers(2**39, 1)),
    "an offset beyond the end": lambda: _claim(offset=2**39),
    "a negative offset": lambda: _claim(offset=-1),
    "a negative size": lambda: _claim(size=numbers(-2, -3)),
    "a negative stride": lambda: _claim(stride=numbers(-3, -1)),
    "more sizes than strides": lambda: _claim(stride=numbers(1)),
    "texts as sizes": lambda: _claim(size=tuple_of(text("2"), text("3"))),
    "a doubled tuple as size": lambda: _claim(size=doubled()),
    "a doubled tuple as storage name": lambda: _claim(key=doubled()),
    "a doubled tuple as storage type": lambda: _claim(kind=doubled()),
    "a doubled tuple as storage": lambda: zipped(program(dict_of(w=doubled() + b"Q"))),
    "a doubled tuple as the file": lambda: zipped(program(doubled())),
    "a doubled tuple as name": lambda: zipped(program(b"}(" + doubled() + tensor() + b"u")),
    "a doubled tuple as a legacy key": lambda: legacy(program(tensor()), program(b"](" + doubled() + b"e")),
    "two sizes for one legacy storage": lambda: legacy(
        program(dict_of(a=tensor(count=2**39, size=numbers(2**39), stride=numbers(1)), b=tensor()))
    ),
    "a legacy storage that goes on": lambda: legacy(program(tensor()), storages=struct.pack("<q", 2**60)),
    "dicts in dicts": lambda: zipped(program(_dicts_in_dicts())),
    "a dict in itself": lambda: zipped(program(b"}q\x00" + text("model") + b"h\x00s")),
    "the same pairs over and over": lambda: zipped(program(_same_pairs())),
    "tuples in tuples": lambda: zipped(program(b")" + b"\x85" * 400_000)),
    "calls in calls": lambda: zipped(program(named("torch", "Size") + b"q\x000)" + b"q\x010h\x00h\x01\x85R" * 100_000)),
    "references in references": lambda: zipped(program(b")" + b"Q" * 400_000)),
    "dicts deeper than Python goes": lambda: zipped(program(b"}" + (text("a") + b"}") * 5000 + b"s" * 5000)),
    "two million instructions": lambda: zipped(program(b"N0" * 1_000_000)),
    "a number of 10**9 bytes": lambda: zipped(program(b"\x8b" + struct.pack("<i", 10**9) + b"1")),
    "a text of 2**62 bytes": lambda: zipped(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a."),
    "a frame of 2**62 bytes": lambda: zipped(b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."),
    "a memo number of 4 billion": lambda: zipped(program(b"Nr\xff\xff\xff\xff")),
    "marks alone": lambda: zipped(program(b"(" * 400_000)),
    "nothing on the stack": lambda: zipped(program(b"")),
    "a header of 2**63 bytes": lambda: safetensors({"w": _TWICE}, length=2**63),
    "a header longer than the file": lambda: safetensors({"w": _TWICE}, length=10_000),
    "numbers that overlap": lambda: safetensors({"a": _TWICE, "b": _TWICE}),
    "numbers beyond the file": lambda: _entry(offsets=(24, 48)),
    "numbers that end before they begin": lambda: _entry(offsets=(24, 0)),
    "numbers at a negative place": lambda: _entry(offsets=(-24, 0)),
    "numbers of another type": lambda: _entry(dtype="F64"),
    "numbers of no type": lambda: _entry(dtype="F31"),
    "a type that is a list": lambda: _entry(dtype=["F32"]),
    "a name twice": lambda: safetensors(b'{"w":' + json.dumps(_TWICE).encode() + b',"w":{}}'),
    "a shape that overflows": lambda: _entry(shape=(2**62, 4, 2**62)),
    "a shape of 2**62 nothings": lambda: _entry(shape=(2**62, 0), offsets=(0, 0)),
    "a shape that is a text": lambda: _entry(shape="23"),
    "a shape of fractions": lambda: _entry(shape=(2.0, 3.0)),
    "lists in lists": lambda: safetensors(b'{"a":' + b"[" * 100_000),
    "a header that is a list": lambda: safetensors(b"{}[]"),
    "metadata that is a number": lambda: safetensors({"__metadata__": 3, "w": _TWICE}),
    "an empty header": lambda: safetensors({}),
}
"""By name: a checkpoint that claims more than it holds, or makes a careless reader work or allocate for ever."""
