# SPDX-License-Identifier: Apache-2.0
"""A GPU told what to do: streams that run behind the CPU, a clock of its own that drifts, and CUDA's rounding.

It has the methods of `fastgreen.measuring.gpu_timeline.Events`. Time is a number that a test moves: `now_ns` is the
CPU's clock, and `truth_ns` says where an event really lay on it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

RESOLUTION_MS = 0.0005  # of cudaEventElapsedTime, by its documentation "around 0.5 microseconds"


def as_float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


@dataclass(eq=False)
class Event:
    """`passed_at_ns` on the CPU's clock; None before it was recorded."""

    passed_at_ns: float | None = None
    records: int = 0


@dataclass
class ScriptedGpu:
    """`rate` is how fast its clock runs beside the CPU's; `work(ns)` keeps the current stream busy.

    `call_ns` is what the CPU spends in each call, `launch_ns` how long after its recording an event passes at least.
    """

    rate: float = 1.0
    started_at_ns: float = 0.0
    now: float = 10_000_000_000.0
    call_ns: float = 1_000.0
    launch_ns: float = 4_000.0
    stream: int = 0
    busy_until_ns: dict[int, float] = field(default_factory=dict)
    fails: str | None = None
    recorded: list[Event] = field(default_factory=list)
    keep: bool = False

    def now_ns(self) -> int:
        return round(self.now)

    def sleep(self, ns: float) -> None:
        self.now += ns

    def work(self, ns: float) -> None:
        """Launch a kernel in the current stream."""
        self.now += self.call_ns
        begin = max(self.now + self.launch_ns, self.busy_until_ns.get(self.stream, 0.0))
        self.busy_until_ns[self.stream] = begin + ns

    def create(self) -> Event:
        return Event()

    def record(self, event: Event) -> None:
        self._check()
        self.now += self.call_ns
        event.passed_at_ns = max(self.now + self.launch_ns, self.busy_until_ns.get(self.stream, 0.0))
        event.records += 1
        self.busy_until_ns[self.stream] = event.passed_at_ns
        if self.keep:
            self.recorded.append(Event(event.passed_at_ns))

    def query(self, event: Event) -> bool:
        self._check()
        assert event.passed_at_ns is not None
        return event.passed_at_ns <= self.now

    def elapsed_ms(self, start: Event, end: Event) -> float:
        assert self.query(start)
        assert self.query(end)
        assert start.passed_at_ns is not None
        assert end.passed_at_ns is not None
        exact_ms = (end.passed_at_ns - start.passed_at_ns) * self.rate * 1e-6
        return as_float32(math.floor(exact_ms / RESOLUTION_MS) * RESOLUTION_MS)

    def synchronize(self) -> None:
        self._check()
        self.now = max([self.now, *self.busy_until_ns.values()]) + self.call_ns

    def _check(self) -> None:
        if self.fails:
            raise RuntimeError(self.fails)
