"""Samples of a counter that lied, as if it had not: without the readings that tell nothing.

The readings that can be false (`fastgreen.results.false_readings`) are left out. In some stretches the energy is not
known at all: two counters are shown in turn, or a counter is still under load. Only the edges of these are kept, and
the later edge is a restart: the resolver then bounds the energy between them by the channel's ceiling alone.
"""

from __future__ import annotations

from fastgreen import _resolver
from fastgreen.results.false_readings import LeftOut
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Stretch = tuple[int, int]

__all__ = ["LEAST_STILL_NS", "STILL_UPDATES", "Leaving", "Undoing", "still_stretches", "without"]

LEAST_STILL_NS = NS_PER_S
STILL_UPDATES = 20


class Undoing:
    """Takes samples chunk by chunk, and gives those that are not false, accounted without the others.

    A sample that comes after a false stretch comes after a gap. It is a restart only where its growth since the last
    sample that is left is not plausible.

    Parameters
    ----------
    traits : dict
        The members of struct fg_traits.
    false : list of (int, int)
        The places of the false readings, see `fastgreen.results.false_readings`.
    restarts : collection of int
        The places after them at which the counter may have restarted instead.
    """

    def __init__(self, traits: dict[str, Any], false: list[Stretch], restarts: Collection[int] = ()) -> None:
        self._left_out, self._account = LeftOut(false, restarts), _resolver.Account(traits)

    def take(self, samples: NDArray[np.void]) -> NDArray[np.void]:
        out = self._left_out.take(samples)
        self._account.feed(out)
        back = ((out["flags"] & _resolver.RETURN) != 0) | self._left_out.restarted
        out["flags"][back] = _resolver.RESET
        out["wraps"][back] = 0
        return out


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
