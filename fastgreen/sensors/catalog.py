"""The channels of this machine; for each that cannot be read, the reason and a remedy.

Discovery only looks at names, limits and permissions; the hot path gets plain descriptions (``Channel.sensor`` and
``Channel.traits``) and stays in C.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable

from fastgreen.errors import ChannelNotFound, FastgreenError
from fastgreen.sensors import batteries, grant_client, hwmon, nvml, perf, power_zones, procstat, rapl, settlement
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Found, Seams, SourceStatus, by_own_limit
from fastgreen.sensors.sensor_facts import recall

__all__ = ["Channel", "channels", "counted_ids", "discover", "names_of", "select"]


def _check_estimate(estimate: tuple[float, float]) -> None:
    try:
        idle_w, max_w = (float(watts) for watts in estimate)
        valid = 0 <= idle_w <= max_w <= PLAUSIBLE_W
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise ValueError(
            f"estimate must be (idle, max) watts with 0 <= idle <= max <= {PLAUSIBLE_W:g}, not {estimate!r}"
        )


def discover(
    seams: Seams | None = None, estimate: tuple[float, float] | None = None
) -> tuple[list[Channel], list[SourceStatus]]:
    """Every channel and the state of every source. See `channels`."""
    seams = seams or Seams.of()
    if estimate is not None:
        _check_estimate(estimate)
    zones, zones_state = _looked("rapl", lambda: rapl.rapl(seams))
    events, events_state = _looked("perf", lambda: perf.perf(seams))
    found = [*_granted(zones, seams), *events]
    states = [zones_state, events_state]
    for source, look in (("nvml", nvml.nvml), ("hwmon", hwmon.hwmon), ("battery", batteries.batteries)):
        more, state = _looked(source, functools.partial(look, seams))
        found += more
        states.append(state)
    more, zone_states = _looked_at_zones(seams)
    found += more
    states += zone_states
    more, state = _looked("procstat", lambda: procstat.procstat(seams, estimate))
    found += more
    states.append(state)
    return [by_own_limit(c) for c in recall(settlement.settle(found))], states


def _looked_at_zones(seams: Seams) -> tuple[list[Channel], list[SourceStatus]]:
    try:
        return power_zones.power_zones(seams)
    except (FastgreenError, OSError, ValueError, LookupError, ArithmeticError) as error:
        return [], [SourceStatus("scmi", 0, f"discovery of its channels failed: {str(error) or type(error).__name__}")]


def _looked(source: str, look: Callable[[], Found]) -> Found:
    """What a source finds; a source that cannot even look for its channels is not there, and never ends another."""
    try:
        return look()
    except (FastgreenError, OSError, ValueError, LookupError, ArithmeticError) as error:
        return [], SourceStatus(source, 0, f"discovery of its channels failed: {str(error) or type(error).__name__}")


def _granted(zones: list[Channel], seams: Seams) -> list[Channel]:
    """The zones, with the counters that were handed out; without them where the grant fails."""
    try:
        return grant_client.granted(zones, seams.grant_socket)
    except (FastgreenError, OSError, ValueError):
        return zones


def channels(*, estimate: tuple[float, float] | None = None, **seams: str | os.PathLike | None) -> list[Channel]:
    """Every channel that exists on this machine, readable or not.

    Parameters
    ----------
    estimate : (float, float), optional
        Watts of the whole machine's CPUs at idle and at full load, for the ``procstat`` estimate.
    **seams
        ``powercap_root``, ``nvml_library``, ``hwmon_root``, ``proc_root``, ``event_source_root``, ``grant_socket``,
        ``cpu_root``, ``power_supply_root``: where to look, see `Seams`.

    Returns
    -------
    list of Channel
        All channels. One that cannot be read has a `reason` and a `remedy`.

    Raises
    ------
    ValueError
        If `estimate` is not a pair of watts (idle, full load).
    TypeError
        For a seam that is unknown.

    Examples
    --------
    >>> import fastgreen as fg
    >>> all(channel.reason for channel in fg.channels() if not channel.readable)
    True
    """
    return discover(Seams.of(**seams), estimate)[0]


def _unknown(pattern: str, known: Iterable[str]) -> ChannelNotFound:
    known = list(known)
    hint = ""
    if pattern not in _WORDS:
        import difflib

        near = difflib.get_close_matches(pattern, [*known, *_WORDS], n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
    there = f"This machine has: {', '.join(known)}" if known else "This machine has no channel"
    return ChannelNotFound(f"no channel matches {pattern!r}.{hint} {there}")


def names_of(wanted: str | Iterable[str]) -> list[str]:
    """The ids and patterns of a `channels` argument. TypeError for anything else."""
    names = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Iterable) else [wanted]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"channels must be ids or patterns, not {name!r}")
    return names


_GPU_DRIVERS = ("amdgpu", "i915", "xe")


def _is_gpu(channel: Channel) -> bool:
    return channel.source == "nvml" or (channel.source == "hwmon" and channel.device in _GPU_DRIVERS)


def _is_dram(channel: Channel) -> bool:
    return channel.source in ("rapl", "perf") and channel.name == "dram"


def _is_cpu(channel: Channel) -> bool:
    """A CPU package, or the estimate; `discover` makes the estimate a root where no package can be read."""
    package = channel.source in ("rapl", "perf", "procstat") and not _is_dram(channel)
    return package or (channel.source == "hwmon" and channel.device == "amd_energy")


# Plain words for channels: each means the visible root channels of one kind, of whatever source.
_WORDS = {"gpu": _is_gpu, "cpu": _is_cpu, "dram": _is_dram}


def _matching(found: list[Channel], pattern: str) -> list[Channel]:
    if pattern in _WORDS:
        return [c for c in found if c.root and c.visible and _WORDS[pattern](c)]
    from fnmatch import fnmatchcase

    return [c for c in found if fnmatchcase(c.id, pattern)]


def select(found: list[Channel], wanted: str | Iterable[str] | None) -> tuple[list[Channel], list[Channel]]:
    """Choose the channels to read: (chosen, chosen by itself but unreadable).

    ``None`` takes every readable root channel and the power channels beside a GPU's energy counter. Otherwise each of
    `wanted` is an id, a pattern or a word: ``gpu`` (GPU boards), ``cpu`` (CPU packages, or the estimate where no
    package can be read) or ``dram`` (memory).

    Raises
    ------
    ChannelNotFound
        For one that matches nothing; it suggests the nearest name.
    ChannelPermission, ChannelReadError
        For a channel named by its id, or all channels of a pattern, that cannot be read.
    """
    if wanted is None:
        roots = {c.id for c in found if c.root and c.visible}
        default = [c for c in found if c.id in roots or (c.source == "nvml" and c.parent in roots)]
        return [c for c in default if c.readable], [c for c in default if not c.readable]
    patterns = names_of(wanted)
    chosen: dict[str, Channel] = {}
    for pattern in patterns:
        matches = [c for c in found if c.id == pattern] or _matching(found, pattern)
        if not matches:
            raise _unknown(pattern, [c.id for c in found])
        readable = [c for c in matches if c.readable]
        if not readable:
            raise matches[0].error()
        chosen.update((c.id, c) for c in readable)
    return list(chosen.values()), []


def counted_ids(channels: list[Channel]) -> set[str]:
    """Ids that make up the total: the roots; without a root, the channels that are not inside another chosen one."""
    roots = {c.id for c in channels if c.root}
    chosen = {c.id for c in channels}
    return roots or {c.id for c in channels if c.parent not in chosen}
