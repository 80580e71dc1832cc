"""What can be read on this machine: every channel that exists, and for one that cannot be read why, and what mends it.

Discovery only looks at names, limits and permissions; the hot path gets plain descriptions (``Channel.sensor`` and
``Channel.traits``) and stays in C.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from fastgreen._light_dataclass import replace
from fastgreen.errors import ChannelNotFound
from fastgreen.sensors import grant_client, hwmon, nvml, perf, procstat, rapl
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Seams, SourceStatus
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
    found: list[Channel] = []
    states: list[SourceStatus] = []
    zones, zones_state = rapl.rapl(seams)
    events, events_state = perf.perf(seams)
    found += perf.settle(grant_client.granted(zones, seams.grant_socket), events)
    states += [zones_state, events_state]
    for look in (nvml.nvml, hwmon.hwmon):
        more, state = look(seams)
        found += more
        states.append(state)
    cpu = [c for c in found if c.source in ("rapl", "perf") and c.root and c.readable]
    if cpu:  # amd_energy counts the same sockets as RAPL
        found = [
            replace(c, root=False, note="the same sockets as rapl")
            if c.source == "hwmon" and c.device == "amd_energy"
            else c
            for c in found
        ]
    cpu += [c for c in found if c.source == "hwmon" and c.device == "amd_energy" and c.root]
    more, state = procstat.procstat(seams, estimate)
    found = recall(found)
    stands_in = not any(c.readable for c in cpu)
    found += [replace(c, root=stands_in) for c in more]
    states.append(state)
    return found, states


def channels(*, estimate: tuple[float, float] | None = None, **seams: str | os.PathLike | None) -> list[Channel]:
    """Every channel that exists on this machine, readable or not.

    Parameters
    ----------
    estimate : (float, float), optional
        Watts of the whole machine's CPUs at idle and at full load, for the ``procstat`` estimate.
    **seams
        ``powercap_root``, ``nvml_library``, ``hwmon_root``, ``proc_root``, ``event_source_root``, ``grant_socket``:
        where to look, see `Seams`.

    Returns
    -------
    list of Channel
        What can be read and what cannot, which says why (`reason`) and what mends it (`remedy`).

    Raises
    ------
    ValueError
        For an `estimate` that is none.
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
    import difflib

    known = list(known)
    near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ChannelNotFound(f"no channel matches {pattern!r}.{hint} This machine has: {', '.join(known) or 'none'}")


def names_of(wanted: str | Iterable[str]) -> list[str]:
    """The ids and patterns of a `channels` argument. TypeError for anything else."""
    names = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, Iterable) else [wanted]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"channels must be ids or patterns, not {name!r}")
    return names


def _matching(found: list[Channel], pattern: str) -> list[Channel]:
    from fnmatch import fnmatchcase

    return [c for c in found if fnmatchcase(c.id, pattern)]


def select(found: list[Channel], wanted: str | Iterable[str] | None) -> tuple[list[Channel], list[Channel]]:
    """Choose the channels to read: (chosen, chosen by itself but unreadable).

    ``None`` takes every readable root channel and the power channels beside a GPU's energy counter. Otherwise each of
    `wanted` is an id or a pattern.

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
    """Ids that make up the total: the roots, or where none was chosen those that lie in no other chosen one."""
    roots = {c.id for c in channels if c.root}
    chosen = {c.id for c in channels}
    return roots or {c.id for c in channels if c.parent not in chosen}
