# SPDX-License-Identifier: Apache-2.0
"""Large recordings: time and private memory of a report and of a summary.

Each case runs in a process of its own. FASTGREEN_LARGE_BYTES sets the size of a recording (64 MB; the bar is stated for
1 GB) and FASTGREEN_LARGE_WINDOWS the number of windows (2 million; the bar is stated for 100 million). Times are CPU
seconds: a busy machine stretches them less. Memory is Private_* of /proc/self/smaps_rollup, read 50 times a second.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results import run_folder
from fastgreen.results.run_reader import channel_table
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, traits

BYTES = int(float(os.environ.get("FASTGREEN_LARGE_BYTES", 64e6)))
WINDOWS = int(float(os.environ.get("FASTGREEN_LARGE_WINDOWS", 2e6)))
MB, MS, SECOND = 1e6, 1_000_000, 1_000_000_000
ROWS = 256  # of a batch: boards read at 1 kHz, written four times a second
METADATA = {"format": 1, "version": "0", "host": "h", "realtime_ns": 10**18, "monotonic_ns": 5 * SECOND}
MEASURED = """
import json, sys, threading, time
import fastgreen as fg, pyarrow, fastgreen.results.console

def private_mb():
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private")) / 1000

def watch():
    while not ended.wait(0.02):
        peak[0] = max(peak[0], private_mb())

peak, ended = [0.0], threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
cpu, wall = time.process_time(), time.perf_counter()
result = fg.load(sys.argv[1])
out = str(result) if sys.argv[2] == "report" else None
energies = [result.energy_j, result.energy_low_j, result.energy_high_j]
if sys.argv[2] == "summary":
    own = sum(w.begin_ns.nbytes + w.end_ns.nbytes for w in result._windows) / 1e6
    peak[0] = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    row, = result.summary().to_pylist()
    energies = [row[name] for name in ("energy_j", "energy_low_j", "energy_high_j")]
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
ended.set()
watcher.join()
beside = peak[0] - (own if sys.argv[2] == "summary" else 0)
print(json.dumps({"cpu_s": cpu, "wall_s": wall, "private_mb": beside, "energies": energies}))
"""


def record(folder, boards, samples, windows, closed=True):
    """Boards whose counters move every 20 ms, 1 kHz; returns their energy in J."""
    limits = {"ceiling_w": 700.0, "period_s": 0.02, "traits": traits("energy", "mJ", period_ns=20 * MS)}
    channels = [Channel(f"nvml:{i}", "nvml", "energy", "board", "mJ", **limits) for i in range(boards)]
    accounts = [_resolver.Account(c.traits) for c in channels]
    file = run_folder.RunFolder(folder, METADATA, channel_table([Trace(c, True, {}, list) for c in channels], []))
    chunk, last = np.zeros(ROWS, _resolver.SAMPLE), 0
    for first in range(0, samples // boards // ROWS * ROWS, ROWS):
        at = np.arange(first, first + ROWS)
        chunk["at_ns"], chunk["half_ns"], chunk["raw"] = 6 * SECOND + at * MS, 3000, at // 20 * 4000
        last = int(chunk["raw"][-1])
        for channel, account in zip(channels, accounts, strict=True):
            account.feed(chunk)
            file.add_samples(channel.id, chunk)
    span_ns = (first + ROWS) * MS
    step_ns = span_ns // windows
    for some in np.array_split(np.arange(windows), windows // 65536 + 1):
        file.add_windows("w", 0, 6 * SECOND + some * step_ns, 6 * SECOND + some * step_ns + step_ns // 2)
    if not closed:  # what a killed process leaves: no end mark, no report
        file.samples.file.close()
        file.windows.file.close()
        return last * boards * 1e-3
    ends = {"why_ended": None, "last_error": None, "missed": 0, "lost": 0, "read_errors": 0}
    tallies = [a.tally() for a in accounts]
    ends = [{**t, **ends, "end_at_ns": t["last_at_ns"], "end_total": t["total"]} for t in tallies]
    traces = [Trace(c, True, tally, list) for c, tally in zip(channels, ends, strict=True)]
    file.close()
    file.write_channels(channel_table(traces, [], (5 * SECOND, 6 * SECOND + span_ns)))
    file.leave()
    return last * boards * 1e-3


def measured(folder, what):
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder), what], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "cut"])
def test_a_report_of_64_boards_takes_as_long_as_one_of_one_board(benchmark, tmp_path, closed, bar):
    energies = {n: record(tmp_path / str(n), n, BYTES // 36, 1000, closed) for n in (1, 64)}
    rounds = [{n: measured(tmp_path / str(n), "report") for n in (1, 64)} for _ in range(3)]
    found = {n: min((r[n] for r in rounds), key=lambda m: m["cpu_s"]) for n in (1, 64)}
    for n, joules in energies.items():
        energy, low, high = found[n]["energies"]
        assert energy == pytest.approx(joules, rel=1e-9)
        assert low <= energy <= high
    ratio = found[64]["cpu_s"] / found[1]["cpu_s"]
    ten_gb_s = found[64]["cpu_s"] * 1e10 / BYTES
    peak_mb = max(m["private_mb"] for m in found.values())
    benchmark.pedantic(lambda: None)
    kind = "" if closed else ", of a killed process"
    bar(f"report of 64 boards{kind}", "<= 1.5 x one board", ratio)
    bar(f"memory of a report of {BYTES / MB:.0f} MB{kind}", "<= 300 MB", peak_mb)
    if BYTES >= 5e8:  # below, the start of the process is most of the time
        bar(f"report of 10 GB{kind}", "<= 60 s", ten_gb_s)


def test_a_summary_of_many_windows_takes_bounded_memory(benchmark, tmp_path, bar):
    record(tmp_path / "run", 1, 1_000_000, WINDOWS)
    found = measured(tmp_path / "run", "summary")
    energy, low, high = found["energies"]
    assert 0 <= low <= energy <= high
    seconds = found["cpu_s"] * 1e8 / WINDOWS
    benchmark.pedantic(lambda: None)
    bar("summary of 100 million windows, processor time", "<= 60 s", seconds)
    bar("memory of the same, beside the windows", "<= 500 MB", found["private_mb"])
