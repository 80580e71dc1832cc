"""The states of a load over time: which windows were open, and in which stretch of time between them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _follow
from fastgreen._light_dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastgreen.results.bounded import Windows

__all__ = ["MOST_STATES", "RESTS", "Load", "load_of", "merged_edges"]

MOST_STATES = 64
RESTS = 2  # the states 0 and 1
_SHARED_SEED = 20_261_126  # any constant: a state is recognised by a sum of random numbers, one per name


@dataclass
class Load:
    """States of a run.

    Attributes
    ----------
    names : list of str
        Names of windows, in the order of their first use.
    edges_ns : (edges,) int64
        Where the state can change, sorted.
    states : (edges,) int32
        State from each edge on. States 0 and 1 are outside of all windows: long and short rests. Before the first edge
        it is state 0.
    open_windows : (states, names) float64
        Open windows of each name in each state; a mean in the last state, if states were merged.
    time_ns : (states,) float64
        Time in each state between the first edge and the last.
    stretches : (states,) int64
        Stretches in each state before the last edge.
    merged : bool
        Whether the last state holds all states that were too many to tell apart.
    """

    names: list[str]
    edges_ns: NDArray[np.int64]
    states: NDArray[np.int32]
    open_windows: NDArray[np.float64]
    time_ns: NDArray[np.float64]
    stretches: NDArray[np.int64]
    merged: bool

    @cached_property
    def timeline(self) -> _follow.Timeline:
        return _follow.Timeline(self.edges_ns, self.states, len(self.open_windows))

    @cached_property
    def _column(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def number(self, name: str) -> NDArray[np.float64]:
        """Open windows of a name in each state."""
        return self.open_windows[:, self._column[name]]


def load_of(windows: Sequence[Windows], apart_ns: int) -> Load:
    """The states of all windows together.

    Two stretches are in one state if the same windows are open, by name and number. Time outside of all windows has two
    states: short rests between windows, and rests longer than `apart_ns` with what comes before the first and after the
    last window. A load at rest need not draw what it draws between two windows.

    Parameters
    ----------
    windows : sequence of Windows
    apart_ns : int
        Longest rest between two windows that belongs to their loop.
    """
    names = list(dict.fromkeys(w.name for w in windows))
    at_ns, begun = _sorted_edges(windows, {name: i for i, name in enumerate(names)})
    marks = np.random.default_rng(_SHARED_SEED).integers(1, 2**62, len(names), dtype=np.uint64)
    edges_ns, states, time_ns, stretches, first = _follow.load_states(at_ns, begun, marks, apart_ns)
    kept = np.arange(len(time_ns) - 1)
    merged = len(kept) > MOST_STATES
    if merged:
        kept = np.append(
            [0, 1], RESTS + np.sort(np.argsort(-time_ns[RESTS:-1], kind="stable")[: MOST_STATES - RESTS - 1])
        )
        number = np.full(_follow.MOST_STATES + 1, len(kept), np.int32)
        number[kept] = np.arange(len(kept))
        states = number[states]
        time_ns, stretches = (np.append(a[kept], np.delete(a, kept).sum()) for a in (time_ns, stretches))
    else:
        time_ns, stretches = time_ns[:-1], stretches[:-1]
    opened = np.zeros((len(time_ns), len(names)))
    opened[: len(kept)] = _opened(begun, first[kept], len(names))
    if merged:
        opened[-1] = np.maximum(_window_time_ns(windows, names) - time_ns @ opened, 0.0) / max(time_ns[-1], 1.0)
    return Load(names, edges_ns, states, opened, time_ns, stretches, merged)


def merged_edges(several: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """All instants of several columns, sorted, each once. NumPy's unique takes 20 times as long for millions."""
    at_ns = np.sort(np.concatenate(several), kind="stable")
    return at_ns[np.diff(at_ns, prepend=at_ns[:1] - 1) != 0]


def _sorted_edges(windows: Sequence[Windows], code: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The edges of all windows in time order; the code of each name that begins, its complement where it ends."""
    places = np.cumsum([0, *(2 * len(w) for w in windows)])
    at_ns, begun = np.empty(places[-1], np.int64), np.empty(places[-1], np.int32)
    for w, first, until in zip(windows, places[:-1].tolist(), places[1:].tolist(), strict=True):
        at_ns[first:until:2], at_ns[first + 1 : until : 2] = w.begin_ns, w.end_ns
        begun[first:until:2], begun[first + 1 : until : 2] = code[w.name], ~code[w.name]
    if not (at_ns[1:] >= at_ns[:-1]).all():
        order = np.argsort(at_ns, kind="stable")
        at_ns, begun = at_ns[order], begun[order]
    return at_ns, begun


def _opened(begun: NDArray[np.int32], first: NDArray[np.int64], names: int) -> NDArray[np.float64]:
    """(states, names): what is open after the edge that led to each state first."""
    out = np.zeros((len(first), names))
    done, now = 0, np.zeros(names)
    for state in np.argsort(first, kind="stable").tolist():
        until = int(first[state]) + 1
        some = begun[done:until]
        ends = some < 0
        now += np.bincount(some[~ends], minlength=names) - np.bincount(~some[ends], minlength=names)
        done = max(done, until)
        if state >= RESTS:
            out[state] = now
    return out


def _window_time_ns(windows: Sequence[Windows], names: list[str]) -> NDArray[np.float64]:
    total = dict.fromkeys(names, 0)
    for w in windows:
        total[w.name] += int((w.end_ns - w.begin_ns).sum())
    return np.array(list(total.values()), np.float64)
