# SPDX-License-Identifier: Apache-2.0
"""Many windows taken together: the truth of their sum lies within the bounds, which are far tighter than each alone."""

from dataclasses import replace

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel
from tests.oracles import simulation as sim

MS, SECOND = 1_000_000, 1_000_000_000
SHORT = {"seconds": 40}
SCENARIOS = [
    sim.Scenario("rapl", seed=1, **SHORT),
    sim.Scenario("rapl-1khz", tick_ns=MS, seed=2, **SHORT),
    sim.Scenario("rapl-gaps", missed=0.05, gaps=30, slow_reads=0.02, seed=3, **SHORT),
    sim.Scenario("rapl-bursts", waveform="bursts", seed=4, **SHORT),
    sim.Scenario("package-idle", waveform="rests", rest=0.1, quantum=61, seed=8, **SHORT),
    sim.Scenario("rapl-still", waveform="rests", seed=5, **SHORT),
    sim.Scenario("nvml", update_ns=100 * MS, tick_ns=25 * MS, assume_ns=100 * MS, seed=6, **SHORT),
    sim.Scenario("coarse", waveform="sine", quantum=100_000, update_ns=20 * MS, tick_ns=4 * MS, seed=7, **SHORT),
]


def simulated(scenario, restarts=0):
    """Truth and a trace of a scenario; its counter goes back to 0 right after some of the reads."""
    scenario = replace(scenario)
    truth = sim.Truth(scenario)
    samples, traits, tally = sim.record(scenario, truth)
    if restarts:
        shown = samples["raw"].copy()
        rises = np.flatnonzero((np.diff(shown) > 0) & (shown[1:] < 2 * shown[:-1]))
        for i in np.sort(scenario.rng.choice(rises, restarts, replace=False)):
            samples["raw"][i + 1 :] = shown[i + 1 :] - shown[i]
        samples["flags"] &= _resolver.GAP
        account = _resolver.Account(traits)
        account.feed(samples)
        tally = account.tally()
        assert tally["resets"] > 0
    watts = scenario.unit_per_s * 1e-6
    traits = {key: traits[key] for key in ("kind", "modulus", "quantum", "period_ns", "plausible_per_s")}
    channel = Channel("rapl:sim", "rapl", "energy", "sim", "uJ", ceiling_w=watts, traits=traits)
    return scenario.rng, truth, Trace(channel, True, tally, lambda: [samples])


def sequence(rng, first_ns, last_ns, overlap):
    """Windows of 10 us to 1 s with nothing, little or much between them; some start before the first sample."""
    count = int(rng.choice([1, 2, 10, 300]))
    scale = 10 ** rng.uniform(4, 8.5)
    length = rng.exponential(scale, count)
    gap = rng.choice([0.0, 300.0, scale / 10, 30 * scale], count) * rng.exponential(1.0, count)
    begin = np.cumsum(np.concatenate([[0.0], (length + gap)[:-1]])).astype(np.int64)
    end = begin + length.astype(np.int64)
    if overlap:
        end += rng.exponential(3 * scale, count).astype(np.int64)  # some within others, so not in order
    shift = int(rng.integers(first_ns - SECOND // 5, last_ns))
    keep = end + shift < last_ns + SECOND // 5
    return begin[keep] + shift, end[keep] + shift


@pytest.mark.parametrize("restarts", [0, 4], ids=["", "restarts"])
@pytest.mark.parametrize("overlap", [False, True], ids=["apart", "overlapping"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_true_sum_lies_within_the_bounds_every_time(scenario, overlap, restarts):
    rng, truth, trace = simulated(scenario, restarts)
    samples = next(trace.chunks())
    tried = 0
    for _ in range(60):
        begin, end = sequence(rng, samples["at_ns"][0], samples["at_ns"][-1], overlap)
        if len(begin) == 0:
            continue
        tried += 1
        true_j = np.sum(truth.until(end) - truth.until(begin)) * 1e-6
        together = trace.together(Windows("w", 0, begin, end))
        slack = 1e-9 * truth.energy[-1] * 1e-6 * len(begin)
        assert together.low_j - slack <= true_j <= together.high_j + slack
        assert together.low_j - slack <= together.energy_j <= together.high_j + slack
        alone = trace.windows(np.sort(begin), np.sort(end))
        assert together.low_j >= np.sum(alone.low_j) - slack
        assert together.high_j <= np.sum(alone.high_j) + slack
    assert tried > 30


def test_adjoining_windows_are_bounded_as_one_of_their_length():
    rng, _, trace = simulated(SCENARIOS[0])
    edges = np.sort(rng.integers(SECOND, 39 * SECOND, 5000))
    together = trace.together(Windows("w", 0, edges[:-1], edges[1:]))
    whole = trace.windows(edges[:1], edges[-1:])[0]
    assert together.high_j - together.low_j <= (whole.high_j - whole.low_j) * (1 + 1e-9)


@pytest.mark.parametrize("scenario", SCENARIOS[:2], ids=lambda scenario: scenario.name)
def test_the_mean_of_ten_thousand_short_windows_is_known_within_a_hundredth(scenario):
    rng, truth, trace = simulated(scenario)
    length = rng.integers(950_000, 1_050_000, 10_000)
    begin = 20 * SECOND + np.cumsum(np.concatenate([[0], (length + rng.integers(100, 2000, 10_000))[:-1]]))
    windows = Windows("inference", 0, begin, begin + length)
    together, alone = trace.together(windows), trace.windows(windows.begin_ns, windows.end_ns)
    true_j = np.mean(truth.until(windows.end_ns) - truth.until(windows.begin_ns)) * 1e-6
    low_j, high_j = together.low_j / 10_000, together.high_j / 10_000
    assert low_j <= true_j <= high_j
    assert high_j - low_j < 0.02 * true_j  # within 1 % of the middle
    assert abs(together.energy_j / 10_000 - true_j) < 0.01 * true_j
    assert np.median(alone.high_j - alone.low_j) > true_j  # one alone is hardly known


def test_windows_on_both_sides_of_a_long_idle_time_are_no_wider_than_each_side_alone():
    _, _, trace = simulated(SCENARIOS[4])
    begin = np.concatenate([5 * SECOND + np.arange(100) * MS, 25 * SECOND + np.arange(100) * MS])
    sides = [trace.together(Windows("w", 0, b, b + MS)) for b in (begin[:100], begin[100:])]
    both = trace.together(Windows("w", 0, begin, begin + MS))
    assert both.low_j >= sides[0].low_j + sides[1].low_j - 1e-9
    assert both.high_j <= sides[0].high_j + sides[1].high_j + 1e-9


@pytest.mark.parametrize(("begin", "end"), [([5, 3], [6, 7]), ([3, 5], [9, 6]), ([5], [4])])
def test_windows_out_of_order_are_refused(begin, end):
    _, _, trace = simulated(SCENARIOS[0])
    with pytest.raises(ValueError, match=r"must be sorted|must be at least begin_at_ns"):
        trace.windows(np.array(begin) * SECOND, np.array(end) * SECOND)
