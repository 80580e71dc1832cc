"""What ledgers do over time: how many spans are open, as windows that a load can follow; and shares on its curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen.results.bounded import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastgreen.results.followed import Followed
    from fastgreen.results.load_states import Load
    from fastgreen.results.shares import Spans

__all__ = ["activity_of", "edges_of", "open_parts", "shares_j"]

_MOST_PHASES = 6  # that have a power of their own
_EXACT = 3  # spans at once from which on their number is told to a factor of 2 only
_LIGHTEST = 1 << 63  # units of weight, all together: their sums stay whole below


def activity_of(name: str, spans: Spans, phases: Sequence[str | None] | None = None) -> list[Windows]:
    """How many spans of each phase are open, as windows that are open at a level: 1, 2, 3, 4 to 7, 8 to 15, ...

    A power per number of spans would ask for more than the samples can tell.

    Parameters
    ----------
    name : str
        A name for all of them, that no other windows have.
    spans : Spans
        Pieces without a weight draw nothing.
    phases : sequence of str or None, optional
        The phase of each piece; one for all by default, and where there are many.
    """
    out: list[Windows] = []
    busy = (spans.weight > 0) & (spans.end_ns > spans.begin_ns)
    names = list(dict.fromkeys(phases or ()))
    several = phases is not None and 1 < len(names) <= _MOST_PHASES
    code = {phase: i for i, phase in enumerate(names)}
    of = np.array([code[p] for p in phases or ()]) if several else np.zeros(len(busy), int)
    for phase in range(len(names) if several else 1):
        mine = busy & (of == phase)
        for level, begin_ns, end_ns in _levels(spans.begin_ns[mine], spans.end_ns[mine]):
            out.append(Windows(f"\0{name}\0{phase}\0{level}", len(out), begin_ns, end_ns))
    return out


def _levels(
    begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]
) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """The stretches of each level."""
    at_ns, place = np.unique(np.concatenate([begin_ns, end_ns]), return_inverse=True)
    step = np.bincount(place[: len(begin_ns)], minlength=len(at_ns)) - np.bincount(
        place[len(begin_ns) :], minlength=len(at_ns)
    )
    count = np.cumsum(step)
    level = np.where(count <= _EXACT, count, _EXACT + np.frexp(count / (_EXACT + 1))[1])
    change = np.flatnonzero(np.diff(level, prepend=0))
    at_ns, level = at_ns[change], level[change]
    out = []
    for one in np.unique(level[level > 0]).tolist():
        first = np.flatnonzero(level == one)  # the last level is 0
        out.append((int(one), at_ns[first], at_ns[first + 1]))
    return out


def edges_of(spans: Spans) -> NDArray[np.int64]:
    """All instants at which a piece begins or ends, sorted, each once."""
    return np.unique(np.concatenate([spans.begin_ns, spans.end_ns]))


def _weights(spans: Spans, edges_ns: NDArray[np.int64], some: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The weight that is open from each edge on, of some pieces."""
    units = spans.weight[some].astype(np.int64)
    step = np.zeros(len(edges_ns), np.int64)
    np.add.at(step, np.searchsorted(edges_ns, spans.begin_ns[some]), units)
    np.subtract.at(step, np.searchsorted(edges_ns, spans.end_ns[some]), units)
    return np.cumsum(step).astype(np.float64)


def _charged(spans: Spans) -> NDArray[np.bool_] | None:
    """The pieces that are charged and not only look on; None where their weights are too large for whole sums."""
    charged = np.ones(len(spans.begin_ns), bool)
    if spans.charged is not None and spans.span is not None:
        charged = spans.charged[spans.span]
    return charged if float(spans.weight[charged].sum(dtype=np.float64)) < _LIGHTEST else None


def shares_j(followed: Followed, spans: Spans) -> NDArray[np.float64] | None:
    """The share of each span on the curve of a counter that follows the load, in J.

    While several spans are open, each is charged its weight over the sum of the weights. None where the sum of the
    weights cannot be a whole number.
    """
    charged = _charged(spans)
    if charged is None:
        return None
    edges_ns = edges_of(spans)
    weight = _weights(spans, edges_ns, charged)[:-1]
    grown = np.diff(followed.kept_j(edges_ns))
    per_unit = np.divide(grown, weight, out=np.zeros_like(grown), where=weight > 0)
    until = np.concatenate([[0.0], np.cumsum(per_unit)])
    begin, end = (np.searchsorted(edges_ns, at) for at in (spans.begin_ns, spans.end_ns))
    each = spans.weight.astype(np.float64) * (until[end] - until[begin])
    return each if spans.span is None else np.bincount(spans.span, each, len(spans))


def open_parts(load: Load, spans: Spans, some: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The part of the energy of each state of a load that some pieces are charged, if its power is even."""
    charged = _charged(spans)
    edges_ns = edges_of(spans)
    if charged is None or not len(edges_ns):
        return np.zeros(len(load.time_ns))
    every, mine = (_weights(spans, edges_ns, of)[:-1] for of in (charged, charged & some))
    part = np.divide(mine, every, out=np.zeros_like(mine), where=every > 0)
    # `load` may change between two edges of the spans: cut there too.
    cuts = np.union1d(edges_ns, load.edges_ns)
    at = np.clip(np.searchsorted(edges_ns, cuts[:-1], side="right") - 1, 0, None)
    inside = (cuts[:-1] >= edges_ns[0]) & (cuts[:-1] < edges_ns[-1])
    time_ns = np.diff(cuts) * np.where(inside, part[np.minimum(at, len(part) - 1)], 0.0)
    place = np.searchsorted(load.edges_ns, cuts[:-1], side="right") - 1
    state = np.where(place >= 0, load.states[np.maximum(place, 0)], 0)
    found = np.bincount(state, time_ns, len(load.time_ns))
    return found / np.maximum(load.time_ns, 1.0)
