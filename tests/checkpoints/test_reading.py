"""Weights from every kind of file that training scripts write, equal to what torch reads."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from featviz_core.checkpoints import read_checkpoint, read_class_names
from featviz_core.errors import CheckpointError
from tests.fuzz import checkpoints as fuzz


def save(value, *, zipped=True):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def same(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


STATE = {f"layer{index}.weight": torch.arange(6.0).reshape(2, 3) + index for index in range(10)}
WRITERS = {"zip": save, "legacy": lambda state: save(state, zipped=False), "safetensors": safetensors.torch.save}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_a_real_state_dict_is_read_as_torch_reads_it(writer, name, tmp_path):
    state = torchvision.models.get_model(name, weights=None).state_dict()
    data = WRITERS[writer](state)
    (tmp_path / "file.pth").write_bytes(data)
    read = [read_checkpoint(data, name="it"), read_checkpoint(tmp_path / "file.pth", name="it")]
    if writer != "safetensors":
        same(read[0].state, torch.load(io.BytesIO(data), weights_only=True))
    for checkpoint in read:
        assert checkpoint.sha256 == hashlib.sha256(data).hexdigest()
        assert checkpoint.notes == ()
        assert checkpoint.name == "it"
        assert set(checkpoint.state) == set(state)
        assert all(torch.equal(checkpoint.state[key], state[key]) for key in state)


@pytest.mark.parametrize("zipped", [True, False])
def test_unusual_tensors_are_read_as_torch_reads_them(zipped):
    numbers = torch.arange(24.0).reshape(4, 6)
    state = {
        "half": numbers.half(),
        "bfloat16": numbers.bfloat16(),
        "double": numbers.double(),
        "counter": torch.tensor(3),
        "mask": numbers > 3,
        "empty": torch.empty(0, 3),
        "transposed": numbers.T,
        "part": numbers[1:3, ::2],
        "tied": numbers,
        "channels_last": torch.arange(48.0).reshape(2, 2, 3, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{name: numbers.to(getattr(torch, name)) for name in ("int8", "uint8", "int16", "int32")},
    }
    if zipped:
        state |= {"float8": numbers.to(torch.float8_e4m3fn), "uint16": numbers.to(torch.uint16)}
    found, expected = (read_checkpoint(save(state, zipped=zipped)).state, state)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert (found[key].dtype, found[key].stride()) == (value.dtype, value.stride()), key
        assert torch.equal(found[key].double(), value.double()), key
    assert found["tied"].data_ptr() == found["transposed"].data_ptr()


@pytest.mark.parametrize("outer", ["state_dict", "model", "model_state_dict", "ema", "something"])
def test_weights_are_found_inside_what_training_scripts_save(outer):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = {
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": torch.tensor(0.5),
        "scores": np.float64(0.5),
        "history": defaultdict(list, loss=[1.0]),
        "path": Path("x"),
        outer: OrderedDict(STATE),
    }
    if outer == "something":
        del saved["best"]
    checkpoint = read_checkpoint(save(saved))
    same(checkpoint.state, STATE)
    assert checkpoint.notes == (f"The weights were found under '{outer}'.",)


def test_deeper_and_beside_each_other():
    ema = {key: value + 1 for key, value in STATE.items()}
    checkpoint = read_checkpoint(save({"run": {"saved": {"ema": ema, "model": STATE}}}))
    same(checkpoint.state, STATE)
    assert "ema left aside" in checkpoint.notes[-1]


def test_entries_that_are_no_tensors_are_counted():
    checkpoint = read_checkpoint(save({**STATE, "version": 2, "name": "net"}))
    same(checkpoint.state, STATE)
    assert checkpoint.notes == ("2 entries that are no tensors were left out.",)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    checkpoint = read_checkpoint(save({prefix + key: value for key, value in STATE.items()} | {"loss": torch.ones(1)}))
    same(checkpoint.state, {**STATE, "loss": torch.ones(1)})
    assert "taken off" in checkpoint.notes[0]


def test_prefixes_that_few_names_share_stay():
    state = {("module." if index < 8 else "") + key: value for index, (key, value) in enumerate(STATE.items())}
    same(read_checkpoint(save(state)).state, state)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("class_names", ["a", "b"]),
        ("classes", ("a", "b")),
        ("names", {1: "b", 0: "a"}),
        ("class_to_idx", {"b": 1, "a": 0}),
    ],
)
def test_class_names_in_the_file(key, names):
    assert read_checkpoint(save({"model": STATE, key: names})).class_names == ("a", "b")


@pytest.mark.parametrize("value", [[1, 2], {}, 3, torch.nn.Linear(2, 2).state_dict(), {"a": {"b": 1}}])
def test_a_file_without_named_weights_says_so(value):
    if isinstance(value, OrderedDict):
        value = list(value.values())
    with pytest.raises(CheckpointError, match="no named tensors"):
        read_checkpoint(save(value))


def test_what_is_no_checkpoint_is_named(tmp_path):
    cases = {
        b"": "is empty",
        b"\x89PNG\r\n\x1a\n": "is no checkpoint",
        b"PK\x05\x06" + bytes(18): "exactly one data.pkl",
    }
    for data, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(data, name="it")
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(CheckpointError, match="cannot be opened"):
            read_checkpoint(path)
    with pytest.raises(CheckpointError, match="too large"):
        read_checkpoint(save(STATE), max_bytes=100)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_cut_is_refused(writer):
    data = WRITERS[writer]({"a": torch.ones(3), "b": torch.ones(2)})
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(CheckpointError):
            read_checkpoint(data[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"tench\ngoldfish\n",
        b"\xef\xbb\xbftench\r\ngoldfish\r\n\r\n",
        b'["tench", "goldfish"]',
        b" tench \n goldfish",
        b'{"1": "goldfish", "0": "tench"}',
        b'{"0": ["n01", "tench"], "1": ["n02", "goldfish"]}',
        b'{"goldfish": 1, "tench": 0}',
    ],
)
def test_class_names_are_read(data):
    assert read_class_names(data) == ("tench", "goldfish")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"[",
        b"{}",
        b'{"0": "a", "2": "b"}',
        b'{"a": "b"}',
        b'["a", ""',
        b"[[]]",
        b"[" * 100000,
        b'{"0": {}}',
        b'[["a", 1]]',
        b"a\n\nb",
        b"a\n" * 200000,
        b"[1" + b"0" * 5000 + b"]",
    ],
)
def test_bad_class_names_are_named(data):
    with pytest.raises(CheckpointError, match=r"labels\.txt cannot be read as class names") as caught:
        read_class_names(data, name="labels.txt")
    assert caught.value.do


def test_damaged_checkpoints_give_one_kind_of_error():
    summary = fuzz.run(3000, seed=1)
    assert summary.crashes == []
    assert summary.read and summary.refused
    assert summary.memory_growth_mb < 300
    assert fuzz.damaged(3, 5) == fuzz.damaged(3, 5)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", *fuzz.STARTS]))
def test_bytes_that_nobody_thought_of(data, start):
    try:
        read_checkpoint(start + data)
    except CheckpointError as error:
        assert error.what and error.do


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"[", b"{", b'{"0": ']))
def test_class_names_that_nobody_thought_of(data, start):
    try:
        assert all(read_class_names(start + data))
    except CheckpointError as error:
        assert error.what and error.why
