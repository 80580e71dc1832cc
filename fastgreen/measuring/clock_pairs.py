# SPDX-License-Identifier: Apache-2.0
"""Instants on both clocks while a run goes on, one a minute. `fastgreen.results.wall_clock` converts by them."""

from __future__ import annotations

import time

from fastgreen.units import NS_PER_S

__all__ = ["ClockPairs"]

_PAUSE_NS = 60 * NS_PER_S
_MOST = 2000  # then every second one is dropped and the pause doubles
_APART_S = 0.1  # more is no drift of a minute


class ClockPairs:
    """Pairs of instants.

    Attributes
    ----------
    pairs : list of [realtime_ns, monotonic_ns]
    """

    def __init__(self) -> None:
        self.pairs: list[list[int]] = []
        self._pause_ns = _PAUSE_NS
        self._jumped_ns = 0

    def look(self, last: bool = False) -> None:
        """Take a pair where the last one is a minute old, or this is the `last` one."""
        before = time.monotonic_ns()
        if self.pairs and not last and before - self.pairs[-1][1] < self._pause_ns:
            return
        realtime_ns = time.time_ns()
        self.pairs.append([realtime_ns, (before + time.monotonic_ns()) // 2])
        if len(self.pairs) > 1:
            earlier, later = (realtime - monotonic for realtime, monotonic in self.pairs[-2:])
            self._jumped_ns = max(self._jumped_ns, later - earlier, earlier - later)
        if len(self.pairs) > _MOST:
            del self.pairs[1::2]
            self._pause_ns *= 2

    @property
    def note(self) -> str | None:
        """A sentence where the clocks moved apart by more than their drift."""
        apart_s = self._jumped_ns / NS_PER_S
        if apart_s < _APART_S:
            return None
        return (
            f"the wall clock and CLOCK_MONOTONIC moved apart by {apart_s:.3g} s at once: the clock was set, or the "
            "machine slept; instants on the wall clock are uncertain there"
        )
