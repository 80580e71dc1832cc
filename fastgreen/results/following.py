"""Estimates that follow the load: the powers that explain a counter's growth, and the curve that gives it out.

Windows often go in step with the load, and between two updates of a counter only the growth is known. The growth is
regressed on the expected time that the load spent in each of its states (csrc/fg_follow.h, `load_states`,
`update_instants`). One curve then gives out each growth in proportion to the fitted powers. It lies within the certain
bounds, and windows on it add up to the counter.

The statistical intervals are those of a jackknife that leaves out one of 30 stretches of the run at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _follow
from fastgreen._light_dataclass import dataclass
from fastgreen.results.followed import BLOCKS, Followed
from fastgreen.results.load_states import Load, load_of
from fastgreen.results.questions import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    from fastgreen.results.bounded import Windows
    from fastgreen.results.trace import Trace

    Work: TypeAlias = Callable[[Load], NDArray[np.float64]]

__all__ = ["Following", "MeanInterval", "windows_named"]

T_95 = 2.045  # Student's t with 29 degrees of freedom: 95 % lie within
LEAST_UPDATES = 60
_FEW = f"was updated fewer than {LEAST_UPDATES} times"
_ALIKE = (
    "cannot tell its power there from the power around it: a longer run, rests of different length between "
    "windows, or reads at other instants (dither) would help"
)
_SHARED = 1.16  # how much wider intervals are for what all blocks have in common (the learnt period): by simulation
_ASSUMED = 0.0025  # of a mean: what it may be off by where the period of updates is assumed and not learnt
# So that a report of a recording of any length takes bounded memory: 32 bytes a change of all channels at one time,
# and about 130 a change of the channel that is fitted and 100 a window.
MOST_UPDATES, MOST_WINDOWS = 1 << 20, 1 << 21


@dataclass
class MeanInterval:
    """The 95 % interval of the energy of some work.

    Attributes
    ----------
    half_j : float or None
        Half of its width in J.
    reason : str or None
        Why there is no interval.
    method : str
        ``followed``, ``even`` between updates, or ``followed in part`` (of the channels).
    """

    half_j: float | None
    reason: str | None
    method: str

    def over(self, count: float) -> MeanInterval:
        """The same of the energy over a count."""
        return self if self.half_j is None else MeanInterval(self.half_j / count, None, self.method)

    def around(self, mean_j: float) -> tuple[float | None, float | None]:
        """The interval in J; None, None where there is none."""
        return (None, None) if self.half_j is None else (max(mean_j - self.half_j, 0.0), mean_j + self.half_j)


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


class Following:
    """All counted channels of a run, as far as they follow the load.

    Parameters
    ----------
    traces : sequence of Trace
    windows : sequence of Windows
        All windows of the run, and what its ledgers did (`fastgreen.results.activity`).
    edges_ns : array of int64, optional
        Other instants, sorted, up to which energies will be asked for.
    """

    def __init__(
        self, traces: Sequence[Trace], windows: Sequence[Windows], edges_ns: NDArray[np.int64] | None = None
    ) -> None:
        self._windows, self._edges_ns = list(windows), edges_ns
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
        if sum(map(len, self._windows)) + (0 if self._edges_ns is None else len(self._edges_ns)) > MOST_WINDOWS:
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
            followed.keep(self._edges_ns)

    def _load(self, trace: Trace) -> Load:
        return load_of(self._windows, 3 * int(trace.learnt["period_mean_ns"] or trace.learnt["period_ns"]))

    def of(self, trace: Trace) -> Followed | None:
        return self._followed.get(trace.channel.id)

    def interval(self, work: Work, channels: Sequence[str] | None = None) -> MeanInterval:
        """The 95 % interval of the energy of some work, of all counted channels together.

        Parameters
        ----------
        work : callable
            Gives how much of the work is open in each state of a load; see `windows_named`.
        channels : sequence of str, optional
            Those asked for; all that are counted by default.
        """
        total, assumed_j, reason, known = np.zeros(BLOCKS), 0.0, None, []
        channels = self._counted if channels is None else channels
        for identity in channels:
            followed = self._followed.get(identity)
            opened = None if followed is None else work(followed.load)
            known.append(followed is not None and opened is not None and not followed.uncertain(opened))
            if followed is None or opened is None:
                reason = reason or f"{identity} {self.reasons[identity]}"
            elif not known[-1]:
                reason = reason or f"{identity} {_ALIKE}"
            elif reason is None:
                energy_j = followed.left_out(opened)
                total += energy_j
                assumed = followed.mixed(opened) + (0.0 if followed.learnt else _ASSUMED)
                assumed_j += assumed * float(energy_j.mean())
        method = "even" if not any(known) else "followed" if all(known) else "followed in part"
        if not channels:
            reason = "no channel was read"
        if reason is not None:
            return MeanInterval(None, reason, method)
        error = np.sqrt((BLOCKS - 1) / BLOCKS * np.sum((total - total.mean()) ** 2))
        return MeanInterval(float(_SHARED * T_95 * error + assumed_j), None, method)


def windows_named(*names: str) -> Work:
    """All windows of some names, as work to ask for."""
    return lambda load: sum((load.number(name) for name in names), np.zeros(len(load.time_ns)))
