"""TensorBoard's logs: all of them, as TensorBoard itself reads them, and on past damage."""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.event_file_writer import AtomicCounter, EventFileWriter
from torch.utils.tensorboard import SummaryWriter

import featviz_core as fv
from featviz_core.errors import FeatVizError, RunError
from featviz_core.runs import FolderFollower
from featviz_core.runs.records import Gap, Record, records
from tests.runs.logs import by_tensorboard, event_file, plain_run


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    plain_run(folder)
    return folder


def test_a_plain_script_is_read_as_tensorboard_reads_it(plain: Path) -> None:
    run, other = fv.read_run(plain), by_tensorboard(plain)
    for tag, found in run.scalars.items():
        steps, times, values = zip(*other[tag], strict=True)
        assert (found.steps.tolist(), found.wall_times.tolist()) == (list(steps), list(times))
        np.testing.assert_array_equal(found.values, values)
    assert set(run.scalars) == {"Loss/train", "Acc/val"}
    assert len(run.scalars["Loss/train"]) == 42
    np.testing.assert_allclose(run.histograms[["low", "high", "count"]], other["weights"][0][2], rtol=1e-6)
    assert run.histograms["count"].sum() == 500
    (picture,) = run.images
    assert (picture.step, picture.tag, picture.width, picture.height) == (4, "picture", 7, 5)
    assert picture.data == other["picture"][0][2][2]
    assert Image.open(io.BytesIO(picture.data)).size == (7, 5)
    assert run.graph
    assert run.roles == {"Loss/train": fv.Role("loss", "train"), "Acc/val": fv.Role("accuracy", "validation")}
    assert not run.damage
    assert list(run.frame().columns) == ["step", "wall_time", "tag", "value"]
    assert len(run.frame()) == 82


def test_uploads_and_zips_are_read_as_files_are(plain: Path) -> None:
    file = event_file(plain)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, f"runs/first/{file.name}")
        archive.writestr("runs/readme.txt", "no log")
    expected = fv.read_run(plain).frame()
    for upload in ({file.name: file.read_bytes()}, {"run.zip": packed.getvalue()}):
        run = fv.read_run(upload)
        assert run.frame().equals(expected)
        assert run.images[0].data == fv.read_run(plain).images[0].data
    assert fv.read_run({"run.zip": packed.getvalue()}).name == "runs/first"


def places(data: bytes) -> list[Record]:
    return [found for found in records(io.BytesIO(data)) if isinstance(found, Record)]


@pytest.mark.parametrize("where", ["length", "checksum of the length", "data", "checksum of the data"])
@pytest.mark.parametrize("number", [0, 7, -1])
def test_one_flipped_bit_costs_one_record_and_is_told(plain: Path, where: str, number: int) -> None:
    data = bytearray(event_file(plain).read_bytes())
    whole = places(bytes(data))
    hit = whole[number]
    offset = {"length": 0, "checksum of the length": 9, "data": 14, "checksum of the data": hit.end - hit.place - 1}
    data[hit.place + offset[where]] ^= 4
    run = fv.read_run({"x.tfevents": bytes(data)})
    (damage,) = run.damage
    assert (damage.file, damage.place, damage.length) == ("x.tfevents", hit.place, hit.end - hit.place)
    assert damage.before == whole.index(hit)
    assert damage.before + damage.after == len(whole) - 1
    assert [finding.code for finding in run.findings] == ["run.damaged"]
    assert run.findings[0].evidence["place"] == hit.place


def test_missing_and_additional_bytes_and_a_hole_of_zeros_are_passed_over(plain: Path) -> None:
    data = event_file(plain).read_bytes()
    whole = places(data)
    middle = whole[10].place + 20
    spoiled = {
        "fewer": (data[:middle] + data[middle + 5 :], 1),
        "more": (data[:middle] + b"\1\0\0\0\0\0\0\0noise" + data[middle:], 1),
        "zeros": (data[: whole[10].place] + bytes(whole[14].end - whole[10].place) + data[whole[14].end :], 5),
    }
    for name, (content, lost) in spoiled.items():
        run = fv.read_run({"x.tfevents": content})
        (damage,) = run.damage
        assert damage.place == whole[10].place, name
        assert damage.before == 10, name
        assert damage.after == len(whole) - 10 - lost, name


