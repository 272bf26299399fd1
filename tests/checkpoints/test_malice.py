"""Nothing in a checkpoint is run, and nothing is set aside for its claims."""

from __future__ import annotations

import resource
import sys
import time

import pytest
import torch

from featviz_core.checkpoints import read_checkpoint
from featviz_core.errors import CheckpointError
from tests.checkpoints import malice
from tests.checkpoints.malice import BOMBS, CODE


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def refused(data):
    start, before = time.perf_counter(), peak_mb()
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(data, name="it")
    assert time.perf_counter() - start < 10
    assert peak_mb() - before < 300
    assert caught.value.what and caught.value.do
    assert len(str(caught.value)) < 800
    return caught.value


@pytest.mark.parametrize("name", CODE)
def test_code_is_refused_and_not_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused(CODE[name](tmp_path / "ran"))
    assert "torch.save(model.state_dict()" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "object with __reduce__",
        "object with __reduce__, legacy",
        "STACK_GLOBAL",
        "STACK_GLOBAL from the memo",
        "dotted name in a harmless module",
        "dotted name behind torch",
        "INST",
        "OBJ",
        "code before the magic number",
        "code dropped from the stack",
        "gadget builtins.eval",
        "gadget os.system",
    ],
)
def test_the_code_is_live(name, tmp_path):
    """A reader that trusts these files does run them, so that refusing them means something."""
    (tmp_path / "file").write_bytes(CODE[name](tmp_path / "ran"))
    try:
        torch.load(tmp_path / "file", weights_only=False)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        assert error
    assert (tmp_path / "ran").exists()


def test_a_real_exported_program_is_refused(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(CheckpointError, match="exported program"):
        read_checkpoint(tmp_path / "model.pt2")


@pytest.mark.parametrize("name", BOMBS)
def test_claims_that_do_not_hold_are_refused_soon_and_without_memory(name):
    refused(BOMBS[name]())


@pytest.mark.parametrize("times", [1, 100_000])
def test_prefixes_are_taken_off_a_few_times_only(times):
    data = malice.zipped(malice.program(malice.dict_of(**{"module." * times + "weight": malice.tensor()})))
    start = time.perf_counter()
    (key,) = read_checkpoint(data).state
    assert time.perf_counter() - start < 5
    assert key.endswith("weight")


def test_names_that_lead_out_of_the_archive_are_only_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = malice.zipped(malice.program(malice.dict_of(w=malice.tensor())), root="../../outside")
    assert read_checkpoint(data).state["w"].flatten().tolist() == list(range(6))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [malice.zipped, malice.legacy])
def test_the_same_bytes_without_malice_are_read(make):
    data = make(malice.program(malice.dict_of(w=malice.tensor())))
    assert read_checkpoint(data).state["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
