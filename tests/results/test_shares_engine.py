# SPDX-License-Identifier: Apache-2.0
"""The engine of sharing against its slow twin and against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgreen import _resolver, _shares
from fastgreen.results import resolving
from tests.oracles import sharing
from tests.oracles import simulation as sim
from tests.results.test_bounds import MS, SCENARIOS
from tests.results.test_sharing_twin import random_samples, random_spans

S = sim.SECOND


def events(spans):
    """(at_ns, kind, span, piece) in the order of time, openings first and closings last."""
    out = []
    for row, span in enumerate(spans):
        out.append((span[0][0], 0, row, 0))
        out += [(begin, 1, row, i) for i, (begin, _, _) in enumerate(span) if i]
        out.append((span[-1][1], 2, row, 0))
    return sorted(out)


def play(rng, channels, chunks, spans):
    """Shares and times by span, fed in random portions as a live ledger does."""
    engine = _shares.Engine(channels)
    numbers, times, shares = {}, np.full(len(spans), np.nan), np.full((len(spans), len(channels), 3), np.nan)
    waiting, fed = events(spans), [0] * len(channels)

    def take():
        while True:
            ids, time_ns, values = engine.take(3)
            times[ids], shares[ids] = time_ns, values
            if len(ids) < 3:
                return

    def give(until):
        while waiting and waiting[0][0] <= until:
            at, kind, row, piece = waiting.pop(0)
            if kind == 0:
                numbers[row] = engine.open(at, row, sharing.whole(spans[row][0][2]))
            elif kind == 1:
                engine.weigh(numbers[row], at, sharing.whole(spans[row][piece][2]))
            else:
                engine.close(numbers[row], at)

    while any(n < len(c) for n, c in zip(fed, chunks, strict=True)):
        at = [c["at_ns"][n] if n < len(c) else np.inf for n, c in zip(fed, chunks, strict=True)]
        channel = int(np.argmin(at))
        portion = chunks[channel][fed[channel] : fed[channel] + int(rng.integers(1, 5))]
        fed[channel] += len(portion)
        give(int(np.max(portion["at_ns"] + portion["half_ns"].astype(np.int64))) + int(rng.integers(0, 30)))
        engine.feed(channel, np.ascontiguousarray(portion))
        take()
    give(1 << 61)
    engine.finish()
    take()
    assert len(engine) == 0
    assert engine.edges == 0
    return times, shares, engine


def check_equal(found, twin, scale=1.0):
    for column, wanted in enumerate((twin.low, twin.estimate, twin.high)):
        assert found[:, column] == pytest.approx(wanted, abs=1e-7 * scale, rel=1e-9), column


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("seed", range(60))
def test_engine_gives_what_its_slow_twin_gives(seed, pieces, restarts):
    rng = np.random.default_rng([seed, pieces, restarts])
    samples, traits = random_samples(rng, int(rng.integers(2, 40)), int(rng.choice([1, 3])), restarts)
    first, last = int(samples["at_ns"][0]), int(samples["at_ns"][-1])
    spans = random_spans(rng, int(rng.integers(1, 25)), first - 100, last + 100, pieces=pieces)
    times, shares, engine = play(rng, [(traits, 0.7)], [samples], spans)
    within = min(s[0][0] for s in spans), max(s[-1][1] for s in spans)
    twin = sharing.share_counter(samples, traits, 0.7, spans, within)
    check_equal(shares[:, 0], twin)
    assert times == pytest.approx(twin.time_ns)
    assert engine.unattributed()[0] == pytest.approx(twin.unattributed, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_engine_shares_a_power_as_its_slow_twin_does(seed):
    rng = np.random.default_rng([seed, 7])
    samples, traits = random_samples(rng, int(rng.integers(2, 40)))
    samples["raw"] = rng.integers(0, 100, len(samples))
    samples["flags"][1:][rng.random(len(samples) - 1) < 0.1] = _resolver.GAP
    traits["kind"] = "power"
    first, last = int(samples["at_ns"][0]), int(samples["at_ns"][-1])
    spans = random_spans(rng, 20, first - 100, last + 100, pieces=3)
    _, shares, _ = play(rng, [(traits, 120.0)], [samples], spans)
    within = min(s[0][0] for s in spans), max(s[-1][1] for s in spans)
    check_equal(shares[:, 0], sharing.share_power(samples, traits, 120.0, spans, within), 1e3)


def test_each_channel_of_several_is_shared_on_its_own():
    rng = np.random.default_rng(5)
    columns = [random_samples(rng, 30, q) for q in (1, 3)]
    spans = random_spans(rng, 20, 1100, 2000, pieces=2)
    channels = [(traits, 0.5) for _, traits in columns]
    _, shares, _ = play(rng, channels, [samples for samples, _ in columns], spans)
    for i, (samples, traits) in enumerate(columns):
        check_equal(shares[:, i], sharing.share_counter(samples, traits, 0.5, spans, (1000, 2100)))


@pytest.mark.parametrize("seed", range(10))
def test_columns_give_what_single_calls_give(seed):
    rng = np.random.default_rng([seed, 3])
    columns = [random_samples(rng, 200, q) for q in (1, 3)]
    spans = random_spans(rng, 120, 900, 6000)
    channels = [(traits, 0.5) for _, traits in columns]
    times, shares, engine = play(rng, channels, [samples for samples, _ in columns], spans)
    begin, end = np.array([s[0][0] for s in spans]), np.array([s[0][1] for s in spans])
    weights = np.array([sharing.whole(s[0][2]) for s in spans], np.uint64)
    chunks = [np.array_split(samples, 7) for samples, _ in columns]
    found = _shares.share_columns(channels, chunks, begin, end, weights)
    assert found[0] == pytest.approx(times)
    assert found[1] == pytest.approx(shares, abs=1e-7)
    assert found[2] == pytest.approx(engine.attributed())
    assert found[3] == pytest.approx(engine.unattributed())


@pytest.mark.parametrize("waveform", ["steps", "rests"])
def test_truth_is_within_where_a_counter_was_not_waited_for(waveform):
    scenario = sim.Scenario("still", waveform=waveform, seconds=40, quantum=61, update_ns=50 * MS, seed=9)
    truth = sim.Truth(scenario)
    samples, traits, _ = sim.record(scenario, truth)
    rng, ceiling = np.random.default_rng(8), scenario.unit_per_s / 1e9
    engine = _shares.Engine([(traits, ceiling)])
    begin, end, weights = many_spans(rng, 400, 40, 100 * MS)
    queue = events([[(int(b), int(e), float(w) / sharing.UNIT)] for b, e, w in zip(begin, end, weights, strict=True)])
    numbers, found = {}, np.full((400, 3), np.nan)
    for portion in np.array_split(samples, 300):
        while queue and queue[0][0] <= portion["at_ns"][-1] + int(portion["half_ns"].max()):
            at, kind, row, _ = queue.pop(0)
            if kind == 0:
                numbers[row] = engine.open(at, row, int(weights[row]))
            else:
                engine.close(numbers[row], at)
        engine.feed(0, portion)
        if rng.random() < 0.2:
            engine.stand_still(0, int(portion["at_ns"][-1]) - int(portion["half_ns"][-1]))
        ids, _, shares = engine.take(400)
        found[ids] = shares[:, 0]
    known = ~np.isnan(found[:, 0])
    true, rounding = true_shares(truth, begin, end, weights), 1e-9 * truth.energy[-1] + 1e-3
    assert known.sum() > 350
    assert np.all(found[known, 0] - rounding <= true[known])
    assert np.all(true[known] <= found[known, 2] + rounding)


def test_one_span_alone_has_the_energy_and_the_bounds_of_a_window():
    scenario = sim.Scenario("alone", seconds=20, quantum=61, seed=1)
    samples, traits, _ = sim.record(scenario, sim.Truth(scenario))
    rng, ceiling = np.random.default_rng(2), scenario.unit_per_s / 1e9
    edges = np.sort(rng.integers(S // 4, 20 * S, 4000))
    begin, end = edges[0::2].copy(), edges[1::2].copy()
    low, estimate, high = resolving.resolve_windows(traits, ceiling, [samples], begin, end)
    _, shares, attributed, _ = _shares.share_columns([(traits, ceiling)], [[samples]], begin, end)
    inside = (begin > S) & (end < 19 * S)
    assert shares[:, 0, 1] == pytest.approx(estimate, rel=1e-9)
    for column, window in enumerate((low, estimate, high)):
        assert shares[inside, 0, column] == pytest.approx(window[inside], abs=1e-4)
    assert np.all(shares[:, 0, 0] >= low - 1e-4)
    assert np.all(shares[:, 0, 2] <= high + 1e-4)  # before the first sample an end is not worth less than a begin
    assert attributed[0] == pytest.approx(shares[:, 0, 1].sum(), rel=1e-9)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_windows_and_shares_lie_on_one_curve(scenario):
    """From 1 to 1000 open at once, in each scenario, over the ends of the run too."""
    scenario = replace(scenario)
    samples, traits, _ = sim.record(scenario, sim.Truth(scenario))
    rng, ceiling = np.random.default_rng(6), scenario.unit_per_s / 1e9
    first, last = int(samples["at_ns"][0]), int(samples["at_ns"][-1])
    for count in (1, 30, 1000):
        begin = np.sort(rng.integers(first - S // 10, last, count))
        end = np.minimum(begin + rng.integers(0, last - first, count), last + S // 10)
        weights = np.full(count, sharing.UNIT, np.uint64)
        found = _shares.share_columns([(traits, ceiling)], [[samples]], begin, end, weights)
        whole = resolving.resolve_windows(traits, ceiling, [samples], [begin[0]], [end.max()])[1][0]
        assert found[2][0] + found[3][0] == pytest.approx(whole, rel=1e-9)
        assert found[1][:, 0, 1].sum() == pytest.approx(found[2][0], rel=1e-9)
        edges = np.unique(np.concatenate([begin, end]))  # each stretch between two edges by itself
        parts = _shares.share_columns([(traits, ceiling)], [[samples]], edges[:-1].copy(), edges[1:].copy())
        windows = resolving.resolve_windows(traits, ceiling, [samples], edges[:-1], edges[1:])[1]
        assert parts[1][:, 0, 1] == pytest.approx(windows, abs=1e-9 * whole)


def true_shares(truth, begin, end, weights):
    """The true share of spans, by sums over all edges."""
    at = np.unique(np.concatenate([begin, end]))
    change = np.zeros(len(at), np.int64)
    np.add.at(change, np.searchsorted(at, begin), weights.astype(np.int64))
    np.add.at(change, np.searchsorted(at, end), -weights.astype(np.int64))
    total = np.cumsum(change)[:-1]
    g = np.divide(1.0, total, where=total > 0, out=np.zeros(len(total)))
    until = np.concatenate([[0.0], np.cumsum(g * np.diff(truth.until(at)))])
    return weights * (until[np.searchsorted(at, end)] - until[np.searchsorted(at, begin)])


def many_spans(rng, count, seconds, typical_ns, spread=1.0):
    begin = np.sort(rng.integers(S // 4, (seconds - 1) * S, count))
    end = begin + np.minimum(rng.lognormal(np.log(typical_ns), spread, count), 10 * S).astype(np.int64)
    empty = rng.random(count) < 0.02
    end[empty] = begin[empty]
    weights = np.full(count, sharing.UNIT, np.uint64)
    other = rng.random(count) < 0.3
    weights[other] = (rng.choice([0.0, 0.01, 2.0, 50.0], other.sum()) * sharing.UNIT).astype(np.uint64)
    return begin, end, weights


@pytest.mark.parametrize("typical_ns", [1 * MS, 40 * MS, 2000 * MS], ids=["1ms", "40ms", "2s"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_true_share_lies_within_the_bounds_every_time(scenario, typical_ns):
    scenario = replace(scenario)  # with a generator of its own, from the start
    truth = sim.Truth(scenario)
    samples, traits, _ = sim.record(scenario, truth)
    rng, ceiling = np.random.default_rng(typical_ns), scenario.unit_per_s / 1e9
    begin, end, weights = many_spans(rng, 2000, scenario.seconds, typical_ns)
    jumps = rng.choice(truth.edges[(truth.edges > S) & (truth.edges < (scenario.seconds - 1) * S)], 200)
    begin[:200] = np.minimum(begin[:200], jumps)  # edges where the power jumps
    end[:200] = np.maximum(jumps, begin[:200])
    _, shares, attributed, _ = _shares.share_columns([(traits, ceiling)], [[samples]], begin, end, weights)
    low, estimate, high = shares[:, 0].T
    true = true_shares(truth, begin, end, weights)
    rounding = 1e-9 * truth.energy[-1] + 1e-3
    outside = np.flatnonzero((true < low - rounding) | (true > high + rounding))
    assert outside.size == 0, (outside.size, begin[outside[0]], end[outside[0]], *shares[outside[0]], true[outside[0]])
    assert np.all((low - rounding <= estimate) & (estimate <= high + rounding))
    assert estimate.sum() == pytest.approx(attributed[0], rel=1e-9)
    assert np.all(high[(end > begin) & (weights > 0)] > 0)
    nothing = (end == begin) | (weights == 0)
    assert np.all(shares[nothing] == 0)
