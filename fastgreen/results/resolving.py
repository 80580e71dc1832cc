"""Energies of many windows of one channel, with a second thread where it pays."""

from __future__ import annotations

import threading

from fastgreen import _resolver
from fastgreen.guards.system_names import cpu_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["WindowResolver", "resolve_windows"]

# From this size on a second thread pays. The thread with the later windows walks over all samples before them, so this
# share of the windows lets both threads end at about the same time.
_PARALLEL = 200_000
_EARLIER = 0.58


def resolve_windows(
    traits: dict[str, Any],
    ceiling_per_ns: float,
    chunks: Iterable[NDArray[np.void]],
    begin_at_ns: ArrayLike,
    end_at_ns: ArrayLike,
    restarts: bool = False,
    threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Energy of windows of one channel, in the channel's own unit: (low, estimate, high).

    Parameters
    ----------
    traits : dict
        The members of struct fg_traits; ``period_ns`` is the update period to use.
    ceiling_per_ns : float
        Most that the channel can draw, in its own unit per ns (energy) or its raw unit (power).
    chunks : iterable of arrays of dtype SAMPLE
        The samples in time order.
    begin_at_ns, end_at_ns : array_like of int64
        The edges, each column sorted.
    restarts : bool
        Whether the counter restarted.
    threads : int, optional
        One or two; by default two for many windows over large chunks, where there are two cores. The result does not
        depend on it.

    Raises
    ------
    ValueError
        If a column is not sorted, or a window ends before it begins.
    """
    resolver = WindowResolver(traits, ceiling_per_ns, begin_at_ns, end_at_ns, restarts, threads)
    for chunk in chunks:
        resolver.feed(chunk)
    return resolver.answers()


class WindowResolver:
    """`resolve_windows`, fed chunk by chunk."""

    def __init__(
        self,
        traits: dict[str, Any],
        ceiling_per_ns: float,
        begin_at_ns: ArrayLike,
        end_at_ns: ArrayLike,
        restarts: bool = False,
        threads: int | None = None,
    ) -> None:
        import numpy as np

        self._begin = np.ascontiguousarray(begin_at_ns, dtype=np.int64)
        self._end = np.ascontiguousarray(end_at_ns, dtype=np.int64)
        if len(self._end) != len(self._begin):
            raise ValueError("begin_at_ns and end_at_ns differ in length")
        self._out = _resolver.Answers(len(self._begin), restarts)
        self._known = traits, ceiling_per_ns
        self._threads = threads
        self._parts: list[_resolver.Part] | None = None

    def _opened(self, samples: int) -> list[_resolver.Part]:
        """A part for each thread; `samples` are those of the first chunk."""
        count = middle = len(self._begin)
        threads = self._threads
        if threads is None and count >= _PARALLEL and samples >= _PARALLEL:
            threads = min(2, cpu_count())
        if threads == 2:
            middle = int(count * _EARLIER)
        shares = [(0, middle), (middle, count)][: threads or 1]
        return [_resolver.Part(*self._known, self._begin, self._end, self._out, *share) for share in shares]

    def feed(self, samples: NDArray[np.void]) -> None:
        """The next samples, in time order."""
        if self._parts is None:
            self._parts = self._opened(len(samples))
        _feed(self._parts, samples)

    def answers(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Low, estimate and high, after the last sample."""
        parts = self._opened(0) if self._parts is None else self._parts
        for part in parts:
            part.finish()
        wrong = min((part.wrong for part in parts if part.wrong >= 0), default=-1)
        if wrong >= 0:
            _resolver.refuse(self._begin, self._end, wrong)
        return self._out.low, self._out.estimate, self._out.high


def _feed(parts: list[_resolver.Part], chunk: NDArray[np.void]) -> None:
    _resolver.check_samples(chunk)  # here a wrong type is an error; in a thread it would be lost
    others = [threading.Thread(target=part.feed, args=(chunk,)) for part in parts[1:]]
    running = [other for other in others if _started(other)]
    try:
        parts[0].feed(chunk)
    finally:
        for other in running:
            other.join()


def _started(thread: threading.Thread) -> bool:
    """Start a thread; where there is none to be had, at a limit or while the interpreter ends, do its work here."""
    try:
        thread.start()
    except RuntimeError:
        thread.run()
        return False
    return True
