# SPDX-License-Identifier: Apache-2.0
"""A monitor for months: it keeps no samples, and looks for lost channels again."""

from __future__ import annotations

import time

from fastgreen.errors import FastgreenError
from fastgreen.measuring.monitor import Monitor
from fastgreen.sensors.catalog import discover, select
from fastgreen.sensors.channel import Seams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event
    from typing import Protocol

    class Follower(Protocol):
        """An exporter that can go on with another monitor."""

        def follow(self, monitor: Monitor) -> None: ...


__all__ = ["EndlessMonitor"]

_LOOK_S, _LONGEST_S = 30.0, 3600.0


class EndlessMonitor:
    """A started monitor in constant memory.

    Parameters
    ----------
    channels, hz
        As of `Monitor`.

    Attributes
    ----------
    monitor : Monitor
        The one that measures now.
    """

    def __init__(self, channels: list[str] | None = None, hz: float | None = None) -> None:
        self._wanted, self._hz = channels, hz
        self._not_before, self._pause_s = 0.0, _LOOK_S
        self.monitor = self._started()

    def _started(self) -> Monitor:
        return Monitor(self._wanted, hz=self._hz, keep="totals").start()

    def run(self, followers: Sequence[Follower], done: Event, most_s: float | None = None) -> None:
        """Wait for the end; on the way, look for channels that can be read again.

        Parameters
        ----------
        followers : sequence
            The exporters.
        done : Event
            Ends the wait.
        most_s : float, optional
            Longest time to wait, in s.
        """
        end = None if most_s is None else time.monotonic() + most_s
        while not done.wait(_LOOK_S if end is None else max(0.0, min(_LOOK_S, end - time.monotonic()))):
            if end is not None and time.monotonic() >= end:
                return
            self.look(followers)

    def look(self, followers: Sequence[Follower]) -> bool:
        """Go on with another monitor if that can read more channels. Returns whether it does.

        So a GPU that comes back after a reset, or a driver that loads late, is measured again. Each attempt doubles the
        time to the next one, because a channel that exists may still refuse.
        """
        alive = {name for name, reading in self.monitor.readings().items() if not reading.ended}
        if time.monotonic() < self._not_before or self._readable() <= alive:
            return False
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        self._not_before = time.monotonic() + self._pause_s
        try:
            fresh = self._started()
        except (FastgreenError, OSError):
            return False
        for follower in followers:
            follower.follow(fresh)
        before, self.monitor = self.monitor, fresh
        before.stop()
        return True

    def _readable(self) -> set[str]:
        try:
            chosen, _ = select(discover(Seams.of(), None)[0], self._wanted)
        except FastgreenError:
            return set()
        return {channel.id for channel in chosen if channel.readable}

    def stop(self) -> None:
        """End it. Idempotent."""
        self.monitor.stop()
