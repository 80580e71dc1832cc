# SPDX-License-Identifier: Apache-2.0
"""Curves of a page: their bounds hold the true power, peaks stay, and small arrays say what the large ones said."""

from __future__ import annotations

import base64
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgreen as fg
from fastgreen.reports.curves import lines, packed, shares
from fastgreen.results.result_tables import resolved_s
from tests.oracles.long_runs import METADATA, SECOND, START_NS, counter_trace, long_run


def unpacked(column):
    steps = np.frombuffer(base64.b64decode(column["data"]), "<u2").astype(float)
    steps[steps == 65535] = np.nan
    return steps * column["scale"] + column["offset"]


@pytest.mark.parametrize("seconds", [0.5, 30.0, 1000.0])
def test_each_level_agrees_with_the_power_of_the_result_and_its_energy(seconds):
    result = long_run(seconds)
    for level in lines(result).levels:
        begin, end = level.edges_ns[:-1], level.edges_ns[1:]
        assert level.edges_ns[0] == result.start_ns
        assert level.edges_ns[-1] == result.end_ns
        assert np.all(end > begin)
        told = result.energy_between(begin, end)
        lengths_s = (end - begin) / SECOND
        for key, joules in (("mean", told.energy_j), ("low", told.low_j), ("high", told.high_j)):
            assert np.allclose(level.curves[""][key] * lengths_s, joules)
        total = level.curves["rapl:package-0"]["mean"] + level.curves["rapl:dram"]["mean"]
        assert np.allclose(level.curves[""]["mean"], total)


@pytest.mark.parametrize("seconds", [3.0, 30.0, 2000.0])
def test_steps_are_wider_than_what_the_samples_resolve_so_that_bounds_are_narrow(seconds):
    result = long_run(seconds)
    levels = lines(result).levels
    finest_s = (levels[-1].edges_ns[1] - levels[-1].edges_ns[0]) / SECOND
    assert finest_s >= 10 * resolved_s(result.traces)
    curve = levels[-1].curves[""]
    share = 0.5 if seconds < 10 else 0.25
    assert np.mean(curve["high"] - curve["low"]) < share * np.mean(curve["mean"])
    assert len(levels[0].edges_ns) <= 1001
    assert len(levels[-1].edges_ns) <= 8001


@pytest.mark.parametrize("seconds", [3.0, 30.0, 3600.0])
def test_a_peak_of_two_readings_stays_at_every_level(seconds):
    plain, peaked = lines(long_run(seconds)), lines(long_run(seconds, spike_w=200.0))
    for before, after in zip(plain.levels, peaked.levels, strict=True):
        assert after.curves[""]["most"].max() > 150 > before.curves[""]["most"].max()
        place = int(np.argmax(after.curves[""]["most"]))
        assert after.edges_ns[place] - START_NS <= seconds / 3 * SECOND + SECOND / 10


def test_a_run_without_time_or_readings_has_no_curves():
    assert lines(fg.Result([], [], METADATA, 0, 0)).levels == []
    single = counter_trace("package-0", np.array([START_NS]), np.array([1.0]), 10.0)
    assert lines(fg.Result([single], [], METADATA, START_NS, START_NS)).levels == []


def test_one_channel_has_one_curve_and_an_uncounted_one_its_own():
    at_ns = START_NS + np.arange(500) * (SECOND // 100)
    traces = [counter_trace("package-0", at_ns, np.full(500, 50.0), 100.0)]
    traces += [counter_trace("psys", at_ns, np.full(500, 70.0), 100.0, counted=False)]
    result = fg.Result(traces, [], METADATA, START_NS, int(at_ns[-1]))
    assert list(lines(result).levels[0].curves) == ["rapl:package-0", "rapl:psys"]


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 300)), max_size=30), st.integers(1, 17))
def test_shares_are_those_of_a_walk_over_every_instant(windows, buckets):
    begin = np.array([b for b, _ in windows], np.int64)
    end = begin + np.array([n for _, n in windows], np.int64)
    edges = np.linspace(0, 1300, buckets + 1).astype(np.int64)
    found = shares(begin, end, edges)
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        seen = sum(1 for at in range(low, high) for b, e in zip(begin, end, strict=True) if b <= at < e)
        entered = any(low <= b < high for b in begin)
        slow = min(seen / (high - low), 1.0)
        assert found[i] == pytest.approx(max(slow, 1e-3) if entered else slow)


@given(st.lists(st.floats(-1e6, 1e9) | st.just(float("nan")) | st.just(float("inf")), min_size=1))
def test_small_arrays_round_bounds_outwards(values):
    values = np.array(values)
    finite = np.isfinite(values)
    for direction in ("down", "nearest", "up"):
        column = packed(values, direction)
        back = unpacked(column)
        slack = 1e-9 * (abs(column["offset"]) + column["scale"] * 65535)
        assert np.array_equal(np.isfinite(back), finite)
        assert np.all(np.abs(back - values)[finite] <= column["scale"] * 1.001 + slack)
        if direction == "down":
            assert np.all((back <= values + slack)[finite])
        if direction == "up":
            assert np.all((back >= values - slack)[finite])
