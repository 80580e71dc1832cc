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
from fastgreen.results.nonnegative import fit_powers, fit_powers_of_each
from fastgreen.results.questions import ask
from fastgreen.results.update_instants import update_instants
from fastgreen.units import joules_per_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from fastgreen.results.bounded import Windows
    from fastgreen.results.trace import Trace

__all__ = ["Followed", "Following", "Interval"]

BLOCKS = 30
T_95 = 2.045  # Student's t with 29 degrees of freedom: 95 % lie within
LEAST_UPDATES = 60
_FEW = f"was updated fewer than {LEAST_UPDATES} times"
_PRIOR = 10.0  # powers are expected within so many mean powers of the mean: decides only where the samples do not
_UNKNOWN = 0.5  # a power known to no better than this share of the mean power is not known
_LEAST_POWER = 1e-3  # of the mean power: each state takes a little of a growth, so that each growth can be given out
_ASSUMED = 0.0025  # of a mean: what it may be off by where the period of updates is assumed and not learnt
_CHUNK = 1 << 16  # changes
_KEPT = 1 << 22  # expected times, 8 bytes each; more are worked out again for each pass
# So that a report of a recording of any length takes bounded memory: 32 bytes a change of all channels at one time,
# and about 130 a change of the channel that is fitted and 100 a window.
MOST_UPDATES, MOST_WINDOWS = 1 << 20, 1 << 21


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
        return _FEW
    return None


class ChangesQuestion:
    """The changes of a counter from its settled samples."""

    def __init__(self, trace: Trace, most: int) -> None:
        self.trace = trace
        self._changes = _resolver.Changes({**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}, most)

    def feed(self, settled: NDArray[Any], undone: NDArray[Any]) -> None:
        self._changes.feed(settled)

    def answer(self) -> tuple[NDArray[np.int64], int]:
        """The changes and their number; no changes if there are too many."""
        found = self._changes.answer()
        return found, self._changes.count


