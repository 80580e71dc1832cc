# SPDX-License-Identifier: Apache-2.0
"""Nested spans: the innermost is charged; own and total energies equal those of a slow twin, and everything adds up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastgreen.results.nested_spans import NestedSpans, own_and_total
from fastgreen.results.shares import Spans, follow_spans, share, weight_units
from tests.oracles import simulation as sim
from tests.results.test_share import result_of

S = sim.SECOND


@pytest.fixture(scope="module")
def run():
    result, truths = result_of([sim.Scenario("a", seconds=10, seed=1)])
    return result, truths[0]


def random_tree(rng, count, inside=True):
    """Spans, each inside of a random earlier one or of no span; `inside`: also in time."""
    begin, end, parent = np.zeros(count, np.int64), np.zeros(count, np.int64), np.full(count, -1)
    for i in range(count):
        parent[i] = rng.integers(-1, i) if i else -1
        low, high = S, 9 * S
        if parent[i] >= 0 and inside:
            low, high = int(begin[parent[i]]), int(end[parent[i]])
        begin[i], end[i] = np.sort(rng.integers(low, high + 1, 2))
    weight = rng.choice([0.0, 1.0, 1.0, 2.0], count)
    return NestedSpans(begin, end, parent, weight)


def lines_of(spans, i):
    """The span and those around it."""
    while i >= 0:
        yield i
        i = spans.parent[i]


def holders(spans, i):
    """The span that held it when it began, the one that held that one, and so on."""
    while i >= 0:
        at = spans.begin_ns[i]
        i = next((a for a in list(lines_of(spans, i))[1:] if spans.begin_ns[a] <= at < spans.end_ns[a]), -1)
        if i >= 0:
            yield i


def twin(spans, group, groups):
    """Own and total weight of each group between any two instants, straight from the definition."""
    edges = np.unique(np.concatenate([spans.begin_ns, spans.end_ns]))
    units = weight_units(spans.weight).astype(np.int64)
    rows = []
    for at, until in itertools.pairwise(edges):
        is_open = (spans.begin_ns <= at) & (spans.end_ns >= until)
        busy = np.zeros(len(spans), bool)
        for i in np.flatnonzero(is_open):
            busy[[a for a in holders(spans, i) if is_open[a]][:1]] = True
        own, total = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        for i in np.flatnonzero(is_open & ~busy):
            own[group[i]] += units[i]
            for g in {int(group[a]) for a in lines_of(spans, i)}:
                total[g] += units[i]
        rows.append((at, until, own, total))
    return rows


def by_twin(result, spans, group, groups):
    rows = twin(spans, group, groups)
    begin = np.tile([r[0] for r in rows], 2 * groups)
    end = np.tile([r[1] for r in rows], 2 * groups)
    weight = np.concatenate([[r[k][g] for r in rows] for k in (2, 3) for g in range(groups)]).astype(np.uint64)
    number = np.repeat(np.arange(2 * groups), len(rows)).astype(np.uint32)
    pieces = Spans(begin, end, weight, number, np.arange(2 * groups) < groups)
    return share(result, result.traces, pieces, follow_spans(result, result.traces, pieces, number)).together


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_own_and_total_are_those_of_the_slow_twin(run, seed, inside):
    result, _ = run
    rng = np.random.default_rng(seed)
    spans = random_tree(rng, int(rng.integers(1, 25)), inside)
    groups = 4
    group = rng.integers(0, groups, len(spans))
    own, total = own_and_total(result, result.traces, spans, group, groups)
    wanted = by_twin(result, spans, group, groups)
    for found, part in ((own.together, slice(0, groups)), (total.together, slice(groups, None))):
        for name in ("energy_j", "low_j", "high_j"):
            np.testing.assert_allclose(getattr(found, name), getattr(wanted[part], name), rtol=1e-9, atol=1e-9)
    drawn = float(np.sum(own.together.energy_j)) + sum(own.unattributed_j.values())
    assert drawn == pytest.approx(sum(own.drawn_j.values()), rel=1e-12)


def test_a_child_takes_the_charge_from_the_span_around_it(run):
    result, truth = run
    spans = NestedSpans(*(np.array(c) for c in ([S, 2 * S], [9 * S, 5 * S], [-1, 0], [1.0, 1.0])))
    own, total = own_and_total(result, result.traces, spans, np.array([0, 1]), 2)
    for found, pieces in (
        (own.together[0], [(S, 2 * S), (5 * S, 9 * S)]),
        (own.together[1], [(2 * S, 5 * S)]),
        (total.together[0], [(S, 9 * S)]),
        (total.together[1], [(2 * S, 5 * S)]),
    ):
        true_j = sum(float(truth.until(b) - truth.until(a)) for a, b in pieces) / 1e6
        assert found.low_j <= true_j <= found.high_j
        assert found.energy_j == pytest.approx(true_j, rel=0.05)


def test_a_group_in_itself_is_counted_once(run):
    result, _ = run
    spans = NestedSpans(*(np.array(c) for c in ([S, 2 * S, 3 * S], [9 * S, 8 * S, 7 * S], [-1, 0, 1], [1.0] * 3)))
    _, total = own_and_total(result, result.traces, spans, np.array([0, 0, 0]), 1)
    alone = own_and_total(result, result.traces, spans.where(np.array([True, False, False])), np.array([0]), 1)[1]
    assert total.together.energy_j[0] == pytest.approx(alone.together.energy_j[0], rel=1e-12)
    assert total.together.high_j[0] == pytest.approx(alone.together.high_j[0], rel=1e-12)


def test_spans_around_themselves_are_refused(run):
    result, _ = run
    for parent in ([1, 0], [0, -1]):
        spans = NestedSpans(*(np.array(c) for c in ([S, S], [2 * S, 2 * S], parent, [1.0, 1.0])))
        with pytest.raises(ValueError, match="never inside of itself"):
            own_and_total(result, result.traces, spans, np.array([0, 1]), 2)


def test_a_parent_that_is_left_out_gives_its_children_to_the_span_around_it():
    spans = NestedSpans(np.zeros(4, np.int64), np.ones(4, np.int64), np.array([-1, 0, 1, 1]), np.ones(4))
    assert spans.where(np.array([True, False, True, True])).parent.tolist() == [-1, 0, 0]
    assert spans.where(np.array([False, False, True, True])).parent.tolist() == [-1, -1]
