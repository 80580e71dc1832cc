# SPDX-License-Identifier: Apache-2.0
"""The tightest bounds that samples allow, without fg_resolver.h's reasoning: try every possible history.

Time is a grid of a few points. A history is a set of update instants, none further than T from the next, and an instant
for every read within its duration. It fixes of which update each sample tells, and so which energies are possible: they
do not fall, and at each of those updates they lie between the value shown and a quantum more. The largest and smallest
growth between two points over all of them is a linear program; over all histories, the largest and smallest of those.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from fastgreen import _resolver
from fastgreen.results import resolving

STEP_NS = 10
FAR = 1e7  # stands for "no bound": more than any counter here


@dataclass
class Case:
    """A few samples of a counter, times in grid steps: even ones, so that updates can be between any two of them."""

    period: int
    quantum: int
    at: list[int]
    half: list[int]
    value: list[int]

    @property
    def points(self) -> int:
        return self.at[-1] + self.half[-1] + 1

    def samples(self) -> np.ndarray:
        out = np.zeros(len(self.at), _resolver.SAMPLE)
        out["at_ns"], out["half_ns"] = np.array(self.at) * STEP_NS, np.array(self.half) * STEP_NS
        out["raw"] = self.value
        return out

    def traits(self) -> dict[str, Any]:
        return {
            "kind": "energy",
            "modulus": 0,
            "quantum": self.quantum,
            "period_ns": self.period * STEP_NS,
            "plausible_per_s": 0,
        }

    def window(self, rng: np.random.Generator) -> tuple[int, int]:
        """A window between the reads, where samples tell something of both its edges."""
        first, last = (self.at[0] + self.half[0]) // 2, max(self.at[-2], self.at[-1] - self.period) // 2
        begin, end = sorted(rng.choice(np.arange(first, max(last, first + 1) + 1), 2, replace=False))
        return 2 * int(begin), 2 * int(end)

    def bounds(self, begin: int, end: int) -> tuple[float, float]:
        """What the resolver says of the window."""
        edges = np.array([begin]) * STEP_NS, np.array([end]) * STEP_NS
        low, _, high = resolving.resolve_windows(self.traits(), FAR, [self.samples()], *edges)
        return float(low[0]), float(high[0])


def random_case(rng: np.random.Generator, count: int = 4) -> Case:
    """Samples of a random sensor and energy; reads do not overlap, and nothing is before the first update."""
    period, quantum = 2 * int(rng.integers(1, 4)), int(rng.choice([1, 4]))
    half = 2 * (rng.random(count) < 0.3)
    gaps = 2 * rng.integers(0, 4, count)
    at, end = [], period + 2
    for h, gap in zip(half, gaps, strict=True):
        at.append(int(end + gap + h))
        end = at[-1] + int(h)
    energy = np.cumsum(rng.choice([0, 0, 1, 2, 9], end + 1))
    updates = np.unique(np.concatenate([[0], np.cumsum(rng.integers(1, period + 1, end + 1))]))
    read = [int(rng.integers(a - h, a + h + 1)) for a, h in zip(at, half, strict=True)]
    shown = energy[updates[np.searchsorted(updates, read, side="right") - 1]]
    return Case(period, quantum, at, [int(h) for h in half], [int(v) // quantum * quantum for v in shown])


def histories(case: Case) -> set[tuple[int, ...]]:
    """The update of which each sample tells, for every history. A read at the instant of an update may see either."""
    states: set[tuple[int, tuple[int, ...]]] = {(0, ())}
    states |= {(first, ()) for first in range(1, case.period + 1)}
    for point in range(case.points):
        states = _read(case, states, point)
        updated = {(point, seen) for last, seen in states if last < point <= last + case.period}
        states = _read(case, updated | {s for s in states if point < s[0] + case.period}, point)
        due = sum(at + half <= point for at, half in zip(case.at, case.half, strict=True))
        states = {s for s in states if len(s[1]) >= due}
    return {seen for _, seen in states}


def _read(case: Case, states: set[tuple[int, tuple[int, ...]]], point: int) -> set[tuple[int, tuple[int, ...]]]:
    """The states, and those in which one or more of the reads that may be now are now."""
    out, fresh = set(states), states
    while fresh:
        more = set()
        for last, seen in fresh:
            k = len(seen)
            now = k < len(case.at) and abs(point - case.at[k]) <= case.half[k] and last <= point
            if now and (k == 0 or last != seen[-1] or case.value[k] == case.value[k - 1]):
                more.add((last, (*seen, last)))
        out, fresh = out | more, more - out
    return out


def tightest(case: Case, found: set[tuple[int, ...]], begin: int, end: int) -> tuple[float, float]:
    """Smallest and largest growth of the energy between two grid points: one program of all histories side by side."""
    limits: list[list[float]] = []
    rises: list[tuple[int, int]] = []
    edges: list[tuple[int, int]] = []
    for history in found:
        points = sorted({*history, begin, end})
        variable = {point: len(limits) + i for i, point in enumerate(points)}
        limits += [[-FAR, FAR] for _ in points]
        for update, value in zip(history, case.value, strict=True):
            limits[variable[update]] = [value, value + case.quantum]
        rises += [(variable[a], variable[b]) for a, b in pairwise(points)]
        edges.append((variable[begin], variable[end]))
    before, after = np.array(rises).T
    rows, ones = np.arange(len(rises)), np.ones(len(rises))
    entries = (np.concatenate([ones, -ones]), (np.concatenate([rows, rows]), np.concatenate([before, after])))
    falls = coo_array(entries, shape=(len(rises), len(limits))).tocsr()
    first, last = np.array(edges).T
    growth = np.zeros(len(limits))
    growth[last], growth[first] = 1.0, -1.0
    out = []
    for sign in (1.0, -1.0):
        answer = linprog(sign * growth, A_ub=falls, b_ub=np.zeros(len(rises)), bounds=limits, method="highs")
        assert answer.status == 0, answer.message
        out.append(answer.x[last] - answer.x[first])
    return float(out[0].min()), float(out[1].max())