class Followed:
    """A counter whose growth follows the load; see `why_not`.

    Parameters
    ----------
    trace : Trace
    changes : (changes, 4) int64
        From `_resolver.Changes`, at least `LEAST_UPDATES`.
    load : Load
    """

    def __init__(self, trace: Trace, changes: NDArray[np.int64], load: Load) -> None:
        self.load = load
        self._scale = joules_per_unit(trace.channel.unit)
        self._timeline = load.timeline
        begin_ns, end_ns = trace.tally["first_at_ns"], trace.tally["end_at_ns"]
        block_edges_ns = begin_ns + (np.arange(1, BLOCKS) * ((end_ns - begin_ns) / BLOCKS)).astype(np.int64)
        self._updates = update_instants(changes, trace.learnt)
        self._block = np.searchsorted(block_edges_ns, changes[:, 1]).astype(np.int32)
        self._kept: list[tuple[slice, NDArray[np.float64], NDArray[np.float64]]] | None = None
        self._known = (changes[:, 2] > 0) & (changes[:, 1] > changes[:, 0])
        self._known[0] = False
        self._sum()
        self._fit()
        self.learnt = self._updates.learnt  # whether the period of updates is learnt from the samples

    # ---- the fit ----

    def _sum(self) -> None:
        """Time in each state, and growth, of each block; what the errors of growths are like."""
        states = len(self.load.open_windows)
        self._time, self._growth = np.zeros((BLOCKS, states)), np.zeros(BLOCKS)
        matrix, vector = np.zeros((states, states)), np.zeros(states)
        for rows, times, grown in self._chunks():
            known = self._known[rows]
            for b, part in self._by_block(rows):
                self._time[b] += times[part].sum(axis=0)
                self._growth[b] += grown[part].sum()
            matrix += (times * known[:, None]).T @ times
            vector += (times * known[:, None]).T @ grown
        self._mean = float(self._growth.sum() / max(self._time.sum(), 1.0))
        self._learn_errors(fit_powers(matrix, vector, 1e-9 * np.diag(matrix), self._mean))

    def _by_block(self, rows: slice) -> list[tuple[int, slice]]:
        """The blocks of some rows, and their places among them."""
        edges = np.searchsorted(self._block[rows], np.arange(BLOCKS + 1))
        return [(b, slice(int(edges[b]), int(edges[b + 1]))) for b in range(BLOCKS) if edges[b] < edges[b + 1]]

    def _chunks(self) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """(rows, expected times, growths) of all changes but the first, whose growth is not known."""
        changes, cells = self._updates.changes, self._updates.cells
        if self._kept is not None:
            yield from self._kept
            return
        small = len(changes) * len(self.load.open_windows) <= _KEPT
        kept = []
        for first in range(1, len(changes), _CHUNK):
            rows = slice(first, min(first + _CHUNK, len(changes)))
            before = slice(first - 1, rows.stop)
            times = _resolver.Followed(changes[before], cells[before]).times(self._timeline)[1:]
            kept += [(rows, times, changes[rows, 2].astype(np.float64))]
            yield kept[-1]
            if not small:
                kept.clear()
        self._kept = kept if small else None

    def _learn_errors(self, power: NDArray[np.float64]) -> None:
        """Split the error of a growth into what its two instants cause, and the rest, by the errors of neighbours.

        An instant that was later than expected adds to one growth what it takes from the next.
        """
        changes = self._updates.changes
        width = (changes[:, 1] - changes[:, 0]).astype(np.float64) ** 2
        width = width / max(float(width.mean()), 1.0)
        length = np.diff(changes[:, 1], prepend=changes[0, 0]).astype(np.float64) ** 2
        length = length / max(float(length.mean()), 1.0)
        square, neighbours, widths = np.zeros(()), np.zeros(()), np.zeros(())
        for rows, times, grown in self._chunks():
            known = self._known[rows]
            error = np.where(known, grown - np.einsum("ij,j", times, power), 0.0)
            square = square + np.einsum("i,i", error, error)
            neighbours = neighbours - np.einsum("i,i", error[:-1], error[1:])
            widths = widths + width[rows][:-1].sum(where=known[:-1] & known[1:])
        count = max(int(self._known.sum()), 1)
        shared = max(float(neighbours), 0.0) / max(float(widths), 1.0)
        mean = float(square) / count
        own = mean - 2 * shared
        least = max(0.01 * mean, 1e-12 * self._growth.sum() ** 2 / count**2, 1e-12)
        self._own = np.where(self._known, max(own, least) * np.maximum(length, 1e-3), np.inf)
        self._shared = shared * width

    def _fit(self) -> None:
        states = len(self.load.open_windows)
        self._matrix, self._vector = np.zeros((BLOCKS, states, states)), np.zeros((BLOCKS, states))
        for rows, times, grown in self._chunks():
            whole = np.column_stack([times, grown])
            for b, part in self._by_block(rows):
                own = slice(rows.start + part.start, rows.start + part.stop)
                independent = np.ascontiguousarray(whole[part])
                _resolver.whiten(self._own[own], self._shared[own.start - 1 : own.stop], independent)
                square = independent.T @ independent
                self._matrix[b] += square[:-1, :-1]
                self._vector[b] += square[:-1, -1]
        matrix, vector = self._matrix.sum(axis=0), self._vector.sum(axis=0)
        time = self._time.sum(axis=0)
        share = np.maximum(time / max(time.max(), 1.0), 1e-6)
        self._ridge = share / (_PRIOR * self._mean) ** 2 if self._mean > 0 else share
        self.power = fit_powers(matrix, vector, self._ridge, self._mean)
        self._without = fit_powers_of_each(matrix - self._matrix, vector - self._vector, self._ridge, self._mean)

    @cached_property
    def _covariance(self) -> NDArray[np.float64]:
        """Of the powers, as far as the samples tell them."""
        return np.linalg.pinv(self._matrix.sum(axis=0) + np.diag(self._ridge), hermitian=True)

    def uncertain(self, name: str) -> bool:
        """Whether the samples cannot tell the power of a window from that of other states."""
        of_each = self.load.number(name) * self._time.sum(axis=0)
        if not of_each.sum() > 0:
            return True
        share = of_each / of_each.sum()
        return bool(share @ self._covariance @ share > (_UNKNOWN * self._mean) ** 2)

    # ---- energies ----

    def _state_energies(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energy in each state if the states drew `power`, in J; each block keeps what the counter grew in it."""
        share = self._time * power
        whole = share.sum(axis=1)
        return (self._growth / np.where(whole > 0, whole, np.inf)) @ share * self._scale

    @cached_property
    def _left_out(self) -> NDArray[np.float64]:
        return np.stack([self._state_energies(power) for power in self._without])

    def left_out(self, name: str) -> NDArray[np.float64]:
        """Energy of all windows of a name, in J, without what each of the blocks says of the powers."""
        return self._left_out @ self.load.number(name)

    @cached_property
    def _at_edges(self) -> NDArray[np.float64]:
        return self.until(self.load.edges_ns)

    def keep_edges(self) -> None:
        """Keep the energy at the edges of the load only, which is all that windows ask for; `until` is gone."""
        _ = self._at_edges
        del self._updates, self._kept, self._own, self._shared, self._block, self._known

    def until(self, at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy until each of the sorted instants, in J."""
        power = np.maximum(self.power, _LEAST_POWER * self._mean)[None, :]
        if not self._mean > 0:
            power = np.ones_like(power)
        changes = self._updates.changes
        weight = np.ones(len(changes))
        for rows, times, _ in self._chunks():
            weight[rows] = times @ power[0]
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
        questions = []
        for trace in traces:
            reason = self._no_load() or why_not(trace)
            if reason is None:
                questions.append(ChangesQuestion(trace, MOST_UPDATES))
            else:
                self.reasons[trace.channel.id] = reason
        ask(questions)
        while questions:
            self._follow(questions.pop())
        self._counted = [t.channel.id for t in traces if t.counted and t.has_data]

    def _no_load(self) -> str | None:
        if not self._windows:
            return "has no window to follow"
        if sum(map(len, self._windows)) > MOST_WINDOWS:
            return f"has more than {MOST_WINDOWS:,} windows to follow"
        return None

    def _follow(self, question: ChangesQuestion) -> None:
        trace, (changes, count) = question.trace, question.answer()
        if count > MOST_UPDATES:
            self.reasons[trace.channel.id] = f"was updated more than {MOST_UPDATES:,} times"
        elif count < LEAST_UPDATES:
            self.reasons[trace.channel.id] = _FEW
        else:
            followed = self._followed[trace.channel.id] = Followed(trace, changes, self._load(trace))
            followed.keep_edges()

    def _load(self, trace: Trace) -> Load:
        return load_of(self._windows, 3 * int(trace.learnt["period_mean_ns"] or trace.learnt["period_ns"]))

    def of(self, trace: Trace) -> Followed | None:
        return self._followed.get(trace.channel.id)

    def method(self, name: str) -> str:
        """The estimate of a name: ``followed``, ``even`` between updates, or ``followed in part``."""
        told = [f is not None and not f.uncertain(name) for f in map(self._followed.get, self._counted)]
        return "followed" if told and all(told) else "followed in part" if any(told) else "even"

    def interval(self, name: str, count: int) -> Interval:
        """95 % interval of the mean energy of the windows of a name over all counted channels."""
        total, assumed_j = np.zeros(BLOCKS), 0.0
        for identity in self._counted:
            followed = self._followed.get(identity)
            if followed is None:
                return Interval(None, f"{identity} {self.reasons[identity]}")
            if followed.uncertain(name):
                return Interval(
                    None,
                    f"{identity} cannot tell its power in this window from the power around it: a longer run, rests of "
                    "different length between windows, or reads at other instants (dither) would help",
                )
            total += followed.left_out(name)
            assumed_j += 0.0 if followed.learnt else _ASSUMED * float(followed.left_out(name).mean())
        if not self._counted:
            return Interval(None, "no channel was read")
        error = np.sqrt((BLOCKS - 1) / BLOCKS * np.sum((total - total.mean()) ** 2))
        return Interval(float(T_95 * error + assumed_j) / count)