def test_a_cut_end_is_told_with_what_was_read(plain: Path) -> None:
    data = event_file(plain).read_bytes()
    last = places(data)[-1]
    for end in (last.place + 5, last.place + 12, last.end - 1):
        (damage,) = fv.read_run({"x.tfevents": data[:end]}).damage
        assert (damage.place, damage.length, damage.after) == (last.place, end - last.place, 0)
        assert damage.before == len(places(data)) - 1


def test_a_sound_record_that_is_no_event_is_told(plain: Path) -> None:
    wrong = Event(step=1, summary=Summary(value=[Summary.Value(tag="a")]))
    wrong.summary.value[0].tensor.dtype = 1
    wrong.summary.value[0].tensor.tensor_shape.dim.add(size=7)
    wrong.summary.value[0].tensor.tensor_content = b"abc"
    found = b""
    for content in (b"no message", wrong.SerializeToString()):
        head = len(content).to_bytes(8, "little")
        found += head + masked_crc32c(head).to_bytes(4, "little") + content
        found += masked_crc32c(content).to_bytes(4, "little")
    run = fv.read_run({"x.tfevents": found + event_file(plain).read_bytes()})
    (damage,) = run.damage
    assert (damage.place, damage.length, damage.before) == (0, len(found), 0)
    assert run.frame().equals(fv.read_run(plain).frame())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_the_bytes_only_the_one_error_family(data: st.DataObject) -> None:
    writer = io.BytesIO()
    for step in range(4):
        event = Event(step=step, wall_time=1.0)
        event.summary.value.add(tag="loss", simple_value=step)
        content = event.SerializeToString()
        head = len(content).to_bytes(8, "little")
        writer.write(head + masked_crc32c(head).to_bytes(4, "little") + content)
        writer.write(masked_crc32c(content).to_bytes(4, "little"))
    good = bytearray(writer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    name = data.draw(st.sampled_from(["a.tfevents", "a.csv", "a.jsonl", "a.wandb", "a.zip", "Loss_x/a.tfevents", "a"]))
    front = data.draw(st.sampled_from([b"", b":W&B\xe1\xbe\x00", b"step,loss\n1,2\n", b'{"loss": 1}\n']))
    content = front + bytes(good)
    try:
        run = fv.read_run({name: content})
    except FeatVizError as error:
        assert isinstance(error, RunError)
    else:
        assert sum(one.length for one in run.damage) <= len(content)
        assert len(run.frame()) == sum(map(len, run.scalars.values()))


def test_gaps_and_records_cover_the_file_whatever_is_in_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 3000).astype(np.uint8)
    noise[1000:2000] = np.tile(np.array([3, 0, 0, 0, 0, 0, 0, 0], np.uint8), 125)
    found = list(records(io.BytesIO(noise.tobytes())))
    assert [type(one) for one in found] == [Gap] * len(found)
    assert sum(one.length for one in found if isinstance(one, Gap)) == 3000


# Which files are one run


def test_each_folder_is_a_run(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("loss", 1.0, 0)
    (tmp_path / "prices.csv").write_text("what,how\nbread,good\n")
    assert [run.name for run in fv.read_runs(tmp_path)] == ["a", "b/c"]
    with pytest.raises(RunError, match="holds 3 runs"):
        fv.read_run(tmp_path)
    with pytest.raises(RunError, match="leads to no file"):
        fv.read_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="holds no log"):
        fv.read_runs({"a.txt": b""})


def test_add_scalars_and_keras_spread_one_run_over_folders(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "torch")) as writer:
        writer.add_scalar("lr", 0.1, 0)
        writer.add_scalars("My/Loss", {"train": 1.0, "val": 2.0}, 3)
    for split in ("train", "validation"):
        with SummaryWriter(str(tmp_path / "keras" / split)) as writer:
            writer.add_scalar("epoch_loss", 1.0, 0)
    keras, torch_run = fv.read_runs(tmp_path)
    assert (keras.name, torch_run.name) == ("keras", "torch")
    assert set(torch_run.scalars) == {"lr", "My/Loss/train", "My/Loss/val"}
    assert torch_run.roles["My/Loss/val"] == fv.Role("loss", "validation")
    assert keras.roles["validation/epoch_loss"] == fv.Role("loss", "validation")


