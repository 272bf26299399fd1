"""Downloads from a server that serves well and badly, and files that were damaged on the way."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import featviz_core.weights as published
from featviz_core.errors import WeightsError
from featviz_core.weights import download, is_cached, load_state, memory_bytes, verify, weights_file
from featviz_core.zoo import ZOO, default_weights
from tests.loopback_server import serve

USAGE = namedtuple("USAGE", "total used free")
BODY = random.Random(0).randbytes(400_000)
NAME = f"resnet18-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("http_proxy", raising=False)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def server():
    with serve(BODY) as loopback:
        yield loopback


def entry(server, manner="good", name=NAME):
    url = f"{server.url}/{manner}/{name}"
    return replace(default_weights("resnet18"), url=url, megabytes=len(BODY) / 2**20)


def files(folder: Path):
    return sorted(path.name for path in folder.glob("*"))


@pytest.mark.parametrize("manner", ["good", "unannounced"])
def test_a_file_arrives_whole_and_is_fetched_once(server, hub, manner):
    weights, seen = entry(server, manner), []
    assert not is_cached(weights)
    path = download(weights, progress=lambda fraction, text: seen.append((fraction, text)))
    assert path == weights_file(weights) == hub / NAME
    assert path.read_bytes() == BODY
    assert is_cached(weights)
    assert files(hub) == [NAME]
    assert seen and all(0 <= fraction <= 1 and NAME in text for fraction, text in seen)
    before = server.requests
    assert download(weights) == path
    assert server.requests == before


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("truncated", "broke off after 0.2 of 0.4 MB"),
        ("dies", "broke off"),
        ("wrong", "its SHA-256 begins with"),
        ("missing", "answered 404"),
        ("long", "did not send the published file .*it has 38.1 MB"),
        ("endless", "did not send the published file .*it goes on"),
    ],
)
def test_a_bad_answer_is_named_and_nothing_is_kept(server, hub, manner, message):
    with pytest.raises(WeightsError, match=message) as caught:
        download(entry(server, manner))
    assert caught.value.do
    assert files(hub) == []


def test_a_silent_server_is_given_up(server, hub):
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"broke off after 0\.0"):
        download(entry(server, "silent"), timeout=0.3)
    assert time.monotonic() - start < 2
    assert files(hub) == []


@pytest.mark.parametrize("host", ["127.0.0.1:1", "featviz.invalid", "10.255.255.1"])
def test_offline_says_within_two_seconds_what_to_do(hub, host):
    weights = replace(default_weights("resnet18"), url=f"http://{host}/models/{NAME}")
    start = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        download(weights)
    assert time.monotonic() - start < 2
    for part in ("freshly initialised", "demo model", f"put the file {NAME}", str(hub)):
        assert part in caught.value.do
    assert host.split(":")[0] in caught.value.what


def test_a_name_look_up_that_hangs_is_given_up(monkeypatch):
    over = threading.Event()

    def hang(*args, **options):
        over.wait(5)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    weights = replace(default_weights("resnet18"), url=f"https://download.pytorch.org/models/{NAME}")
    start = time.monotonic()
    with pytest.raises(WeightsError, match="no connection within"):
        download(weights)
    assert time.monotonic() - start < 2
    over.set()


def test_a_damaged_file_is_named_and_replaced_on_request(server, hub):
    weights = entry(server)
    hub.mkdir(parents=True)
    (hub / NAME).write_bytes(BODY[:-1] + b"x")
    for check in (lambda: verify(hub / NAME, weights), lambda: download(weights)):
        with pytest.raises(WeightsError, match=rf"{NAME} of resnet18 .* is damaged.*Download it again"):
            check()
    assert download(weights, again=True).read_bytes() == BODY
    verify(hub / NAME, weights)
    with pytest.raises(WeightsError, match="cannot be read"):
        verify(hub / "none.pth", weights)


def test_a_failed_second_download_leaves_the_file_that_is_there(server, hub):
    path = download(entry(server))
    with pytest.raises(WeightsError):
        download(entry(server, "truncated"), again=True)
    assert path.read_bytes() == BODY


class Stop(BaseException):
    """As Streamlit's StopException: no Exception."""


def test_progress_may_cancel(server, hub):
    def cancel(fraction, text):
        raise Stop

    with pytest.raises(Stop):
        download(entry(server, "slow"), progress=cancel)
    assert files(hub) == []
    assert download(entry(server)).is_file()  # the lock was given back


