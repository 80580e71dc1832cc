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
def test_window_costs_at_most_1_2_times_two_clock_calls(monitor, style, benchmark, bar):
    window = monitor.window(style.__name__)
    style(window)()
    assert len(window) == LOOPS
    ratio = interleaved(style(window), two_calls, rounds=101)
    benchmark.pedantic(style(window), rounds=5)
    name = "`with window:`" if style is with_window else "`window.begin()`, `window.end()`"
    window_ns, two_calls_ns = ratio.first_s / LOOPS * 1e9, ratio.second_s / LOOPS * 1e9
    bar(name, "<= 1.2 x two clock reads", ratio, window_ns=window_ns, two_calls_ns=two_calls_ns)


def test_p99_of_a_window_is_at_most_3_times_two_clock_calls(monitor, bar):
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
    bar("99th percentile of a window", "<= 3 x two clock reads", ratio, two_calls_ns=float(np.median(base)))


def test_ten_million_windows_grow_by_16_bytes_each(monitor, bar):
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
    assert len(window) == count + LOOPS
    bar("memory of one of 10 million windows", "<= 16.2 bytes", grown / count)
