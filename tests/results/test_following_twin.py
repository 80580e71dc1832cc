# SPDX-License-Identifier: Apache-2.0
"""Each step of estimates that follow the load, against a slow twin."""

import numpy as np
import pytest
from scipy.optimize import nnls

from fastgreen import _follow, _resolver
from fastgreen.results.bounded import Windows
from fastgreen.results.load_states import load_of
from fastgreen.results.nonnegative import fit_powers, fit_powers_of_each, least_squares
from tests.oracles import following as twin
from tests.oracles.loops import MS, board, changes_of


def followed(loop):
    trace = loop.trace()
    traits = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
    return trace, traits, changes_of(traits, trace.chunks())


def timeline(loop):
    edges = np.sort(np.concatenate([np.concatenate(pair) for pair in loop.windows.values()]))
    edges = np.unique(edges)
    states = np.zeros(len(edges), np.int32)
    for number, (begin, end) in enumerate(loop.windows.values(), 1):
        place = np.searchsorted(begin, edges, side="right") - 1
        states[(place >= 0) & (edges < end[np.maximum(place, 0)])] = number
    return edges, states


def test_changes_are_those_of_the_twin_in_any_chunks():
    rng = np.random.default_rng(0)
    for trial in range(100):
        count = int(rng.integers(1, 60))
        samples = np.zeros(count, _resolver.SAMPLE)
        samples["at_ns"] = np.cumsum(rng.integers(1, 40, count)) * MS
        samples["raw"] = np.cumsum(rng.integers(0, 3, count) * rng.integers(0, 9, count))
        samples["flags"] = rng.choice([0, 0, 0, 0, 1, 2], count)
        samples["wraps"] = np.where(samples["flags"] & 2, 0, rng.choice([0, 0, 0, 1], count))
        traits = {"kind": "energy", "modulus": 50, "quantum": 1, "period_ns": 30 * MS, "plausible_per_s": 0}
        cuts = np.sort(rng.integers(0, count + 1, 3))
        found = changes_of(traits, list(np.split(samples, cuts)))
        assert np.array_equal(found, twin.changes(samples, 50, 30 * MS)), trial


@pytest.mark.parametrize("tick_ms", [10, 25, 130])
def test_the_chain_is_that_of_the_twin(tick_ms):
    loop = board(update_jitter=0.3)
    loop.tick_ms = tick_ms
    _, _, rows = followed(loop)
    rows = rows[:30]
    rows[12, 3] = 0
    cells, _, links, floored = _follow.Followed(rows).chain(70 * MS, 100 * MS, 0.02, 1e-3)
    assert links == len(rows) - 2
    assert floored <= 1
    slow = twin.chain(rows, 70 * MS, 100 * MS, 0.02, 1e-3)
    # cells of even density are a little blunter than points
    assert np.abs(np.cumsum(cells, axis=1) - np.cumsum(slow, axis=1)).mean() < 0.01


@pytest.mark.parametrize("even", [True, False])
def test_expected_times_are_those_of_the_twin(even):
    loop = board()
    _, _, rows = followed(loop)
    cells = None if even else _follow.Followed(rows).chain(80 * MS, 100 * MS, 0.02, 1e-3)[0]
    edges, states = timeline(loop)
    fast = _follow.Followed(rows, cells).times(_follow.Timeline(edges, states, 3))
    slow = twin.times(rows, cells, edges, states, 3)
    assert np.abs(fast[1:] - slow[1:]).max() < 0.02 * MS
    assert np.allclose(fast[1:].sum(axis=1), slow[1:].sum(axis=1), atol=1e4)


@pytest.mark.parametrize("even", [True, False])
def test_the_curve_is_that_of_the_twin(even):
    loop = board()
    _, _, rows = followed(loop)
    cells = None if even else _follow.Followed(rows).chain(80 * MS, 100 * MS, 0.02, 1e-3)[0]
    edges, states = timeline(loop)
    line = _follow.Timeline(edges, states, 3)
    power = np.array([20.0, 300.0, 120.0])
    part = _follow.Followed(rows, cells)
    at = np.sort(np.random.default_rng(1).integers(rows[0, 0] - 50 * MS, rows[-1, 1] + 50 * MS, 500))
    amount = rows[:, 2].astype(float)
    fast = part.curve(line, amount, part.times(line) @ power, power[None], np.zeros(len(rows)), at)
    slow = twin.curve(rows, cells, edges, states, power, at)
    assert np.abs(fast - slow).max() < 2e-3 * amount.mean()


def random_rows(count=40, states=3, seed=2):
    rng = np.random.default_rng(seed)
    changes = np.zeros((count, 4), np.int64)
    changes[:, 1] = np.cumsum(rng.integers(20, 60, count))
    changes[:, 0] = changes[:, 1] - rng.integers(1, 20, count)
    changes[:, 2] = rng.integers(1, 1000, count)
    return changes, rng.uniform(0, 50, (count, states))


@pytest.mark.parametrize("states", [1, 3, 4, 7])
def test_sums_of_a_regression_are_those_of_generalised_least_squares(states):
    changes, times = random_rows(states=states)
    for known in (np.ones(40, bool), np.arange(40) % 7 != 3):
        changes[:, 2] = np.where(known, np.maximum(changes[:, 2], 1), 0)
        matrix, vector, time, grown, count = _follow.Rows(changes, times).sums(1, 40, 0.3, 900.0, 0.7)
        slow = twin.sums(changes, times, 0.3, 900.0, 0.7)
        assert count == known[1:].sum()
        assert grown == changes[1:, 2].sum()
        assert np.allclose(time, times[1:].sum(axis=0))
        assert np.allclose(matrix, slow[0])
        assert np.allclose(vector, slow[1])