def test_threads_that_ask_at_once_share_one_download(server, hub):
    weights, before, waited = entry(server, "slow"), server.requests, []
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(download, weights, progress=lambda _, text: waited.append(text)) for _ in range(4)]
    assert {future.result().read_bytes() for future in futures} == {BODY}
    assert server.requests == before + 1
    assert any("Waiting" in text for text in waited)
    assert files(hub) == [NAME]


CHILD = """
import sys
from dataclasses import replace
from featviz_core.weights import download
from featviz_core.zoo import default_weights
weights = replace(default_weights("resnet18"), url=sys.argv[1], megabytes=float(sys.argv[2]))
print(download(weights, progress=lambda fraction, text: print("going", flush=True)))
"""


def start_child(url):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(len(BODY) / 2**20)], stdout=subprocess.PIPE, env={**os.environ}
    )


def test_a_process_killed_during_a_download_leaves_nothing_that_is_taken_for_the_file(server, hub):
    weights = entry(server, "slow")
    child = start_child(weights.url)
    assert child.stdout.readline() == b"going\n"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    (left,) = files(hub)
    assert left.endswith(".part")
    assert not is_cached(weights)
    assert download(entry(server)).read_bytes() == BODY
    assert files(hub) == [NAME, left]  # too young to be known as left behind
    os.utime(hub / left, (0, 0))
    download(entry(server), again=True)
    assert files(hub) == [NAME]


def test_processes_that_ask_at_once_do_not_disturb_each_other(server, hub):
    children = [start_child(entry(server, "slow").url) for _ in range(2)]
    for child in children:
        output, _ = child.communicate(timeout=30)
        assert output.splitlines()[-1] == str(hub / NAME).encode()
    assert files(hub) == [NAME]
    assert (hub / NAME).read_bytes() == BODY


def test_a_full_disk_and_a_forbidden_folder_are_said(server, hub, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(published.shutil, "disk_usage", lambda _: USAGE(1, 1, 0))
        with pytest.raises(WeightsError, match="There is no room for"):
            download(entry(server))
    assert files(hub) == []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be stored.*TORCH_HOME"):
        download(entry(server))


def test_the_folder_is_torchs_own(monkeypatch, tmp_path):
    """Equal to what torch says, before and after it is imported."""
    weights = default_weights("resnet18")
    torch_module = sys.modules["torch"]
    for variables in ({"TORCH_HOME": "~/x"}, {"XDG_CACHE_HOME": str(tmp_path / "xdg")}, {}):
        with monkeypatch.context() as patch:
            patch.delenv("TORCH_HOME")
            patch.delenv("XDG_CACHE_HOME", raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            expected = Path(torch_module.hub.get_dir()) / "checkpoints" / "resnet18-f37072fd.pth"
            assert weights_file(weights) == expected
            patch.delitem(sys.modules, "torch")
            assert weights_file(weights) == expected


@pytest.mark.parametrize("zipped", [True, False])
def test_load_state_reads_both_formats_without_running_code(tmp_path, zipped):
    state = {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(2), "half": torch.ones(2).half()}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    loaded = load_state(tmp_path / "a.pth")
    assert set(loaded) == {"features.denseblock1.denselayer1.norm1.weight", "half"}
    assert loaded["half"].dtype is torch.float32


def test_load_state_turns_every_failure_into_one_error(tmp_path):
    torch.save({"a": threading.Event}, tmp_path / "code.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "list.pth").write_bytes(BODY[:100])
    torch.save([1], tmp_path / "plain.pth")
    for name in ("code.pth", "empty.pth", "list.pth", "plain.pth", "none.pth"):
        with pytest.raises(WeightsError, match=f"{name} cannot be loaded") as caught:
            load_state(tmp_path / name)
        assert caught.value.why


def test_memory_counts_parameters_and_the_file():
    assert memory_bytes(ZOO["resnet18"]) == 4 * 11689512
    with_file = memory_bytes(ZOO["vit_b_16"], ZOO["vit_b_16"].weights[1])
    assert with_file == 4 * 86859496 + int(331.398 * 2**20)


def test_every_published_name_states_its_hash():
    for model in ZOO.values():
        for weights in model.weights:
            assert len(published._hash_prefix(weights)) >= 8
