"""The second road to RAPL: the kernel's ``power`` event source, which counts the same registers as powercap.

One read brings all domains of a package and nothing wraps; the permission is another one (perf_event_paranoid or
CAP_PERFMON instead of a file's mode). The two are never added up: see `one_road`.
"""

from __future__ import annotations

import math
import os

from fastgreen import _core
from fastgreen._light_dataclass import replace
from fastgreen.errors import ChannelPermission, FastgreenError
from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS, UNITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["one_road", "perf"]

# Event -> powercap's word for the domain. Linux arch/x86/events/rapl.c has these five.
DOMAINS = {"energy-pkg": "package", "energy-ram": "dram", "energy-cores": "core", "energy-gpu": "uncore"}
PSYS = "energy-psys"
# The registers step by 61 uJ or less (Intel SDM 3B, 15.10.1: a unit of 2^-ESU J, by default 2^-14); no file says by
# how much here. psys has been seen to step by 1 J.
STEP_J, PSYS_STEP_J = 2.0**-14, 1.0
CPU_BITS = 16  # more CPUs than a kernel is built for
FINEST = 40  # the kernel counts in 2^-32 J; a step of 1 J in units far below would not fit its integers
DRAM_NOTE = "its unit can differ from powercap's by 0.27 %"
PSYS_NOTE = "the whole platform, packages included; it can step by 1 J"


def _within(number: int, bits: int) -> int:
    """The number; ValueError where the kernel's own has fewer bits."""
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{number} is out of range")
    return number


def _cpus(text: str) -> list[int]:
    """The numbers of a CPU list: "0,18" or "0-1,4"."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers += range(_within(int(first), CPU_BITS), _within(int(last or first), CPU_BITS) + 1)
    return numbers


def _unit(events: str, name: str) -> str:
    """The unit of an event's integer; ValueError where it is none that is known."""
    unit, scale = sysfs.read(f"{events}/{name}.unit"), float(sysfs.read(f"{events}/{name}.scale"))
    mantissa, exponent = math.frexp(scale)
    if unit != "Joules" or mantissa != 0.5 or not 1 <= 1 - exponent <= FINEST:
        raise ValueError(f"{events}/{name}.scale is {scale!r} {unit}, which is no binary fraction of a joule")
    return f"J/2^{1 - exponent}"


def _config(events: str, name: str) -> int:
    import re

    text = sysfs.read(f"{events}/{name}")
    match = re.fullmatch(r"event=(0x[0-9a-fA-F]+|\d+)", text)
    if match is None:
        raise ValueError(f"{events}/{name} holds no event number: {text[:24]!r}")
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


def _probe(channels: list[Channel], seams: Seams) -> list[Channel]:
    """Open each event and close it again: whether that is allowed no file says for certain (containers filter it)."""
    out = []
    for channel in channels:
        try:
            _core.Sampler("perf", [channel.sensor], [channel.traits], period_ns=NS_PER_MS, ring_capacity=2)
        except FastgreenError as error:
            channel = replace(channel, **_refusal(error, seams))
        out.append(channel)
    return out


def _channel(source: str, name: str, domain: str, package: str, kind: int, cpu: int) -> Channel:
    events = f"{source}/events"
    top = domain == "package" or name == PSYS
    step_j = PSYS_STEP_J if name == PSYS else STEP_J
    identity = f"perf:{package}" if top else f"perf:{package}/{domain}"
    common: dict[str, Any] = {
        "id": identity,
        "source": "perf",
        "kind": "energy",
        "name": package if top else domain,
        "parent": None if top else f"perf:{package}",
        "root": domain in ("package", "dram"),
        "device": f"cpu{cpu}",
        "note": {PSYS: PSYS_NOTE, "energy-ram": DRAM_NOTE}.get(name, None if top else f"inside {package}"),
    }
    try:
        unit = _unit(events, name)
        event = {"type": kind, "config": _config(events, name), "cpu": cpu}
    except (OSError, ValueError) as error:
        return Channel(unit="J", readable=False, reason=str(error), **common)
    return Channel(
        unit=unit,
        sensor={"path": f"power/{name}", "event": event},
        traits=traits("energy", unit, quantum=max(1, round(step_j / UNITS[unit])), period_ns=1 * NS_PER_MS),
        **common,
    )


def perf(seams: Seams) -> tuple[list[Channel], SourceStatus]:
    """Every event of the ``power`` source on every package; the source names one CPU to ask for each."""
    source = f"{seams.event_source_root}/power"
    try:
        kind, cpus = _within(int(sysfs.read(f"{source}/type")), 32), _cpus(sysfs.read(f"{source}/cpumask"))
        names = set(os.listdir(f"{source}/events"))
    except FileNotFoundError as error:
        return [], SourceStatus("perf", 0, f"no {error.filename}", "on a physical machine: sudo modprobe rapl")
    except (OSError, ValueError) as error:
        return [], SourceStatus("perf", 0, f"{source}: {error}")
    found: list[Channel] = []
    for index, cpu in enumerate(cpus):
        domains = [(n, d, f"package-{index}") for n, d in DOMAINS.items()]
        domains.append((PSYS, "psys", "psys" if len(cpus) == 1 else f"psys-{index}"))
        found += [_channel(source, n, d, package, kind, cpu) for n, d, package in domains if n in names]
    readable = _probe([c for c in found if c.readable], seams)
    by_id = {c.id: c for c in readable}
    found = [by_id.get(c.id, c) for c in found]
    return found, SourceStatus("perf", len(found), None if found else f"{source} has no energy event")


def one_road(rapl: Iterable[Channel], perf: Iterable[Channel]) -> list[Channel]:
    """Both roads with one of them counting: powercap where it may be read, perf where only that may be, never both."""
    rapl, perf = list(rapl), list(perf)
    by_powercap = any(c.root and c.readable for c in rapl)
    by_perf = not by_powercap and any(c.root and c.readable for c in perf)
    if by_perf:
        rapl = [_aside(c, "read through perf instead") for c in rapl]
    elif rapl:
        perf = [_aside(c, "the same counters as rapl") for c in perf]
    return rapl + perf


def _aside(channel: Channel, why: str) -> Channel:
    return replace(channel, root=False, note="; ".join(filter(None, [channel.note, why]))) if channel.root else channel
