# SPDX-License-Identifier: Apache-2.0
"""Counters that lie, each as what it shows instead of its value, and where.

A lie is made for a length of time and gives the stretches that it touches and a function of instants (ns) and the true
values there, in uJ. The values begin at START_UJ, so that there is room below.
"""

from __future__ import annotations

import numpy as np

from tests.oracles.simulation import SECOND

START_UJ = 30_000_000_000
SPIKE_UJ = 696_000_000  # an AMD 7840HS of 54 W


class Lie:
    """`stretches` (begin_ns, end_ns): where it lies. `show` gives what it shows in one of them."""

    def __init__(self, seconds, seed, longest_s=1.0):
        self.rng = np.random.default_rng(seed)
        lengths = self.rng.uniform(0.002, longest_s, 1000)
        gaps = self.rng.uniform(8.0, 16.0, 1000)
        begin = 3.0 + np.cumsum(gaps + lengths) - lengths
        keep = begin + lengths < seconds - 3.0
        self.stretches = np.round(np.stack([begin, begin + lengths], 1)[keep] * SECOND).astype(np.int64)

    def __call__(self, at_ns, value):
        value = value + START_UJ
        out = value.copy()
        for i, (begin, end) in enumerate(self.stretches):
            inside = slice(*np.searchsorted(at_ns, [begin, end]))
            out[inside] = self.show(i, at_ns[inside], value[inside])
        return out


class Spikes(Lie):
    def show(self, i, at_ns, value):
        return value + SPIKE_UJ


class RandomJumps(Lie):
    """Up or down, each time by another amount."""

    def show(self, i, at_ns, value):
        return value + int(self.rng.choice([-1, 1]) * self.rng.uniform(500e6, 5_000e6))


class Dips(Lie):
    def show(self, i, at_ns, value):
        return value - SPIKE_UJ


class Zeros(Lie):
    """A moment's 0."""

    def __init__(self, seconds, seed):
        super().__init__(seconds, seed, 0.2)

    def show(self, i, at_ns, value):
        return np.zeros_like(value)


class Still(Lie):
    """It stands still for seconds and goes on, from where it should be or, `loses`, from where it stood."""

    def __init__(self, seconds, seed, loses=False):
        super().__init__(seconds, seed)
        begin = np.arange(10, seconds - 20, 25)
        self.stretches = np.stack([begin, begin + self.rng.uniform(3, 9, begin.size)], 1) * SECOND
        self.stretches = self.stretches.astype(np.int64)
        self.loses = loses

    def __call__(self, at_ns, value):
        value = value + START_UJ
        out = value.copy()
        lost = 0
        for begin, end in self.stretches:
            first, last = np.searchsorted(at_ns, [begin, end])
            if self.loses:
                lost += int(value[last - 1] - value[first]) if last > first else 0
                out[first:last] = out[first]
                out[last:] = value[last:] - lost
            else:
                out[first:last] = out[first]
        return out


class InTurn(Lie):
    """Another machine's counter, of another power, for every other stretch."""

    def __init__(self, seconds, seed):
        super().__init__(seconds, seed)
        edges = np.arange(4.0, seconds - 4.0, 1.0 + self.rng.uniform(0, 1.5))
        edges = edges[: len(edges) // 2 * 2] * SECOND
        self.stretches = edges.astype(np.int64).reshape(-1, 2)
        self.other_uj, self.other_w = self.rng.uniform(40e9, 190e9), self.rng.uniform(10.0, 120.0)

    def show(self, i, at_ns, value):
        return (self.other_uj + self.other_w * 1e-3 * at_ns).astype(np.int64)
