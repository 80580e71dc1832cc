# SPDX-License-Identifier: Apache-2.0
"""Spans that are known beforehand take a shorter way through the engine: it gives what the stream gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgreen import _resolver, _shares
from tests.oracles import simulation as sim

MS, S = 10**6, 10**9
SHORT = {"seconds": 6}
SCENARIOS = [
    sim.Scenario("rapl", seed=1, **SHORT),
    sim.Scenario("wraps", tick_ns=2 * MS, modulus=30_000_000, seed=9, **SHORT),
    sim.Scenario("gaps", missed=0.05, gaps=10, slow_reads=0.02, seed=3, **SHORT),
    sim.Scenario("rests", waveform="rests", seed=5, **SHORT),
    sim.Scenario("nvml", update_ns=100 * MS, tick_ns=25 * MS, assume_ns=100 * MS, seed=6, **SHORT),
    sim.Scenario("coarse", waveform="sine", quantum=100_000, update_ns=20 * MS, tick_ns=4 * MS, seed=7, **SHORT),
    sim.Scenario("restarts", seed=8, **SHORT),
]


def by_stream(channels, chunks, begin, end, weight):
    """The same spans as events, which the stream shares."""
    count = len(begin)
    events = np.zeros(2 * count, _shares.event_dtype())
    events["at_ns"] = np.append(begin, end)
    events["weight"][:count] = weight
    events["span"] = np.tile(np.arange(count), 2)
    events["kind"] = np.repeat([0, 2], count)
    # At one instant openings come first.
    events = events[np.lexsort((events["kind"], events["at_ns"]))]
    return _shares.share_events(channels, chunks, events, np.ones(count, np.uint8))


def spans(rng, count, length_ns, last_ns):
    begin = rng.integers(-S // 2, last_ns + S // 2, count)
    end = begin + rng.exponential(length_ns, count).astype(np.int64)
    end = np.where(rng.random(count) < 0.1, begin, end)  # of no length
    begin[:20] = begin[20]  # some begin together
    end[:20] = np.maximum(end[:20], begin[:20])
    weight = rng.integers(0, 4, count).astype(np.uint64) << np.uint64(20)
    return begin, end, weight


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
@pytest.mark.parametrize("length_ms", [0.1, 20, 2000])
def test_columns_get_what_the_stream_gives(scenario, length_ms):
    scenario = replace(scenario)
    samples, traits, tally = sim.record(scenario, sim.Truth(scenario))
    if scenario.name == "restarts":  # the energy across each is unknown
        for place in range(50, len(samples), 90):
            samples["raw"][place:] -= samples["raw"][place]
    samples = samples[:4000].copy()  # one block, so that both know the same when a span is final
    rng, last_ns = np.random.default_rng(scenario.seed), int(samples["at_ns"][-1])
    channels = [({**traits, "period_ns": tally["period_ns"]}, scenario.unit_per_s / 1e9)]
    begin, end, weight = spans(rng, 600, length_ms * MS, last_ns)
    for mine in (weight, np.full(len(begin), 1 << 20, np.uint64)):
        found = _shares.share_columns(channels, [[samples]], begin, end, mine)
        wanted = by_stream(channels, [[samples]], begin, end, mine)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-9, atol=1e-3)
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-9, atol=1e-3)
        np.testing.assert_allclose(found[2], wanted[2], rtol=1e-12)
        np.testing.assert_allclose(found[3], wanted[3], rtol=1e-12, atol=1e-6)


def growing(count, step, tick_ns=10 * MS):
    samples = np.zeros(count, _resolver.SAMPLE)
    samples["at_ns"], samples["half_ns"] = tick_ns * np.arange(1, count + 1), 1000
    samples["raw"] = np.cumsum(np.full(count, step))
    return samples, {"kind": "energy", "modulus": 0, "quantum": 61, "period_ns": tick_ns, "plausible_per_s": 0}


def test_sums_that_begin_again_and_many_chunks_keep_all_digits():
    """So much energy that the running sums begin again some times; the answer in parts is that of a small run."""
    rng = np.random.default_rng(4)
    samples, traits = growing(3000, 200_000_000_000)
    begin, end, weight = spans(rng, 500, 300 * MS, int(samples["at_ns"][-1]))
    weight = np.maximum(weight, 1 << 20).astype(np.uint64)
    channels = [(traits, 1e6)] * 2
    chunks = [samples[i : i + 100].copy() for i in range(0, len(samples), 100)]
    found = _shares.share_columns(channels, [chunks, [samples]], begin, end, weight)[1]
    wanted = by_stream(channels, [[samples], [samples]], begin, end, weight)[1]
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-9, atol=1)
    np.testing.assert_allclose(found[..., 1], wanted[..., 1], rtol=1e-9, atol=1)
    assert np.all(found[..., 0] >= wanted[..., 0] * (1 - 1e-9) - 1)
    assert np.all(found[..., 2] <= wanted[..., 2] * (1 + 1e-9) + 1)


def test_a_counter_that_never_moves_has_a_quantum_for_each_span():
    samples, traits = growing(300, 0)
    begin = np.arange(0, 2 * S, 10 * MS)
    shares = _shares.share_columns([(traits, 1.0)], [[samples]], begin, begin + 30 * MS)[1][:, 0]
    wanted = by_stream([(traits, 1.0)], [[samples]], begin, begin + 30 * MS, np.full(len(begin), 1 << 20))[1][:, 0]
    np.testing.assert_allclose(shares, wanted, rtol=1e-9, atol=1e-6)
    assert np.all(shares[:, 2] > 0)
