"""The channels of one source, their sampling thread, and the samples that were fetched from its rings."""

from __future__ import annotations

import math

from fastgreen import _core
from fastgreen.measuring.rates import blind_ns
from fastgreen.sensors.channel import ENGINE_SOURCE, Channel
from fastgreen.units import NS_PER_S, joules_per_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Group"]

_RING_S = 8.0  # how long the rings hold samples while the interpreter is busy in C ...
_RING_MOST = 1 << 17  # ... unless that is more than 3 MiB a channel; then they are emptied more often


class Group:
    """The channels of one source and their sampler.

    Attributes
    ----------
    channels : list of Channel
    samples : list of list of bytearray
        What was kept in memory, by channel, in time order; the monitor appends.
    sampler : _core.Sampler
    full_s : float
        How long the rings take to fill up.
    """

    def __init__(self, source: str, channels: list[Channel], hz: float, library: str, speed: float) -> None:
        capacity = min(max(256, math.ceil(hz * _RING_S)), _RING_MOST)
        self.full_s = capacity / hz
        self.channels = channels
        self.samples: list[list[bytearray]] = [[] for _ in channels]
        self.sampler = _core.Sampler(
            ENGINE_SOURCE.get(source, source),
            [c.sensor for c in channels],
            [{**c.traits, "blind_ns": blind_ns(c), "tick_ns": c.sensor.get("tick_ns", 0)} for c in channels],
            period_ns=round(NS_PER_S / hz),
            ring_capacity=capacity,
            library=library,
            speed=speed,
        )

    def energy_j(self) -> dict[str, float]:
        """Energy of each channel up to its last reading, in J, while the sampler runs."""
        out = {}
        for i, channel in enumerate(self.channels):
            live = self.sampler.live(i)
            raw = live["total"] if channel.kind == "energy" else live["power_integral"]
            out[channel.id] = raw * joules_per_unit(channel.unit)
        return out

    def tallies(self) -> dict[str, dict[str, Any]]:
        """The final counts and totals of each channel, after the end of the sampler."""
        return {channel.id: self.sampler.tally(i) for i, channel in enumerate(self.channels)}
