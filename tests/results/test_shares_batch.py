# SPDX-License-Identifier: Apache-2.0
"""Shares of known spans: what the stream of the engine gives, and what only columns meet."""

from __future__ import annotations

import numpy as np
import pytest

from fastgreen import _shares
from tests.oracles import sharing
from tests.results.test_shares_engine import check_equal, play
from tests.results.test_sharing_twin import random_samples, random_spans


def columns_of(spans):
    begin, end = np.array([s[0][0] for s in spans], np.int64), np.array([s[0][1] for s in spans], np.int64)
    return begin, end, np.array([sharing.whole(s[0][2]) for s in spans], np.uint64)


def traits_of_a_counter(quantum=1, period_ns=40):
    return {"kind": "energy", "modulus": 0, "quantum": quantum, "period_ns": period_ns, "plausible_per_s": 0}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_columns_give_what_the_slow_twin_gives(seed, restarts):
    rng = np.random.default_rng([seed, restarts, 11])
    samples, traits = random_samples(rng, int(rng.integers(2, 60)), int(rng.choice([1, 3])), restarts)
    first, last = int(samples["at_ns"][0]), int(samples["at_ns"][-1])
    spans = random_spans(rng, int(rng.integers(1, 40)), first - 100, last + 100)
    within = min(s[0][0] for s in spans), max(s[0][1] for s in spans)
    twin = sharing.share_counter(samples, traits, 0.7, spans, within)
    chunks = np.array_split(samples, int(rng.integers(1, 5)))
    times, shares, attributed, alone = _shares.share_columns([(traits, 0.7)], [chunks], *columns_of(spans))
    check_equal(shares[:, 0], twin)
    assert times == pytest.approx(twin.time_ns)
    assert alone[0] == pytest.approx(twin.unattributed, abs=1e-6)
    assert shares[:, 0, 1].sum() == pytest.approx(attributed[0], abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_columns_give_what_the_stream_gives_of_many_edges(seed):
    """Long runs, steep and flat stretches, and reads that last as long as the rest between them."""
    rng = np.random.default_rng([seed, 12])
    samples, traits = random_samples(rng, 900, int(rng.choice([1, 3, 7])), seed % 2 == 1)
    samples["half_ns"] = rng.integers(0, 12, 900)
    samples["raw"] += np.cumsum(rng.choice([0, 0, 50], 900)) * traits["quantum"]
    rests = slice(int(rng.integers(100, 300)), int(rng.integers(400, 600)))
    samples["raw"][rests] = samples["raw"][rests.start]
    spans = random_spans(rng, 700, 900, int(samples["at_ns"][-1]) + 500, longest=int(rng.choice([30, 400, 9000])))
    _, streamed, _ = play(rng, [(traits, 0.5)], [samples], spans)
    found = _shares.share_columns([(traits, 0.5)], [[samples]], *columns_of(spans))[1]
    assert found == pytest.approx(streamed, abs=1e-6)


def test_a_power_and_a_counter_that_were_never_read_are_bounded_by_their_ceilings():
    begin, end = np.array([10, 20]), np.array([30, 40])
    channels = [(traits_of_a_counter(), 2.0), (traits_of_a_counter() | {"kind": "power"}, 3.0)]
    _, shares, attributed, alone = _shares.share_columns(channels, [[], []], begin, end)
    assert shares[:, 1].tolist() == [[0, 0, 45], [0, 0, 45]]
    assert shares[:, 0, :2].tolist() == [[0, 0], [0, 0]]
    assert shares[:, 0, 2] == pytest.approx([31, 31])  # and a quantum that it hid
    assert attributed == alone == [0, 0]


def test_spans_that_wait_for_a_counter_at_rest_keep_their_bounds():
    """More edges than are kept for a change that comes late."""
    count = 100_000
    begin = 1000 + 10 * np.arange(count)
    end = begin + 25
    samples = np.zeros(1001, random_samples(np.random.default_rng(0), 2)[0].dtype)
    samples["at_ns"] = 500 + 1010 * np.arange(1001)
    samples["raw"][:2], samples["raw"][2:-1], samples["raw"][-1] = (0, 10), 20, 30
    found = _shares.share_columns([(traits_of_a_counter(period_ns=2000), 1.0)], [[samples]], begin, end)
    low, estimate, high = found[1][:, 0].T
    assert np.all((low <= estimate) & (estimate <= high) & (high > 0))
    assert estimate.sum() == pytest.approx(found[2][0], rel=1e-9)
    assert low.sum() <= 30 <= high.sum()


@pytest.mark.parametrize("sort", [1, 1 << 40], ids=["near", "centuries apart"])
def test_spans_come_in_any_order(sort):
    rng = np.random.default_rng(3)
    begin = rng.integers(-(1 << 20), 1 << 20, 3000) * sort
    end = begin + rng.integers(0, 1 << 10, 3000) * sort
    end[::7] = begin[::7]
    samples, traits = random_samples(rng, 50)
    order = np.argsort(begin, kind="stable")
    mixed = _shares.share_columns([(traits, 1.0)], [[samples]], begin, end)
    sorted_ = _shares.share_columns([(traits, 1.0)], [[samples]], begin[order].copy(), end[order].copy())
    assert mixed[1][order] == pytest.approx(sorted_[1], rel=1e-12)
    assert mixed[0][order] == pytest.approx(sorted_[0], rel=1e-12)


def test_nothing_to_share():
    none = np.zeros(0, np.int64)
    samples, traits = random_samples(np.random.default_rng(1), 20)
    assert _shares.share_columns([(traits, 1.0)], [[samples, samples[:0]]], none, none)[1].shape == (0, 1, 3)
    with pytest.raises(ValueError, match="need a channel"):
        _shares.share_columns([], [], none, none)
