# SPDX-License-Identifier: Apache-2.0
"""Sums of the estimate from CPU time, kept in case that no counter of the CPU ever moves."""

from __future__ import annotations

from fastgreen.measuring.standstill import is_of_the_cpu
from fastgreen.measuring.sums_of_windows import ChannelSums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastgreen.measuring.standstill import CounterJudge
    from fastgreen.measuring.sums_of_windows import Pieces
    from fastgreen.results.trace import Bounded
    from fastgreen.sensors.channel import Channel

__all__ = ["StandIn"]


class StandIn:
    """The estimate beside counters, in constant memory. It costs nothing once one of these has moved.

    Parameters
    ----------
    channels : sequence of Channel
        Those that are read.
    judge : CounterJudge
    """

    def __init__(self, channels: Sequence[Channel], judge: CounterJudge) -> None:
        self._witness, channel = judge.witness, judge.witness.channel
        self._counters = {c.id for c in channels if is_of_the_cpu(c) and c.root and c.kind == "energy"}
        wanted = channel is not None and all(c.id != channel.id for c in channels)
        wanted = wanted and bool(self._counters or any(is_of_the_cpu(c) and c.root for c in judge.lost))
        self._sums = ChannelSums(channel, True) if channel is not None and wanted else None
        self._fed_ns = -1

    def look(self, sums: dict[str, ChannelSums], last: bool = False) -> None:
        """Take in the CPU time, or stop where a counter of the CPU has moved."""
        if self._sums is None:
            return
        if any(sums[identity].tally()["updates"] for identity in self._counters):
            self._sums = None
            return
        self._witness.look(last=last)
        samples = self._witness.samples()
        new = samples[samples["at_ns"] > self._fed_ns]
        if len(new):
            self._fed_ns = int(new["at_ns"][-1])
            self._sums.take(new)

    def cut(self, begin_ns: int, end_ns: int, pieces: dict[str, Pieces]) -> None:
        """See `ChannelSums.cut`."""
        if self._sums is not None:
            self._sums.cut(begin_ns, end_ns, pieces)

    def rows(self) -> dict[str, Bounded]:
        """The energies, after the last look."""
        if self._sums is None:
            return {}
        self._sums.finish()
        return self._sums.rows()
