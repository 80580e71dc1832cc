# SPDX-License-Identifier: Apache-2.0
"""Estimates that follow the load: against a slow twin, and against the truth of simulated loops."""

import numpy as np
import pytest
from scipy.optimize import nnls

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.results.bounded import Windows
from fastgreen.results.following import Followed
from fastgreen.results.nonnegative import fit_powers, fit_powers_of_each, least_squares
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace
from fastgreen.results.update_instants import learn_period
from fastgreen.sensors.channel import Channel
from fastgreen.units import watts_to_units_per_ns
from tests.oracles import following as twin
from tests.oracles import loops
from tests.oracles import simulation as sim

MS = 1_000_000


def changes_of(traits, chunks):
    changes = _resolver.Changes(traits)
    for chunk in chunks:
        changes.feed(chunk)
    return changes.answer()


def board(seconds=3.0, **options):
    return loops.Loop({"a": (30, 300.0), "b": (8, 120.0)}, 70, 100, 25, seconds=seconds, **options)


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


# ---- against the twin ----


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
    cells, _, links, floored = _resolver.Followed(rows).chain(70 * MS, 100 * MS, 0.02, 1e-3)
    assert links == len(rows) - 2
    assert floored <= 1
    slow = twin.chain(rows, 70 * MS, 100 * MS, 0.02, 1e-3)
    # cells of even density are a little blunter than points
    assert np.abs(np.cumsum(cells, axis=1) - np.cumsum(slow, axis=1)).mean() < 0.01


@pytest.mark.parametrize("even", [True, False])
def test_expected_times_are_those_of_the_twin(even):
    loop = board()
    _, _, rows = followed(loop)
    cells = None if even else _resolver.Followed(rows).chain(80 * MS, 100 * MS, 0.02, 1e-3)[0]
    edges, states = timeline(loop)
    fast = _resolver.Followed(rows, cells).times(_resolver.Timeline(edges, states, 3))
    slow = twin.times(rows, cells, edges, states, 3)
    assert np.abs(fast[1:] - slow[1:]).max() < 0.02 * MS
    assert np.allclose(fast[1:].sum(axis=1), slow[1:].sum(axis=1), atol=1e4)


@pytest.mark.parametrize("even", [True, False])
def test_the_curve_is_that_of_the_twin(even):
    loop = board()
    _, _, rows = followed(loop)
    cells = None if even else _resolver.Followed(rows).chain(80 * MS, 100 * MS, 0.02, 1e-3)[0]
    edges, states = timeline(loop)
    line = _resolver.Timeline(edges, states, 3)
    power = np.array([20.0, 300.0, 120.0])
    part = _resolver.Followed(rows, cells)
    at = np.sort(np.random.default_rng(1).integers(rows[0, 0] - 50 * MS, rows[-1, 1] + 50 * MS, 500))
    amount = rows[:, 2].astype(float)
    fast = part.curve(line, amount, part.times(line) @ power, power[None], np.zeros(len(rows)), at)
    slow = twin.curve(rows, cells, edges, states, power, at)
    assert np.abs(fast - slow).max() < 2e-3 * amount.mean()


def test_whitened_rows_have_independent_errors():
    rng = np.random.default_rng(2)
    own, shared = rng.uniform(0.1, 2, 40), rng.uniform(0, 3, 41)
    covariance = np.diag(own + shared[:-1] + shared[1:]) - np.diag(shared[1:-1], 1) - np.diag(shared[1:-1], -1)
    rows = np.ascontiguousarray(np.linalg.cholesky(covariance))
    _resolver.whiten(own, shared, rows)
    assert np.allclose(rows, np.eye(40), atol=1e-12)
    own[7] = np.inf
    rows = rng.standard_normal((40, 3))
    _resolver.whiten(own, shared, rows)
    assert np.all(rows[7] == 0)
    assert np.all(np.isfinite(rows))


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
        n = int(rng.integers(1, 9))
        x = rng.standard_normal((40, n)) * 10.0 ** rng.integers(-4, 5, n)
        if trial % 3 == 0 and n > 1:
            x[:, 0] = x[:, 1] * 2  # singular
        y = x @ rng.standard_normal(n) + rng.standard_normal(40)
        best, residual = nnls(x, y)
        mine = least_squares(x.T @ x, x.T @ y)
        assert np.all(mine >= 0)
        assert np.linalg.norm(x @ mine - y) <= residual * (1 + 1e-7), (trial, best, mine)


# ---- the table ----

# The bars are those of twenty runs; with fewer runs their mean spreads more.
SEEDS = 4
SPREAD = dict(zip(loops.ROWS, (1.6, 0.6, 0.6, 0.6, 0.6, 3.0, 1.2), strict=True))


