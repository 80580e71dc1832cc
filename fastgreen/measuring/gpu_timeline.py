"""GPU events on CLOCK_MONOTONIC: bookkeeping and arithmetic; a backend reports that an event has passed.

Recording an event does not wait for the GPU, and the GPU stamps it with its own clock when its stream gets there. What
can be asked afterwards is how many milliseconds lie between two events. So: at an *anchor* the GPU is idle, an event is
recorded and waited for, and its time is known on both clocks; every other event is measured from one before it, and
placed between the anchors round it by linear interpolation, which takes out the drift of one clock against the other.

CUDA answers as a 32-bit float with a resolution of about half a microsecond (CUDA Runtime API, cudaEventElapsedTime);
an hour in milliseconds would be rounded to 0.25 ms. So the event measured from moves along, every second or so.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fastgreen.units import NS_PER_S

__all__ = ["Edge", "Events", "Lane", "Timeline"]

_HOP_MS = 1000.0
_COLLECT_NS = NS_PER_S
_PENDING = 64
_STRIKES = 5  # events per anchor; the one that took least time is kept
_ANCHORS = 1024  # more than that and the oldest are thinned out
_SAME_NS = 2_000  # edges of one stream may seem to overlap by so much, by rounding


class Events(Protocol):
    """What a GPU library has to offer. Errors of the GPU are RuntimeError."""

    def create(self) -> Any:
        """A new event that keeps time."""

    def record(self, event: Any) -> None:
        """Put it into the current stream, again if it was used before; return at once."""

    def query(self, event: Any) -> bool:
        """Whether the GPU has passed it."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """From one passed event to another; negative when `end` came first."""

    def synchronize(self) -> None:
        """Wait until the GPU has done everything."""


class Edge:
    """One edge of a window: an event on its way, then its time in ms since the first anchor."""

    __slots__ = ("event", "ms")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.ms: float | None = None


@dataclass(frozen=True)
class Anchor:
    """One moment on both clocks; the monotonic one is sure to half_ns."""

    ms: float
    at_ns: int
    half_ns: int


class Lane:
    """Finished windows of one name, in order and without overlap; the monitor reads it like one of its own handles."""

    is_open = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._begin, self._end = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._begin)

    def end(self) -> None:
        """Do nothing: these windows have ended."""

    @property
    def end_ns(self) -> int:
        return self._end[-1] if self._end else -(1 << 62)

    def append(self, begin_ns: np.ndarray, end_ns: np.ndarray) -> None:
        self._begin.frombytes(np.ascontiguousarray(begin_ns, np.int64).tobytes())
        self._end.frombytes(np.ascontiguousarray(end_ns, np.int64).tobytes())

    def edges(self, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(begin_ns, end_ns) from the start-th window on, copied."""
        return np.array(self._begin[start:], np.int64), np.array(self._end[start:], np.int64)

    def amounts(self, start: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The amounts of these windows: a GPU's have none."""
        return {}


class Timeline:
    """Edges of one device, from their recording to their place in time.

    Memory: events are used again as soon as their time is known, so there are as many as the GPU lags behind; a window
    costs two floats until the next anchor and two integers after it.

    Parameters
    ----------
    events : Events
    add_lane : callable
        Told of every new `Lane`.
    now_ns : callable
        CLOCK_MONOTONIC.
    """

    def __init__(
        self, events: Events, add_lane: Callable[[Lane], object], now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._events = events
        self._add_lane = add_lane
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._pool: list[Any] = []
        self._pending: deque[Edge] = deque()
        self._limit = _PENDING
        self._collect_at_ns = 0
        self._ended: list[tuple[str, Edge, Edge]] = []  # an edge of them is pending
        self._columns: dict[str, tuple[array, array]] = {}  # both edges known, in ms
        self._reference: Any = None
        self._reference_ms = 0.0
        self._lanes: dict[str, list[Lane]] = {}
        self.anchors: list[Anchor] = []
        self.created = 0

    def record(self) -> Edge:
        """Record an event in the current stream. Does not wait."""
        with self._lock:
            return self._record()

    def close(self, name: str, begin: Edge) -> None:
        """Record the end of the window that `begin` began."""
        with self._lock:
            end = self._record()
            self._ended.append((name, begin, end))

    def anchor(self) -> None:
        """Wait for the GPU, take its time on both clocks, and place every window that has ended."""
        with self._lock:
            self._events.synchronize()
            self._collect()
            self.anchors.append(min((self._strike() for _ in range(_STRIKES)), key=lambda a: a.half_ns))
            self._place()

    def wait(self) -> None:
        """Wait until the GPU has done everything."""
        with self._lock:
            self._events.synchronize()

    def give_up(self) -> int:
        """After an error of the GPU: place the known windows by the last anchors; the number of lost windows."""
        with self._lock:
            self._place()
            return len(self._ended)

    # ---- what follows runs under the lock ----

    def _take(self) -> Any:
        if self._pool:
            return self._pool.pop()
        self.created += 1
        return self._events.create()

    def _record(self) -> Edge:
        now_ns = self._now_ns()
        if len(self._pending) >= self._limit or now_ns >= self._collect_at_ns:
            self._collect()
            # Looking at all of them pays only when there are twice as many as last time.
            self._limit = max(_PENDING, 2 * len(self._pending))
            self._collect_at_ns = now_ns + _COLLECT_NS
        edge = Edge(self._take())
        self._events.record(edge.event)
        self._pending.append(edge)
        return edge

    def _collect(self) -> None:
        """Learn the times of the events that have passed, in whatever order the streams got there."""
        waiting: deque[Edge] = deque()
        for edge in self._pending:
            if self._events.query(edge.event):
                edge.ms = self._measure(edge.event)
                edge.event = None
            else:
                waiting.append(edge)
        self._pending = waiting
        still: list[tuple[str, Edge, Edge]] = []
        for name, begin, end in self._ended:
            if begin.ms is None or end.ms is None:
                still.append((name, begin, end))
                continue
            columns = self._columns.get(name) or self._columns.setdefault(name, (array("d"), array("d")))
            columns[0].append(begin.ms)
            columns[1].append(end.ms)
        self._ended = still

    def _measure(self, event: Any) -> float:
        """The time of a passed event, which goes back to the pool or becomes the origin of the next times."""
        elapsed_ms = self._events.elapsed_ms(self._reference, event)
        ms = self._reference_ms + elapsed_ms
        if elapsed_ms > _HOP_MS:
            self._pool.append(self._reference)
            self._reference, self._reference_ms = event, ms
        else:
            self._pool.append(event)
        return ms

    def _strike(self) -> Anchor:
        event = self._take()
        before_ns = self._now_ns()
        self._events.record(event)
        self._events.synchronize()
        after_ns = self._now_ns()
        if self._reference is None:
            self._reference, ms = event, 0.0
        else:
            ms = self._measure(event)
        return Anchor(ms, (before_ns + after_ns) // 2, (after_ns - before_ns + 1) // 2)

    def _place(self) -> None:
        columns, self._columns = self._columns, {}
        for name, (begin, end) in columns.items():
            order = np.lexsort((np.array(end), np.array(begin)))
            self._into_lanes(name, self.to_ns(np.array(begin)[order]), self.to_ns(np.array(end)[order]))
        if len(self.anchors) > _ANCHORS:
            del self.anchors[1 : _ANCHORS // 2]  # a window that is open since then is placed by the mean drift

    def to_ns(self, ms: np.ndarray) -> np.ndarray:
        """Times of the GPU on CLOCK_MONOTONIC; past the last anchor with the drift of the last stretch, 0 at first."""
        known_ms = np.array([a.ms for a in self.anchors])
        first_ns = self.anchors[0].at_ns
        known_ns = np.array([a.at_ns - first_ns for a in self.anchors], float)
        out = np.interp(ms, known_ms, known_ns)
        rate = 1e6
        if len(known_ms) > 1 and known_ms[-1] > known_ms[-2]:
            rate = (known_ns[-1] - known_ns[-2]) / (known_ms[-1] - known_ms[-2])
        out = np.where(ms > known_ms[-1], known_ns[-1] + (ms - known_ms[-1]) * rate, out)
        return first_ns + np.rint(out).astype(np.int64)

    def _into_lanes(self, name: str, begin: np.ndarray, end: np.ndarray) -> None:
        """Hand out windows, sorted by begin, to lanes without overlap: one lane, unless streams ran side by side."""
        lanes = self._lanes.setdefault(name, [])
        last_ns = lanes[0].end_ns if lanes else begin[0]
        before = np.maximum.accumulate(np.concatenate(([last_ns], end[:-1])))
        if (before - begin <= _SAME_NS).all():
            chosen = np.zeros(len(begin), np.int64)
        else:
            chosen = _first_free([lane.end_ns for lane in lanes], begin, end)
        for number in range(int(chosen.max()) + 1):
            if number == len(lanes):
                lanes.append(Lane(name))
                self._add_lane(lanes[-1])
            _append(lanes[number], begin[chosen == number], end[chosen == number])


def _first_free(busy_until_ns: list[int], begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """For each window the first lane that is free when it begins."""
    busy = list(busy_until_ns)
    chosen = np.empty(len(begin), np.int64)
    for i, (begin_ns, end_ns) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        number = next((n for n, until in enumerate(busy) if until <= begin_ns + _SAME_NS), len(busy))
        if number == len(busy):
            busy.append(0)
        busy[number] = max(begin_ns, end_ns, busy[number])
        chosen[i] = number
    return chosen


def _append(lane: Lane, begin: np.ndarray, end: np.ndarray) -> None:
    """Append windows that overlap by no more than rounding, and take that out."""
    if len(begin) == 0:
        return
    before = np.maximum.accumulate(np.concatenate(([lane.end_ns], end[:-1])))
    starts = np.maximum(begin, before)
    lane.append(starts, np.maximum(end, starts))
