"""The channels of one source, their sampling thread, and the samples that were fetched from its rings."""

from __future__ import annotations

import functools
import math

from fastgreen import _core
from fastgreen._light_dataclass import dataclass
from fastgreen.errors import FastgreenError
from fastgreen.measuring.rates import blind_ns
from fastgreen.sensors.channel import ENGINE_SOURCE, Channel
from fastgreen.units import NS_PER_S, joules_per_unit, watts_to_units_per_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

__all__ = ["Group", "Reading", "open_groups"]

_RING_S = 8.0  # how long the rings hold samples while the interpreter is busy in C ...
_RING_MOST = 1 << 17  # ... unless that is more than 3 MiB a channel; then they are emptied more often


@dataclass(frozen=True)
class Reading:
    """Energy of a channel since the start, in J, and the instant up to which it holds, ns of CLOCK_MONOTONIC.

    `samples`, `missed`, `lost` and `read_errors` are counts as in `Result.channels`; `ended`: it is read no longer.
    """

    energy_j: float
    at_ns: int
    samples: int = 0
    missed: int = 0
    lost: int = 0
    read_errors: int = 0
    ended: bool = False


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

    def __init__(
        self, source: str, channels: list[Channel], hz: float, library: str, speed: float, dither: bool | None = None
    ) -> None:
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
            library=channels[0].sensor.get("library", library),
            speed=speed,
            dither=_slow(channels, hz) if dither is None else dither,
        )

        self.recent = [self._recent(i, c) for i, c in enumerate(channels)]

    def _recent(self, place: int, channel: Channel) -> _core.Recent:
        delay_ns = round((channel.delay_s or 0.0) * NS_PER_S) if channel.kind == "power" else 0
        ceiling, floor = (
            watts_to_units_per_ns(w, channel.unit) if w else 0.0 for w in (channel.ceiling_w, channel.floor_w)
        )
        scale = joules_per_unit(channel.unit)
        return _core.Recent(self.sampler, place, channel.traits, scale, ceiling, floor, channel.estimated, delay_ns)

    def readings(self) -> dict[str, Reading]:
        """The last reading of each channel while the sampler runs."""
        out = {}
        for i, channel in enumerate(self.channels):
            live = self.sampler.live(i)
            raw = live["total"] if channel.kind == "energy" else live["power_integral"]
            counts = (live[name] for name in ("samples", "missed", "lost", "read_errors", "ended"))
            out[channel.id] = Reading(raw * joules_per_unit(channel.unit), live["last_at_ns"], *counts)
        return out

    def tallies(self) -> dict[str, dict[str, Any]]:
        """What the sampler knows of each channel after its end."""
        return {channel.id: self.sampler.tally(i) for i, channel in enumerate(self.channels)}


def _slow(channels: list[Channel], hz: float) -> bool:
    """Whether readings come slower than the updates of all the source's counters."""
    periods = [c.traits["period_ns"] for c in channels if c.kind == "energy" and not c.estimated]
    return bool(periods) and max(periods) * hz < NS_PER_S


def open_groups(
    channels: list[Channel],
    hz: Mapping[str, float],
    library: str,
    speed: float,
    needed: Collection[str],
    dither: bool | None = None,
) -> tuple[list[Group], list[tuple[Channel, Exception]]]:
    """A group for each source, and the channels that could not be opened after all, each with the reason.

    A channel that fails ends no other. One whose id is in `needed` raises, and so does the first where all fail.
    """
    groups: list[Group] = []
    lost: list[tuple[Channel, Exception]] = []
    for source in dict.fromkeys(c.source for c in channels):
        own = [c for c in channels if c.source == source]
        make = functools.partial(Group, source, hz=hz[source], library=library, speed=speed, dither=dither)
        group, failed = _open(make, own)
        groups += [group] if group is not None else []
        lost += failed
    for channel, error in lost:
        if channel.id in needed or not groups:
            raise error
    return groups, lost


def _open(
    make: Callable[[list[Channel]], Group], channels: list[Channel]
) -> tuple[Group | None, list[tuple[Channel, Exception]]]:
    """A group of those channels of a source that can be opened; a sampler opens all of its channels or fails."""
    try:
        return make(channels), []
    except (FastgreenError, OSError) as error:
        together = error
    failed: list[tuple[Channel, Exception]] = []
    for channel in channels if len(channels) > 1 else []:
        try:
            make([channel])
        except (FastgreenError, OSError) as error:
            failed.append((channel, error))
    if len(failed) in (0, len(channels)):
        return None, failed or [(channel, together) for channel in channels]
    lost = {channel.id for channel, _ in failed}
    group, more = _open(make, [c for c in channels if c.id not in lost])
    return group, failed + more