@pytest.mark.statistical
@pytest.mark.parametrize("name", loops.ROWS)
def test_mean_energy_of_windows_in_step_with_the_load_is_true(name):
    errors = []
    for seed in range(SEEDS):
        loop = loops.row(name, seed)
        row = loop.result().summary().to_pylist()[0]
        errors.append(100 * (row["mean_energy_j"] / loop.true_j("infer") - 1))
        assert row["method"] == "followed"
        assert row["mean_energy_low_j"] <= row["mean_energy_ci_low_j"] < row["mean_energy_ci_high_j"]
    mean, spread = np.mean(errors), SPREAD[name]
    assert abs(mean) <= max(1.0, 2 * spread / np.sqrt(SEEDS)), errors
    assert np.std(errors, ddof=1) <= spread * np.sqrt(16.27 / 3), errors  # chi-square, 3 degrees, 0.1 %


# ---- what holds every time ----


def each_kind():
    yield board(20.0)
    yield board(20.0, missed=0.2, pauses=2, late_ms=3.0, noise=0.3, seed=1)
    yield board(20.0, rest_w=0.0, bursts_per_s=4, seed=2)
    yield loops.row("1/9, 1 ms counter, 10 ms", 3, seconds=6.0)
    yield loops.row("1/9, 1 ms counter, 1 ms", 4, seconds=6.0)
    yield loops.Loop({"all": (100, 250.0)}, 0.0, 100, 25, seconds=20.0, seed=5)


def curve_of(result):
    """The curve of the first channel, at all instants and not only at the edges of windows."""
    (trace,) = result.traces
    traits = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
    changes = changes_of(traits, trace.settled())
    curve = Followed(trace, changes, result.following.of(trace).load)
    for windows in result._windows:
        kept = result.following.of(trace).windows_j(windows.begin_ns, windows.end_ns)
        assert np.array_equal(curve.windows_j(windows.begin_ns, windows.end_ns), kept)
    return curve


def test_windows_and_outside_add_up_to_the_counter():
    for loop in each_kind():
        result = loop.result()
        trace = result.traces[0]
        curve = curve_of(result)
        rng = np.random.default_rng(0)
        first, last = trace.tally["first_at_ns"] - trace.learnt["period_ns"], trace.tally["end_at_ns"]
        cuts = np.concatenate([[first], np.sort(rng.integers(first, last, 500)), [last]])
        parts = np.diff(curve.until(cuts)) * 1e6
        assert np.all(parts >= -1e-6)
        assert abs(parts.sum() - trace.tally["total"]) < 1
        edges = curve.load.edges_ns
        inside = sum(result.windows(n)["energy_j"].to_numpy().sum() for n in result.names) * 1e6
        states = np.append(curve.load.states[:-1], 0)
        pieces = np.diff(curve.until(np.append(edges, last))) * 1e6
        outside = pieces[curve.load.open_windows[states].sum(axis=1) == 0].sum()
        assert abs(inside + outside + curve.until(edges[:1])[0] * 1e6 - trace.tally["total"]) < 1


def test_every_point_of_the_curve_lies_within_the_bounds():
    for loop in each_kind():
        result = loop.result()
        trace = result.traces[0]
        curve = curve_of(result)
        at = np.sort(np.random.default_rng(1).integers(0, loop.end_ns, 20_000))
        traits = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
        ceiling = watts_to_units_per_ns(trace.ceiling_w, "uJ")
        low, _, high, _ = _resolver.resolve_instants(traits, ceiling, trace.settled(), at)
        found = curve.until(at) * 1e6
        assert np.all(found >= low - 1e-3)
        assert np.all(found <= high + 1e-3)


def test_true_energies_lie_within_the_certain_bounds():
    for loop in each_kind():
        result = loop.result()
        for name, (begin, end) in loop.windows.items():
            table = result.windows(name)
            true = (loop.until(end) - loop.until(begin)) / 1e6
            assert np.all(true >= table["energy_low_j"].to_numpy() - 2e-6)
            assert np.all(true <= table["energy_high_j"].to_numpy() + 2e-6)


def test_a_saved_run_gives_the_same(tmp_path):
    result = board(30.0).result()
    result.metadata.update({"format": 1, "version": fg.__version__, "host": "here"})
    result.save(tmp_path / "run")
    again = fg.load(tmp_path / "run")
    for column in ("mean_energy_j", "mean_energy_ci_low_j", "mean_energy_ci_high_j", "method", "interval_note"):
        assert again.summary()[column].to_pylist() == result.summary()[column].to_pylist(), column


def test_the_period_is_learnt_and_learnt_again():
    _, _, rows = followed(board(120.0))
    shortest, longest = np.array(learn_period(rows)) / MS
    assert shortest == pytest.approx(80, abs=1.5)
    assert longest == pytest.approx(100, abs=1.5)
    loop = loops.Loop({"infer": (30, 300.0)}, 70, 100, 25, slower_from=0.5, slower=0.6)
    assert loop.result().summary()["mean_energy_j"][0].as_py() == pytest.approx(loop.true_j("infer"), rel=0.06)


# ---- bad input ----


def summary_of(trace, windows):
    result = Result([trace], windows, {"realtime_ns": 0, "monotonic_ns": 0}, 0, 1)
    str(result)
    return result, {row["name"]: row for row in result.summary().to_pylist()}


