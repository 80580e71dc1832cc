"""Time of a window, compared with two calls of time.perf_counter_ns() in the same run."""

from __future__ import annotations

import time
from itertools import repeat

import numpy as np
import pytest

import fastgreen as fg
from benchmarks.ratios import interleaved

LOOPS = 20_000


@pytest.fixture
def monitor(tmp_path):
    with fg.Monitor("procstat:cpu", hz=1) as monitor:
        yield monitor


def two_calls():
    for _ in repeat(None, LOOPS):
        time.perf_counter_ns()
        time.perf_counter_ns()


def with_window(window):
    def run():
        for _ in repeat(None, LOOPS):
            with window:
                pass

    return run


def begin_end(window):
    def run():
        for _ in repeat(None, LOOPS):
            window.begin()
            window.end()

    return run


@pytest.mark.parametrize("style", [with_window, begin_end])
def test_window_costs_at_most_1_2_times_two_clock_calls(monitor, style, benchmark):
    window = monitor.window(style.__name__)
    style(window)()
    assert len(window) == LOOPS
    ratio = interleaved(style(window), two_calls, rounds=101)
    benchmark.extra_info.update(
        ratio=ratio,
        quartiles=ratio.spread,
        window_ns=ratio.first_s / LOOPS * 1e9,
        two_calls_ns=ratio.second_s / LOOPS * 1e9,
    )
    print(f"\n{style.__name__}: {ratio:.3f} x two calls {ratio.spread}, {ratio.first_s / LOOPS * 1e9:.1f} ns")
    benchmark.pedantic(style(window), rounds=5)
    assert ratio <= 1.2


def test_p99_of_a_window_is_at_most_3_times_two_clock_calls(monitor):
    clock = time.perf_counter_ns
    window = monitor.window("p99")
    ours, base = np.empty(50_000), np.empty(50_000)
    for i in range(len(ours)):
        a = clock()
        with window:
            pass
        b = clock()
        time.perf_counter_ns()
        time.perf_counter_ns()
        c = clock()
        ours[i], base[i] = b - a, c - b
    ratio = np.percentile(ours, 99) / np.median(base)
    print(f"\np99 {np.percentile(ours, 99):.0f} ns, median of two calls {np.median(base):.0f} ns: {ratio:.2f} x")
    assert ratio <= 3


def test_ten_million_windows_grow_by_16_bytes_each(monitor):
    import psutil

    window = monitor.window("many")
    with_window(window)()
    process = psutil.Process()
    before = process.memory_info().rss
    count = 10_000_000
    for _ in repeat(None, count):
        with window:
            pass
    grown = process.memory_info().rss - before
    print(f"\n{grown / count:.2f} bytes a window")
    assert len(window) == count + LOOPS
    assert grown <= 16 * count + 2_000_000
