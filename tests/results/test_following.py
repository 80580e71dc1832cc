# SPDX-License-Identifier: Apache-2.0
"""Estimates that follow the load, against the truth of simulated loops; test_following_twin.py has their steps."""

import re

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.cli import main
from fastgreen.results.bounded import Windows
from fastgreen.results.followed import Followed
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel
from fastgreen.units import watts_to_units_per_ns
from tests.oracles import loops
from tests.oracles import simulation as sim
from tests.oracles.loops import MS, board, changes_of

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


def test_two_minutes_of_a_loop_price_a_window_of_5_ms_on_a_counter_of_100_ms(tmp_path, capsys):
    loop = loops.Loop({"infer": (5, 300.0)}, 20, 100, 25, seconds=122.0, length_jitter=0.2, seed=3)
    result = loop.result()
    result.metadata.update({"format": 1, "version": fg.__version__, "host": "here"})
    result.save(tmp_path / "run")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["report", str(tmp_path / "run")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("infer is known to")]
    share, more = re.fullmatch(r"infer is known to ([\d.]+) % \(95 %\); ([\d,]+) more give 1 %", line).groups()
    (row,) = fg.load(tmp_path / "run").summary().to_pylist()
    assert row["mean_energy_ci_low_j"] <= loop.true_j("infer") <= row["mean_energy_ci_high_j"]
    assert row["mean_energy_ci_high_j"] / row["mean_energy_j"] - 1 < 0.05
    assert float(share) < 5
    assert int(more.replace(",", "")) == pytest.approx(row["count"] * (float(share) ** 2 - 1), rel=0.05)


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


def board_of_its_own_load():
    """A board whose load goes its own way: its trace, the truth, and two instants near the ends."""
    scenario = sim.Scenario("board", update_ns=100 * MS, tick_ns=25 * MS, unit_per_s=300e6, assume_ns=200 * MS, seed=8)
    truth = sim.Truth(scenario)
    samples, traits, _ = sim.record(scenario, truth, plausible_per_s=10**13)
    channel = Channel("nvml:0", "nvml", "energy", "nvml:0", "uJ", ceiling_w=400.0, traits=traits)
    trace = Trace.recounted(channel, True, lambda: [samples], tick_ns=25 * MS)
    first, last = samples["at_ns"][[8, -8]]
    return trace, truth, first, last


def test_windows_that_do_not_follow_the_load_have_no_bias():
    trace, truth, first, last = board_of_its_own_load()
    errors = []
    for seed in range(10):
        edges = np.sort(np.random.default_rng(seed).integers(first, last, 20_000))
        windows = Windows("any", 0, edges[0::2], edges[1::2])
        _, rows = summary_of(trace, [windows])
        true = float(np.mean(truth.until(windows.end_ns) - truth.until(windows.begin_ns))) / 1e6
        errors.append(rows["any"]["mean_energy_j"] / true - 1)
        assert rows["any"]["method"] == "even"
        assert rows["any"]["mean_energy_ci_low_j"] is None
        assert "cannot tell" in rows["any"]["interval_note"]
    assert abs(np.mean(errors)) < 1e-3, errors
    assert np.abs(errors).max() < 5e-3, errors


@pytest.mark.parametrize(("gap_ns", "known"), [(10_000, True), (2 * MS, False)])
def test_windows_that_leave_out_nearly_nothing_need_no_rest_to_be_known(gap_ns, known):
    trace, truth, first, last = board_of_its_own_load()
    begin_ns = np.arange(first, last - 10 * MS, 10 * MS)
    windows = Windows("infer", 0, begin_ns, begin_ns + 10 * MS - gap_ns)
    _, rows = summary_of(trace, [windows])
    row = rows["infer"]
    assert (row["method"] == "followed") == known
    assert (row["mean_energy_ci_low_j"] is not None) == known
    if known:
        true = float(np.mean(truth.until(windows.end_ns) - truth.until(windows.begin_ns))) / 1e6
        assert row["mean_energy_ci_low_j"] <= true <= row["mean_energy_ci_high_j"]