def test_names_that_always_come_together_have_a_sum_and_no_intervals():
    loop = loops.Loop({"a": (20, 250.0), "b": (10, 250.0)}, 0.0, 100, 25, length_jitter=0.0)
    _, rows = summary_of(loop.trace(), loop.handles())
    begin = loop.windows["a"][0]
    whole = loop.result().summary().to_pylist()
    true = loop.true_j("a") + loop.true_j("b")
    assert sum(row["mean_energy_j"] for row in whole) == pytest.approx(true, rel=0.01)
    assert len(begin) == rows["a"]["count"]


def test_few_updates_and_one_window_keep_the_even_split():
    loop = board(4.0)
    _, rows = summary_of(loop.trace(), loop.handles())
    assert rows["a"]["method"] == "even"
    assert "fewer than" in rows["a"]["interval_note"]
    assert rows["a"]["mean_energy_ci_low_j"] is None
    loop = loops.Loop({"infer": (100, 250.0)}, 0.0, 100, 25, seconds=10.0)
    one = [Windows("all", 0, np.array([2_000 * MS]), np.array([7_000 * MS]))]
    _, rows = summary_of(loop.trace(), one)
    assert rows["all"]["mean_energy_j"] == pytest.approx(1250, rel=0.02)


def test_ten_thousand_names_share_the_curve():
    loop = loops.Loop({"infer": (5, 300.0)}, 5, 1, 1, seconds=105.0)
    begin, end = loop.windows["infer"]
    handles = [Windows(f"n{i}", i, begin[i : i + 1], end[i : i + 1]) for i in range(10_000)]
    _, rows = summary_of(loop.trace(), handles)
    assert len(rows) == 10_000
    total = sum(row["energy_j"] for row in rows.values())
    true = float(np.sum(loop.until(end[:10_000]) - loop.until(begin[:10_000]))) / 1e6
    assert total == pytest.approx(true, rel=0.02)


def test_overlapping_and_empty_windows():
    loop = loops.row("5/20, 1 ms counter, 10 ms", seconds=10.0)
    begin, end = loop.windows["infer"]
    handles = [
        Windows("infer", 0, begin, end),
        Windows("half", 1, begin, begin + (end - begin) // 2),
        Windows("never", 2, begin, begin),
        Windows("outer", 3, begin[:1], end[-1:]),
        Windows("before", 4, np.array([-(10**10)]), np.array([-(10**9)])),
    ]
    _, rows = summary_of(loop.trace(), handles)
    assert rows["never"]["energy_j"] == 0
    assert rows["before"]["energy_j"] == 0
    assert rows["infer"]["mean_energy_j"] == pytest.approx(1.5, rel=0.02)
    assert rows["half"]["mean_energy_j"] == pytest.approx(0.75, rel=0.05)


def test_a_restart_and_a_wrap_inside_are_no_power():
    loop = loops.row("30/70, 100 ms counter, 25 ms")
    trace = loop.trace()
    samples = np.concatenate(list(trace.chunks()))
    samples["raw"][2000:] -= samples["raw"][2000] - 5
    facts = {**trace.channel.traits, "tick_ns": 25 * MS}
    account = _resolver.Account(facts)
    account.feed(samples)
    assert account.tally()["resets"] == 1
    again = type(trace).recounted(trace.channel, True, lambda: [samples], tick_ns=25 * MS)
    _, rows = summary_of(again, loop.handles())
    assert rows["infer"]["mean_energy_j"] == pytest.approx(9.0, rel=0.05)


def test_windows_that_do_not_follow_the_load_have_no_bias():
    scenario = sim.Scenario("board", update_ns=100 * MS, tick_ns=25 * MS, unit_per_s=300e6, assume_ns=200 * MS, seed=8)
    truth = sim.Truth(scenario)
    samples, traits, _ = sim.record(scenario, truth, plausible_per_s=10**13)
    channel = Channel("nvml:0", "nvml", "energy", "nvml:0", "uJ", ceiling_w=400.0, traits=traits)
    trace = Trace.recounted(channel, True, lambda: [samples], tick_ns=25 * MS)
    first, last = samples["at_ns"][[8, -8]]
    errors = []
    for seed in range(10):
        edges = np.sort(np.random.default_rng(seed).integers(first, last, 20_000))
        windows = Windows("any", 0, edges[0::2], edges[1::2])
        _, rows = summary_of(trace, [windows])
        true = float(np.mean(truth.until(windows.end_ns) - truth.until(windows.begin_ns))) / 1e6
        errors.append(rows["any"]["mean_energy_j"] / true - 1)
        low, high = rows["any"]["mean_energy_ci_low_j"], rows["any"]["mean_energy_ci_high_j"]
        assert low is None or (low <= true * 1.02 and true * 0.98 <= high)
    assert abs(np.mean(errors)) < max(1e-3, 2 * np.std(errors, ddof=1) / np.sqrt(len(errors))), errors
