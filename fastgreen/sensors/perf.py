"""The second road to RAPL: the kernel's ``power`` event source, which counts the same registers as powercap.

One read brings all domains of a package and nothing wraps; the permission is another one (perf_event_paranoid or
CAP_PERFMON instead of a file's mode). The two are never added up: `settlement` has the rules.
"""

from __future__ import annotations

import math
import os

from fastgreen import _core
from fastgreen._light_dataclass import replace
from fastgreen.errors import ChannelPermission, FastgreenError
from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel, Seams, SourceStatus, traits
from fastgreen.sensors.topology import CpuGroup, cpu_list, groups, place
from fastgreen.units import NS_PER_MS, UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["perf"]

# Event -> powercap's word for the domain. Linux arch/x86/events/rapl.c has these five.
DOMAINS = {"energy-pkg": "package", "energy-ram": "dram", "energy-cores": "core", "energy-gpu": "uncore"}
PSYS = "energy-psys"
# The registers step by 61 uJ or less (Intel SDM 3B, 15.10.1: a unit of 2^-ESU J, by default 2^-14); no file says by
# how much here. psys has been seen to step by 1 J.
STEP_J, PSYS_STEP_J = 2.0**-14, 1.0
FINEST = 40  # the kernel counts in 2^-32 J; a step of 1 J in units far below would not fit its integers
MOST_TRIED = 4  # CPUs of a package to try where the first ones have gone offline
DRAM_NOTE = "its unit can differ from powercap's by 0.27 %"
PSYS_NOTE = "the whole platform, packages included; it can step by 1 J"


def _within(number: int, bits: int) -> int:
    """The number; ValueError where the kernel's own has fewer bits."""
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{number} is out of range")
    return number


def _unit(events: str, name: str) -> str:
    """The unit of an event's integer; ValueError if it is not known."""
    unit, scale = sysfs.read(f"{events}/{name}.unit"), float(sysfs.read(f"{events}/{name}.scale"))
    mantissa, exponent = math.frexp(scale)
    if unit != "Joules" or mantissa != 0.5 or not 1 <= 1 - exponent <= FINEST:
        raise ValueError(f"{events}/{name}.scale is {scale!r} {unit}, which is not a binary fraction of a joule")
    return f"J/2^{1 - exponent}"


def _config(events: str, name: str) -> int:
    import re

    text = sysfs.read(f"{events}/{name}")
    match = re.fullmatch(r"event=(0x[0-9a-fA-F]+|\d+)", text)
    if match is None:
        raise ValueError(f"{events}/{name} does not hold an event number: {text[:24]!r}")
    return _within(int(match[1], 0), 64)


def _level(seams: Seams) -> str:
    try:
        return sysfs.read(f"{seams.proc_root}/sys/kernel/perf_event_paranoid")
    except OSError:
        return "unknown"


def _refusal(error: FastgreenError, seams: Seams) -> dict[str, Any]:
    if isinstance(error, ChannelPermission):
        return {
            "readable": False,
            "reason": f"permission denied: {error}; kernel.perf_event_paranoid is {_level(seams)}",
            "remedy": "sudo sysctl kernel.perf_event_paranoid=0, or give the program CAP_PERFMON",
        }
    return {"readable": False, "reason": str(error)}


def _opened(channel: Channel, cpus: tuple[int, ...], seams: Seams) -> Channel:
    """The channel, read on the first of `cpus` where its event opens; with the reason where it opens on no CPU.

    Whether opening is allowed no file says for certain (containers filter it), so the event is opened and closed again.
    A CPU can be listed and have gone offline since.
    """
    refusal: dict[str, Any] = {}
    for cpu in cpus[:MOST_TRIED]:
        event = {**channel.sensor["event"], "cpu": cpu}
        tried = replace(channel, device=f"cpu{cpu}", sensor={**channel.sensor, "event": event})
        try:
            _core.Sampler("perf", [tried.sensor], [tried.traits], period_ns=NS_PER_MS, ring_capacity=2)
        except FastgreenError as error:
            refusal = refusal or _refusal(error, seams)
            if isinstance(error, ChannelPermission):
                break
        else:
            return tried
    return replace(channel, **refusal)


def _channel(source: str, event: str, kind: int, cpu: int, **fields: Any) -> Channel:
    """The channel of an event on a CPU; `fields` are those of its `Channel`."""
    events = f"{source}/events"
    step_j = PSYS_STEP_J if event == PSYS else STEP_J
    common: dict[str, Any] = {"source": "perf", "kind": "energy", "device": f"cpu{cpu}", **fields}
    try:
        unit = _unit(events, event)
        description = {"type": kind, "config": _config(events, event), "cpu": cpu}
    except (OSError, ValueError) as error:
        return Channel(unit="J", readable=False, reason=str(error), **common)
    return Channel(
        unit=unit,
        sensor={"path": f"{os.path.basename(source)}/{event}", "event": description},
        traits=traits("energy", unit, quantum=max(1, round(step_j / UNITS[unit])), period_ns=1 * NS_PER_MS),
        **common,
    )


