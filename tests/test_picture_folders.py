"""Class folders from zips and folders: what is found, what is refused, and that nothing else is ever raised."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from featviz_core import zip_files
from featviz_core.errors import ExperimentError
from featviz_core.picture_folders import PictureFolders, open_picture_folders
from tests.fuzz import zips
from tests.fuzz.zips import packed, picture

TREE = {"star/1.png": picture(), "star/2.png": picture("tan"), "moon/1.png": picture("blue")}


def listed(found: PictureFolders) -> list[tuple[str, str, str]]:
    return [(one.name, found.class_names[one.label], one.split) for one in found.pictures]


def on_disk(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


# What is found


def test_bytes_a_path_and_a_folder_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "shapes.zip"
    path.write_bytes(packed(TREE))
    folder = on_disk(tmp_path / "shapes", TREE)
    found = [open_picture_folders(source) for source in (packed(TREE), path, folder)]
    for one in found:
        assert one.class_names == ("moon", "star")
        assert listed(one) == listed(found[0])
        assert [one.read(p).sha256 for p in one.pictures] == [found[0].read(p).sha256 for p in found[0].pictures]
    assert found[0].read(found[0].pictures[0]).image.getpixel((0, 0)) == (0, 0, 255)
    assert found[1].name == "shapes.zip"


def test_labels_are_those_of_image_folder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    files = {
        f"{name}/{part}1.png": picture() for name in ("b", "B", "a b", "10", "9", "é") for part in ("", "deep/er/")
    }
    theirs = ImageFolder(str(on_disk(tmp_path, files)))
    ours = open_picture_folders(tmp_path)
    assert list(ours.class_names) == theirs.classes
    expected = {(Path(path).relative_to(tmp_path).as_posix(), label) for path, label in theirs.samples}
    assert {(one.name, one.label) for one in ours.pictures} == expected


@pytest.mark.parametrize("top", ["", "shapes/"])
@pytest.mark.parametrize(("held_out", "split"), [("val", "validation"), ("Valid", "validation"), ("test", "test")])
def test_splits_are_recognised(top: str, held_out: str, split: str) -> None:
    files = {f"{top}{part}/{name}": data for part in ("train", held_out) for name, data in TREE.items()}
    found = open_picture_folders(packed({**files, f"{top}readme.txt": b"x"}))
    assert found.class_names == ("moon", "star")
    assert found.held_out == split
    assert [len(found.of(part)) for part in ("train", split)] == [3, 3]
    assert found.skipped == (f"{top}readme.txt",)


def test_one_class_is_no_folder_around_everything_and_train_can_be_a_class() -> None:
    assert open_picture_folders(packed({"star/1.png": picture()})).class_names == ("star",)
    assert open_picture_folders(packed({"top/star/1.png": picture()})).class_names == ("star",)
    vehicles = open_picture_folders(packed({"train/1.png": picture(), "bus/1.png": picture()}))
    assert vehicles.class_names == ("bus", "train")
    assert vehicles.held_out is None


def test_what_systems_leave_behind_is_no_data_and_other_files_are_listed() -> None:
    rubbish = ("__MACOSX/star/._1.png", "star/.DS_Store", "star/Thumbs.db", "desktop.ini", ".git/star/1.png")
    others = {"evil.py": b"raise SystemExit", "star/inner.zip": packed(TREE), "loose.png": picture()}
    found = open_picture_folders(packed({**TREE, **dict.fromkeys(rubbish, b"x"), **others}))
    assert [one.name for one in found.pictures] == sorted(TREE)
    assert set(found.skipped) == set(others)


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_names_without_a_mark_are_read_as_utf8_or_gbk(encoding: str) -> None:
    data = packed({"AAAA/1.png": picture(), "moon/1.png": picture()})
    name = {"gbk": "星月", "utf-8": "éè"}[encoding]
    found = open_picture_folders(data.replace(b"AAAA", name.encode(encoding)))
    assert found.class_names == ("moon", name)
    assert all(found.read(one).size == (6, 5) for one in found.pictures)


def test_marked_names_are_utf8() -> None:
    found = open_picture_folders(packed({"звезда/1.png": picture(), "星/1.png": picture()}))
    assert found.class_names == ("звезда", "星")


def test_names_are_shown_without_control_characters() -> None:
    found = open_picture_folders(packed({"st\x1b[31mar/\u202e1.png": picture(), "moon/\x07.txt": b"x"}))
    assert found.class_names == ("st\ufffd[31mar",)
    assert found.skipped == ("moon/\ufffd.txt",)
    assert found.read(found.pictures[0]).name.isprintable()


def test_unreadable_pictures_are_listed_not_fatal() -> None:
    broken = {"star/cut.png": picture()[:40], "star/zip.png": packed(TREE), "moon/empty.jpg": b""}
    seen: list[float] = []
    found = open_picture_folders(packed({**TREE, **broken})).checked(progress=lambda done, _text: seen.append(done))
    assert [one.name for one in found.pictures] == sorted(TREE)
    assert {one.name for one in found.unreadable} == set(broken)
    assert "ZIP archive" in next(one.reason for one in found.unreadable if one.name == "star/zip.png")
    assert len(seen) == 6
    assert seen[-1] == 1


def test_nothing_readable_at_all_is_an_error() -> None:
    with pytest.raises(ExperimentError, match="Not one picture"):
        open_picture_folders(packed({"star/1.png": b"no picture"})).checked()


def test_a_sample_is_the_same_each_time_and_of_every_part() -> None:
    files = {f"{part}/star/{number}.png": picture() for part in ("train", "val") for number in range(9)}
    found = open_picture_folders(packed(files))
    some = found.sample(4)
    assert [len(some.of(part)) for part in ("train", "validation")] == [4, 4]
    assert some.pictures == found.sample(4).pictures
    assert some.pictures != found.sample(4, seed=1).pictures
    assert found.sample(100).pictures == found.pictures


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "it.zip"
    path.write_bytes(packed(TREE))
    found = open_picture_folders(path)
    found.read(found.pictures[0])
    again = pickle.loads(pickle.dumps(found))
    assert again.pictures == found.pictures
    assert again.read(again.pictures[0]).sha256 == found.read(found.pictures[0]).sha256


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_links_in_a_folder_are_followed_once(tmp_path: Path) -> None:
    store = on_disk(tmp_path / "store", TREE)
    data = tmp_path / "data"
    data.mkdir()
    (data / "star").symlink_to(store / "star")
    (data / "star" / "again").symlink_to(data)
    assert [one.name for one in open_picture_folders(data).pictures] == ["star/1.png", "star/2.png"]


@pytest.mark.parametrize("files", [{}, {"1.png": picture()}, {"star/notes.txt": b"x"}])
def test_without_class_folders_the_layout_is_explained(files: dict[str, bytes]) -> None:
    with pytest.raises(ExperimentError, match=r"Expected class folders, such as `star/1\.png`"):
        open_picture_folders(packed(files))


def test_a_path_that_leads_nowhere_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="There is no folder or zip nothing"):
        open_picture_folders(tmp_path / "nothing")


# What is refused


def refused(data: bytes, match: str) -> None:
    with pytest.raises(ExperimentError, match=match):
        open_picture_folders(data, name="it.zip")


def unreadable(data: bytes, match: str) -> None:
    found = open_picture_folders(data)
    with pytest.raises(ExperimentError, match=match):
        found.read(found.pictures[0])


@pytest.mark.parametrize("name", ["../1.png", "star/../../1.png", "/star/1.png", "C:/star/1.png", "..\\star\\1.png"])
def test_names_that_lead_outside_are_refused(name: str) -> None:
    refused(packed({**TREE, name: picture()}), "leads outside")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("star/1.png")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(buffer.getvalue(), "a link or a device")


def test_a_bomb_is_not_unpacked() -> None:
    tracemalloc.start()
    unreadable(packed({"star/1.png": b"\0" * 2**25}), "more than 200 times its size")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26 + 2**24  # of the test's own making the bomb


def test_a_file_that_lies_about_its_size_gives_no_more_than_it_said() -> None:
    data = bytearray(packed({"star/1.png": b"\0" * 2**20}))
    at = data.rfind(b"PK\x01\x02")
    for place in (at + 24, 22):  # the unpacked size, in the table of contents and before the file
        data[place : place + 4] = struct.pack("<I", 100)
    unreadable(bytes(data), "Bad CRC")


def test_too_large_a_total_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_files, "MAX_TOTAL", 200)
    refused(packed(TREE), "too large when unpacked")


def test_too_large_a_file_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_files, "MAX_FILE", 50)
    unreadable(packed(TREE), "at most 0 MB are unpacked")


def test_overlapping_files_are_refused() -> None:
    data = packed(TREE)
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    start = struct.unpack("<I", data[first + 42 : first + 46])[0]
    refused(data[: second + 42] + struct.pack("<I", start) + data[second + 46 :], "lies on top of another")


def test_a_million_entries_are_refused_soon() -> None:
    name = b"s/1.png"
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", *[0] * 9, len(name), *[0] * 6) + name
    table = entry * 1_000_000
    data = table + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(table), 0, 0)
    start = time.perf_counter()
    refused(data, "holds too many files")
    assert time.perf_counter() - start < 2


def test_an_encrypted_file_is_listed() -> None:
    data = bytearray(packed(TREE))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    found = open_picture_folders(bytes(data)).checked()
    assert [one.reason for one in found.unreadable] == ["star/1.png is not unpacked. It is encrypted."]


def test_a_wrong_checksum_is_listed() -> None:
    data = bytearray(packed(TREE, method=zipfile.ZIP_STORED))
    data[data.find(b"IDAT") + 6] ^= 0xFF
    found = open_picture_folders(bytes(data)).checked()
    assert [one.name for one in found.unreadable] == ["star/1.png"]
    assert "Bad CRC" in found.unreadable[0].reason


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_rare_ways_of_packing_are_not_tried(method: int) -> None:
    unreadable(packed(TREE, method=method), "expected stored or deflated")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06", b"no zip at all" * 100, picture()])
def test_what_is_no_zip_is_explained(data: bytes) -> None:
    refused(data, "damaged, cut off, or no zip")


def test_a_picture_as_large_as_a_wall_is_refused_before_it_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (7_000, 7_000)).save(buffer, "PNG")
    found = open_picture_folders(packed({**TREE, "star/wall.png": buffer.getvalue()})).checked()
    assert [one.name for one in found.unreadable] == ["star/wall.png"]


def test_thousands_of_damaged_zips_give_pictures_or_the_one_family() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = zips.run(4000)
    assert not summary.crashes, summary.crashes[0]
    assert summary.read > 800
    assert len(summary.refused) > 8
    assert summary.slowest[0] < 2
    assert summary.memory_growth_mb < 300
