"""Sum and percentiles of the lengths of windows, in memory that does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fastgreen.results.bounded import Windows
from fastgreen.units import NS_PER_S

__all__ = ["Durations"]

_BLOCK = 1 << 18
_GATHERED = 1 << 20  # lengths that are sorted at once
_BITS = 16  # of one histogram


class Durations:
    """The lengths of the stretches of some handles.

    Up to 262,144 of them the numbers are those of `numpy.sum` and `numpy.percentile`. Of more, the percentiles are the
    same, found by selection, and the sum is exact until its last rounding.
    """

    def __init__(self, handles: list[Windows]) -> None:
        self._handles = handles
        self.count = sum(map(len, handles))

    def _blocks(self) -> Iterator[np.ndarray]:
        for windows in self._handles:
            for first in range(0, len(windows), _BLOCK):
                part = slice(first, first + _BLOCK)
                yield windows.end_ns[part] - windows.begin_ns[part]

    def _all_s(self) -> np.ndarray:
        return np.concatenate(list(self._blocks())) / NS_PER_S

    def total_s(self) -> float:
        if self.count <= _BLOCK:
            return float(self._all_s().sum())
        return sum(int(block.sum()) for block in self._blocks()) / NS_PER_S

    def percentiles_s(self, percents: list[float]) -> list[float]:
        """As `numpy.percentile`: linear between the two nearest."""
        if self.count <= _BLOCK:
            return [float(x) for x in np.percentile(self._all_s(), percents)]
        places = [(self.count - 1) * (percent / 100) for percent in percents]
        ranks = sorted({r for p in places for r in (math.floor(p), min(math.floor(p) + 1, self.count - 1))})
        least, most = (
            edge(int(edge_of(block)) for block in self._blocks()) for edge, edge_of in ((min, np.min), (max, np.max))
        )
        found = {rank: value / NS_PER_S for rank, value in self._select(least, most, self.count, ranks).items()}
        return [_between(found, place, self.count) for place in places]

    def _select(self, least: int, most: int, count: int, ranks: list[int]) -> dict[int, int]:
        """The lengths of these ranks among the `count` lengths from `least` to `most`, by rank."""
        if count <= _GATHERED:
            parts = [block[(block >= least) & (block <= most)] for block in self._blocks()]
            values = np.sort(np.concatenate(parts))
            return {rank: int(values[rank]) for rank in ranks}
        shift = max((most - least).bit_length() - _BITS, 0)
        histogram = np.zeros(((most - least) >> shift) + 1, np.int64)
        for block in self._blocks():
            inside = block[(block >= least) & (block <= most)]
            histogram += np.bincount((inside - least) >> shift, minlength=len(histogram))
        until = np.cumsum(histogram)
        out: dict[int, int] = {}
        for place in np.unique(np.searchsorted(until, ranks, side="right")).tolist():
            before = int(until[place] - histogram[place])
            mine = [rank for rank in ranks if before <= rank < int(until[place])]
            first = least + (place << shift)
            if shift == 0:
                out |= dict.fromkeys(mine, first)
                continue
            last = min(first + (1 << shift) - 1, most)
            found = self._select(first, last, int(histogram[place]), [rank - before for rank in mine])
            out |= {rank + before: value for rank, value in found.items()}
        return out


def _between(found: dict[int, float], place: float, count: int) -> float:
    first = math.floor(place)
    low, high, part = found[first], found[min(first + 1, count - 1)], place - first
    # From the nearer end, as NumPy does, so that the last bit is the same.
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
