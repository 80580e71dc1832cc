# SPDX-License-Identifier: Apache-2.0
"""Bounds are no wider than samples force them to be: against all histories in small, against the true T in large."""

from dataclasses import replace

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results import resolving
from tests.oracles import simulation as sim
from tests.oracles import tightest as tt
from tests.results.test_bounds import SCENARIOS

MOST_HISTORIES = 1500


def finer(case):
    """The same case on a grid of half the step."""
    twice = lambda column: [2 * x for x in column]  # noqa: E731
    return replace(case, period=2 * case.period, at=twice(case.at), half=twice(case.half))


@pytest.mark.parametrize(("count", "cases", "seed"), [(3, 60, 1), (4, 25, 2)])
def test_bounds_are_valid_and_the_tightest_over_all_histories(count, cases, seed):
    rng = np.random.default_rng(seed)
    compared = 0
    for _ in range(cases):
        case = tt.random_case(rng, count)
        found = tt.histories(case)
        if len(found) > MOST_HISTORIES:
            continue
        for begin, end in (case.window(rng) for _ in range(2)):
            least, most = tt.tightest(case, found, begin, end)
            low, high = case.bounds(begin, end)
            assert low <= least + 1e-6, (case, begin, end)
            assert high >= most - 1e-6, (case, begin, end)
            if most > tt.FAR / 2:
                continue  # nothing bounds its end: the samples do not reach that far
            compared += 1
            if high - low > 1.2 * (most - least):  # two updates between two grid points
                fine = finer(case)
                least, most = tt.tightest(fine, tt.histories(fine), 2 * begin, 2 * end)
            assert high - low == pytest.approx(most - least, abs=1e-6), (case, begin, end)
    assert compared > cases / 2


def widths(traits, scenario, samples, edges):
    columns = [resolving.resolve_windows(traits, scenario.unit_per_s / 1e9, [samples], *pair) for pair in edges]
    return np.concatenate([high - low for low, _, high in columns])


def still_case(rng, count):
    """A counter that grows, stands still, and grows; and the T that the account learns of its samples."""
    half = 2 * (rng.random(count) < 0.15)
    at, end = [], 2
    for h in half:
        at.append(int(end + 2 * rng.integers(1, 3) + h))
        end = at[-1] + int(h)
    grown = rng.integers(1, 10, count)
    grown[rng.integers(2, count - 1)] = 0
    quantum = int(rng.choice([1, 4]))
    value = np.cumsum(grown) // quantum * quantum
    case = tt.Case(2, quantum, at, [int(h) for h in half], [int(v) for v in value])
    account = _resolver.Account({**case.traits(), "period_ns": 1})
    account.feed(case.samples())
    return replace(case, period=account.tally()["period_ns"] // tt.STEP_NS)


# A reader cannot tell a counter that stands still for want of energy from a sensor that stalls (fg_resolver.h), so T is
# learnt as long as the longest such stretch can have been. Here nothing at all is held against a sensor that stalls:
# updates may be as far apart as the samples let them.
@pytest.mark.statistical
@pytest.mark.parametrize(("count", "cases"), [(4, 30), (5, 6)])
def test_bounds_with_a_learnt_period_are_the_tightest_where_the_period_is_not_known(count, cases):
    rng = np.random.default_rng(count)
    compared = 0
    for _ in range(cases):
        case = still_case(rng, count)
        changes = np.flatnonzero(np.diff(case.value)) + 1
        if len(changes) < 2:
            continue  # what was drawn did not fill the counter's step
        found = tt.histories(replace(case, period=case.points))
        if len(found) > 2 * MOST_HISTORIES:
            continue
        # From the first change on, and until the read before the last: later changes bound what comes before.
        one, other = changes[0], changes[-1] - 1
        points = np.arange(case.at[one] + case.half[one] + 1, case.at[other] - case.half[other] + 1) // 2
        if len(set(points)) < 2:
            continue
        for begin, end in (2 * np.sort(rng.choice(np.unique(points), 2, replace=False)) for _ in range(3)):
            least, most = tt.tightest(case, found, begin, end)
            low, high = case.bounds(begin, end)
            compared += 1
            assert (low, high) == pytest.approx((least, most), abs=1e-6), (case, begin, end)
    assert compared >= cases


# With T given the bounds are the tightest, as above; so this is what learning T costs. Where the counter stands still
# for seconds, T is those seconds: what is promised there is the test above.
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_bounds_with_the_learnt_period_are_nearly_those_with_the_true_one(scenario):
    scenario = replace(scenario)  # with a generator of its own, from the start
    samples, traits, _ = sim.record(scenario, sim.Truth(scenario))
    edges = list(sim.windows(scenario, samples, 4000))
    learnt = widths(traits, scenario, samples, edges)
    true = widths(traits | {"period_ns": scenario.update_ns}, scenario, samples, edges)
    assert np.all(learnt >= true)
    if scenario.name.endswith("still"):
        assert learnt.sum() < 6 * true.sum()
    elif scenario.waveform == "rests":
        assert np.mean(learnt <= 1.2 * true) > 0.98
        assert learnt.sum() < 1.01 * true.sum()
    else:
        assert np.mean(learnt <= 1.2 * true) > 0.95
        assert learnt.sum() < 1.02 * true.sum()
