"""Samples of a counter that lied, as if it had not: without the readings that tell nothing.

The account flags a sample by which a counter is back on a line that it left (``_resolver.RETURN``); the samples between
are left out here. Of a stretch in which the energy is not known at all (two counters shown in turn, a counter that is
still under load) only the edges are kept, and the later one is a restart: the resolver then bounds the energy between
them by the channel's ceiling alone.
"""

from __future__ import annotations

from fastgreen import _resolver
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    Chunks = Callable[[], Iterable[NDArray[np.void]]]
    Stretch = tuple[int, int]

__all__ = ["LEAST_STILL_NS", "STILL_UPDATES", "still_stretches", "undone", "without"]

LEAST_STILL_NS = NS_PER_S
STILL_UPDATES = 20


def _lies(chunks: Chunks) -> list[tuple[int, int]]:
    """The samples that tell nothing, as ranges of their places from the first on, sorted."""
    import numpy as np

    ranges, before = [], 0
    for chunk in chunks():
        for i in np.flatnonzero(chunk["flags"] & _resolver.RETURN).tolist():
            place = before + i
            ranges.append((place - (int(chunk["flags"][i]) >> _resolver.BETWEEN), place))
        before += len(chunk)
    return sorted(ranges)


def undone(chunks: Chunks) -> Iterator[NDArray[np.void]]:
    """The samples without those between a jump and the return, which then comes after a gap, not after a restart."""
    import numpy as np

    ranges, before = _lies(chunks), 0
    for chunk in chunks():
        keep = np.ones(len(chunk), bool)
        for begin, end in ranges:
            keep[max(begin - before, 0) : max(end - before, 0)] = False
        before += len(chunk)
        out = chunk[keep]
        back = (out["flags"] & _resolver.RETURN) != 0
        out["flags"][back] = _resolver.GAP
        yield out


def without(samples: Iterable[NDArray[np.void]], stretches: list[Stretch]) -> Iterator[NDArray[np.void]]:
    """The samples that do not lie inside one of the stretches (begin_ns, end_ns), which are sorted and apart."""
    import numpy as np

    begin = np.array([b for b, _ in stretches], np.int64)
    end = np.array([e for _, e in stretches], np.int64)
    passed = 0  # stretches after which a sample was kept
    for chunk in samples:
        at_ns = chunk["at_ns"]
        last = np.searchsorted(begin, at_ns, side="left") - 1  # the stretch that began before
        inside = (last >= 0) & (at_ns < end[last])
        out, ended = chunk[~inside].copy(), np.searchsorted(end, at_ns[~inside], side="right")
        torn = np.diff(ended, prepend=passed) > 0
        out["flags"][torn] |= _resolver.RESET
        out["wraps"][torn] = 0
        passed = int(ended[-1]) if len(ended) else passed
        yield out


def still_stretches(samples: Iterable[NDArray[np.void]], least_ns: int) -> list[Stretch]:
    """From the sample that showed a change (or the first) to the next one that did (or the last), where that is longer.

    Parameters
    ----------
    samples : iterable of arrays of dtype SAMPLE
    least_ns : int
    """
    import numpy as np

    out: list[Stretch] = []
    since = last_ns = last_raw = 0
    begun = False
    for chunk in samples:
        if not len(chunk):
            continue
        at_ns, raw = chunk["at_ns"], chunk["raw"]
        if not begun:
            since, last_raw, begun = int(at_ns[0]), int(raw[0]), True
        edges = np.append(since, at_ns[np.diff(raw, prepend=last_raw) != 0])
        out += [(int(edges[i]), int(edges[i + 1])) for i in np.flatnonzero(np.diff(edges) > least_ns)]
        since, last_raw, last_ns = int(edges[-1]), int(raw[-1]), int(at_ns[-1])
    if begun and last_ns - since > least_ns:
        out.append((since, last_ns + 1))
    return out
