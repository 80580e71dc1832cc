"""The states of a load over time: which windows were open, and in which stretch of time between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _resolver
from fastgreen._light_dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastgreen.results.trace import Windows

__all__ = ["Load", "load_of"]

MOST_STATES = 64
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
        State from each edge on. State 0 is outside of all windows, also before the first edge.
    open_windows : (states, names) float64
        Open windows of each name in each state; a mean in the last state, if states were merged.
    time_ns : (states,) float64
        Time in each state between the first edge and the last.
    merged : bool
        Whether the last state holds all states that were too many to tell apart.
    """

    names: list[str]
    edges_ns: NDArray[np.int64]
    states: NDArray[np.int32]
    open_windows: NDArray[np.float64]
    time_ns: NDArray[np.float64]
    merged: bool

    @property
    def timeline(self) -> _resolver.Timeline:
        return _resolver.Timeline(self.edges_ns, self.states, len(self.open_windows))


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
    edges, keys, table = _keyed(windows, names)
    first_of_each, states, count = _numbered(keys)
    open_windows = table(first_of_each)
    states, open_windows = _rests_apart(edges, states, open_windows, apart_ns)
    lengths = np.append(np.diff(edges), 0).astype(np.float64)
    time_ns = np.bincount(states, lengths, minlength=len(open_windows))
    merged = len(open_windows) > MOST_STATES
    if merged:
        states, open_windows, time_ns = _merged(states, open_windows, time_ns)
    return Load(names, edges, states.astype(np.int32), open_windows, time_ns, merged)


def _keyed(windows, names):
    """Sorted edges, a number for what is open from each edge on, and the way back from edges to numbers by name."""
    code = {name: i for i, name in enumerate(names)}
    at = np.concatenate([a for w in windows for a in (w.begin_ns, w.end_ns)] or [np.empty(0, np.int64)])
    sizes = [len(w) for w in windows for _ in (0, 1)]
    change = np.repeat(np.tile([1, -1], len(windows)), sizes)
    name = np.repeat([code[w.name] for w in windows for _ in (0, 1)], sizes).astype(np.int64)
    order = np.argsort(at, kind="stable")
    at, change, name = at[order].astype(np.int64), change[order], name[order]
    marks = np.random.default_rng(_SHARED_SEED).integers(1, 2**62, len(names), dtype=np.int64)
    with np.errstate(over="ignore"):
        keys = np.cumsum(change * marks[name]) if len(at) else np.empty(0, np.int64)
    last = np.append(at[1:] != at[:-1], True) if len(at) else np.empty(0, bool)
    place = np.flatnonzero(last)

    def table(chosen):
        out = np.zeros((len(chosen), len(names)))
        for row, edge in enumerate(chosen.tolist()):
            until = place[edge] + 1
            np.add.at(out[row], name[:until], change[:until])
        return out

    return at[last], keys[last], table


def _numbered(keys):
    """An edge of each state, the state of each edge; state 0 is outside."""
    values, first, states = np.unique(keys, return_index=True, return_inverse=True)
    outside = int(np.searchsorted(values, 0)) if len(values) else 0
    rank = np.arange(len(values))
    rank = np.where(rank == outside, 0, np.where(rank < outside, rank + 1, rank))
    chosen = np.empty(len(values), np.int64)
    chosen[rank] = first
    return chosen, rank[states.ravel()], len(values)


def _rests_apart(edges, states, open_windows, apart_ns):
    """State 0 for the short rests becomes the last state but for the long ones, which keep 0."""
    lengths = np.append(np.diff(edges), np.iinfo(np.int64).max)
    short = (states == 0) & (lengths <= apart_ns)
    if not short.any():
        return states, open_windows
    states = np.where(short, len(open_windows), states)
    return states, np.vstack([open_windows, np.zeros(open_windows.shape[1])])


def _merged(states, open_windows, time_ns):
    """All states but outside and those with the most time become one."""
    kept = np.sort(np.append(0, 1 + np.argsort(-time_ns[1:], kind="stable")[: MOST_STATES - 2]))
    others = np.setdiff1d(np.arange(len(open_windows)), kept)
    number = np.full(len(open_windows), len(kept))
    number[kept] = np.arange(len(kept))
    share = time_ns[others] / max(float(time_ns[others].sum()), 1.0)
    rows = np.vstack([open_windows[kept], share @ open_windows[others]])
    return number[states], rows, np.append(time_ns[kept], time_ns[others].sum())
