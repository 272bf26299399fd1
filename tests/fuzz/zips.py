"""Damaged zips of class folders by the thousand: `python -m tests.fuzz.zips --count 20000`.

Each must give pictures or an error of FeatViz's own family with words in it, soon and in bounded memory.
Zip `index` of seed `s` comes from `damaged(s, index)` again.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import resource
import sys
import time
import traceback
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from PIL import Image

from featviz_core.errors import FeatVizError
from featviz_core.picture_folders import open_picture_folders
from tests.fuzz.mutate import mutate

_MOST_READ = 6  # pictures of each zip


def picture(color: str = "red", kind: str = "PNG") -> bytes:
    """A small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), color).save(buffer, kind)
    return buffer.getvalue()


def packed(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


def _seeds() -> tuple[bytes, ...]:
    flat = {"star/1.png": picture(), "moon/2.png": picture("blue"), "moon/3.jpg": picture("gray", "JPEG")}
    split = {f"shapes/{part}/{name}": data for part in ("train", "val") for name, data in flat.items()}
    odd = {
        "星/一.png": picture(),
        "__MACOSX/星/._一.png": b"x",
        "b/.DS_Store": b"x",
        "b/c/2.bmp": picture("tan", "BMP"),
    }
    return (
        packed(flat),
        packed(flat, method=zipfile.ZIP_STORED, comment=b"PK\5\6 a comment"),
        packed(split),
        packed(odd),
        packed(odd, method=zipfile.ZIP_LZMA),
        packed(flat, method=zipfile.ZIP_BZIP2),
    )


SEEDS = _seeds()


def damaged(seed: int, index: int) -> bytes:
    """Bytes number `index` of the series `seed`. Half of the damage goes to the end, where the table of contents is."""
    rng = Random(f"{seed}/{index}")
    data = rng.choice(SEEDS)
    if rng.random() < 0.5:
        return mutate(data, rng, others=SEEDS)
    start = data.rfind(b"PK\x01\x02", 0, rng.randrange(len(data)) + 1)
    start = start if start >= 0 else data.find(b"PK\x01\x02")
    return data[:start] + mutate(data[start:], rng)


@dataclass
class Summary:
    """What came of a series: `crashes` is (index, traceback) of everything that broke the promise."""

    count: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    crashes: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    memory_growth_mb: float = 0.0


def run(count: int, *, seed: int = 0) -> Summary:
    """Open `count` damaged zips and read the pictures in them."""
    summary = Summary()
    before = _peak_mb()
    for index in range(count):
        start = time.perf_counter()
        try:
            _look_through(damaged(seed, index), summary)
        except Exception:  # noqa: BLE001 - finding these is what this is for
            summary.crashes.append((index, traceback.format_exc()))
        summary.slowest = max(summary.slowest, (time.perf_counter() - start, index))
        summary.count += 1
    summary.memory_growth_mb = _peak_mb() - before
    return summary


def _look_through(data: bytes, summary: Summary) -> None:
    try:
        found = open_picture_folders(data, name="it")
    except FeatVizError as error:
        _note(error, summary)
        return
    for one in found.pictures[:_MOST_READ]:
        assert found.class_names[one.label].isprintable()
        try:
            assert found.read(one).image.mode == "RGB"
            summary.read += 1
        except FeatVizError as error:
            _note(error, summary)


def _note(error: FeatVizError, summary: Summary) -> None:
    assert error.what, repr(error)
    assert error.why, repr(error)
    assert str(error).isprintable(), repr(error)
    summary.refused[type(error).__name__ + ": " + error.why[:40]] += 1


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    """Run a series, print its summary, and say by the exit code whether nothing crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    summary = run(options.count, seed=options.seed)
    print(f"{summary.count} damaged zips in {time.perf_counter() - start:.0f} s, seed {options.seed}")
    print(f"  read      {summary.read}")
    for what, times in summary.refused.most_common(20):
        print(f"  refused   {times:6}  {what}")
    print(f"  slowest   {summary.slowest[0]:.2f} s (index {summary.slowest[1]})")
    print(f"  memory    {summary.memory_growth_mb:.0f} MB above the start at most")
    print(f"  crashes   {len(summary.crashes)}")
    for index, text in summary.crashes[:20]:
        print(f"--- index {index}\n{text}")
    return 1 if summary.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
