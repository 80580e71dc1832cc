"""Shares while the program runs: the spans of a ledger and the samples of its channels, as they come.

It runs in the thread that empties the rings, so a span's share is known once its samples were taken out.
"""

from __future__ import annotations

from fastgreen import _resolver, _shares
from fastgreen.results.shares import check_baseline, set_apart, within_model
from fastgreen.results.trace import Bounded
from fastgreen.sensors.channel import UNLIMITED_W
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from fastgreen import _ledger
    from fastgreen.sensors.channel import Channel

__all__ = ["LiveShares"]

_LEARNT = 8  # updates, before which the time between two is not known
_MOST = 4096
_STILL_NS = NS_PER_S


class _Feed:
    """The samples of one channel, held back until it is known how often the sensor updates."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.account = _resolver.Account(channel.traits)
        self.waiting: list[NDArray[np.void]] = []
        self.period_ns = self.updates = self.last_ns = self.changed_ns = 0
        self.delay_ns = round((channel.delay_s or 0.0) * NS_PER_S) if channel.kind == "power" else 0

    def take(self, samples: NDArray[np.void]) -> list[NDArray[np.void]]:
        """What can be fed now."""
        self.account.feed(samples)
        tally = self.account.tally()
        if tally["updates"] != self.updates:
            self.updates, self.changed_ns = tally["updates"], int(samples["at_ns"][-1])
        self.last_ns = int(samples["at_ns"][-1]) - int(samples["half_ns"][-1])
        self.changed_ns = self.changed_ns or self.last_ns
        samples["at_ns"] -= self.delay_ns
        self.waiting.append(samples)
        faster = tally["samples"] > 2 * tally["updates"]
        if self.channel.kind == "energy" and faster and tally["updates"] < _LEARNT and not self.stands_still(tally):
            return []
        self.period_ns = tally["period_ns"]
        ready, self.waiting = self.waiting, []
        return ready

    def stands_still(self, tally: dict[str, Any] | None = None) -> bool:
        """Whether the counter has not changed for so long that no span should wait for it."""
        mean_ns = (tally or self.account.tally())["period_mean_ns"] or 0
        return self.channel.kind == "energy" and self.last_ns - self.changed_ns > max(_STILL_NS, 8 * mean_ns)


class LiveShares:
    """The shares of one ledger's spans.

    Parameters
    ----------
    ledger : Ledger
    channels : sequence of Channel
        Those that it shares.
    """

    def __init__(self, ledger: _ledger.Ledger, channels: Sequence[Channel]) -> None:
        self.ledger, self.channels = ledger, list(channels)
        self._feeds = {c.id: _Feed(c) for c in channels}
        rows = [(c.traits, watts_to_units_per_ns(c.ceiling_w or UNLIMITED_W, c.unit)) for c in channels]
        self._engine = _shares.Engine(rows)
        self._baseline = check_baseline(ledger.baseline_w, list(self._feeds))
        self._open: dict[int, int] = {}
        self._closed: dict[int, _ledger.Span] = {}

    def drain(self, samples: Mapping[str, bytearray]) -> None:
        """Take in samples that were taken out before this call, and what happened to the spans until now."""
        changes, closed = self.ledger.take_changes()
        self._closed.update((span.number_in_ledger, span) for span in closed)
        for at_ns, number, weight, kind in changes.tolist():
            units = round(weight * _shares.WEIGHT) or int(weight > 0)
            if kind == 0:
                self._open[number] = self._engine.open(at_ns, number, units)
            elif kind == 1:
                self._engine.weigh(self._open[number], at_ns, units)
            else:
                self._engine.close(self._open.pop(number), at_ns)
        for i, (identity, feed) in enumerate(self._feeds.items()):
            if identity in samples:
                for ready in feed.take(_resolver.samples(samples[identity]).copy()):
                    self._engine.set_period(i, feed.period_ns)
                    self._engine.feed(i, ready)
                if not feed.waiting and feed.stands_still():
                    self._engine.stand_still(i, feed.last_ns)
        self._settle()

    def finish(self) -> None:
        """No samples come any more."""
        self._engine.finish()
        self._settle()

    def _settle(self) -> None:
        while True:
            numbers, time_ns, shares = self._engine.take(_MOST)
            for number, time, rows in zip(numbers.tolist(), time_ns.tolist(), shares, strict=True):
                span = self._closed.pop(number, None)
                if span is not None:
                    span.settle(self._bounded(time / NS_PER_S, rows))
            if len(numbers) < _MOST:
                return

    def _bounded(self, time_s: float, rows: NDArray[np.float64]) -> Bounded:
        out = Bounded(0.0, 0.0, 0.0)
        by_channel = self._baseline if isinstance(self._baseline, dict) else {}
        for channel, row in zip(self.channels, rows, strict=True):
            low, estimate, high = (float(x) * joules_per_unit(channel.unit) for x in row)
            found = Bounded(estimate, low, high)
            if channel.estimated:
                found = within_model(estimate, time_s, channel.floor_w or 0.0, channel.ceiling_w or 0.0)
            out += _without(found, time_s, by_channel.get(channel.id, 0.0))
        return out if isinstance(self._baseline, dict) else _without(out, time_s, self._baseline)


def _without(found: Bounded, time_s: float, baseline_w: float) -> Bounded:
    import numpy as np

    left = set_apart(found, np.array(time_s), baseline_w).left
    return Bounded(float(left.energy_j), float(left.low_j), float(left.high_j))
