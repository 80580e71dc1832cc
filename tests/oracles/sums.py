# SPDX-License-Identifier: Apache-2.0
"""The bounds of many windows together in two slow ways: as fg_resolver_sum.h does it, and as a linear program."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from tests.oracles import tightest as tt


def slow_sum(begins, ends, ceiling_per_ns):
    """(least, most) for the columns (at_ns, low, high) of begins and ends: the same sums in the same order."""
    rows = zip(*(column.tolist() for column in (*begins, *ends)), strict=True)
    least = most = 0.0
    free = last = before_high = before_ns = None
    for begin_ns, begin_low, begin_high, end_ns, end_low, end_high in rows:
        if free is None:
            free, most = begin_high, -begin_low
        else:
            proven = max(begin_low - before_high, 0.0)
            room = max(ceiling_per_ns * float(begin_ns - before_ns), proven)
            most -= before_high + proven
            free, last = min(free, last) + room, max(min(last + room, begin_high), begin_low)
            least, free = least + max(begin_low - free, 0.0), max(free, begin_low)
            free = min(free, last)
        least, free = least + max(end_low - free, 0.0), max(free, end_low)
        last = before_high = end_high
        most += end_high
        before_ns = end_ns
    return least, most


def program_of_edges(begins, ends, ceiling_per_ns):
    """(least with the ceiling in gaps, most without) over all energies that do not fall and lie within the bounds."""
    count = len(begins[0])
    low, high = (np.column_stack([begins[i], ends[i]]).ravel() for i in (1, 2))
    growth = np.tile([-1.0, 1.0], count)
    falls = [(i, i + 1, 0.0) for i in range(2 * count - 1)]
    gaps = []
    for i in range(count - 1):
        proven = max(begins[1][i + 1] - ends[2][i], 0.0)
        gaps.append((2 * i + 2, 2 * i + 1, max(ceiling_per_ns * (begins[0][i + 1] - ends[0][i]), proven)))
    found = [_optimum(growth, falls + gaps, low, high, 1.0), _optimum(growth, falls, low, high, -1.0)]
    return None if None in found else found


def _optimum(growth, rows, low, high, sign):
    """Optimum of the growth; a row (a, b, c) says that E[a] - E[b] is at most c. None if that cannot be."""
    place, ones = np.arange(len(rows)), np.ones(len(rows))
    one, other, most = np.array(rows).T
    entries = (np.concatenate([ones, -ones]), (np.tile(place, 2), np.concatenate([one, other]).astype(int)))
    matrix = coo_array(entries, shape=(len(rows), len(growth))).tocsr()
    answer = linprog(sign * growth, A_ub=matrix, b_ub=most, bounds=np.column_stack([low, high]), method="highs")
    return sign * answer.fun if answer.status == 0 else None


def program_of_histories(case, found, windows, ceiling=None):
    """(least, most) of the windows together over all histories of a case of `tests.oracles.tightest`.

    With a ceiling (per grid step) on the gaps, histories that break it are left out. None if all are.
    """
    out = []
    for history in found:
        points = sorted({*history, *np.ravel(windows).tolist()})
        place = {point: i for i, point in enumerate(points)}
        low, high = np.full(len(points), -tt.FAR), np.full(len(points), tt.FAR)
        for update, value in zip(history, case.value, strict=True):
            low[place[update]], high[place[update]] = value, value + case.quantum
        rows = [(place[a], place[b], 0.0) for a, b in pairwise(points)]
        if ceiling is not None:
            rows += [(place[b], place[e], ceiling * (b - e)) for (_, e), (b, _) in pairwise(windows)]
        growth = np.zeros(len(points))
        for begin, end in windows:
            growth[place[begin]] -= 1.0
            growth[place[end]] += 1.0
        pair = [_optimum(growth, rows, low, high, sign) for sign in (1.0, -1.0)]
        if None not in pair:
            out.append(pair)
    return None if not out else (min(low for low, _ in out), max(high for _, high in out))
