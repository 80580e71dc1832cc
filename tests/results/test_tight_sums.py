# SPDX-License-Identifier: Apache-2.0
"""Bounds of many windows together: valid, and the tightest that the samples and the ceiling of the gaps allow."""

from __future__ import annotations

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel
from tests.oracles import simulation as sim
from tests.oracles import sums
from tests.oracles import tightest as tt
from tests.results.test_together import simulated

MS, SECOND = 1_000_000, 1_000_000_000
CEILING = 3.0  # of random edges, per ns


def random_edges(rng, count):
    """Begins and ends (at_ns, low, high): bounds around an energy that keeps to the ceiling between windows."""
    step = np.where(rng.random(2 * count) < 0.2, 0, rng.integers(0, 9, 2 * count))
    at_ns = np.cumsum(step)
    power = rng.choice([0.0, 0.5, 8.0], 2 * count)
    power[0::2] = np.minimum(power[0::2], CEILING)  # from an end to the begin after it
    energy = np.cumsum(step * power)
    slack = rng.choice([0.0, 2.0, 30.0])
    low = np.maximum.accumulate(energy - slack * rng.random(2 * count))
    high = np.minimum.accumulate((energy + slack * rng.random(2 * count))[::-1])[::-1]
    columns = [np.ascontiguousarray(c[i::2]) for i in (0, 1) for c in (at_ns, low, high)]
    return tuple(columns[:3]), tuple(columns[3:])


def bounds_of(begins, ends, block=None):
    total = _resolver.Sum(CEILING)
    for first in range(0, len(begins[0]), block or len(begins[0])):
        part = slice(first, first + (block or len(begins[0])))
        total.add(tuple(c[part] for c in begins), tuple(c[part] for c in ends))
    return total.bounds


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40])
def test_sums_are_the_optimum_of_the_linear_program_and_those_of_the_slow_twin(count):
    rng = np.random.default_rng(count)
    for _ in range(60):
        begins, ends = random_edges(rng, count)
        found = bounds_of(begins, ends)
        assert found == sums.slow_sum(begins, ends, CEILING)
        assert found == pytest.approx(sums.program_of_edges(begins, ends, CEILING), abs=1e-7)
        assert all(bounds_of(begins, ends, block) == found for block in (1, 3))


def test_columns_of_different_lengths_are_refused():
    begins, ends = random_edges(np.random.default_rng(1), 5)
    with pytest.raises(ValueError, match="one length"):
        _resolver.Sum(1.0).add(begins, tuple(c[:4] for c in ends))
    with pytest.raises(ValueError, match="one length"):
        _resolver.Sum(1.0).add((begins[0], begins[1][:4], begins[2]), ends)
    assert _resolver.Sum(1.0).bounds == (0.0, 0.0)


def trace_of(case, ceiling):
    """A trace of a small case; the ceiling is in its units per grid step."""
    watts = ceiling * 1e-6 / (tt.STEP_NS * 1e-9)
    channel = Channel("rapl:small", "rapl", "energy", "small", "uJ", ceiling_w=watts, traits=case.traits())
    trace = Trace.recounted(channel, True, lambda: [case.samples()])
    trace.tally |= {"period_ns": case.period * tt.STEP_NS, "peak_per_ns": 0.0}
    return trace


@pytest.mark.statistical
@pytest.mark.parametrize("ceiling", [0.5, 2.0, None])
def test_windows_of_a_trace_together_are_the_tightest_over_all_histories(ceiling):
    rng = np.random.default_rng(7)
    compared = 0
    while compared < 12:
        case = tt.random_case(rng, 4)
        points = np.arange((case.at[0] + case.half[0]) // 2, max(case.at[-2], case.at[-1] - case.period) // 2 + 1)
        if len(points) < 4:
            continue
        edges = 2 * np.sort(rng.choice(points, 2 * int(rng.integers(2, len(points) // 2 + 1)), replace=False))
        windows = edges.reshape(-1, 2)
        found = tt.histories(case)
        if len(found) > 120:
            continue
        wanted = sums.program_of_histories(case, found, windows.tolist(), ceiling)
        if wanted is None or wanted[1] > tt.FAR / 2:
            continue
        at_ns = windows * tt.STEP_NS
        trace = trace_of(case, tt.FAR if ceiling is None else ceiling)
        together = trace.together(Windows("w", 0, at_ns[:, 0], at_ns[:, 1]))
        least, most = wanted if ceiling is None else (wanted[0], None)
        assert together.low_j * 1e6 <= least + 1e-6, (case, windows)
        assert together.low_j * 1e6 == pytest.approx(least, abs=1e-6), (case, windows)
        if most is not None:  # the high bound does not rest on the ceiling
            assert together.high_j * 1e6 == pytest.approx(most, abs=1e-6), (case, windows)
        compared += 1


@pytest.mark.parametrize(
    ("waveform", "inside_ns", "outside_ns", "width"),
    [("steps", MS, 3 * MS // 10, 0.7), ("rests", MS, 3 * MS // 10, 0.9), ("steps", MS, MS // 1000, 0.01)],
)
def test_windows_with_gaps_are_as_well_known_as_their_gaps_are_short(waveform, inside_ns, outside_ns, width):
    rest = 0.1 if waveform == "rests" else 0.0
    _, truth, trace = simulated(sim.Scenario("package", waveform=waveform, rest=rest, seconds=20, seed=1))
    begin = np.arange(2 * SECOND, 18 * SECOND, inside_ns + outside_ns)
    end = begin + inside_ns
    together = trace.together(Windows("infer", 0, begin, end))
    true_j = np.sum(truth.until(end) - truth.until(begin)) * 1e-6
    assert together.low_j <= true_j <= together.high_j
    spread = (together.high_j - together.low_j) / true_j
    assert width / 2 < spread < width or spread < width == 0.01
