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

__all__ = ["LEAST_STILL_NS", "STILL_UPDATES", "Leaving", "Undoing", "still_stretches", "undone", "without"]

LEAST_STILL_NS = NS_PER_S
STILL_UPDATES = 20


class Undoing:
    """Takes samples chunk by chunk, and gives them without those between a jump and the return.

    The return then comes after a gap, not after a restart. A return tells how many samples before it are false, so the
    last samples are held back until it is known that they are not.
    """

    _HELD = (1 << (16 - _resolver.BETWEEN)) - 1

    def __init__(self) -> None:
        self._waiting: NDArray[np.void] | None = None
        self._keep: NDArray[np.bool_] | None = None

    def take(self, samples: NDArray[np.void]) -> NDArray[np.void]:
        """The samples that are sure now."""
        import numpy as np

        keep, held = np.ones(len(samples), bool), 0
        if self._waiting is not None and self._keep is not None:
            held = len(self._waiting)
            samples, keep = np.concatenate([self._waiting, samples]), np.concatenate([self._keep, keep])
        for i in (held + np.flatnonzero(samples["flags"][held:] & _resolver.RETURN)).tolist():
            keep[max(i - (int(samples["flags"][i]) >> _resolver.BETWEEN), 0) : i] = False
        sure = max(len(samples) - self._HELD, 0)
        self._waiting, self._keep = samples[sure:].copy(), keep[sure:]
        return self._undone(samples[:sure][keep[:sure]])

    def rest(self) -> NDArray[np.void]:
        """The samples that were held back; after the last chunk."""
        import numpy as np

        if self._waiting is None:
            return np.empty(0, _resolver.SAMPLE)
        return self._undone(self._waiting[self._keep])

    def _undone(self, out: NDArray[np.void]) -> NDArray[np.void]:
        back = (out["flags"] & _resolver.RETURN) != 0
        out["flags"][back] = _resolver.GAP
        return out


def undone(chunks: Chunks) -> Iterator[NDArray[np.void]]:
    """The samples without those between a jump and the return, see `Undoing`."""
    undoing = Undoing()
    for chunk in chunks():
        yield undoing.take(chunk)
    yield undoing.rest()


class Leaving:
    """Takes samples chunk by chunk, and gives those that do not lie inside one of the stretches.

    Parameters
    ----------
    stretches : list of (begin_ns, end_ns)
        Sorted and apart.
    """

    def __init__(self, stretches: list[Stretch]) -> None:
        import numpy as np

        self._begin = np.array([b for b, _ in stretches], np.int64)
        self._end = np.array([e for _, e in stretches], np.int64)
        self._passed = 0  # stretches after which a sample was kept

    def take(self, samples: NDArray[np.void]) -> NDArray[np.void]:
        import numpy as np

        at_ns, end = samples["at_ns"], self._end
        last = np.searchsorted(self._begin, at_ns, side="left") - 1  # the stretch that began before
        inside = (last >= 0) & (at_ns < end[last])
        out, ended = samples[~inside].copy(), np.searchsorted(end, at_ns[~inside], side="right")
        torn = np.diff(ended, prepend=self._passed) > 0
        out["flags"][torn] |= _resolver.RESET
        out["wraps"][torn] = 0
        self._passed = int(ended[-1]) if len(ended) else self._passed
        return out


def without(samples: Iterable[NDArray[np.void]], stretches: list[Stretch]) -> Iterator[NDArray[np.void]]:
    """The samples that do not lie inside one of the stretches, see `Leaving`."""
    leaving = Leaving(stretches)
    return (leaving.take(chunk) for chunk in samples)


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
