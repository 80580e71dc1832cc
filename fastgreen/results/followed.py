"""One counter whose growth follows the load: its powers, and the curve that gives its growth out."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _follow
from fastgreen.results.load_cells import Cells, choose_cells, fine_cells, joined_states, near_cells
from fastgreen.results.load_states import merged_edges
from fastgreen.results.powers import BlockSums, choose_periods, explained, mean_powers, periods_of
from fastgreen.results.update_instants import update_instants
from fastgreen.units import joules_per_unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastgreen.results.load_states import Load
    from fastgreen.results.trace import Trace

__all__ = ["BLOCKS", "Followed"]

BLOCKS = 30
_MOST_MIXED = 0.005  # so little other time changes the energy of windows by no more, if it draws 0 to 2 x their power
_UNKNOWN = 0.5  # a power known to no better than this share of the mean power is not known
_LEAST_POWER = 1e-3  # of the mean power: each state takes a little of a growth, so that each growth can be given out
_KEPT = 1 << 22  # expected times, 8 bytes each; more are worked out again for each pass
_PILOT = 768  # changes of a block from which the errors are learnt
_EVEN = (1e-36, 1e36, 0.0)  # errors of variance 1, independent of each other
_CELLS_FROM = 1 << 15  # most changes from which cells are chosen
_CELLS_FROM_MANY = 1 << 12  # of them, where there are more: one in so few is already known well enough


class Followed:
    """A counter whose growth follows the load.

    Parameters
    ----------
    trace : Trace
    changes : (changes, 4) int64
        From `_follow.Changes`: enough that each power can be known, see `fastgreen.results.following.why_not`.
    load : Load

    Attributes
    ----------
    learnt : bool
        Whether the period of updates is learnt from the samples.
    power : (periods, states) float64
        Of the states of `load`, divided as its cells ask for; in the counter's unit per ns.
    """

    def __init__(self, trace: Trace, changes: NDArray[np.int64], load: Load) -> None:
        self.load = load
        self._scale = joules_per_unit(trace.channel.unit)
        begin_ns, end_ns = trace.tally["first_at_ns"], trace.tally["end_at_ns"]
        edges_ns = begin_ns + (np.arange(1, BLOCKS) * ((end_ns - begin_ns) / BLOCKS)).astype(np.int64)
        cuts = np.maximum(np.searchsorted(changes[:, 1], edges_ns, side="right"), 1)
        self._blocks = list(pairwise([1, *cuts.tolist(), len(changes)]))  # rows of each; the first growth is not known
        self._updates = update_instants(changes, trace.learnt)
        self.learnt = self._updates.learnt
        self._finest_ns = 0.0 if self.learnt else float(trace.learnt["period_ns"])  # that instants are known to
        self._choose_shape()
        self._take(load.timeline, np.arange(len(load.time_ns)))
        errors = self._learn_errors()
        self._sums = self._all_sums(errors)
        self._level = self._sums.levels()
        models = self._divide(errors)
        level = self._sums.at_level(self._level)
        self._mean, self._into = self._sums.mean, models[0]
        self._merged = level.merged(models[0])
        self.power, self._without = mean_powers(level, models, int(self._period[-1]) + 1)

    # ---- states ----

    def _choose_shape(self) -> None:
        """Take the density of instants with which powers explain the growths best, where brackets do not tell it.

        A counter that updates at an even pace shows values of every age up to a period, others rarely the oldest ones.
        """
        best = -np.inf
        for cells in self._updates.shapes:
            self._updates.cells, before = cells, self._updates.cells
            self._timeline, self._states = self.load.timeline, len(self.load.time_ns)
            self._kept: NDArray[np.float64] | None = None
            sums = self._pilot_sums(_EVEN)[0]
            one = sums.at_level(sums.levels())
            matrix, vector = one.matrix.sum(axis=0), one.vector.sum(axis=0)
            now = float(explained(matrix[None], vector[None], one.ridge, one.mean)[0])
            if now > best:
                best = now
            else:
                self._updates.cells = before

    def _take(self, timeline: _follow.Timeline, base: NDArray[np.int64]) -> None:
        """Follow a timeline whose states are parts of the states `base` of the load."""
        self._timeline, self._base, self._states = timeline, base, len(base)
        few = len(self._updates.changes) * self._states <= _KEPT
        self._kept = self._times(1, len(self._updates.changes)) if few else None

    def _divide(self, errors: tuple[float, float, float]) -> list[NDArray[np.int64]]:
        """Divide the states and the run as the samples ask for; returns the models of what the divided states are."""
        fine = fine_cells(self.load, self._finest_ns)
        level = self._sums.at_level(self._level)
        self._joined = joined_states(level, self.load)
        whole = Cells([[] for _ in fine.ends_ns], self._joined)
        periods = choose_periods(level.merged(near_cells(fine, whole)[1][0]))
        self._period = periods_of(BLOCKS, periods)
        sums = self._some_sums(fine, errors)
        step = 1 if len(sums.grown) == BLOCKS else 3
        sums = sums.at_level(self._level[::step])
        needed, models = near_cells(fine, choose_cells(sums, fine, self._joined, self._period[::step]))
        if needed.divided:
            self._take(needed.timeline(self.load), needed.base)
            self._sums = self._all_sums(self._learn_errors())
        return models

    def _some_sums(self, fine: Cells, errors: tuple[float, float, float]) -> BlockSums:
        """Sums of the finest cells over the blocks; over the begin of each third block if there are many changes."""
        changes = self._updates.changes
        many, states = len(changes) > _CELLS_FROM, len(fine.base)
        blocks = self._blocks[::3] if many else self._blocks
        out = BlockSums.empty(len(blocks), states)
        for b, (first, until) in enumerate(blocks):
            until = min(until, first + _CELLS_FROM_MANY // len(blocks)) if many else until
            if first < until:
                timeline = fine.timeline(self.load, int(changes[first - 1, 0]), int(changes[until - 1, 1]))
                rows = self._rows(first, self._times(first, until, timeline))
                _add(out, b, rows.sums(1, until - first + 1, *errors))
        return out

    # ---- the fit ----

    def _times(self, first: int, until: int, timeline: _follow.Timeline | None = None) -> NDArray[np.float64]:
        """Expected times of the rows first - 1 to until - 1; the first one is not complete."""
        updates = self._updates
        part = slice(first - 1, until)
        cells = updates.cells[part] if len(updates.cells) > 1 else updates.cells
        return _follow.Followed(updates.changes[part], cells).times(timeline or self._timeline)

    def _part(self, first: int, until: int) -> _follow.Rows:
        """The rows first - 1 to until - 1, of the kept times if there are any."""
        times = self._times(first, until) if self._kept is None else self._kept[first - 1 : until]
        return self._rows(first, times)

    def _rows(self, first: int, times: NDArray[np.float64]) -> _follow.Rows:
        return _follow.Rows(self._updates.changes[first - 1 : first - 1 + len(times)], times)

    def _chunks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """(first row, `_times` from it on) of all changes but the first."""
        if self._kept is not None:
            yield 1, self._kept
            return
        count, size = len(self._updates.changes), max(_KEPT // self._states, 1)
        for first in range(1, count, size):
            yield first, self._times(first, min(first + size, count))

    def _pilot_sums(self, errors: tuple[float, float, float]) -> tuple[BlockSums, int, list[tuple[_follow.Rows, int]]]:
        """Sums over the begin of each third block, the known growths there, and the rows with their number."""
        parts = [(self._part(a, min(b, a + _PILOT)), min(b - a, _PILOT) + 1) for a, b in self._blocks[::3] if a < b]
        sums = BlockSums.empty(len(parts), self._states)
        known = sum(_add(sums, b, rows.sums(1, until, *errors)) for b, (rows, until) in enumerate(parts))
        return sums, known, parts

    def _learn_errors(self) -> tuple[float, float, float]:
        """Split the error of a growth into what its two instants cause, and the rest, by the errors of neighbours.

        An instant that was later than expected adds to one growth what it takes from the next. The begin of each third
        block is enough to tell.
        """
        sums, known, parts = self._pilot_sums(_EVEN)
        level = sums.levels()
        power = sums.at_level(level).powers()
        left = dict.fromkeys(("square", "neighbours", "shared_ns2", "width_ns2", "length_ns2"), 0.0)
        for (rows, until), one in zip(parts, level.tolist(), strict=True):
            found = rows.left(1, until, one * power)
            for key in left:
                left[key] += found[key] / (one**2 if key in ("square", "neighbours") else 1.0)
        count = max(known, 1)
        width, length, mean = left["width_ns2"] / count, left["length_ns2"] / count, left["square"] / count
        shared = max(left["neighbours"], 0.0) / max(left["shared_ns2"], 1.0)
        least = max(0.01 * mean, 1e-12 * (sums.grown.sum() / count) ** 2, 1e-12)
        return max(mean - 2 * shared * width, least) / max(length, 1.0), 1e-3 * length, shared

    def _all_sums(self, errors: tuple[float, float, float]) -> BlockSums:
        sums = BlockSums.empty(BLOCKS, self._states)
        for first, times in self._chunks():
            rows, stop = self._rows(first, times), first + len(times) - 1
            for b, (begin, end) in enumerate(self._blocks):
                begin, end = max(begin, first), min(end, stop)
                if begin < end:
                    _add(sums, b, rows.sums(begin - first + 1, end - first + 1, *errors))
        return sums

    def mixed(self, opened: NDArray[np.float64]) -> float:
        """Time of states that the samples cannot tell from some work, or the work's own time in them if that is less.

        As a share of the work's time.

        Parameters
        ----------
        opened : (states,) float64
            How much of that work is open in each state of `load`, as `Load.number` gives it for a window.
        """
        time_ns, opened = self._sums.time_ns.sum(axis=0), opened[self._base]
        own_ns = float((opened * time_ns)[np.isin(self._base, list(self._joined))].sum())
        if not own_ns > 0:
            return 0.0
        alike = np.isin(self._base, [*self._joined, *self._joined.values()])
        return min(float(time_ns[alike & (opened == 0)].sum()), own_ns) / float((opened * time_ns).sum())

    def uncertain(self, opened: NDArray[np.float64]) -> bool:
        """Whether the samples cannot tell the power of some work from that of other states; see `mixed`."""
        of_each = opened[self._base] * self._sums.time_ns.sum(axis=0)
        if not of_each.sum() > 0 or self.mixed(opened) > _MOST_MIXED:
            return True
        share = np.bincount(self._into, of_each / of_each.sum())
        return bool(share @ self._covariance @ share > (_UNKNOWN * self._mean) ** 2)

    @cached_property
    def _covariance(self) -> NDArray[np.float64]:
        return self._merged.covariance

    # ---- energies ----

    def _state_energies(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energy in each state if the states drew `power`, in J; each block keeps what the counter grew in it."""
        share = self._sums.time_ns * power[self._period]
        whole = share.sum(axis=1)
        return (self._sums.grown / np.where(whole > 0, whole, np.inf)) @ share * self._scale

    @cached_property
    def _left_out(self) -> NDArray[np.float64]:
        return np.stack([self._state_energies(power) for power in self._without])

    def left_out(self, opened: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energy of some work, in J, without what each of the blocks says of the powers; see `mixed`."""
        return self._left_out @ opened[self._base]

    def keep(self, at_ns: NDArray[np.int64] | None = None) -> None:
        """Keep the energy at the edges of the load and at other sorted instants only; `until` is gone."""
        if at_ns is not None:
            self._kept_ns = merged_edges([self._kept_ns, at_ns])
        _ = self._kept_j
        del self._updates, self._kept

    @cached_property
    def _kept_ns(self) -> NDArray[np.int64]:
        return self.load.edges_ns

    @cached_property
    def _kept_j(self) -> NDArray[np.float64]:
        return self.until(self._kept_ns)

    def until(self, at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy until each of the sorted instants, in J."""
        power = np.maximum(self.power, _LEAST_POWER * self._mean) if self._mean > 0 else np.ones_like(self.power)
        changes = self._updates.changes
        period = np.zeros(len(changes), np.int32)
        weight = np.empty(len(changes))
        for number, (first, until) in zip(self._period.tolist(), self._blocks, strict=True):
            period[first:until] = number
        for first, times in self._chunks():
            known = int(first > 1)  # the first row of a later chunk is not complete
            rows = slice(first - 1 + known, first - 1 + len(times))
            if len(power) == 1:
                np.matmul(times[known:], power[0], out=weight[rows])
            else:
                weight[rows] = np.einsum("ks,ks->k", times[known:], power[period[rows]])
        amount = changes[:, 2] * self._scale
        amount[0] = 0.0
        followed = _follow.Followed(changes, self._updates.cells)
        return followed.curve(self._timeline, amount, weight, power, period, at_ns)

    def windows_j(self, begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy of stretches between instants that are kept, in J."""
        return _follow.between(self._kept_ns, self._kept_j, begin_ns, end_ns)

    def kept_j(self, at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy until each of some instants that are kept, in J."""
        return self._kept_j[np.searchsorted(self._kept_ns, at_ns)]


def _add(sums: BlockSums, block: int, found: tuple) -> int:
    matrix, vector, time_ns, grown, known = found
    sums.matrix[block] += matrix
    sums.vector[block] += vector
    sums.time_ns[block] += time_ns
    sums.grown[block] += grown
    return known
