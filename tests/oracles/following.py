# SPDX-License-Identifier: Apache-2.0
"""The slow twin of fg_follow and of the powers fitted to it: densities on a fine grid, in plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

GRID_NS = 10_000


def changes(samples, modulus, period_ns):
    """[after_ns, at_ns, grown, linked] of each change of a counter."""
    first = samples[0]
    out = [[int(first["at_ns"]) - period_ns, int(first["at_ns"]), 0, 0]]
    for last, now in pairwise(samples):
        restart, gap = bool(now["flags"] & 2), bool(now["flags"] & 1)
        grown = int(now["raw"]) - int(last["raw"]) + int(now["wraps"]) * modulus
        if grown or restart:
            after = max(int(last["at_ns"]), int(now["at_ns"]) - period_ns)
            still = int(last["at_ns"]) - period_ns
            if still > out[-1][1]:
                out.append([still, still, 0, 0])
            out.append([after, int(now["at_ns"]), 0 if restart else grown, int(not restart and not gap)])
        else:  # shown still: the update was no longer than a period ago
            out[-1][0] = min(max(out[-1][0], int(now["at_ns"]) - period_ns), out[-1][1])
    return np.array(out, np.int64)


def instants(change, cells):
    """Points of a bracket and their chances, from the chances of its cells."""
    points = np.linspace(change[0], change[1], 16 * 24, endpoint=False) + (change[1] - change[0]) / 768
    return points, np.repeat(np.full(16, 1 / 16) if cells is None else np.asarray(cells, float), 24) / 24


def chain(rows, shortest_ns, longest_ns, missed, floor):
    """The chance of each cell of each bracket: every path of updates over fine points, forward and backward."""
    points = [instants(row, None)[0] for row in rows]
    width = [(row[1] - row[0]) / 384 for row in rows]

    def density(apart):
        out = np.zeros_like(apart)
        for m in range(1, 5):
            inside = (apart >= m * shortest_ns) & (apart <= m * longest_ns)
            out += inside * (1 - missed) * missed ** (m - 1) / (m * (longest_ns - shortest_ns))
        return out

    def step(k):
        across = density(points[k][None, :] - points[k - 1][:, None]) * width[k]
        within = density(points[k][None, :] - points[k][:, None]) * width[k]
        more, total = across, across.copy()
        for _ in range(int((rows[k][1] - rows[k][0]) / shortest_ns) + 1):
            more = more @ within
            total += more
        return total + floor / 384

    steps = [step(k) if rows[k][3] else None for k in range(1, len(rows))]
    ahead = [np.full(384, 1 / 384)]
    for link in steps:
        now = np.full(384, 1 / 384) if link is None else ahead[-1] @ link
        ahead.append(now / now.sum())
    back = [np.ones(384)]
    for link in reversed(steps):
        now = np.ones(384) if link is None else link @ back[-1]
        back.append(now / now.mean())
    product = np.array(ahead) * np.array(back[::-1])
    product /= product.sum(axis=1, keepdims=True)
    return product.reshape(len(rows), 16, 24).sum(axis=2)


def times(rows, cells, edges, states, state_count):
    """Mean time in each state between successive instants, over the points of both."""
    out = np.zeros((len(rows), state_count))
    for s in range(state_count):
        inside = np.append((np.asarray(states) == s).astype(float), 0.0)
        lengths = np.diff(edges) * inside[: len(edges) - 1]
        total = np.concatenate([[0.0], np.cumsum(lengths)])

        def until(at, s=s, total=total, inside=inside):
            place = np.searchsorted(edges, at, side="right") - 1
            before = np.where(place < 0, (at - edges[0]) * (s == 0), 0.0)
            return np.where(place < 0, before, total[place] + (at - edges[np.maximum(place, 0)]) * inside[place])

        mean = []
        for k, row in enumerate(rows):
            points, chance = instants(row, None if cells is None else cells[k])
            mean.append(float(until(points) @ chance))
        out[1:, s] = np.diff(mean)
    return out


def sums(changes, times, own, least, shared):
    """X'VX and X'Vy of the rows but the first, V the inverse of the covariance of the known growths."""
    rows = [k for k in range(1, len(changes)) if changes[k, 2] > 0]
    width = [float(after_at[1] - after_at[0]) ** 2 for after_at in changes]
    covariance = np.zeros((len(rows), len(rows)))
    for i, k in enumerate(rows):
        length = float(changes[k, 1] - changes[k - 1, 1]) ** 2
        covariance[i, i] = own * max(length, least) + shared * (width[k - 1] + width[k])
        if i and rows[i - 1] == k - 1:
            covariance[i, i - 1] = covariance[i - 1, i] = -shared * width[k - 1]
    x, y = times[rows], changes[rows, 2].astype(float)
    return x.T @ np.linalg.solve(covariance, x), x.T @ np.linalg.solve(covariance, y)


def opened(handles):
    """Open windows of each name from each instant on at which a window begins or ends."""
    names = list(dict.fromkeys(w.name for w in handles))
    pairs = [(w.name, int(b), int(e)) for w in handles for b, e in zip(w.begin_ns, w.end_ns, strict=True)]
    instants = {at for _, begin, end in pairs for at in (begin, end)}
    return {at: {n: sum(n == m and b <= at < e for m, b, e in pairs) for n in names} for at in instants}


def divided(edges, states, ends):
    """(instant, cell) of each stretch and of each cell's end inside of it; cells are numbered over all states."""
    out = []
    for i, (begin, state) in enumerate(zip(edges.tolist(), states.tolist(), strict=True)):
        number = sum(len(e) + 1 for e in ends[:state])
        until = edges[i + 1] if i + 1 < len(edges) else np.inf
        cells = [begin, *(begin + e for e in ends[state])]
        out += [(at, number + j) for j, at in enumerate(cells) if at < until]
    return out


def curve(rows, cells, edges, states, power, at_ns):
    """Energy until an instant: each growth in proportion to power and to the chance that the instant is its own."""
    grid = np.arange(rows[0][0], rows[-1][1] + GRID_NS, GRID_NS) + GRID_NS / 2
    place = np.searchsorted(edges, grid, side="right") - 1
    watts = np.where(place < 0, power[0], np.asarray(power)[np.asarray(states)[np.maximum(place, 0)]])
    passed = []
    for k, row in enumerate(rows):
        edges_of = np.linspace(row[0], row[1], 17)
        chances = np.concatenate([[0.0], np.cumsum(np.full(16, 1 / 16) if cells is None else cells[k])])
        passed.append(np.interp(grid, edges_of, chances))
    energy = np.zeros(len(at_ns))
    for k in range(1, len(rows)):
        density = np.maximum(passed[k - 1] - passed[k], 0.0) * watts
        total = np.concatenate([[0.0], np.cumsum(density)])
        ends = np.concatenate([grid - GRID_NS / 2, [grid[-1] + GRID_NS / 2]])
        energy += rows[k][2] * np.interp(at_ns, ends, total / total[-1])
    return energy
