# SPDX-License-Identifier: Apache-2.0
"""The true energy lies within the bounds every time: by simulation, over waveforms, counters and samplers."""

import numpy as np
import pytest

from fastgreen.results import resolving
from tests.oracles import simulation as sim

MS = 1_000_000
SCENARIOS = [
    sim.Scenario("rapl", seed=1),
    sim.Scenario("rapl-1khz", seconds=120, tick_ns=MS, seed=2),
    sim.Scenario("rapl-wraps", modulus=262_143_328_850 // 2000, seed=3),
    sim.Scenario("rapl-gaps", missed=0.05, gaps=200, seed=4),
    sim.Scenario("rapl-slow-reads", slow_reads=0.02, late_ns=2 * MS, seed=5),
    sim.Scenario("rapl-bursts", waveform="bursts", seed=6),
    # At rest a package draws some 5 W and its memory 0.7 W, in steps of 61 uJ; a board some 60 W, in mJ.
    sim.Scenario("package-idle", waveform="rests", rest=0.1, quantum=61, seed=12),
    sim.Scenario("package-idle-1khz", waveform="rests", rest=0.1, quantum=61, seconds=120, tick_ns=MS, seed=13),
    sim.Scenario("package-idle-10khz", waveform="rests", rest=0.1, quantum=61, seconds=110, tick_ns=MS // 10, seed=17),
    sim.Scenario("dram-idle", waveform="rests", rest=0.14, quantum=61, unit_per_s=5e6, seed=14),
    sim.Scenario(
        "dram-idle-10khz",
        waveform="rests",
        rest=0.14,
        quantum=61,
        unit_per_s=5e6,
        seconds=110,
        tick_ns=MS // 10,
        seed=18,
    ),
    sim.Scenario("rapl-still", waveform="rests", seed=7),
    sim.Scenario("nvml", update_ns=100 * MS, tick_ns=25 * MS, unit_per_s=300e3, assume_ns=200 * MS, seed=8),
    sim.Scenario("nvml-bursts", waveform="bursts", update_ns=100 * MS, tick_ns=25 * MS, unit_per_s=300e3, seed=9),
    sim.Scenario(
        "board-idle", waveform="rests", rest=0.2, update_ns=100 * MS, tick_ns=25 * MS, unit_per_s=300e3, seed=15
    ),
    sim.Scenario(
        "board-idle-100hz", waveform="rests", rest=0.2, update_ns=100 * MS, tick_ns=10 * MS, unit_per_s=300e3, seed=16
    ),
    sim.Scenario("nvml-still", waveform="rests", update_ns=100 * MS, tick_ns=10 * MS, unit_per_s=300e3, seed=10),
    sim.Scenario("coarse-sine", waveform="sine", quantum=100_000, update_ns=20 * MS, tick_ns=4 * MS, seed=11),
]
WINDOWS = 20_000


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda scenario: scenario.name)
def resolved(request):
    """Truth, low, estimate and high of WINDOWS random windows of one scenario."""
    scenario = request.param
    truth = sim.Truth(scenario)
    samples, traits, tally = sim.record(scenario, truth)
    ceiling_per_ns = scenario.unit_per_s / 1e9
    rows = []
    for begin, end in sim.windows(scenario, samples, WINDOWS):
        low, estimate, high = resolving.resolve_windows(traits, ceiling_per_ns, [samples], begin, end)
        rows.append((truth.until(end) - truth.until(begin), low, estimate, high))
    return scenario, tally, *np.concatenate(rows, axis=1)


def test_true_energy_lies_within_the_bounds_every_time(resolved):
    scenario, tally, true, low, _, high = resolved
    rounding = 1e-9 * true.max()  # of the truth's own floating-point sums
    assert tally["resets"] == 0
    outside = np.flatnonzero((true < low - rounding) | (true > high + rounding))
    assert outside.size == 0, (scenario.name, outside.size, true[outside[0]], low[outside[0]], high[outside[0]])


def test_estimate_lies_within_the_bounds(resolved):
    _, _, true, low, estimate, high = resolved
    rounding = 1e-9 * true.max()
    assert np.all(low - rounding <= estimate)
    assert np.all(estimate <= high + rounding)


def test_mean_error_of_the_estimate_is_below_a_thousandth_of_the_mean_energy(resolved):
    _, _, true, _, estimate, _ = resolved
    assert abs(np.mean(estimate - true)) < 1e-3 * np.mean(true)


def test_learnt_period_is_not_below_the_true_one(resolved):
    scenario, tally, *_ = resolved
    assert tally["period_ns"] >= scenario.update_ns * (1 - 0.02 * (scenario.tick_ns < scenario.update_ns))


def test_every_wrap_is_counted():
    scenario = SCENARIOS[2]
    again = sim.Scenario(scenario.name, modulus=scenario.modulus, seed=scenario.seed)
    truth = sim.Truth(again)
    samples, _, tally = sim.record(again, truth)
    assert samples["wraps"].sum() > 20
    assert tally["total"] == pytest.approx(
        truth.until(samples["at_ns"][-1]) - truth.until(samples["at_ns"][0]), rel=1e-3
    )
