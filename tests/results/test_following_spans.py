# SPDX-License-Identifier: Apache-2.0
"""Shares of spans on the curve that follows the load, against the truth of simulated servers."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from fastgreen.results.activity import activity_of, codes_of, edges_of, open_parts, shares_j
from fastgreen.results.following import Following
from fastgreen.results.load_states import load_of
from fastgreen.results.shares import Spans, share, weight_units
from tests.oracles.servers import Server, ledger_table

SHORT = {"rate_per_s": 10, "lengths_s": (0.003, 0.01)}
USUAL = {"rate_per_s": 20, "lengths_s": (0.03, 0.25), "prefill": (0.2, 150.0)}


def random_spans(rng, count=25, weights=(0.0, 0.5, 1.0, 3.0)):
    """Spans of one to three pieces between 0 and 1000, some of no length."""
    rows = []
    for span in range(count):
        edges = np.sort(rng.integers(0, 1000, rng.integers(2, 5)))
        rows += [(a, b, rng.choice(weights), span) for a, b in pairwise(edges)]
    begin, end, weight, span = zip(*rows, strict=True)
    return Spans(
        np.array(begin, np.int64), np.array(end, np.int64), weight_units(weight), np.array(span, np.uint32),
        rng.random(count) < 0.8,
    )  # fmt: skip


class Line:
    """A curve of energy with a step between each two of its instants."""

    def __init__(self, rng):
        self.grown = rng.random(1000)

    def kept_j(self, at_ns):
        return np.concatenate([[0.0], np.cumsum(self.grown)])[at_ns]


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_those_of_the_slow_twin(seed):
    rng = np.random.default_rng(seed)
    spans, line = random_spans(rng), Line(rng)
    wanted = np.zeros(len(spans))
    for at in range(1000):
        is_open = (spans.begin_ns <= at) & (at < spans.end_ns)
        together = sum(spans.weight[is_open & spans.charged[spans.span]].tolist())
        for piece in np.flatnonzero(is_open).tolist() if together else ():
            wanted[spans.span[piece]] += line.grown[at] * int(spans.weight[piece]) / together
    np.testing.assert_allclose(shares_j(line, spans), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_levels_are_open_from_their_number_on(seed):
    rng = np.random.default_rng(seed)
    spans = random_spans(rng, 60)
    kinds = rng.integers(0, 2, len(spans.begin_ns))
    found = activity_of("a", spans, kinds)
    for windows in found:
        _, name, kind, level = windows.name.split("\0")
        assert name == "a"
        mine = (kinds == int(kind)) & (spans.weight > 0) & spans.charged[spans.span]
        least = int(level) if int(level) <= 3 else 4 * 2 ** (int(level) - 4)
        for at in range(1000):
            count = np.count_nonzero(mine & (spans.begin_ns <= at) & (at < spans.end_ns))
            inside = np.any((windows.begin_ns <= at) & (at < windows.end_ns))
            assert inside == (count >= least), (windows.name, at)
    assert len({w.name for w in found}) == len(found) > 8


def test_kinds_beyond_the_most_share_a_power_and_a_kind_may_be_open_or_not():
    begin = np.arange(0, 400, 10)
    kinds = np.repeat([0, 1, 2, 3], [4, 20, 10, 6])
    spans = Spans(begin, begin + 10 + kinds, weight_units(np.ones(40)))
    found = activity_of("a", spans, kinds, 2, counted=False)
    assert [int(np.sum(w.end_ns - w.begin_ns)) for w in found] == [201, 102, 40 + 60 + 6 + 3 - 6 + 0]


def test_parts_of_states_are_those_of_the_slow_twin():
    rng = np.random.default_rng(1)
    spans = random_spans(rng, 12)
    load = load_of(activity_of("a", spans), 20)
    some = rng.random(len(spans.begin_ns)) < 0.5
    got = open_parts(load, spans, some)
    time, part = np.zeros(len(got)), np.zeros(len(got))
    for at in range(int(load.edges_ns[0]), int(load.edges_ns[-1])):
        state = load.states[np.searchsorted(load.edges_ns, at, side="right") - 1]
        is_open = (spans.begin_ns <= at) & (at < spans.end_ns) & spans.charged[spans.span]
        together = spans.weight[is_open].sum()
        time[state] += 1
        part[state] += spans.weight[is_open & some].sum() / together if together else 0.0
    np.testing.assert_array_equal(time, load.time_ns)
    np.testing.assert_allclose(got, part / np.maximum(time, 1), rtol=1e-12)


def test_weights_too_large_for_whole_sums_have_no_curve():
    spans = Spans(np.array([0, 5]), np.array([9, 9]), np.array([2**62, 2**62], np.uint64))
    assert shares_j(Line(np.random.default_rng(0)), spans) is None
    assert activity_of("a", spans) == []


# ---- servers ----


def even_shares(result, by):
    """Shares of the pieces, each growth spread evenly between two updates."""
    pieces = result._ledgers[0].pieces
    each = Spans(pieces.begin_ns, pieces.end_ns, pieces.weight)
    return share(result, result.traces, each).together.energy_j


@pytest.mark.parametrize("options", [SHORT, USUAL], ids=["short", "usual"])
def test_shares_are_true_add_up_and_are_within_their_bounds(options):
    server = Server(seconds=60.0, seed=7, **options)
    result = server.result()
    by = "phase" if server.prefill[0] else None
    table, true = result.spans("chat", by), server.true_j()
    energy, low, high = (table[f"energy{x}_j"].to_numpy() for x in ("", "_low", "_high"))
    assert np.all((low <= true + 1e-6) & (true <= high + 1e-6))
    about = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    assert energy.sum() + float(about["unattributed_j"]) == pytest.approx(float(about["drawn_j"]), rel=1e-12)
    assert energy.mean() == pytest.approx(true.mean(), rel=0.03)
    off, even = (np.sqrt(np.mean((e - true) ** 2)) for e in (energy, even_shares(result, by)))
    assert off < 0.5 * even


def test_the_curve_is_within_the_bounds_of_spans_without_a_clip():
    for options in (SHORT, USUAL, {"rate_per_s": 30, "lengths_s": (0.002, 0.03), "update_ms": 1, "tick_ms": 10}):
        server = Server(seconds=20.0, seed=3, **options)
        result = server.result()
        (trace,) = result.traces
        pieces = result._ledgers[0].pieces
        bounds = share(result, [trace], pieces).together
        found = shares_j(result.following.of(trace), pieces)
        assert np.all(found >= bounds.low_j - 1e-6)
        assert np.all(found <= bounds.high_j + 1e-6)


def test_a_table_of_spans_has_the_shares_of_a_ledger_of_them():
    server = Server(seconds=60.0, seed=2, **SHORT)
    server.weight[:] = 1.0
    rows = {"begin_ns": server.begin_ns, "end_ns": server.end_ns}
    result = server.result()
    ledger = result.spans("chat")["energy_j"].to_numpy()
    result._given_spans = None
    del result._ledgers
    found = result.share(pa.table(rows))["energy_j"].to_numpy()
    np.testing.assert_allclose(found, ledger, rtol=1e-9)


def test_a_ledger_has_an_interval_for_each_phase_and_amount():
    server = Server(seconds=60.0, seed=5, **USUAL)
    table = ledger_table(server.pieces)
    tokens = [[("tokens", 2.0)] if last else None for last in table["last"].to_pylist()]
    at = table.schema.get_field_index("amounts")
    table = table.set_column(at, table.schema.field(at), pa.array(tokens, table.schema.field(at).type))
    result = server.result()
    result._given_spans = lambda: table
    rows = {(row["phase"], row["amount"]): row for row in result.ledgers.to_pylist()}
    true = server.true_j()
    phase = np.array([p[3] for p in server.pieces])
    for (name, amount), row in rows.items():
        total = true.sum() if name is None else true[phase == name].sum()
        assert row["method"] == "followed"
        assert row["interval_note"] is None
        half = (row["mean_energy_ci_high_j"] - row["mean_energy_ci_low_j"]) / 2
        assert abs(row["mean_energy_j"] - total / row["total"]) < 1.5 * half < 0.06 * row["mean_energy_j"], name
        assert amount is None or row["total"] == 2 * row["count"]
    assert set(rows) == {(None, None), (None, "tokens"), ("prefill", None), ("decode", None), ("decode", "tokens")}
    assert "chat prefill is known to" in str(result)


def test_a_ledger_beside_windows_is_on_the_curve_of_the_windows():
    server = Server(seconds=60.0, seed=4, **SHORT)
    result = server.result()
    (trace,) = result.traces
    pieces = result._ledgers[0].pieces
    alone = Following([trace], activity_of("w", pieces), edges_of(pieces)).of(trace)
    curve = result.following.of(trace)
    np.testing.assert_allclose(curve.kept_j(edges_of(pieces)), alone.kept_j(edges_of(pieces)), rtol=1e-9)


def test_too_few_updates_leave_the_even_spread_and_say_so():
    server = Server(seconds=5.0, seed=4, **SHORT)
    (row,) = server.result().ledgers.to_pylist()
    assert (row["method"], row["mean_energy_ci_low_j"]) == ("even", None)
    assert "fewer than 60 times" in row["interval_note"]


@pytest.mark.statistical
def test_intervals_of_ledgers_hold_the_true_mean():
    held = []
    for seed in range(60):
        server = Server(seed=5000 + seed, **USUAL)
        true, phase = server.true_j(), np.array([p[3] for p in server.pieces])
        for row in server.result().ledgers.to_pylist():
            mine = true if row["phase"] is None else true[phase == row["phase"]]
            mean = mine.sum() / row["count"]
            held.append(row["mean_energy_ci_low_j"] <= mean <= row["mean_energy_ci_high_j"])
    assert np.mean(held) >= 0.9  # 95 % with five standard errors of 60 runs, whose three rows go together


def test_codes_of_phases():
    assert codes_of(["a", None, "a", "b"]).tolist() == [0, 1, 0, 2]
