"""Readings per second of each source: the defaults, the permitted range, and the least rate of a counter that wraps."""

from __future__ import annotations

from fastgreen.sensors.channel import UNLIMITED_W, Channel
from fastgreen.units import NS_PER_S

__all__ = ["DEFAULT_HZ", "blind_ns", "check_wraps", "default_hz", "rates"]

# Hz; of a GPU's library a quarter of its update period, which is 100 ms until learnt better.
DEFAULT_HZ = {
    "rapl": 100.0,
    "perf": 100.0,
    "hwmon": 100.0,
    "nvml": 40.0,
    "amdsmi": 40.0,
    "scmi": 10.0,
    "dtpm": 10.0,
    "battery": 1.0,
    "procstat": 10.0,
    "replay": 1000.0,
}
_LIBRARIES = ("nvml", "amdsmi")
# Drivers that add up a register of 32 bits only when somebody reads it (Linux, i915_hwmon.c and early xe_hwmon.c), so
# that it must be read at least once a minute, also while the board is idle.
KEPT_POLLED = ("i915", "xe")
LONGEST_UNREAD_S = 60.0
MIN_HZ, MAX_HZ = 0.01, 1_000_000.0


def _is_number(value: object) -> bool:
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    from numbers import Real  # where NumPy's have registered

    return isinstance(value, Real)


def rates(hz: float | dict[str, float] | None, channels: list[Channel]) -> dict[str, float]:
    """Readings per second by source: the rate asked for, else the default. ValueError for an impossible rate."""
    sources = dict.fromkeys(c.source for c in channels)
    given = hz if isinstance(hz, dict) else {}
    for source, value in given.items() if isinstance(hz, dict) else [("", hz)]:
        if value is None:
            continue
        if not _is_number(value):
            raise ValueError(f"hz must be a number, not {value!r}")
        if not MIN_HZ <= value <= MAX_HZ:
            raise ValueError(f"hz must be from {MIN_HZ:g} to {MAX_HZ:.0f}, not {value!r}")
        if source and source not in DEFAULT_HZ:
            raise ValueError(f"hz must name a source, not {source!r}; the sources are {', '.join(DEFAULT_HZ)}")
    if hz is not None and not isinstance(hz, dict):
        return {s: float(hz) for s in sources}
    return {s: float(given.get(s) or default_hz(s, channels)) for s in sources}


def default_hz(source: str, channels: list[Channel]) -> float:
    """The source's default; for a GPU's library four per update, if its period is known, but at most one in 10 ms."""
    periods = [c.period_s for c in channels if c.source == source and c.period_s]
    return min(100.0, 4 / min(periods)) if source in _LIBRARIES and periods else DEFAULT_HZ[source]


def check_wraps(channels: list[Channel], hz: dict[str, float]) -> None:
    """Two wraps between two readings cannot be seen: a channel must be read twice per wrap at its highest power.

    A replay's samples were taken long ago, and know their wraps.
    """
    for channel in channels:
        if _kept_polled(channel) and hz[channel.source] * LONGEST_UNREAD_S < 1:
            raise ValueError(
                f"hz of {hz[channel.source]!r} is too low for {channel.id}: its driver must be read once every "
                f"{LONGEST_UNREAD_S:.0f} s"
            )
    for channel in (c for c in channels if c.source != "replay"):
        most_w = channel.ceiling_w or UNLIMITED_W
        if channel.wrap_j and channel.wrap_j / most_w < 2 / hz[channel.source]:
            raise ValueError(
                f"hz of {hz[channel.source]!r} is too low for {channel.id}: at {most_w:g} W it wraps every "
                f"{channel.wrap_j / most_w:.0f} s"
            )


def _kept_polled(channel: Channel) -> bool:
    return channel.source == "hwmon" and channel.kind == "energy" and channel.device in KEPT_POLLED


def blind_ns(channel: Channel) -> int:
    """How long a channel may go unread before wraps can be missed: half a wrap at its highest power; 0 = for ever."""
    if _kept_polled(channel):
        return round(LONGEST_UNREAD_S * NS_PER_S)
    if not channel.wrap_j or channel.source == "replay":  # who recorded it has seen to it
        return 0
    return round(channel.wrap_j / 2 / (channel.ceiling_w or UNLIMITED_W) * NS_PER_S)
