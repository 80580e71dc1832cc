# SPDX-License-Identifier: Apache-2.0
"""The channels of a running monitor as exporters show them: counters that never step back, and powers.

Nothing here reads a sensor or waits for one. The sampling threads publish their totals, and this module copies them.
Memory is constant: a few numbers for each channel.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
import weakref

from fastgreen._light_dataclass import dataclass
from fastgreen.errors import FastgreenError
from fastgreen.guards.printable import encodable
from fastgreen.sensors.catalog import counted_ids
from fastgreen.sensors.channel import UNLIMITED_W, Channel
from fastgreen.sensors.channel_kinds import kind_of
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgreen.measuring.monitor import Monitor
    from fastgreen.measuring.source_sampler import Reading

__all__ = ["COUNTS", "HostEnergy", "LiveChannel", "LiveChannels", "labels_of"]

# Counts of a channel: name here -> name of the metric without its prefix, and the help text.
COUNTS = {
    "reads": "Readings of a channel.",
    "missed_reads": "Deadlines that the sampling thread missed.",
    "lost_samples": "Samples that found no place in memory. The energy counters include them.",
    "failed_reads": "Readings that the sensor refused.",
}
_TICK_S = 1.0
_STALE_NS = 5 * NS_PER_S
# `hw.type` of OpenTelemetry's conventions for hardware.
_HW_TYPE = {"cpu": "cpu", "gpu": "gpu", "dram": "memory", "board": "enclosure"}


@dataclass(frozen=True)
class LiveChannel:
    """One channel now.

    Attributes
    ----------
    channel : Channel
    counted : bool
        Whether it is part of the host's energy.
    up : bool
        Whether it is still read.
    energy_j : float
        Energy since the exporter's start, in J; it never falls.
    low_j, high_j : float or None
        The least and the most that it can have been, in J; None for a power sensor, whose readings bound nothing.
    power_w : float or None
        Mean power over the last second or so, in W; None without a reading in the last five seconds.
    age_s : float or None
        Time since the last reading, in s.
    counts : dict of str to int
        By the keys of `COUNTS`.
    """

    channel: Channel
    counted: bool
    up: bool
    energy_j: float
    low_j: float | None
    high_j: float | None
    power_w: float | None
    age_s: float | None
    counts: dict[str, int]


@dataclass(frozen=True)
class HostEnergy:
    """The channels of the total together: J since the exporter's start, and W; None while no channel has a power."""

    energy_j: float
    power_w: float | None


