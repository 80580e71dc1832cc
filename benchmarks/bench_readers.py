"""Reading recordings. Bars: a power_metrics.json of 1 GB at 100 MB/s or more, in memory that does not grow with the
file.

    python -m pytest benchmarks/bench_readers.py -s

FASTGREEN_BENCH_GB sets the size; the file lies in pytest's temporary folder and is deleted afterwards.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
SIZE_GB = float(os.environ.get("FASTGREEN_BENCH_GB", "1.0"))
BAR_MB_PER_S = 100
DAY = "2024-01-01"

READ = """
import resource, sys, time
from fastgreen.experiment import read_aipowermeter
begin = time.perf_counter(), time.process_time()
recording = read_aipowermeter(sys.argv[1])
wall, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
# Pages of the memory-mapped spool are the kernel's to take back; what the process owns is what must not grow.
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon:"))
print(wall, processor, own / 1024, recording.energy_j()["package"], recording.lines, recording.dropped)
"""


def line(moment: datetime, draw: random.Random) -> str:
    cpu = {
        "per_process_mem_use_abs": {"16809": draw.randrange(10**7, 10**8)},
        "per_process_cpu_uses": {"16809": draw.random()},
        "intel_power": 20 + 10 * draw.random(),
        "psys_power": -1,
        "uncore_power": [draw.random() / 100],
        "per_process_cpu_power": {"16809": 20 * draw.random()},
        "total_cpu_power": 20 * draw.random(),
        "per_process_mem_use_uss": {"16809": draw.randrange(10**7, 10**8)},
    }
    return json.dumps({"date": str(moment), "metrics": {"cpu": cpu}})


def write_days(path: Path, size: float) -> tuple[int, float]:
    """A file of about `size` bytes, a segment per day, each day the same; returns the days and the joules of one."""
    draw, first = random.Random(0), datetime.fromisoformat(f"{DAY} 00:00:00.250000")
    lines = [line(first + timedelta(seconds=2 * i), draw) for i in range(40000)]
    watts = [json.loads(text)["metrics"]["cpu"]["intel_power"] for text in lines]
    joules = sum(a + b for a, b in pairwise(watts))
    block = ("\n".join(lines) + '\n"END OF RECORDING SEGMENT"\n').encode()
    days = max(1, round(size / len(block)))
    with open(path, "wb") as stream:
        for n in range(days):
            stream.write(block.replace(DAY.encode(), str(date.fromisoformat(DAY) + timedelta(days=n)).encode()))
    return days, joules


def read(path: Path) -> list[float]:
    """Seconds of wall and processor time, MiB of its own, joules, lines, dropped lines, and the busy share of the
    rest.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, begin = busy_s(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True, env=environment
    )
    figures = [float(word) for word in done.stdout.split()]
    seconds = (time.perf_counter() - begin) * (os.cpu_count() or 1)
    return [*figures, max(0.0, busy_s() - before - figures[1]) / seconds]


def busy_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait


def test_a_gigabyte_is_read_at_100_mb_per_second_in_constant_memory(tmp_path, bar):
    file = tmp_path / "power_metrics.json"
    best, own = {}, {}
    for gigabytes in (SIZE_GB / 8, SIZE_GB):
        days, joules = write_days(file, gigabytes * 1e9)
        megabytes = file.stat().st_size / 1e6
        runs = [read(file) for _ in range(3)]
        for _, _, _, energy, lines, dropped, _ in runs:
            assert energy == pytest.approx(days * joules, rel=1e-9)
            assert (lines, dropped) == (days * 40000, 0)
        best[gigabytes], own[gigabytes] = min(runs), min(run[2] for run in runs)
        wall, processor, *_, others = best[gigabytes]
        said = (
            f"{megabytes:.0f} MB: {megabytes / wall:.0f} MB/s, {megabytes / processor:.0f} MB per second of processor"
        )
        print(f"\n{said}, {own[gigabytes]:.0f} MiB of its own afterwards, others kept {others:.0%} of the machine busy")
    file.unlink()
    bar(f"memory of {SIZE_GB:g} GB above that of an eighth", "<= 64 MiB", own[SIZE_GB] - own[SIZE_GB / 8])
    if others > 0.2 and megabytes / wall < BAR_MB_PER_S:
        pytest.skip(f"others kept {others:.0%} of the machine busy; {said}")
    bar(f"reading {SIZE_GB:g} GB of power_metrics.json", f">= {BAR_MB_PER_S} MB/s", megabytes / wall)
