# SPDX-License-Identifier: Apache-2.0
"""Updates that a timer makes: each is off by itself, so one tells nothing of how late the next one is."""

import numpy as np
import pytest

from fastgreen import _follow
from fastgreen.results import update_instants
from fastgreen.results.update_instants import learn_period
from tests.oracles.loops import Loop, changes_of

SHORT = {"names": {"infer": (5, 300.0)}, "rest_ms": 22, "update_ms": 100, "tick_ms": 25}


def changes_and_updates(seconds=60.0, **options):
    loop = Loop(**SHORT, seconds=seconds, **options)
    truth = {}
    loop.updates_ns, plain = lambda: truth["at"], loop.updates_ns
    truth["at"] = plain()
    trace = loop.trace()
    facts = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
    return changes_of(facts, trace.settled()), truth["at"]


def log_density(cells, changes, updates):
    """Mean log density at the true instants, over that of an even spread in each bracket."""
    low, high = changes[1:, 0], changes[1:, 1]
    last = updates[np.searchsorted(updates, high, side="right") - 1]
    inside = (last > low) & (last <= high)
    cell = np.clip((last - low) * _follow.CELLS // np.maximum(high - low, 1), 0, _follow.CELLS - 1)
    found = cells[1:][np.arange(len(cell)), cell] * _follow.CELLS
    assert inside.mean() > 0.95  # two updates can be in one bracket, and reads take time
    return float(np.mean(np.log(np.maximum(found[inside], 1e-9))))


@pytest.mark.parametrize("options", [{}, {"missed": 0.2}, {"late_ms": 3.0}], ids=["plain", "missed", "late"])
def test_a_timer_is_told_and_its_instants_are_nearer_than_those_of_a_chain(options):
    changes, updates = changes_and_updates(timer=True, seed=1, **options)
    shortest, longest = learn_period(changes)
    timed = update_instants._by_a_timer(changes, shortest, longest)
    chain = _follow.Followed(changes).chain(shortest, longest, 0.02, 1e-3)[0]
    assert np.allclose(timed.sum(axis=1), 1.0, atol=1e-5)
    assert log_density(timed, changes, updates) > log_density(chain, changes, updates) + 0.02
    assert log_density(timed, changes, updates) > 0.1


@pytest.mark.parametrize("options", [{}, {"missed": 0.2}, {"update_jitter": 0.05}, {"slower_from": 0.5, "slower": 0.6}])
def test_updates_that_follow_each_other_are_no_timer(options):
    changes, _ = changes_and_updates(seed=2, **options)
    assert update_instants._by_a_timer(changes, *learn_period(changes)) is None


def test_few_updates_and_a_restart_are_no_timer():
    changes, _ = changes_and_updates(timer=True, seed=3)
    shortest, longest = learn_period(changes)
    assert update_instants._by_a_timer(changes[:200], shortest, longest) is None
    changes[100, 3] = 0
    assert update_instants._by_a_timer(changes, shortest, longest) is None


@pytest.mark.statistical
def test_windows_are_true_where_a_timer_makes_the_updates():
    errors = []
    for seed in range(8):  # a chain is 10 to 25 % too low, each time
        loop = Loop(**SHORT, timer=True, length_jitter=0.0, seed=40 + seed)
        (row,) = loop.result().summary().to_pylist()
        errors.append(row["mean_energy_j"] / loop.true_j("infer") - 1)
    assert abs(np.mean(errors)) < 0.05, errors


def test_a_timer_has_no_unit():
    changes, _ = changes_and_updates(timer=True, seed=4)
    slow = changes.copy()
    slow[:, :2] *= 3
    periods = np.array(learn_period(changes))
    one, other = update_instants._by_a_timer(changes, *periods), update_instants._by_a_timer(slow, *(3 * periods))
    np.testing.assert_allclose(one, other, atol=0.02)
