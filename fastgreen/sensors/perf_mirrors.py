"""Whether CPUs that an event source names show one counter: their values while both were watched.

The mirror test of ``rapl`` compares absolute values. An event counts from the moment it was opened, so here the growth
is compared. Both counters are read within microseconds, a thousand times a second. Two events of one register differ by
the same number at every reading, but for the few that an update falls into. Registers of two packages never do: they
count in steps of 61 uJ or less, and hundreds of steps differ at every update.
"""

from __future__ import annotations

import time

from fastgreen import _core
from fastgreen._light_dataclass import replace
from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Channel
from fastgreen.sensors.topology import CpuGroup
from fastgreen.units import NS_PER_MS

__all__ = ["counters_once", "same_counter"]

ROUNDS = 64  # readings to compare, one a millisecond
PATIENCE_S = 1.0
LEAST_VALUES = 8  # fewer different values prove nothing
LEAST_SHARE = 0.6  # of the readings that must differ by one number
MOST_WATCHED = 48  # counters at a time: each takes a descriptor
MOST_CPUS = 1024  # without a topology; further ones are left out


def same_counter(first: list[int], second: list[int]) -> bool:
    """Whether two series of readings, taken in turns, can be of one counter.

    Also where neither of them moved: nothing tells them apart, and energy must not be counted twice.
    """
    rounds = min(len(first), len(second))
    if len(set(first[:rounds])) <= 1 and len(set(second[:rounds])) <= 1:
        return True
    values: dict[int, set[int]] = {}
    times: dict[int, int] = {}
    for a, b in zip(first, second, strict=False):
        values.setdefault(a - b, set()).add(a)
        times[a - b] = times.get(a - b, 0) + 1
    often = max(times, key=lambda apart: times[apart])
    return times[often] >= LEAST_SHARE * rounds and len(values[often]) >= LEAST_VALUES


def _opens(channel: Channel) -> bool:
    try:
        _core.Sampler("perf", [channel.sensor], [channel.traits], period_ns=NS_PER_MS, ring_capacity=2)
    except FastgreenError:
        return False
    return True


def _watch(channels: list[Channel]) -> list[list[int]]:
    """Readings of each channel, taken in turns; an empty list for each where they cannot be read together."""
    nothing: list[list[int]] = [[] for _ in channels]
    try:
        sampler = _core.Sampler(
            "perf",
            [c.sensor for c in channels],
            [c.traits for c in channels],
            period_ns=NS_PER_MS,
            ring_capacity=1024,
        )
        sampler.start(200 * NS_PER_MS)
    except FastgreenError:
        return nothing
    until = time.monotonic() + PATIENCE_S
    while sampler.live(0)["samples"] < ROUNDS and time.monotonic() < until:
        time.sleep(0.005)
    sampler.stop(0)
    from fastgreen import _resolver

    readings = [_resolver.samples(sampler.drain(i))["raw"].tolist() for i in range(len(channels))]
    return readings if len({len(mine) for mine in readings}) == 1 else nothing


def _originals(groups: list[CpuGroup], watched: dict[int, Channel]) -> dict[int, CpuGroup]:
    """First CPU -> group, without those whose counter a group before them shows."""
    originals: dict[int, CpuGroup] = {}
    waiting = [g for g in groups if g.cpus[0] in watched and _opens(watched[g.cpus[0]])]
    while waiting and len(originals) < MOST_WATCHED - 1:
        room = MOST_WATCHED - len(originals)
        batch, waiting = waiting[:room], waiting[room:]
        known = [*originals.values(), *batch]
        readings = dict(zip((g.cpus[0] for g in known), _watch([watched[g.cpus[0]] for g in known]), strict=True))
        for group in batch:
            mine = readings[group.cpus[0]]
            twins = (g for g in originals.values() if group.doubtful and same_counter(readings[g.cpus[0]], mine))
            twin = next(twins, None)
            if twin is None:
                originals[group.cpus[0]] = group
            else:
                originals[twin.cpus[0]] = replace(twin, cpus=(*twin.cpus, *group.cpus))
    return originals


def counters_once(groups: list[CpuGroup], watched: dict[int, Channel]) -> list[CpuGroup]:
    """The groups with each counter once, and a name for each.

    Parameters
    ----------
    groups : list of CpuGroup
    watched : dict of int to Channel
        First CPU of a group -> a channel to watch there, of those that can be understood.
    """
    if any(g.doubtful for g in groups):
        groups = groups[:MOST_CPUS]
        groups = list(_originals(groups, watched).values()) or groups[:1]
    names = {g.name for g in groups}
    free = iter(f"package-{n}" for n in range(len(groups) + len(names)) if f"package-{n}" not in names)
    return [g if g.name else replace(g, name=next(free)) for g in groups]
