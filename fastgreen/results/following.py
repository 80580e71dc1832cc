"""Estimates that follow the load: the powers that explain a counter's growth, and the curve that gives it out.

Windows often go in step with the load, and between two updates of a counter only the growth is known. The growth is
regressed on the expected time that the load spent in each of its states (csrc/fg_follow.h, `load_states`,
`update_instants`). One curve then gives out each growth in proportion to the fitted powers. It lies within the certain
bounds, and windows on it add up to the counter.

The statistical intervals are those of a jackknife that leaves out one of 30 stretches of the run at a time.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _resolver
from fastgreen._light_dataclass import dataclass
from fastgreen.results.load_states import Load, load_of
from fastgreen.results.nonnegative import fit_powers
from fastgreen.results.update_instants import update_instants
from fastgreen.units import joules_per_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastgreen.results.trace import Trace, Windows

__all__ = ["Followed", "Following", "Interval"]

BLOCKS = 30
T_95 = 2.045  # Student's t with 29 degrees of freedom: 95 % lie within
LEAST_UPDATES = 60
_PRIOR = 10.0  # powers are expected within so many mean powers of the mean: decides only where the samples do not
_UNKNOWN = 0.5  # a power known to no better than this share of the mean power is not known
_LEAST_POWER = 1e-3  # of the mean power: each state takes a little of a growth, so that each growth can be given out
_CHUNK = 1 << 16


@dataclass
class Interval:
    """A 95 % interval of the mean energy of a window, in J; or the reason why there is not one."""

    half_j: float | None
    reason: str | None = None


def why_not(trace: Trace) -> str | None:
    """The reason why the growth of a channel cannot follow the load; None if it can."""
    if not trace.has_data or trace.channel.estimated:
        return "is not measured"
    if trace.channel.kind != "energy":
        return "shows power, not energy"
    if trace.unknown:
        return "shows no energy for a part of the run"
    if trace.tally["updates"] < LEAST_UPDATES:
        return f"was updated fewer than {LEAST_UPDATES} times"
    return None


class Followed:
    """A counter whose growth follows the load; see `why_not`.

    Parameters
    ----------
    trace : Trace
    load : Load
    """

    def __init__(self, trace: Trace, load: Load, block_edges_ns: NDArray[np.int64]) -> None:
        self.load = load
        self._scale = joules_per_unit(trace.channel.unit)
        self._timeline = load.timeline
        traits = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
        changes = _resolver.follow_changes(traits, trace.settled())
        self._updates, self.note = update_instants(changes, trace.learnt)
        self._block = np.searchsorted(block_edges_ns, changes[:, 1]).astype(np.int32)
        self._sum()
        self._fit()

    # ---- the fit ----

    def _sum(self) -> None:
        """The normal equations of each block: expected times, growths, their weights."""
        states = len(self.load.open_windows)
        self._matrix = np.zeros((BLOCKS, states, states))
        self._vector = np.zeros((BLOCKS, states))
        self._square = np.zeros(BLOCKS)
        self._time = np.zeros((BLOCKS, states))
        self._growth = np.zeros(BLOCKS)
        for first, times in self._chunks():
            rows = slice(first, first + len(times))
            grown = self._updates.changes[rows, 2].astype(np.float64)
            weight = self._weights(rows)
            block = self._block[rows]
            edges = np.searchsorted(block, np.arange(BLOCKS + 1))
            for b in np.flatnonzero(np.diff(edges)):
                part = slice(edges[b], edges[b + 1])
                weighted = times[part] * weight[part, None]
                self._matrix[b] += weighted.T @ times[part]
                self._vector[b] += weighted.T @ grown[part]
                self._square[b] += weight[part] @ grown[part] ** 2
                self._time[b] += times[part].sum(axis=0)
                self._growth[b] += grown[part].sum()

    def _chunks(self):
        """(first row, expected times) of all changes but the first, whose growth is not known."""
        changes, cells = self._updates.changes, self._updates.cells
        for first in range(0, len(changes), _CHUNK):
            rows = slice(max(first - 1, 0), first + _CHUNK)
            part = _resolver.Followed(changes[rows], None if cells is None else cells[rows])
            yield max(first, 1), part.times(self._timeline)[1:]

    def _weights(self, rows: slice) -> NDArray[np.float64]:
        """Of each growth, by how uncertain the instants at its two ends are; 0 across a restart."""
        changes = self._updates.changes[max(rows.start - 1, 0) : rows.stop]
        width = (changes[:, 1] - changes[:, 0]).astype(np.float64)
        length = np.diff(changes[:, 1]).astype(np.float64)
        spread = width[1:] ** 2 + width[:-1] ** 2 + (0.05 * length) ** 2
        known = (changes[1:, 2] > 0) & (length > 0)
        return np.where(known, 1e12 / np.maximum(spread, 1.0), 0.0)

    def _fit(self) -> None:
        time, growth = self._time.sum(axis=0), self._growth.sum()
        self._mean = growth / max(time.sum(), 1.0)
        matrix, vector = self._matrix.sum(axis=0), self._vector.sum(axis=0)
        count = len(self._updates.changes)
        free = fit_powers(matrix, vector, np.zeros(len(time)), 0.0)
        error = self._square.sum() - 2 * free @ vector + free @ matrix @ free
        self._variance = max(float(error) / max(count - len(time), 1), 1e-9 * self._square.sum() / max(count, 1))
        share = np.maximum(time / max(time.max(), 1.0), 1e-6)
        self._ridge = share * self._variance / (_PRIOR * self._mean) ** 2 if self._mean > 0 else share
        self.power = self._powers(matrix, vector)
        self._without = np.stack([self._powers(matrix - m, vector - v) for m, v in self._each_block()])

    def _each_block(self):
        return zip(self._matrix, self._vector, strict=True)

    def _powers(self, matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return fit_powers(matrix, vector, self._ridge, self._mean)

    def uncertain(self, name: str) -> bool:
        """Whether the samples cannot tell the power of a window from that of other states."""
        of_each = self.load.open_windows[:, self.load.names.index(name)] * self._time.sum(axis=0)
        if not of_each.sum() > 0:
            return True
        share = of_each / of_each.sum()
        information = self._matrix.sum(axis=0) / self._variance + np.diag(self._ridge) / self._variance
        return bool(share @ np.linalg.solve(information, share) > (_UNKNOWN * self._mean) ** 2)

    # ---- energies ----

    def _name_energy(self, name: str, power: NDArray[np.float64]) -> float:
        """Energy of all windows of a name if the states drew `power`, in J; each block keeps what the counter grew."""
        number = self.load.open_windows[:, self.load.names.index(name)]
        whole = self._time @ power
        of_name = self._time @ (power * number)
        return float(np.sum(np.where(whole > 0, self._growth * of_name / np.maximum(whole, 1e-300), 0.0))) * self._scale

    def left_out(self, name: str) -> NDArray[np.float64]:
        """Energy of all windows of a name, in J, without what each of the blocks says of the powers."""
        return np.array([self._name_energy(name, power) for power in self._without])

    @cached_property
    def _at_edges(self) -> NDArray[np.float64]:
        return self.until(self.load.edges_ns)

    def until(self, at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy until each of the sorted instants, in J."""
        power = np.maximum(self.power, _LEAST_POWER * self._mean)[None, :]
        if not self._mean > 0:
            power = np.ones_like(power)
        changes = self._updates.changes
        weight = np.ones(len(changes))
        for first, times in self._chunks():
            weight[first : first + len(times)] = times @ power[0]
        return self._curve(changes, self._updates.cells, weight, power, at_ns) * self._scale

    def _curve(self, changes, cells, weight, power, at_ns):
        followed = _resolver.Followed(changes, cells)
        block = np.zeros(len(changes), np.int32)
        amount = changes[:, 2].astype(np.float64)
        amount[0] = 0.0
        return followed.curve(self._timeline, amount, weight, power, block, at_ns)

    def windows_j(self, begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy of windows of the load, in J."""
        edges, until = self.load.edges_ns, self._at_edges
        return until[np.searchsorted(edges, end_ns)] - until[np.searchsorted(edges, begin_ns)]


class Following:
    """All counted channels of a run, as far as they follow the load.

    Parameters
    ----------
    traces : sequence of Trace
    windows : sequence of Windows
        All windows of the run.
    """

    def __init__(self, traces: Sequence[Trace], windows: Sequence[Windows]) -> None:
        self._windows = list(windows)
        self.reasons: dict[str, str] = {}
        self._followed: dict[str, Followed] = {}
        for trace in traces:
            reason = why_not(trace) if self._windows else "no window was used"
            if reason is None:
                self._followed[trace.channel.id] = Followed(trace, self._load(trace), _block_edges(trace))
            else:
                self.reasons[trace.channel.id] = reason
        self._counted = [t.channel.id for t in traces if t.counted and t.has_data]

    def _load(self, trace: Trace) -> Load:
        return load_of(self._windows, 3 * int(trace.learnt["period_mean_ns"] or trace.learnt["period_ns"]))

    def of(self, trace: Trace) -> Followed | None:
        return self._followed.get(trace.channel.id)

    def interval(self, name: str, count: int) -> Interval:
        """95 % interval of the mean energy of the windows of a name over all counted channels."""
        total = np.zeros(BLOCKS)
        for identity in self._counted:
            followed = self._followed.get(identity)
            if followed is None:
                return Interval(None, f"{identity} {self.reasons[identity]}")
            if followed.uncertain(name):
                return Interval(None, f"{identity} cannot tell {name} from what comes with it")
            total += followed.left_out(name)
        if not self._counted:
            return Interval(None, "no channel was read")
        error = np.sqrt((BLOCKS - 1) / BLOCKS * np.sum((total - total.mean()) ** 2))
        return Interval(float(T_95 * error / count))


def _block_edges(trace: Trace) -> NDArray[np.int64]:
    begin, end = trace.tally["first_at_ns"], trace.tally["end_at_ns"]
    return begin + (np.arange(1, BLOCKS) * ((end - begin) / BLOCKS)).astype(np.int64)
