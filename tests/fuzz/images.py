"""Damaged pictures by the thousand: `python -m tests.fuzz.images --count 20000`.

Each must give a checked picture or an `ImageError` with words in it, soon and in bounded memory.
Picture `index` of seed `s` comes from `damaged(s, index)` again.
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
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image

from featviz_core.errors import ImageError
from featviz_core.images import read_picture
from featviz_core.pixels import MAX_SIDE
from tests.fuzz.mutate import mutate


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _seeds() -> tuple[bytes, ...]:
    """Small pictures of every format, in the modes and compressions that take different ways through a reader."""
    ramp = np.linspace(0, 255, 20 * 14).reshape(14, 20).astype(np.uint8)
    rgb = Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1))
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(ramp))
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[274] = 6
    frames: dict[str, object] = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    pictures = [_save(rgb, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")]
    pictures += [_save(rgb, kind, exif=turned) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")]
    pictures += [_save(rgb, kind, **frames) for kind in ("PNG", "WEBP", "GIF", "TIFF", "AVIF", "MPO")]
    pictures += [_save(rgba, kind) for kind in ("PNG", "WEBP", "TIFF", "AVIF")]
    pictures += [_save(rgb.convert("P"), kind) for kind in ("PNG", "BMP", "TIFF")]
    pictures += [_save(deep, kind) for kind in ("PNG", "TIFF")]
    pictures += [_save(rgb.convert("CMYK"), kind) for kind in ("JPEG", "TIFF")]
    pictures += [_save(rgb, "TIFF", compression=way) for way in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    pictures += [_save(Image.fromarray(ramp / np.float32(9)), "TIFF"), _save(rgb.convert("1"), "PNG")]
    return (*pictures, _save(rgb, "JPEG", progressive=True), _save(rgb, "WEBP", lossless=True))


SEEDS = _seeds()


def damaged(seed: int, index: int) -> bytes:
    """Bytes number `index` of the series `seed`."""
    rng = Random(f"{seed}/{index}")
    return mutate(rng.choice(SEEDS), rng, others=SEEDS)


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
    """Read `count` damaged pictures."""
    summary = Summary()
    before = _peak_mb()
    for index in range(count):
        data = damaged(seed, index)
        start = time.perf_counter()
        try:
            picture = read_picture(data, name="it")
            assert picture.image.mode == "RGB"
            assert 1 <= min(picture.size) <= max(picture.size) <= MAX_SIDE
            summary.read += 1
        except ImageError as error:
            summary.refused[error.what] += 1
            if not (error.what and error.why and error.do):
                summary.crashes.append((index, f"a message with a part missing: {error!r}"))
        except Exception:  # noqa: BLE001 - finding these is what this is for
            summary.crashes.append((index, traceback.format_exc()))
        summary.slowest = max(summary.slowest, (time.perf_counter() - start, index))
        summary.count += 1
    summary.memory_growth_mb = _peak_mb() - before
    return summary


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
    print(f"{summary.count} damaged pictures in {time.perf_counter() - start:.0f} s, seed {options.seed}")
    print(f"  read      {summary.read}")
    for what, times in summary.refused.most_common():
        print(f"  refused   {times:6}  {what}")
    print(f"  slowest   {summary.slowest[0]:.2f} s (index {summary.slowest[1]})")
    print(f"  memory    {summary.memory_growth_mb:.0f} MB above the start at most")
    print(f"  crashes   {len(summary.crashes)}")
    for index, text in summary.crashes[:20]:
        print(f"--- index {index}\n{text}")
    return 1 if summary.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
