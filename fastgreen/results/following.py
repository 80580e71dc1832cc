"""Estimates that follow the load: the powers that explain a counter's growth, and the curve that gives it out.

Windows often go in step with the load, and between two updates of a counter only the growth is known. The growth is
regressed on the expected time that the load spent in each of its states (csrc/fg_follow.h, `load_states`,
`update_instants`). One curve then gives out each growth in proportion to the fitted powers. It lies within the certain
bounds, and windows on it add up to the counter.

The statistical intervals are those of a jackknife that leaves out one of 30 stretches of the run at a time.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _follow
from fastgreen._light_dataclass import dataclass
from fastgreen.results.load_states import Load, load_of
from fastgreen.results.nonnegative import fit_each, fit_powers
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
_KEPT = 1 << 22  # expected times, 8 bytes each; more are worked out again for each pass
_PILOT = 768  # changes of a block from which the errors are learnt
_EVEN = (1e-36, 1e36, 0.0)  # errors of variance 1, independent of each other
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
        self._changes = _follow.Changes({**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}, most)

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
        From `_follow.Changes`, at least `LEAST_UPDATES`.
    load : Load
    """

    def __init__(self, trace: Trace, changes: NDArray[np.int64], load: Load) -> None:
        self.load = load
        self._scale = joules_per_unit(trace.channel.unit)
        self._timeline = load.timeline
        self._states = len(load.open_windows)
        begin_ns, end_ns = trace.tally["first_at_ns"], trace.tally["end_at_ns"]
        edges_ns = begin_ns + (np.arange(1, BLOCKS) * ((end_ns - begin_ns) / BLOCKS)).astype(np.int64)
        cuts = np.maximum(np.searchsorted(changes[:, 1], edges_ns, side="right"), 1)
        self._blocks = list(pairwise([1, *cuts.tolist(), len(changes)]))  # rows of each; the first growth is not known
        self._updates = update_instants(changes, trace.learnt)
        self.learnt = self._updates.learnt  # whether the period of updates is learnt from the samples
        few = len(changes) * self._states <= _KEPT
        self._kept = [(1, self._times(1, len(changes)))] if few else None
        self._fit(self._learn_errors())

    # ---- the fit ----

    def _times(self, first: int, until: int) -> NDArray[np.float64]:
        """Expected times of the rows first - 1 to until - 1; the first one is not complete."""
        updates = self._updates
        part = slice(first - 1, until)
        cells = updates.cells[part] if len(updates.cells) > 1 else updates.cells
        return _follow.Followed(updates.changes[part], cells).times(self._timeline)

    def _part(self, first: int, until: int) -> _follow.Rows:
        """The rows first - 1 to until - 1, of the kept times if there are any."""
        if self._kept is None:
            return self._rows(first, self._times(first, until))
        return self._rows(first, self._kept[0][1][first - 1 : until])

    def _chunks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """(first row, `_times` from it on) of all changes but the first."""
        if self._kept is not None:
            yield from self._kept
            return
        count, size = len(self._updates.changes), max(_KEPT // self._states, 1)
        for first in range(1, count, size):
            yield first, self._times(first, min(first + size, count))

    def _rows(self, first: int, times: NDArray[np.float64]) -> _follow.Rows:
        return _follow.Rows(self._updates.changes[first - 1 : first - 1 + len(times)], times)

    def _learn_errors(self) -> tuple[float, float, float]:
        """Split the error of a growth into what its two instants cause, and the rest, by the errors of neighbours.

        An instant that was later than expected adds to one growth what it takes from the next. The begin of each third
        block is enough to tell.
        """
        parts = []
        for first, until in self._blocks[::3]:
            until = min(until, first + _PILOT)
            if first < until:
                parts.append((self._part(first, until), 1, until - first + 1))
        matrix, vector, time, grown, known = map(sum, zip(*(r.sums(a, b, *_EVEN) for r, a, b in parts), strict=True))
        power = fit_powers(matrix, vector, 1e-9 * np.diag(matrix), grown / max(float(np.sum(time)), 1.0))
        all_left = [r.left(a, b, power) for r, a, b in parts]
        left = {key: sum(part[key] for part in all_left) for key in all_left[0]}
        count = max(known, 1)
        width, length, mean = left["width_ns2"] / count, left["length_ns2"] / count, left["square"] / count
        shared = max(left["neighbours"], 0.0) / max(left["shared_ns2"], 1.0)
        least = max(0.01 * mean, 1e-12 * (grown / count) ** 2, 1e-12)
        return max(mean - 2 * shared * width, least) / max(length, 1.0), 1e-3 * length, shared

    def _fit(self, errors: tuple[float, float, float]) -> None:
        states = self._states
        self._matrix, self._vector = np.zeros((BLOCKS, states, states)), np.zeros((BLOCKS, states))
        self._time, self._growth = np.zeros((BLOCKS, states)), np.zeros(BLOCKS)
        for first, times in self._chunks():
            rows, stop = self._rows(first, times), first + len(times) - 1
            for b, (begin, end) in enumerate(self._blocks):
                begin, end = max(begin, first), min(end, stop)
                if begin < end:
                    found = rows.sums(begin - first + 1, end - first + 1, *errors)
                    self._matrix[b] += found[0]
                    self._vector[b] += found[1]
                    self._time[b] += found[2]
                    self._growth[b] += found[3]
        matrix, vector = self._matrix.sum(axis=0), self._vector.sum(axis=0)
        time = self._time.sum(axis=0)
        self._mean = float(self._growth.sum() / max(time.sum(), 1.0))
        share = np.maximum(time / max(time.max(), 1.0), 1e-6)
        self._ridge = share / (_PRIOR * self._mean) ** 2 if self._mean > 0 else share
        self.power = fit_powers(matrix, vector, self._ridge, self._mean)
        self._without = fit_each(matrix - self._matrix, vector - self._vector, self._ridge, self._mean)

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
        del self._updates, self._kept

    def until(self, at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy until each of the sorted instants, in J."""
        power = np.maximum(self.power, _LEAST_POWER * self._mean) if self._mean > 0 else np.ones_like(self.power)
        changes = self._updates.changes
        weight = np.empty(len(changes))
        for first, times in self._chunks():
            known = int(first > 1)  # the first row of a later chunk is not complete
            np.matmul(times[known:], power, out=weight[first - 1 + known : first - 1 + len(times)])
        amount = changes[:, 2] * self._scale
        amount[0] = 0.0
        block = np.zeros(len(changes), np.int32)
        followed = _follow.Followed(changes, self._updates.cells)
        return followed.curve(self._timeline, amount, weight, power[None], block, at_ns)

    def windows_j(self, begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Energy of windows of the load, in J."""
        return _follow.between(self.load.edges_ns, self._at_edges, begin_ns, end_ns)


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