def test_what_powers_leave_of_growths():
    changes, times = random_rows()
    changes[[5, 6, 20], 2] = 0
    power = np.array([1.0, 2.0, 3.0])
    left = _follow.Rows(changes, times).left(1, 40, power)
    error, known = changes[:, 2] - times @ power, changes[:, 2] > 0
    known[0] = False
    pairs = known[:-1] & known[1:]
    width, length = np.diff(changes[:, :2], axis=1).ravel() ** 2, np.diff(changes[:, 1], prepend=0) ** 2
    assert left["known"] == known.sum()
    assert left["square"] == pytest.approx((error[known] ** 2).sum())
    assert left["neighbours"] == pytest.approx((error[:-1] * error[1:])[pairs].sum())
    assert left["shared_ns2"] == width[:-1][pairs].sum()
    assert (left["width_ns2"], left["length_ns2"]) == (width[known].sum(), length[known].sum())


def test_states_of_a_load_are_those_of_the_twin():
    rng = np.random.default_rng(4)
    for trial in range(60):
        handles = []
        for i in range(int(rng.integers(1, 6))):
            begin = rng.integers(0, 300, int(rng.integers(0, 12)))
            handles.append(Windows(f"n{rng.integers(3)}", i, begin, begin + rng.integers(0, 40, len(begin))))
        load = load_of(handles, 5)
        assert not load.merged
        opened = dict(zip(load.edges_ns.tolist(), load.open_windows[load.states].tolist(), strict=True))
        slow = twin.opened(handles)
        assert {at: dict(zip(load.names, row, strict=True)) for at, row in opened.items()} == slow, trial
        lengths = np.append(np.diff(load.edges_ns), 1 << 40)
        rest = ~load.open_windows[load.states].any(axis=1)
        assert np.array_equal(load.states[rest] == 1, lengths[rest] <= 5)
        assert np.all(load.states[~rest] > 1)
        size = len(load.time_ns)
        assert np.array_equal(load.time_ns, np.bincount(load.states[:-1], lengths[:-1], minlength=size))
        assert np.array_equal(load.stretches, np.bincount(load.states[:-1], minlength=size))


@pytest.mark.parametrize("names", [70, 3000])
def test_states_that_are_too_many_share_one(names):
    begin = np.arange(names) * 10
    load = load_of([Windows(f"n{i}", i, begin[i : i + 1], begin[i : i + 1] + 5) for i in range(names)], 100)
    assert load.merged
    assert len(load.time_ns) == 64
    assert load.time_ns.sum() == load.edges_ns[-1]
    assert load.stretches.sum() == 2 * names - 1
    assert load.time_ns @ load.open_windows == pytest.approx(np.full(names, 5.0))


def test_a_divided_timeline_is_that_of_the_twin():
    rng = np.random.default_rng(5)
    for _ in range(50):
        edges, states = np.cumsum(rng.integers(1, 30, 20)), rng.integers(0, 3, 20)
        ends = [sorted(rng.choice(np.arange(1, 25), int(rng.integers(0, 4)), replace=False).tolist()) for _ in range(3)]
        first = np.cumsum([0, *(len(e) + 1 for e in ends)])
        numbers = np.arange(first[-1])
        flat = np.array([x for e in ends for x in (*e, 0)])
        found = _follow.Timeline(edges, states, 3).divided(first, flat, numbers, int(first[-1]))
        slow = twin.divided(edges, states, ends)
        assert list(zip(found.edges_ns.tolist(), found.states.tolist(), strict=True)) == slow


def test_energies_between_edges():
    rng = np.random.default_rng(6)
    edges, values = np.unique(rng.integers(0, 500, 60)), np.sort(rng.uniform(0, 9, 60))
    values = values[: len(edges)]
    begin, end = rng.integers(-5, 505, 300), rng.integers(-5, 505, 300)
    place = [np.minimum(np.searchsorted(edges, at), len(edges) - 1) for at in (begin, end)]
    assert np.array_equal(_follow.between(edges, values, begin, end), values[place[1]] - values[place[0]])
    begin = np.sort(begin)
    assert np.array_equal(_follow.between(edges, values, begin, begin), np.zeros(300))


def test_powers_of_a_stack_are_those_of_each():
    random = np.random.default_rng(3)
    for states in (1, 2, 5):
        times = random.random((10, 40, states)) * 10.0 ** random.uniform(-3, 6, states)
        if states == 5:
            times[:, :, 1] = 2 * times[:, :, 0]
        grown = times @ random.uniform(-0.5, 1.0, states)
        matrices = times.transpose(0, 2, 1) @ times
        vectors = np.einsum("bij,bi->bj", times, grown)
        ridge = np.full(states, 1e-3)
        each = [fit_powers(m, v, ridge, 0.5) for m, v in zip(matrices, vectors, strict=True)]
        assert fit_powers_of_each(matrices, vectors, ridge, 0.5) == pytest.approx(np.stack(each), rel=1e-6, abs=1e-9)


def test_least_squares_are_those_of_scipy():
    rng = np.random.default_rng(3)
    for trial in range(300):
        n = int(rng.integers(1, 30))
        x = rng.standard_normal((40, n)) * 10.0 ** rng.integers(-4, 5, n)
        if trial % 3 == 0 and n > 1:
            x[:, 0] = x[:, 1] * 2  # singular
        y = x @ rng.standard_normal(n) + rng.standard_normal(40)
        best, residual = nnls(x, y)
        mine = least_squares(x.T @ x, x.T @ y)
        assert np.all(mine >= 0)
        assert np.linalg.norm(x @ mine - y) <= residual * (1 + 1e-7), (trial, best, mine)