def test_what_a_resumed_run_replaces_is_left_out_as_tensorboard_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TensorBoard numbers the files of a process, and reads the tenth before the ninth.
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid", AtomicCounter(100))
    for start, value, purge in ((0, 1.0, None), (6, 2.0, 6)):
        with SummaryWriter(str(tmp_path), filename_suffix=str(start), purge_step=purge) as writer:
            for step in range(start, 10):
                writer.add_scalar("loss", value, step)
                writer.add_histogram("h", torch.ones(2), step)
    run = fv.read_run(tmp_path)
    assert run.scalars["loss"].values.tolist() == [1.0] * 6 + [2.0] * 4
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    assert run.scalars["loss"].values.tolist() == [event.value for event in accumulator.Scalars("loss")]
    assert [h.step for h in run.logged_histograms] == list(range(10))
    assert [finding.code for finding in run.findings] == ["run.resumed"]
    assert run.findings[0].evidence == {"step": 6, "dropped": 4}


# A run that grows


def test_a_growing_run_is_followed_and_nothing_is_read_twice(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path), flush_secs=1000)
    follower = fv.follow_run(tmp_path)
    file = event_file(tmp_path)
    for step in range(5):
        writer.add_event(Event(step=step, summary=Summary(value=[Summary.Value(tag="loss", simple_value=step)])))
        writer.flush()
        run = follower.update()
        assert run.scalars["loss"].steps.tolist() == list(range(step + 1))
        assert not run.damage
    writer.close()
    whole = file.read_bytes()
    more = whole[places(whole)[-1].place :]
    for cut in (5, 15, len(more)):  # the writer is caught in the middle of a record
        file.write_bytes(whole + more[:cut])
        run = follower.update()
        assert not run.damage
    assert run.scalars["loss"].steps.tolist() == [0, 1, 2, 3, 4, 4]
    file.write_bytes(whole + more + more[:7])
    assert [one.length for one in follower.update(finished=True).damage] == [7]


def test_no_step_of_a_long_log_is_left_out(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path), max_queue_size=100, flush_secs=1000)
    steps = 20_000  # TensorBoard's own reader keeps 10,000 of them; 100,000 take their time in `bench_read_run`
    for step in range(steps):
        writer.add_event(Event(step=step, summary=Summary(value=[Summary.Value(tag="loss", simple_value=step)])))
    writer.close()
    found = fv.read_run(tmp_path).scalars["loss"]
    assert found.steps.tolist() == found.values.tolist() == list(range(steps))


def test_a_folder_of_runs_is_followed(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("who,what\nme,this\n")
    (tmp_path / "done.csv").write_text("step,loss\n0,1\n1,0.5\n2,0.")
    with pytest.raises(RunError):
        FolderFollower(tmp_path / "none").update()
    follower = FolderFollower(tmp_path)
    (done,) = follower.update()
    assert done.scalars["loss"].steps.tolist() == [0, 1]
    assert not follower.has_grown()
    plain_run(tmp_path / "first", steps=3)
    assert follower.has_grown()
    same, first = follower.update()
    assert same is done
    file = event_file(tmp_path / "first")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])  # another run by the same name
    follower.update()
    file.write_bytes(whole)
    assert follower.update()[1].frame().equals(first.frame())
    hour = time.time() - 3600
    for path in (tmp_path / "done.csv", tmp_path / "notes.csv"):  # nobody writes any more
        os.utime(path, (hour, hour))
    assert follower.update()[0].scalars["loss"].values.tolist() == [1, 0.5, 0]
    with (tmp_path / "done.csv").open("a") as table:
        table.write("25\n3,0.125\n")
    assert follower.update()[0].scalars["loss"].values.tolist() == [1, 0.5, 0.25, 0.125]
