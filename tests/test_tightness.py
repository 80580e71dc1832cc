# SPDX-License-Identifier: Apache-2.0
"""Bounds are no wider than samples force them to be: against all histories in small, against the true T in large."""

from dataclasses import replace

import numpy as np
import pytest

from fastgreen import _core
from tests import simulation as sim
from tests import tightest as tt
from tests.test_bounds import SCENARIOS

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
    columns = [_core.resolve_windows(traits, scenario.unit_per_s / 1e9, [samples], *pair) for pair in edges]
    return np.concatenate([high - low for low, _, high in columns])


# With T given the bounds are the tightest, as above; so this is what learning T costs. In the idle scenarios the
# counter stands still for seconds, which a reader cannot tell from a sensor that stalls (fg_energy.h): T is learnt
# too long.
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_bounds_with_the_learnt_period_are_nearly_those_with_the_true_one(scenario):
    scenario = replace(scenario)  # with a generator of its own, from the start
    samples, traits, _ = sim.record(scenario, sim.Truth(scenario))
    edges = list(sim.windows(scenario, samples, 4000))
    learnt = widths(traits, scenario, samples, edges)
    true = widths(traits | {"period_ns": scenario.update_ns}, scenario, samples, edges)
    assert np.all(learnt >= true)
    if scenario.waveform == "idle":
        assert learnt.sum() < 6 * true.sum()
    else:
        assert np.mean(learnt <= 1.2 * true) > 0.95
        assert learnt.sum() < 1.02 * true.sum()
