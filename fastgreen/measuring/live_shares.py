"""Shares while the program runs: the spans of a ledger and the samples of its channels, as they come.

It runs in the thread that empties the rings, so a span's share is known once its samples were taken out.
"""

from __future__ import annotations

from collections import deque

from fastgreen import _core, _resolver, _shares
from fastgreen.measuring.final_spans import Deliveries, final_span
from fastgreen.results.shares import check_baseline, set_apart, within_model
from fastgreen.results.trace import Bounded
from fastgreen.sensors.channel import UNLIMITED_W
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from fastgreen import _ledger, _steps
    from fastgreen.measuring.ledger_sums import LedgerSums
    from fastgreen.sensors.channel import Channel

__all__ = ["LiveShares"]

_LEARNT = 8  # updates, before which the time between two is not known
_MOST = 4096
_PERIODS = 1000
_STILL_NS = NS_PER_S
_OPEN, _WEIGH, _CLOSE, _STEP, _STEP_END, _PHASE = range(6)  # kinds of `Ledger.take_changes`
_OF_PHASE = 1 << 40  # ids from here on are of phases: the number of the phase in these, that of its span below


class _Feed:
    """The samples of one channel, held back until it is known how often the sensor updates."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.account = _resolver.Account(channel.traits)
        self.waiting: list[NDArray[np.void]] = []
        self.period_ns = self.updates = self.last_ns = self.changed_ns = 0
        self.learning = False
        self.delay_ns = round((channel.delay_s or 0.0) * NS_PER_S) if channel.kind == "power" else 0

    def take(self, samples: NDArray[np.void]) -> None:
        self.account.feed(samples)
        tally = self.account.tally()
        if tally["updates"] != self.updates:
            self.updates, self.changed_ns = tally["updates"], int(samples["at_ns"][-1])
        self.last_ns = int(samples["at_ns"][-1]) - int(samples["half_ns"][-1])
        self.changed_ns = self.changed_ns or self.last_ns
        samples["at_ns"] -= self.delay_ns
        self.waiting.append(samples)
        faster = tally["samples"] > 2 * tally["updates"]
        learning = self.channel.kind == "energy" and faster and tally["updates"] < _LEARNT
        self.learning = learning and not self.stands_still(tally)
        self.period_ns = tally["period_ns"]

    @property
    def fed(self) -> bool:
        """Whether no sample waits."""
        return not self.waiting

    def ready(self, until_ns: int | None) -> list[NDArray[np.void]]:
        """The samples that can be fed now: all, or those that tell of no later instant."""
        if self.learning:
            return []
        ready, self.waiting = self.waiting, []
        if until_ns is None:
            return ready
        out: list[NDArray[np.void]] = []
        for i, samples in enumerate(ready):
            late = samples["at_ns"] + samples["half_ns"].astype("i8") > until_ns
            if late.any():
                first = int(late.argmax())
                self.waiting = [samples[first:], *ready[i + 1 :]]
                return [*out, samples[:first]] if first else out
            out.append(samples)
        return out

    def stands_still(self, tally: dict[str, Any] | None = None) -> bool:
        """Whether the counter has not changed for so long that no span should wait for it."""
        mean_ns = (tally or self.account.tally())["period_mean_ns"] or 0
        return self.channel.kind == "energy" and self.last_ns - self.changed_ns > max(_STILL_NS, 8 * mean_ns)


class _Events:
    """What happens to the spans of a ledger, held back until every weight before it is known.

    In a ledger of weights "at close", and in a step, the weight of a stretch is known when it ends. All later events
    wait for the oldest of these stretches.
    """

    def __init__(self, engine: _shares.Engine, at_close: bool, sums: LedgerSums | None = None) -> None:
        self._engine, self._at_close, self._sums = engine, at_close, sums
        self._numbers: dict[int, int] = {}
        self._weights: dict[int, float] = {}  # of spans, if shares of phases are asked for
        self._phases: dict[int, tuple[int, int]] = {}  # by span: the phase that it is in, and its number in the engine
        self._waiting: deque[list[Any]] = deque()  # at_ns, number, weight (None: not yet known), kind
        self._begun: dict[tuple[int, bool], list[Any]] = {}

    @property
    def held_since_ns(self) -> int | None:
        """The begin of the oldest stretch of unknown weight."""
        return self._waiting[0][0] if self._waiting else None

    def take(self, changes: NDArray[np.void], steps: dict[int, Any]) -> None:
        for at_ns, number, weight, kind in changes.tolist():
            if kind == _STEP:
                self._begun[number, True] = self._add(at_ns, number, None, kind)
            elif kind == _STEP_END:
                parts = steps.pop(number, [])
                self._begun.pop((number, True))[2] = parts
                self._add(at_ns, number, parts, kind)
            elif not self._at_close or kind >= _PHASE:
                self._add(at_ns, number, weight, kind)
            else:
                if kind != _OPEN:
                    self._begun.pop((number, False))[2] = weight
                if kind != _CLOSE:
                    self._begun[number, False] = self._add(at_ns, number, None, kind)
                else:
                    self._add(at_ns, number, 0.0, kind)
            self._release()

    def hurry(self, before_ns: int, weights: Callable[[], dict[int, float]]) -> int:
        """Let stretches that began before an instant count with the weight that they have; how many those were."""
        count, known = 0, None
        while self._at_close and self._waiting and self._waiting[0][0] < before_ns:
            known = weights() if known is None else known
            head = self._waiting[0]
            if head[1] not in known:  # it ended just now
                break
            head[2] = known[head[1]]
            count += 1
            self._release()
        return count

    def finish(self) -> None:
        """Nothing is open any more."""
        for entry in self._waiting:
            entry[2] = ([] if entry[3] in (_STEP, _STEP_END) else 0.0) if entry[2] is None else entry[2]
        self._release()

    def _add(self, at_ns: int, number: int, weight: Any, kind: int) -> list[Any]:
        entry = [at_ns, number, weight, kind]
        self._waiting.append(entry)
        return entry

    def _release(self) -> None:
        while self._waiting and self._waiting[0][2] is not None:
            at_ns, number, weight, kind = self._waiting.popleft()
            if kind == _OPEN:
                self._open(number, at_ns, weight)
            elif kind == _WEIGH:
                self._weigh(number, at_ns, weight)
            elif kind == _CLOSE:
                self._close(number, at_ns)
            elif kind >= _PHASE:
                self._begin_phase(number, at_ns, kind - _PHASE)
            else:
                self._step(at_ns, weight, kind == _STEP)

    def _step(self, at_ns: int, parts: list[tuple[int, bool, float, float]], begins: bool) -> None:
        for number, new, weight, before in parts:
            if new and begins:
                self._open(number, at_ns, weight)
            elif new:
                self._close(number, at_ns)
            elif number in self._numbers:
                self._weigh(number, at_ns, weight if begins else before)

    def _open(self, number: int, at_ns: int, weight: float) -> None:
        self._numbers[number] = self._engine.open(at_ns, number, _units(weight))
        if self._sums is not None:
            self._weights[number] = weight
            self._sums.opened(number, at_ns, weight)

    def _weigh(self, number: int, at_ns: int, weight: float) -> None:
        self._engine.weigh(self._numbers[number], at_ns, _units(weight))
        if number in self._phases:
            self._engine.weigh(self._phases[number][1], at_ns, _units(weight))
        if self._sums is not None:
            self._weights[number] = weight
            self._sums.weighed(number, at_ns, weight)

    def _close(self, number: int, at_ns: int) -> None:
        self._engine.close(self._numbers.pop(number), at_ns)
        self._end_phase(number, at_ns)
        if self._sums is not None:
            del self._weights[number]
            self._sums.closed(number, at_ns)

    def _begin_phase(self, number: int, at_ns: int, phase: int) -> None:
        """A phase looks on: it is charged as its span is, and counts in no weight."""
        if number in self._phases and self._phases[number][0] == phase:
            return
        self._end_phase(number, at_ns)
        identity = number + _OF_PHASE * (phase + 1)
        weight = _units(self._weights[number])
        self._phases[number] = phase, self._engine.open(at_ns, identity, weight, charged=False)

    def _end_phase(self, number: int, at_ns: int) -> None:
        if number in self._phases:
            self._engine.close(self._phases.pop(number)[1], at_ns)


def _units(weight: float) -> int:
    return round(weight * _shares.WEIGHT) or int(weight > 0)


class LiveShares:
    """The shares of one ledger's spans.

    Parameters
    ----------
    ledger : Ledger
    channels : sequence of Channel
        Those that it shares.
    patience_s : float
        How long the weight of a stretch is waited for.
    deliveries : Deliveries
        Gets the spans whose share is known.
    sums : LedgerSums, optional
        Where only totals are kept: gets all that happens.

    Attributes
    ----------
    hurried : int
        Stretches whose weight was not waited for any longer.
    charged : Bounded
        The energy of all spans so far whose share is known, in J.
    """

    def __init__(
        self,
        ledger: _steps.SteppedLedger,
        channels: Sequence[Channel],
        patience_s: float,
        deliveries: Deliveries,
        sums: LedgerSums | None = None,
    ) -> None:
        self._deliveries, self.sums = deliveries, sums
        self.ledger, self.channels = ledger, list(channels)
        self._feeds = {c.id: _Feed(c) for c in channels}
        rows = [(c.traits, watts_to_units_per_ns(c.ceiling_w or UNLIMITED_W, c.unit)) for c in channels]
        self._engine = _shares.Engine(rows)
        self._baseline = check_baseline(ledger.baseline_w, list(self._feeds))
        self._events = _Events(self._engine, ledger.weights == "at close", sums)
        self._patience_ns, self.hurried = round(patience_s * NS_PER_S), 0
        self._made: dict[tuple[int, ...], int] = {}  # how many spans were worked out with which update periods
        self._closed: dict[int, _ledger.Span | tuple[Any, ...]] = {}
        self.charged, self.baseline_j = Bounded(0.0, 0.0, 0.0), 0.0

    def drain(self, samples: Mapping[str, bytearray]) -> None:
        """Take in samples that were taken out before this call, and what happened to the spans until now."""
        now_ns = _core.now_ns()
        self._take_events()
        for identity, feed in self._feeds.items():
            if identity in samples:
                taken = _resolver.samples(samples[identity])
                if self.sums is not None:
                    self.sums.take(identity, taken)
                feed.take(taken.copy())
        newest_ns = max((feed.last_ns for feed in self._feeds.values()), default=0)
        self.hurried += self._events.hurry(newest_ns - self._patience_ns, self._weights)
        self._feed(self._events.held_since_ns)
        if self.sums is not None:
            held_ns = self._events.held_since_ns
            self.sums.cut(now_ns if held_ns is None else min(held_ns, now_ns))
        self._settle()

    def _take_events(self) -> None:
        changes, closed = self.ledger.take_changes()
        for span in closed:
            self._closed[span[0] if isinstance(span, tuple) else span.number_in_ledger] = span
        self._events.take(changes, dict(self.ledger.take_steps()))

    def _weights(self) -> dict[int, float]:
        return self.ledger.open_weights()

    def _feed(self, until_ns: int | None) -> None:
        for i, feed in enumerate(self._feeds.values()):
            for ready in feed.ready(until_ns):
                self._engine.set_period(i, feed.period_ns)
                self._engine.feed(i, ready)
            if until_ns is None and feed.fed and feed.stands_still():
                self._engine.stand_still(i, feed.last_ns)

    @property
    def outdated(self) -> int:
        """Spans whose share was worked out with a shorter update period than the one that is known now."""
        periods = tuple(feed.period_ns for feed in self._feeds.values())
        return sum(n for made, n in self._made.items() if any(a < b for a, b in zip(made, periods, strict=True)))

    def finish(self) -> None:
        """No samples come any more."""
        self._take_events()
        self._events.finish()
        for feed in self._feeds.values():
            feed.learning = False
        self._feed(None)
        self._engine.finish()
        if self.sums is not None:
            self.sums.cut(_core.now_ns())
        self._settle()
        self._deliveries.finish()
        if self.sums is not None:
            self.sums.finish(self.charged, self.baseline_j)

    def _settle(self) -> None:
        names = self.ledger.phases
        while True:
            numbers, time_ns, shares = self._engine.take(_MOST)
            if len(numbers):
                periods = tuple(feed.period_ns for feed in self._feeds.values())
                if len(self._made) < _PERIODS or periods in self._made:
                    self._made[periods] = self._made.get(periods, 0) + len(numbers)
            for number, time, rows in zip(numbers.tolist(), time_ns.tolist(), shares, strict=True):
                energy, baseline_j = self._bounded(time / NS_PER_S, rows)
                if number >= _OF_PHASE:
                    if self.sums is not None:
                        self.sums.settle_phase(names[number // _OF_PHASE - 1], energy)
                    continue
                span = self._closed.pop(number, None)
                if span is not None:
                    self.charged += energy
                    self.baseline_j += baseline_j
                    self._give(span, energy)
            if len(numbers) < _MOST:
                return

    def _give(self, span: _ledger.Span | tuple[Any, ...], energy: Bounded) -> None:
        """A share is known: tell the span, and the callbacks."""
        row = span if isinstance(span, tuple) else None
        if isinstance(span, tuple):
            self.ledger.settle_late(span[0], energy)
        else:
            span.settle(energy)
            row = span.row() if self._deliveries.wanted or self.sums is not None else None
        if row is not None and self.sums is not None:
            self.sums.settle(row, energy)
        if row is not None and self._deliveries.wanted:
            self._deliveries.put(final_span(self.ledger.name, row, energy))

    def _bounded(self, time_s: float, rows: NDArray[np.float64]) -> tuple[Bounded, float]:
        """What a span is charged, and the baseline of it, in J."""
        out, apart_j = Bounded(0.0, 0.0, 0.0), 0.0
        by_channel = self._baseline if isinstance(self._baseline, dict) else {}
        for channel, row in zip(self.channels, rows, strict=True):
            low, estimate, high = (float(x) * joules_per_unit(channel.unit) for x in row)
            found = Bounded(estimate, low, high)
            if channel.estimated:
                found = within_model(estimate, time_s, channel.floor_w or 0.0, channel.ceiling_w or 0.0)
            left, baseline_j = _without(found, time_s, by_channel.get(channel.id, 0.0))
            out, apart_j = out + left, apart_j + baseline_j
        return (out, apart_j) if isinstance(self._baseline, dict) else _without(out, time_s, self._baseline)


def _without(found: Bounded, time_s: float, baseline_w: float) -> tuple[Bounded, float]:
    import numpy as np

    apart = set_apart(found, np.array(time_s), baseline_w)
    left = apart.left
    return Bounded(float(left.energy_j), float(left.low_j), float(left.high_j)), float(apart.baseline_j)