class _Memory:
    """Numbers that are kept of one channel, over restarts of the monitor."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}  # of the monitors before this one
        self.shown: dict[str, float] = {}
        self.start_j: float | None = None
        self.start_ns = 0
        self.marks: list[tuple[int, float]] = []

    def grown(self, name: str, value: float) -> float:
        """The value of a counter, over all monitors; never below the value before."""
        self.shown[name] = max(self.shown.get(name, 0.0), self.before.get(name, 0.0) + value)
        return self.shown[name]

    def restart(self, energy_j: float) -> None:
        """Another monitor goes on, which has seen so much energy of the channel already."""
        self.before = {name: shown - (energy_j if name.endswith("_j") else 0) for name, shown in self.shown.items()}
        self.start_j, self.marks = None, []


class LiveChannels:
    """Follows a monitor, and another one after it.

    Parameters
    ----------
    monitor : Monitor
        Started or not. It is not kept alive.
    on_look : callable, optional
        Called with the running monitor at each look, once a second.
    """

    def __init__(self, monitor: Monitor, on_look: Callable[[Monitor], None] | None = None) -> None:
        self._on_look = on_look
        self._lock = threading.Lock()
        self._memory: dict[str, _Memory] = {}
        self._find: Callable[[], Monitor | None] = weakref.ref(monitor)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._host_before_j = self._host_shown_j = 0.0
        self.host = encodable(socket.gethostname())

    def start(self) -> LiveChannels:
        """Look at the powers once a second, in a thread."""
        self.look()
        self._thread = threading.Thread(
            target=self._tick, args=(weakref.ref(self),), name="fastgreen-power", daemon=True
        )
        self._thread.start()
        return self

    @staticmethod
    def _tick(find: Callable[[], LiveChannels | None]) -> None:
        while (live := find()) is not None:
            stopped = live._stopped
            live.look()
            del live
            if stopped.wait(_TICK_S):
                return

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopped.set()

    def follow(self, monitor: Monitor) -> None:
        """From now on show another monitor; the counters go on from their last values."""
        self.now()
        with self._lock:
            self._find = weakref.ref(monitor)
            found = self._readings()
            seen = {channel.id: reading.energy_j for channel, reading in found}
            for identity, memory in self._memory.items():
                memory.restart(seen.get(identity, 0.0))
            both = counted_ids([channel for channel, _ in found]) & self._memory.keys()
            self._host_before_j = self._host_shown_j - sum(seen[identity] for identity in both)

    def look(self) -> None:
        """Note the energies for the powers."""
        monitor = self._find()
        if monitor is not None and monitor.running and self._on_look is not None:
            self._on_look(monitor)
        del monitor
        with self._lock:
            for channel, reading in self._readings():
                memory = self._memory.setdefault(channel.id, _Memory())
                if reading.samples and (not memory.marks or reading.at_ns > memory.marks[-1][0]):
                    memory.marks = [*memory.marks[-1:], (reading.at_ns, reading.energy_j)]

    def _readings(self) -> list[tuple[Channel, Reading]]:
        monitor = self._find()
        if monitor is None or not monitor.running:
            return []
        try:
            readings = monitor.readings()
        except FastgreenError:  # in the child of a fork
            return []
        return [(channel, readings[channel.id]) for channel in monitor.channels if channel.id in readings]

    def now(self) -> tuple[list[LiveChannel], HostEnergy]:
        """All channels and the host; no channel while the monitor does not run."""
        with self._lock:
            found = self._readings()
            counted = counted_ids([channel for channel, _ in found])
            now_ns = time.monotonic_ns()
            out = [self._one(c, reading, c.id in counted, now_ns) for c, reading in found]
            host_j = self._host_before_j + sum(
                reading.energy_j for c, reading in found if c.id in counted and reading.samples
            )
            self._host_shown_j = max(self._host_shown_j, host_j)
            powers = [one.power_w for one in out if one.counted and one.power_w is not None]
            return out, HostEnergy(self._host_shown_j, sum(powers) if powers else None)

    def _one(self, channel: Channel, reading: Reading, counted: bool, now_ns: int) -> LiveChannel:
        memory = self._memory.setdefault(channel.id, _Memory())
        low_j, high_j = _bounds(channel, reading, memory)
        counts = {
            "reads": reading.samples,
            "missed_reads": reading.missed,
            "lost_samples": reading.lost,
            "failed_reads": reading.read_errors,
        }
        return LiveChannel(
            channel,
            counted,
            not reading.ended,
            memory.grown("energy_j", reading.energy_j if reading.samples else 0.0),
            None if low_j is None else memory.grown("low_j", low_j),
            None if high_j is None else memory.grown("high_j", high_j),
            None if reading.ended else _power_w(memory.marks, now_ns),
            (now_ns - reading.at_ns) / NS_PER_S if reading.samples else None,
            {name: int(memory.grown(name, count)) for name, count in counts.items()},
        )


def _power_w(marks: list[tuple[int, float]], now_ns: int) -> float | None:
    if len(marks) < 2 or now_ns - marks[-1][0] > _STALE_NS:
        return None
    (before_ns, before_j), (at_ns, energy_j) = marks
    return max(0.0, (energy_j - before_j) * NS_PER_S / (at_ns - before_ns))


def _bounds(channel: Channel, reading: Reading, memory: _Memory) -> tuple[float | None, float | None]:
    """The least and the most energy from the first reading to the last, in J.

    A counter shows energy at most one update late. So the energy is less than the counter's growth by at most the
    growth of the first update, and more by at most the limit of the power times an update. An estimate lies between its
    model's limits.
    """
    if channel.kind != "energy" or not reading.samples:
        return (None, None) if channel.kind != "energy" else (0.0, 0.0)
    if memory.start_j is None:
        memory.start_j, memory.start_ns = reading.energy_j, reading.at_ns
    if channel.estimated:
        seconds = (reading.at_ns - memory.start_ns) / NS_PER_S
        low_j = min(reading.energy_j, (channel.floor_w or 0.0) * seconds)
        return low_j, max(reading.energy_j, (channel.ceiling_w or 0.0) * seconds)
    update_s = max(channel.traits.get("period_ns", 0) / NS_PER_S, channel.period_s or 0.0)
    step_j = (channel.ceiling_w or UNLIMITED_W) * update_s
    return max(0.0, reading.energy_j - step_j), reading.energy_j + step_j


def labels_of(one: LiveChannel) -> dict[str, str]:
    """OpenTelemetry's attributes of a channel, and one of fastgreen: whether it is part of the host's energy."""
    channel = one.channel
    return {**_labels(channel.id, channel.name, channel.parent or ""), "fastgreen.counted": str(one.counted).lower()}


@functools.lru_cache(4096)
def _labels(identity: str, name: str, parent: str) -> dict[str, str]:
    return {
        "hw.id": encodable(identity),
        "hw.type": _HW_TYPE.get(kind_of(identity) or "", "other"),
        "hw.name": encodable(name),
        "hw.parent": encodable(parent),
    }
