"""APC and APEC over the product of their axes, with searches that do not compute the grid.

The searches rely on one fact: rounding keeps the order of numbers, so along rising consumption the float64 scores of a
row never rise. The best score of a row is that of its smallest consumption, and the scores between two limits are
adjacent, so that a binary search finds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from fastgreen import _kernels

__all__ = ["ScoreGrid"]

_ROWS_AT_ONCE = 1 << 20


class ScoreGrid:
    """Grid of one metric over the axes beta, alpha, accuracy, and consumption or cost (the fastest).

    Attributes
    ----------
    axes : dict of str to ndarray
        Name and float64 values of each axis, slowest first.
    inputs : dict of str to ndarray
        Inputs of the points: the axes.
    shape : tuple of int
        Points along each axis.
    """

    rising_is_better = True

    def __init__(self, axes: dict[str, np.ndarray]) -> None:
        self.axes = self.inputs = axes
        self.shape = tuple(axis.size for axis in axes.values())
        self._beta, self._alpha, self._accuracy, self._cost = axes.values()
        self._order = np.argsort(self._cost, kind="stable")
        self._in_order = bool(np.all(self._order[1:] > self._order[:-1]))
        self._rising_cost = self._cost[self._order]
        self._kernels: dict[np.dtype, _kernels.Grid] = {}

    def part(self, part: tuple[slice, ...]) -> ScoreGrid:
        """The grid over a stretch of each axis."""
        return ScoreGrid({name: axis[own] for (name, axis), own in zip(self.axes.items(), part, strict=True)})

    def fill(self, out: np.ndarray, first: int, stream: bool) -> None:
        """Fill the one-dimensional `out` with the points from `first` on, in row-major order."""
        kernel = self._kernels.get(out.dtype)
        if kernel is None:
            kernel = self._kernels.setdefault(
                out.dtype, _kernels.Grid(self._beta, self._alpha, self._accuracy, self._cost, out.dtype)
            )
        kernel.fill(out, first, stream)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Float64 scores of points at positions in row-major order."""
        beta, alpha, accuracy, cost = np.unravel_index(points, self.shape)
        return _kernels.apc(self._cost[cost], self._accuracy[accuracy], self._alpha[alpha], self._beta[beta])

    def best(self, k: int) -> np.ndarray:
        """Positions of the k highest scores, highest first; equal scores in the order of their positions."""
        rows, tops = self._leading_rows(k)
        # k rows have a score of at least the last top, so a lower score is not among the k best.
        limit = tops[-1] if rows.size >= k else -math.inf
        points, scores = np.empty(0, np.int64), np.empty(0)
        begin = 0
        while begin < rows.size and tops[begin] >= limit:
            end = min(rows.size, begin + max(1, (1 << 20) // min(k, self._cost.size)))
            found = self._reaching(rows[begin:end], limit, k)
            points = np.concatenate([points, found])
            scores = np.concatenate([scores, self.at(found)])
            keep = np.lexsort((points, -scores))[:k]
            points, scores = points[keep], scores[keep]
            limit = scores[-1] if points.size == k else limit
            begin = end
        return points

    def where(self, low: float, high: float) -> np.ndarray:
        """Rising positions of the scores in low..high. MemoryError if they do not fit into memory."""
        found = []
        total = 0
        for rows in self._row_chunks():
            first = self._first_not_above(rows, high)
            last = self._first_below(rows, low)
            counts = np.maximum(last - first, 0)
            total += int(counts.sum())
            _check_memory(total)
            points = self._spread(rows, first, counts)
            found.append(points if self._in_order else np.sort(points))
        return np.concatenate(found)

    def _row_chunks(self) -> Iterator[np.ndarray]:
        rows = math.prod(self.shape[:-1])
        for first in range(0, rows, _ROWS_AT_ONCE):
            yield np.arange(first, min(first + _ROWS_AT_ONCE, rows))

    def _scores(self, rows: np.ndarray, place: np.ndarray | int) -> np.ndarray:
        """Score of each row at its place along rising consumption."""
        beta, alpha, accuracy = np.unravel_index(rows, self.shape[:-1])
        return _kernels.apc(self._rising_cost[place], self._accuracy[accuracy], self._alpha[alpha], self._beta[beta])

    def _leading_rows(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k rows with the highest best scores, highest first, and these scores."""
        rows, tops = np.empty(0, np.int64), np.empty(0)
        for chunk in self._row_chunks():
            chunk_tops = self._scores(chunk, 0)
            if chunk.size > k:
                good = chunk_tops >= np.partition(chunk_tops, chunk.size - k)[chunk.size - k]
                chunk, chunk_tops = chunk[good], chunk_tops[good]
            rows, tops = np.concatenate([rows, chunk]), np.concatenate([tops, chunk_tops])
            keep = np.lexsort((rows, -tops))[:k]
            rows, tops = rows[keep], tops[keep]
        return rows, tops

    def _reaching(self, rows: np.ndarray, limit: float, k: int) -> np.ndarray:
        """The k best points of each row with a score of at least `limit`; of equal scores the first."""
        counts = self._first_below(rows, limit)
        if self._in_order:
            return self._spread(rows, np.zeros_like(counts), np.minimum(counts, k))
        few = counts <= k
        points = [self._spread(rows[few], np.zeros_like(counts[few]), counts[few])]
        for row in rows[~few]:
            # Equal scores at the k-th place: their order along rising consumption is not that of their positions.
            one = np.array([row])
            score = self._scores(one, k - 1)
            begin, end = int(self._first_not_above(one, score[0])[0]), int(self._first_below(one, score[0])[0])
            equals = np.sort(self._order[begin:end])[: k - begin]
            points.append(row * self._cost.size + np.concatenate([self._order[:begin], equals]))
        return np.concatenate(points)

    def _spread(self, rows: np.ndarray, first: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Positions of counts[i] points of rows[i] from place first[i] on, along rising consumption."""
        ends = np.cumsum(counts)
        place = np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - counts - first, counts)
        return np.repeat(rows * self._cost.size, counts) + self._order[place]

    def _first_below(self, rows: np.ndarray, limit: float) -> np.ndarray:
        return self._bisect(rows, lambda score: score < limit)

    def _first_not_above(self, rows: np.ndarray, limit: float) -> np.ndarray:
        return self._bisect(rows, lambda score: score <= limit)

    def _bisect(self, rows: np.ndarray, passed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """First place in each row where `passed` is true; it stays true at all later places."""
        low = np.zeros(rows.size, np.int64)
        high = np.full(rows.size, self._cost.size, np.int64)
        for _ in range(self._cost.size.bit_length()):
            middle = np.minimum((low + high) // 2, self._cost.size - 1)
            open_ = low < high
            done = passed(self._scores(rows, middle))
            high = np.where(open_ & done, middle, high)
            low = np.where(open_ & ~done, middle + 1, low)
        return high


def _check_memory(points: int) -> None:
    import psutil

    needed = points * 80  # positions, their copies, and the columns of the answer
    available = psutil.virtual_memory().available
    if needed > available:
        raise MemoryError(
            f"{points:,} points are in low..high and need {needed / 1e9:.1f} GB, but only {available / 1e9:.1f} GB are "
            "free; narrow the limits, or write the sweep to a file and read it tile by tile"
        )
