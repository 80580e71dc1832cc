"""The channels of this machine; for each that cannot be read, the reason and a remedy.

Discovery only looks at names, limits and permissions; the hot path gets plain descriptions (``Channel.sensor`` and
``Channel.traits``) and stays in C.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable

from fastgreen.errors import ChannelNotFound, FastgreenError
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Found, Seams, SourceStatus, by_own_limit

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
    from fastgreen.sensors import amdsmi, batteries, hwmon, nvml, perf, procstat, rapl, settlement
    from fastgreen.sensors.counter_identity import boot_id, identified
    from fastgreen.sensors.rocm_visibility import marked
    from fastgreen.sensors.sensor_facts import recall

    seams = seams or Seams.of()
    if estimate is not None:
        _check_estimate(estimate)
    zones, zones_state = _looked("rapl", lambda: rapl.rapl(seams))
    events, events_state = _looked("perf", lambda: perf.perf(seams))
    found = [*_granted(zones, seams), *events]
    states = [zones_state, events_state]
    looks: list[tuple[str, Callable[[Seams], Found]]] = [("nvml", nvml.nvml), ("amdsmi", amdsmi.amdsmi)]
    for source, look in [*looks, ("hwmon", hwmon.hwmon), ("battery", batteries.batteries)]:
        more, state = _looked(source, functools.partial(look, seams))
        found += more
        states.append(state)
    more, zone_states = _looked_at_zones(seams)
    found += more
    states += zone_states
    more, state = _looked("procstat", lambda: procstat.procstat(seams, estimate))
    found += more
    states.append(state)
    found = marked(found, seams.kfd_root)
    boot = boot_id(seams.proc_root)
    return [identified(by_own_limit(c), boot) for c in recall(settlement.settle(found))], states


def _looked_at_zones(seams: Seams) -> tuple[list[Channel], list[SourceStatus]]:
    from fastgreen.sensors import power_zones

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
    from fastgreen.sensors import grant_client

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
        ``cpu_root``, ``power_supply_root``, ``amdsmi_library``, ``kfd_root``: where to look, see `Seams`.

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


# Plain words for channels: each means the visible root channels of one kind, of whatever source.
_WORDS = ("gpu", "cpu", "dram")
_GPU_SOURCES = ("nvml", "amdsmi")


def _matching(found: list[Channel], pattern: str) -> list[Channel]:
    if pattern in _WORDS:
        from fastgreen.sensors.channel_kinds import kind_of

        return [c for c in found if c.root and c.visible and kind_of(c.id) == pattern]
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
        boards = {c.id for c in found if c.id in roots and c.source in _GPU_SOURCES}
        checks = {c.id for c in found if c.kind == "power" and c.parent in boards and c.readable}
        default = [c for c in found if c.id in roots or c.id in checks]
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
