# SPDX-License-Identifier: Apache-2.0
"""A counter that stands still to the end of a run: the stillness is no load, and the estimate adds nothing for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results import resolving

MS, SECOND = 1_000_000, 1_000_000_000
WATTS = 50.0  # uJ per us
CEILING = 2 * WATTS * 1e6 / 1e9  # uJ per ns
RUNS = 300


@dataclass
class Run:
    """A load of `busy_s` from the first sample on, then nothing for `rest_s`; energies in uJ."""

    update_ns: int
    tick_ns: int
    quantum: int = 1
    busy_s: float = 4.0
    rest_s: float = 0.0

    def taken(self, rng):
        """Samples, traits with the learnt T, total growth, the energy until any instant, and the end of the load."""
        begin_ns, stop_ns = SECOND, SECOND + int(self.busy_s * SECOND)
        end_ns = stop_ns + int(self.rest_s * SECOND)
        until = lambda at_ns: np.minimum(at_ns, stop_ns) * (WATTS * 1e6 / 1e9)  # noqa: E731
        intervals = self.update_ns * (1 - 0.3 * rng.random(int(2 * end_ns / self.update_ns)))
        updates = np.cumsum(intervals.astype(np.int64))
        at_ns = np.arange(begin_ns + rng.integers(self.tick_ns), end_ns, self.tick_ns)
        shown = np.floor(until(updates) / self.quantum).astype(np.int64) * self.quantum
        samples = np.zeros(len(at_ns), _resolver.SAMPLE)
        samples["at_ns"] = at_ns
        samples["raw"] = shown[np.searchsorted(updates, at_ns, side="right") - 1]
        traits = {
            "kind": "energy",
            "modulus": 0,
            "quantum": self.quantum,
            "period_ns": self.update_ns,
            "tick_ns": self.tick_ns,
            "plausible_per_s": int(1e9),
        }
        account = _resolver.Account(traits)
        account.feed(samples)
        tally = account.tally()
        return samples, traits | {"period_ns": tally["period_ns"]}, tally["total"], until, stop_ns


COUNTERS = [
    pytest.param(100 * MS, 25 * MS, 1, id="board"),
    pytest.param(100 * MS, 10 * MS, 1, id="board-100hz"),
    pytest.param(1 * MS, 10 * MS, 1, id="package"),
    pytest.param(1 * MS, 1 * MS, 61, id="package-1khz"),
    pytest.param(20 * MS, 4 * MS, 100_000, id="coarse"),
]


def resolved(samples, traits, begin_ns, end_ns):
    edges = np.atleast_1d(begin_ns), np.atleast_1d(end_ns)
    return resolving.resolve_windows(traits, CEILING, [samples], *edges)


@pytest.mark.parametrize("rest_s", [0.0, 0.05, 0.15, 0.4, 3.0])
@pytest.mark.parametrize(("update_ns", "tick_ns", "quantum"), COUNTERS)
def test_the_mean_error_of_a_run_that_ends_at_rest_or_under_load_is_below_a_thousandth(
    update_ns, tick_ns, quantum, rest_s
):
    rng = np.random.default_rng(1)
    errors, most = [], 1.5 * update_ns / SECOND + quantum / (WATTS * 1e6)  # when the next change is overdue
    for _ in range(RUNS):
        run = Run(update_ns, tick_ns, quantum, busy_s=rng.uniform(15, 25), rest_s=rest_s)
        samples, traits, _, until, _ = run.taken(rng)
        first_ns, last_ns = samples["at_ns"][[0, -1]]
        low, estimate, high = resolved(samples, traits, first_ns, last_ns)
        true = until(last_ns) - until(first_ns)
        assert low[0] - 1 <= true <= high[0] + 1
        assert low[0] <= estimate[0] <= high[0]
        errors.append((estimate[0] - true) / true)
    allowed = 1e-3 if rest_s == 0.0 or rest_s > 2 * most else 1e-3 + 0.5 * most / 20
    assert abs(np.mean(errors)) < allowed


@pytest.mark.parametrize(("update_ns", "tick_ns", "quantum"), COUNTERS)
def test_a_window_in_the_rest_has_no_energy(update_ns, tick_ns, quantum):
    rng = np.random.default_rng(2)
    for _ in range(50):
        samples, traits, _, _, stop_ns = Run(update_ns, tick_ns, quantum, rest_s=rng.uniform(0.5, 5)).taken(rng)
        begin_ns, last_ns = stop_ns + update_ns + tick_ns, samples["at_ns"][-1]
        low, estimate, high = resolved(samples, traits, begin_ns, last_ns)
        assert low[0] == estimate[0] == 0.0
        assert high[0] > 0.0  # a sensor that hangs shows the same


@pytest.mark.parametrize(("update_ns", "tick_ns", "quantum"), COUNTERS)
def test_windows_and_the_time_outside_add_up_to_the_counter(update_ns, tick_ns, quantum):
    rng = np.random.default_rng(3)
    for _ in range(50):
        samples, traits, total, _, _ = Run(update_ns, tick_ns, quantum, rest_s=rng.uniform(0.5, 5)).taken(rng)
        first_ns, last_ns = samples["at_ns"][[0, -1]]
        inside = np.sort(rng.integers(first_ns, last_ns, 200))
        edges = np.concatenate([[first_ns - SECOND], inside, [last_ns + SECOND]])
        _, estimate, _ = resolved(samples, traits, edges[:-1], edges[1:])
        assert np.all(estimate >= 0.0)
        assert abs(estimate.sum() - total) < 1.0


def test_a_run_of_one_rest_has_no_energy():
    rng = np.random.default_rng(4)
    samples, traits, total, _, _ = Run(100 * MS, 25 * MS, busy_s=0.0, rest_s=3.0).taken(rng)
    assert total <= WATTS * 1e5
    _, estimate, _ = resolved(samples, traits, samples["at_ns"][4], samples["at_ns"][-1])
    assert estimate[0] == 0.0


def test_a_rest_within_the_run_does_not_lengthen_the_estimate_at_the_end():
    """The last intervals between changes hold a rest of 2 s: their mean would be 20 times too long."""
    at_ns = np.arange(0, 8 * SECOND, 25 * MS)
    busy_s = np.minimum(at_ns, 3 * SECOND) + np.clip(at_ns - 5 * SECOND, 0, SECOND // 5)  # 3 s, a rest, 0.2 s
    samples = np.zeros(len(at_ns), _resolver.SAMPLE)
    samples["at_ns"] = at_ns
    samples["raw"] = busy_s // (100 * MS) * 5_000_000
    traits = {"kind": "energy", "modulus": 0, "quantum": 1, "period_ns": 2100 * MS, "plausible_per_s": int(1e9)}
    _, estimate, _ = resolved(samples, traits, 5 * SECOND + 400 * MS, at_ns[-1])
    assert estimate[0] == 0.0
