# SPDX-License-Identifier: Apache-2.0
"""Sums of windows while samples come and go: the truth is within the bounds, which are those of kept samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.measuring.sums_of_windows import RUN, ChannelSums
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel
from tests.oracles import simulation as sim

MS, SECOND = 1_000_000, 1_000_000_000
SHORT = {"seconds": 12}
SCENARIOS = [
    sim.Scenario("rapl", seed=1, **SHORT),
    sim.Scenario("rapl-1khz", tick_ns=MS, seed=2, **SHORT),
    sim.Scenario("wraps", tick_ns=MS, modulus=30_000_000, seed=9, **SHORT),
    sim.Scenario("gaps", missed=0.05, gaps=10, slow_reads=0.02, seed=3, **SHORT),
    sim.Scenario("bursts", waveform="bursts", seed=4, **SHORT),
    sim.Scenario("rests", waveform="rests", seed=5, **SHORT),
    sim.Scenario("nvml", update_ns=100 * MS, tick_ns=25 * MS, assume_ns=100 * MS, seed=6, **SHORT),
    sim.Scenario("coarse", waveform="sine", quantum=100_000, update_ns=20 * MS, tick_ns=4 * MS, seed=7, **SHORT),
]


def simulated(scenario):
    scenario = replace(scenario)
    truth = sim.Truth(scenario)
    samples, traits, tally = sim.record(scenario, truth)
    traits = {key: traits[key] for key in ("kind", "modulus", "quantum", "period_ns", "plausible_per_s")}
    channel = Channel("rapl:sim", "rapl", "energy", "sim", "uJ", ceiling_w=scenario.unit_per_s * 1e-6, traits=traits)
    return scenario, truth, samples, tally, channel


def streamed(channel, samples, tally, begin, end, cut_ns=250 * MS):
    """What the sums are when samples and windows come cut by cut."""
    sums = ChannelSums(channel, True)
    at_ns, held, before = samples["at_ns"], 0, 0
    last = int(at_ns[-1]) + cut_ns
    for now in range(0, last, cut_ns):
        taken = samples[(at_ns > before) & (at_ns <= now)].copy()
        if len(taken):
            sums.take(taken)
        inside = (begin < now) & (end > before)
        pieces = np.maximum(begin[inside], before), np.minimum(end[inside], now)
        sums.cut(before, now, {"w": pieces} if inside.any() else {})
        held, before = max(held, sums.held), now
    rest = samples[at_ns > before].copy()
    if len(rest):
        sums.take(rest)
    sums.cut(before, last, {})
    sums.finish(int(at_ns[-1]))
    return sums.rows(), held


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_truth_is_within_the_bounds_and_they_are_as_close_as_those_of_kept_samples(scenario):
    made, truth, samples, tally, channel = simulated(scenario)
    trace = Trace(channel, True, tally, lambda: [samples])
    total = trace.total()
    for length_ms, gap_ms in ((0.5, 0.05), (20, 0), (300, 40), (1000, 300)):
        length = made.rng.exponential(length_ms * MS, 2000).astype(np.int64) + 1000
        gap = made.rng.exponential(gap_ms * MS, 2000).astype(np.int64) if gap_ms else 0 * length
        begin = SECOND // 2 + np.cumsum(length + gap) - length
        begin, end = (column[begin + length < 11 * SECOND] for column in (begin, begin + length))
        rows, held = streamed(channel, samples, tally, begin, end)
        slack = 1e-8 * truth.energy[-1] * 1e-6
        true_j = float(np.sum(truth.until(end) - truth.until(begin))) * 1e-6
        kept = trace.together(Windows("w", 0, begin, end))
        found = rows["w"]
        assert found.low_j - slack <= true_j <= found.high_j + slack
        assert found.low_j <= found.energy_j <= found.high_j
        assert found.high_j - found.low_j <= 1.5 * (kept.high_j - kept.low_j) + slack
        first, last = samples["at_ns"][[0, -1]]
        run_j = float(truth.until(np.array([last]))[0] - truth.until(np.array([first]))[0]) * 1e-6
        assert rows[RUN].low_j - slack <= run_j <= rows[RUN].high_j + slack
        assert rows[RUN].high_j - rows[RUN].low_j <= 1.5 * (total.high_j - total.low_j) + slack
        assert held <= max(len(samples) // 2, 1000)


def test_a_counter_that_stands_still_holds_few_samples():
    channel = simulated(SCENARIOS[0])[4]
    sums, count = ChannelSums(channel, True), 1000
    for second in range(60):
        samples = np.zeros(count, _resolver.SAMPLE)
        samples["at_ns"] = second * SECOND + np.arange(1, count + 1) * MS
        sums.take(samples)
        sums.cut(second * SECOND, (second + 1) * SECOND, {})
    assert sums.held < 12_000


def test_a_channel_that_ended_does_not_hold_cuts_back():
    _, _, samples, _, channel = simulated(SCENARIOS[0])
    sums = ChannelSums(channel, True)
    sums.take(samples.copy())
    end = int(samples["at_ns"][-1])
    for i in range(100):
        begin = end + i * SECOND
        sums.cut(begin, begin + SECOND, {"w": (np.array([begin]), np.array([begin + SECOND]))})
    assert len(sums._cuts) <= 3
    found = sums.rows()["w"]
    assert found.high_j > 90 * channel.ceiling_w  # nothing is known but the channel's limit
    assert found.low_j == 0
