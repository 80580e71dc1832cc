"""The states of a load over time: which windows were open, and in which stretch of time between them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fastgreen import _resolver
from fastgreen._light_dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fastgreen.results.bounded import Windows

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
    edges, keys, opened = _keyed(windows, names)
    values, states = _distinct(keys)
    outside = int(np.searchsorted(values, 0)) if len(values) else 0
    states = np.where(states == outside, 0, np.where(states < outside, states + 1, states))
    lengths = np.append(np.diff(edges), 0).astype(np.float64)
    count = max(len(values), 1)
    short = (states == 0) & (lengths <= apart_ns)
    short[-1:] = False
    if short.any():
        states, count = np.where(short, count, states), count + 1
    time_ns = np.asarray(np.bincount(states, lengths, minlength=count), np.float64)
    merged = count > MOST_STATES
    if merged:
        states, time_ns = _merged(states, time_ns)
    return Load(names, edges, states.astype(np.int32), opened(states, lengths, time_ns), time_ns, merged)


def _keyed(
    windows: Sequence[Windows], names: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Callable[..., NDArray[np.float64]]]:
    """Sorted edges, a number for what is open from each edge on, and a function that counts what is open."""
    code = {name: i for i, name in enumerate(names)}
    at = np.concatenate([a for w in windows for a in (w.begin_ns, w.end_ns)] or [np.empty(0, np.int64)])
    sizes = [len(w) for w in windows for _ in (0, 1)]
    change = np.repeat(np.tile([1, -1], len(windows)), sizes)
    name = np.repeat([code[w.name] for w in windows for _ in (0, 1)], sizes).astype(np.int64)
    order = np.argsort(at, kind="stable")
    at, change, name = at[order].astype(np.int64), change[order], name[order]
    marks = np.random.default_rng(_SHARED_SEED).integers(1, 2**62, len(names), dtype=np.int64)
    keys = np.cumsum(change * marks[name])  # wraps, and comes back to 0 all the same
    last = np.append(at[1:] != at[:-1], np.full(min(len(at), 1), True))
    edges = at[last]

    def opened(states: NDArray[np.int64], lengths: NDArray[np.float64], time_ns: NDArray[np.float64]):
        """(states, names): mean number of open windows, over the time in each state."""
        out = np.zeros((len(time_ns), len(names)))
        for number in range(len(names)):
            places = np.sort(place_by_name[slice(*np.searchsorted(by_name, [number, number + 1]))])
            _add_open(out[:, number], edges, np.searchsorted(edges, at[places]), change[places], states, lengths)
        return out / np.maximum(time_ns, 1.0)[:, None]

    place_by_name = np.argsort(name, kind="stable")
    by_name = name[place_by_name]
    return edges, keys[last], opened


def _distinct(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct keys, sorted, and the place of each key among them. Most runs show all of theirs at the begin."""
    first = np.unique(keys[:4096])
    places = np.minimum(np.searchsorted(first, keys), len(first) - 1) if len(first) else keys
    if np.array_equal(first[places], keys):
        return first, places
    values, places = np.unique(keys, return_inverse=True)
    return values, places.ravel()


def _add_open(out, edges, places, changes, states, lengths):
    """Add to `out` the open windows of one name times the time, by state."""
    if not len(places):
        return
    first, until = int(places.min()), int(places.max()) + 1
    number = np.cumsum(np.bincount(places - first, changes, minlength=until - first))
    out += np.bincount(states[first:until], lengths[first:until] * number, minlength=len(out))


def _merged(states: NDArray[np.int64], time_ns: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All states but outside and those with the most time become the last one."""
    kept = np.sort(np.append(0, 1 + np.argsort(-time_ns[1:], kind="stable")[: MOST_STATES - 2]))
    number = np.full(len(time_ns), len(kept))
    number[kept] = np.arange(len(kept))
    return number[states], np.asarray(np.bincount(number, time_ns), np.float64)
