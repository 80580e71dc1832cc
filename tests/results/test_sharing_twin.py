# SPDX-License-Identifier: Apache-2.0
"""The slow twin of sharing: it is valid, adds up, and no rule is sharper."""

from __future__ import annotations

import numpy as np
import pytest

from fastgreen import _resolver
from tests.oracles import sharing
from tests.oracles import simulation as sim


def random_samples(rng, count, quantum=1, restarts=False):
    """Samples of a counter at random instants, in ns of no size, and its traits."""
    out = np.zeros(count, _resolver.SAMPLE)
    out["half_ns"] = rng.integers(0, 4, count)
    steps = rng.integers(12, 60, count)
    out["at_ns"] = 1000 + np.cumsum(steps)
    grown = rng.choice([0, 0, 1, 1, 2, 5, 9], count) * quantum
    out["raw"] = np.cumsum(grown)
    if restarts:
        out["flags"][1:][rng.random(count - 1) < 0.15] = _resolver.RESET
    traits = {"kind": "energy", "modulus": 0, "quantum": quantum, "period_ns": int(rng.integers(5, 150))}
    return out, traits | {"plausible_per_s": 0}


def random_spans(rng, count, first, last, longest=400, pieces=1, zero=0.1):
    """Spans as lists of pieces, within first..last."""
    spans = []
    for _ in range(count):
        begin = int(rng.integers(first, last))
        end = min(last, begin + int(rng.integers(0, longest)))
        cuts = sorted([begin, end, *rng.integers(begin, end + 1, int(rng.integers(0, pieces)))])
        weights = [0.0 if rng.random() < zero else float(rng.choice([0.5, 1.0, 1.0, 3.0])) for _ in cuts[1:]]
        spans.append([(int(a), int(b), w) for a, b, w in zip(cuts, cuts[1:], weights, strict=False)])
    return spans


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("seed", range(12))
def test_bounds_are_those_of_a_linear_program_over_all_histories(seed, pieces):
    rng = np.random.default_rng([seed, pieces])
    samples, traits = random_samples(rng, int(rng.integers(3, 14)), quantum=int(rng.choice([1, 3])))
    reading = sharing.read(samples, traits)
    first, last = int(samples["at_ns"][0] + samples["half_ns"][0]), reading.reach_ns
    if last <= first:
        pytest.skip("the counter's reach does not come past its first sample")
    spans = random_spans(rng, int(rng.integers(1, 8)), first, last, pieces=pieces)
    found = sharing.share_counter(samples, traits, 1.0, spans, (first, last))
    low, high = sharing.tightest(samples, traits, spans)
    assert found.low == pytest.approx(low, abs=1e-7)
    assert found.high == pytest.approx(high, abs=1e-7)


def true_shares(truth, spans):
    activity = sharing.Activity(spans)
    return activity.share @ np.diff(truth.until(np.array(activity.at_ns)))


@pytest.mark.parametrize("waveform", ["steps", "bursts", "rests"])
def test_truth_lies_within_the_bounds_and_all_adds_up(waveform):
    scenario = sim.Scenario("small", waveform=waveform, seconds=4, quantum=61, update_ns=20_000_000, seed=3)
    truth = sim.Truth(scenario)
    samples, traits, _ = sim.record(scenario, truth)
    rng = scenario.rng
    spans = random_spans(rng, 25, 400_000_000, 3_200_000_000, longest=300_000_000, pieces=3)
    within = (0, 4_000_000_000)
    found = sharing.share_counter(samples, traits, scenario.unit_per_s / 1e9, spans, within)
    true = true_shares(truth, spans)
    assert np.all(found.low - 1e-3 <= true)
    assert np.all(true <= found.high + 1e-3)
    assert np.all(found.low - 1e-6 <= found.estimate)
    assert np.all(found.estimate <= found.high + 1e-6)
    assert found.estimate.sum() + found.unattributed == pytest.approx(found.drawn, rel=1e-9)
    assert (0 < found.unattributed < found.drawn) or waveform == "rests"


def test_a_baseline_is_set_apart_and_nothing_falls_below_0():
    scenario = sim.Scenario("small", seconds=3, seed=4)
    truth = sim.Truth(scenario)
    samples, traits, _ = sim.record(scenario, truth)
    spans = random_spans(scenario.rng, 30, 600_000_000, 2_000_000_000, longest=300_000_000)
    ceiling = scenario.unit_per_s / 1e9
    found = sharing.share_counter(samples, traits, ceiling, spans, (0, 3_000_000_000))
    for baseline in (0.1 * ceiling, 2 * ceiling):
        left, apart = sharing.set_apart(found, baseline)
        true = np.maximum(true_shares(truth, spans) - baseline * found.time_ns, 0)
        assert np.all(left.low - 1e-3 <= true)
        assert np.all(true <= left.high + 1e-3)
        assert np.all(left.estimate >= 0)
        assert left.estimate.sum() + apart.sum() + left.unattributed == pytest.approx(left.drawn, rel=1e-9)


def test_an_open_span_has_at_least_its_part_of_a_quantum_above():
    samples = np.zeros(50, _resolver.SAMPLE)
    samples["at_ns"], samples["raw"] = 100 * (1 + np.arange(50)), 7
    traits = {"kind": "energy", "modulus": 0, "quantum": 4, "period_ns": 100, "plausible_per_s": 0}
    spans = [[(1000, 1001, 1.0)], [(1000, 3000, 3.0)], [(2000, 2000, 1.0)], [(1500, 1600, 0.0)]]
    found = sharing.share_counter(samples, traits, 1.0, spans, (100, 5000))
    assert found.high.tolist() == [1.0, 4.0, 0.0, 0.0]
    assert found.low.tolist() == [0.0] * 4


def test_weights_are_whole_multiples_and_an_instant_of_many_does_not_last():
    spans = [[(0, 10, 1e9)]] + [[(i, 10, 1e-6)] for i in range(10)] + [[(10, 20, 1e-6)]]
    activity = sharing.Activity(spans)
    assert activity.share[-1].tolist()[-1] == 1.0
    assert activity.share.sum(axis=0) == pytest.approx(1.0, abs=1e-15)
