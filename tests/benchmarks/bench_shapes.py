"""How many pictures of Shapes does one core draw in a second? Run: python -m tests.benchmarks.bench_shapes"""

from __future__ import annotations

import time

from featviz_core.demo.shapes import draw

COUNT = 1000

if __name__ == "__main__":
    draw("train", 0)
    began, used = time.perf_counter(), time.process_time()
    for index in range(COUNT):
        draw("train", index)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    print(f"{COUNT / wall:.0f} pictures a second ({COUNT / cpu:.0f} a second of processor time)")