def _domains(source: str, names: set[str], kind: int, group: CpuGroup, psys: str) -> list[Channel]:
    """The channels of one package (or die): a channel for each event that the source has."""
    package, found = group.name, []
    for name, domain in {**DOMAINS, PSYS: "psys"}.items():
        if name not in names:
            continue
        top = domain in ("package", "psys")
        title = package if domain == "package" else psys if top else domain
        note = {PSYS: PSYS_NOTE, "energy-ram": DRAM_NOTE}.get(name, None if top else f"inside {package}")
        found.append(
            _channel(
                source,
                name,
                kind,
                group.cpus[0],
                id=f"perf:{title}" if top else f"perf:{package}/{domain}",
                name=title,
                parent=None if top else f"perf:{package}",
                root=domain in ("package", "dram"),
                note=note,
            )
        )
    return found


def _described(source: str) -> tuple[int, list[int], set[str]]:
    """(type, CPUs, names of events) of an event source. OSError or ValueError."""
    kind, cpus = _within(int(sysfs.read(f"{source}/type")), 32), cpu_list(sysfs.read(f"{source}/cpumask"))
    if not cpus:
        raise ValueError("its cpumask names no CPU, so no CPU of this source is online")
    return kind, cpus, set(os.listdir(f"{source}/events"))


def _cores(seams: Seams, packages: set[str]) -> list[Channel]:
    """AMD's counters of single cores, from Linux 6.14 on (``power_core``): each is inside its package."""
    source, name = f"{seams.event_source_root}/power_core", "energy-core"
    try:
        kind, cpus, names = _described(source)
    except (OSError, ValueError):
        return []  # no such counters; the packages, which hold the cores, are listed by `perf`
    if name not in names:
        return []
    cores: dict[str, Channel] = {}
    for cpu in cpus:
        found = place(seams.cpu_root, cpu)
        package = f"package-{found.package}" if found else ""
        core = f"{package}/core-{f'{found.die}-' if found.die else ''}{found.core}" if found else f"core-of-cpu{cpu}"
        if f"perf:{core}" in cores:  # the other thread of a core
            continue
        cores[f"perf:{core}"] = _channel(
            source,
            name,
            kind,
            cpu,
            id=f"perf:{core}",
            name=core.rpartition("/")[2],
            parent=f"perf:{package}" if package in packages else None,
            root=False,
            note=f"inside {package or 'its package'}",
        )
    channels = list(cores.values())
    first = _opened(channels[0], tuple(cpus[:1]), seams) if channels[0].readable else channels[0]
    fields: dict[str, Any] = (
        {} if first.readable else {"readable": False, "reason": first.reason, "remedy": first.remedy}
    )
    return [replace(c, **fields) if c.readable else c for c in channels]  # one is tried: a server has hundreds


def perf(seams: Seams) -> tuple[list[Channel], SourceStatus]:
    """Every event of the ``power`` source on every package, each read on one CPU of its package."""
    source = f"{seams.event_source_root}/power"
    try:
        kind, cpus, names = _described(source)
    except FileNotFoundError as error:
        return [], SourceStatus("perf", 0, f"no {error.filename}", "on a physical machine: sudo modprobe rapl")
    except (OSError, ValueError) as error:
        return [], SourceStatus("perf", 0, f"{source}: {error}")
    intel = "GenuineIntel" in (sysfs.text(f"{seams.proc_root}/cpuinfo") or "")
    listed = groups(seams.cpu_root, cpus, dies=intel)
    if not all(g.name and not g.doubtful for g in listed):
        from fastgreen.sensors.perf_mirrors import counters_once

        firsts = ((g.cpus[0], _domains(source, names, kind, g, "psys")[:1]) for g in listed)
        listed = counters_once(listed, {cpu: c for cpu, found in firsts for c in found if c.readable})
    found: list[Channel] = []
    for index, group in enumerate(listed):
        domains = _domains(source, names, kind, group, "psys" if len(listed) == 1 else f"psys-{index}")
        found += [_opened(c, group.cpus, seams) if c.readable else c for c in domains]
    found += _cores(seams, {g.name for g in listed})
    return found, SourceStatus("perf", len(found), None if found else f"{source} has no energy event")
