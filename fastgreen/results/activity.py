"""What ledgers do over time: how many spans are open, as windows that a load can follow; and shares on its curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen.results.bounded import Windows
from fastgreen.results.load_states import merged_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fastgreen.results.charged_spans import Spans
    from fastgreen.results.followed import Followed
    from fastgreen.results.load_states import Load

__all__ = ["activity_of", "codes_of", "edges_of", "open_parts", "shares_j"]

_MOST_PHASES = 6  # that have powers of their own
_EXACT = 3  # so many open spans have a state for each number; above, a state is for a factor of 2
_LIGHTEST = 1 << 63  # units of weight, all together: their sums stay whole below


def activity_of(
    name: str,
    spans: Spans,
    kinds: NDArray[np.int64] | None = None,
    most: int = _MOST_PHASES,
    *,
    counted: bool = True,
) -> list[Windows]:
    """How many spans of each kind are open, as windows that are open from a number on: 1, 2, 3, 4, 8, 16, ...

    A power per number of spans would ask for more than the samples can tell.

    Parameters
    ----------
    name : str
        A name for all of them, that no other windows have.
    spans : Spans
        Pieces without a weight, and spans that only look on, draw nothing.
    kinds : (pieces,) int64, optional
        The kind of each piece, as its phase; one for all by default.
    most : int
        Kinds that have powers of their own: those with the most time. The others share theirs.
    counted : bool
        Whether the number matters. If not, a kind is open or not.
    """
    out: list[Windows] = []
    charged = _charged(spans)
    if charged is None:
        return out
    busy = charged & (spans.weight > 0) & (spans.end_ns > spans.begin_ns)
    of = np.zeros(len(busy), np.int64) if kinds is None else np.unique(kinds, return_inverse=True)[1].ravel()
    time_ns = np.bincount(of[busy], (spans.end_ns - spans.begin_ns)[busy])
    for kind in np.argsort(-time_ns, kind="stable")[most:].tolist():
        of[of == kind] = len(time_ns)
    for kind in np.unique(of[busy]).tolist():
        mine = busy & (of == kind)
        for level, begin_ns, end_ns in _levels(spans.begin_ns[mine], spans.end_ns[mine], counted):
            out.append(Windows(f"\0{name}\0{kind}\0{level}", len(out), begin_ns, end_ns))
    return out


def _levels(
    begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64], counted: bool
) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """For each level, the stretches of that level or more: so a state of a load is like that of the next level."""
    at_ns = merged_edges([begin_ns, end_ns])
    begun, ended = (np.bincount(np.searchsorted(at_ns, of), minlength=len(at_ns)) for of in (begin_ns, end_ns))
    count = np.cumsum(begun - ended)
    level = np.where(count <= _EXACT, count, _EXACT + np.frexp(count / (_EXACT + 1))[1]) if counted else count > 0
    change = np.flatnonzero(np.diff(level.astype(np.int64), prepend=0))
    at_ns, level = at_ns[change], level[change].astype(np.int64)
    out = []
    for one in np.unique(level[level > 0]).tolist():
        cross = np.diff((level >= one).astype(np.int8), prepend=0)
        out.append((int(one), at_ns[cross > 0], at_ns[cross < 0]))
    return out


def codes_of(phases: Sequence[str | None]) -> NDArray[np.int64]:
    """A number for each phase."""
    number: dict[str | None, int] = {}
    return np.array([number.setdefault(phase, len(number)) for phase in phases], np.int64)


def edges_of(spans: Spans) -> NDArray[np.int64]:
    """All instants at which a piece begins or ends, sorted, each once."""
    return merged_edges([spans.begin_ns, spans.end_ns])


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
    return each if spans.span is None else np.bincount(spans.span, each, len(spans)).astype(np.float64, copy=False)


def open_parts(load: Load, spans: Spans, some: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The part of the energy of each state of a load that some pieces are charged, if its power is even."""
    charged = _charged(spans)
    edges_ns = edges_of(spans)
    if charged is None or not len(edges_ns):
        return np.zeros(len(load.time_ns))
    every, mine = (_weights(spans, edges_ns, of)[:-1] for of in (charged, charged & some))
    part = np.divide(mine, every, out=np.zeros_like(mine), where=every > 0)
    # `load` may change between two edges of the spans: cut there too.
    cuts = merged_edges([edges_ns, load.edges_ns])
    at = np.clip(np.searchsorted(edges_ns, cuts[:-1], side="right") - 1, 0, None)
    inside = (cuts[:-1] >= edges_ns[0]) & (cuts[:-1] < edges_ns[-1])
    time_ns = np.diff(cuts) * np.where(inside, part[np.minimum(at, len(part) - 1)], 0.0)
    place = np.searchsorted(load.edges_ns, cuts[:-1], side="right") - 1
    state = np.where(place >= 0, load.states[np.maximum(place, 0)], 0)
    found = np.bincount(state, time_ns, len(load.time_ns))
    return found / np.maximum(load.time_ns, 1.0)
