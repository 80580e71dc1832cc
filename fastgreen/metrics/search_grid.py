"""Times to the closest APC or APEC over the product of runs and parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastgreen.metrics.search import Search
from fastgreen.metrics.training_runs import Runs

__all__ = ["SearchGrid"]

_POINTS_AT_ONCE = 1 << 18


class SearchGrid:
    """Grid of times over the axes beta, alpha, the two deltas, target, and run (the fastest).

    Attributes
    ----------
    axes : dict of str to ndarray
        Name and values of each axis, slowest first. A target of NaN is a search for the best. If a target is a pair,
        all targets are texts.
    inputs : dict of str to ndarray
        Times of the runs, and the axes of numbers.
    shape : tuple of int
        Points along each axis.
    """

    rising_is_better = False

    def __init__(
        self,
        runs: Runs,
        cost_name: str,
        parameters: dict[str, np.ndarray],
        targets: list[Any],
        quantize: bool,
        names: np.ndarray | None = None,
    ) -> None:
        self._runs, self._first_run = runs, 0
        self.inputs = {"time": runs.time, **parameters}
        self.axes = {
            **parameters,
            "target": _target_axis(targets),
            "run": np.arange(runs.count) if names is None else names,
        }
        self.shape = tuple(axis.size for axis in self.axes.values())
        self._searches = [
            Search.checked(cost_name, cost_delta, accuracy_delta, alpha, beta, target, quantize)
            for beta in parameters["beta"]
            for alpha in parameters["alpha"]
            for accuracy_delta in parameters["accuracy_delta"]
            for cost_delta in parameters[f"{cost_name}_delta"]
            for target in targets
        ]

    def part(self, part: tuple[slice, ...]) -> SearchGrid:
        """The grid over a stretch of each axis."""
        out = copy.copy(self)
        out.axes = {name: axis[own] for (name, axis), own in zip(self.axes.items(), part, strict=True)}
        out.shape = tuple(axis.size for axis in out.axes.values())
        places = np.arange(len(self._searches)).reshape(self.shape[:-1])[part[:-1]]
        out._searches = [self._searches[place] for place in places.flat]
        out._first_run = self._first_run + part[-1].start
        return out

    def fill(self, out: np.ndarray, first: int, stream: bool) -> None:
        """Fill the one-dimensional `out` with the points from `first` on, in row-major order."""
        count = self.shape[-1]
        done = 0
        while done < out.size:
            row, run = divmod(first + done, count)
            some = min(count - run, out.size - done)
            begin = self._first_run + run
            out[done : done + some] = self._runs.reach(self._searches[row], begin, begin + some)["time"]
            done += some

    def at(self, points: np.ndarray) -> np.ndarray:
        """Times of points at positions in row-major order."""
        times = np.empty(1)
        found = []
        for point in points:
            self.fill(times, int(point), False)
            found.append(times[0])
        return np.array(found)

    def best(self, k: int) -> np.ndarray:
        """Positions of the k shortest times, shortest first; equal times in the order of their positions."""
        points, times = np.empty(0, np.int64), np.empty(0)
        for begin, chunk in self._chunks():
            points = np.concatenate([points, np.arange(begin, begin + chunk.size)])
            times = np.concatenate([times, chunk])
            keep = np.lexsort((points, times))[:k]
            points, times = points[keep], times[keep]
        return points

    def where(self, low: float, high: float) -> np.ndarray:
        """Rising positions of the times in low..high."""
        return np.concatenate(
            [begin + np.flatnonzero((chunk >= low) & (chunk <= high)) for begin, chunk in self._chunks()]
        )

    def _chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the grid in pieces: the position of the first point, and the times."""
        size = math.prod(self.shape)
        for begin in range(0, size, _POINTS_AT_ONCE):
            chunk = np.empty(min(_POINTS_AT_ONCE, size - begin))
            self.fill(chunk, begin, False)
            yield begin, chunk


def _target_axis(targets: list[Any]) -> np.ndarray:
    if all(np.ndim(target) == 0 for target in targets):
        return np.array([math.nan if target is None else float(target) for target in targets])
    return np.array(["best" if target is None else str(target) for target in targets])
