"""Zones of powercap that show a power instead of an energy: Arm's firmware (SCMI), and the kernel's model (DTPM).

Zones nest: what a zone shows holds its children. So a zone counts where no zone around it can be read.
"""

from __future__ import annotations

import os

from fastgreen._light_dataclass import replace
from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS

__all__ = ["power_zones"]

DEEPEST_ZONE = 8
# Control type of the kernel -> our source. DTPM's powers come from clock rates and a table (Linux, powercap/dtpm.c).
_CONTROLS = {"arm-scmi": "scmi", "dtpm": "dtpm"}
# A zone of the firmware is taken to hold the CPU unless its name says that it is another part.
_APART = ("gpu", "npu", "dram", "ddr", "mem", "isp", "vpu", "display")
_UPDATE_MS = 100


def _numbers(zone: str) -> list[int]:
    return [int(number, 16) for number in zone.split(":")[1:]]


def _zones(root: str, control: str) -> dict[str, str]:
    """Zone id -> folder. The class folder lists every zone; a copied tree may only nest them. Parents come first."""
    import re

    pattern = re.compile(rf"{control}(:[0-9a-f]{{1,8}}){{1,{DEEPEST_ZONE}}}")
    zones: dict[str, str] = {}
    folders = [root]
    for _ in range(DEEPEST_ZONE):
        below = []
        for folder in folders:
            for name in (n for n in sysfs.entries(folder) if n.startswith(control)):
                if pattern.fullmatch(name) and name not in zones:
                    zones[name] = f"{folder}/{name}"
                    below.append(zones[name])
                elif name == control:
                    below.append(f"{folder}/{name}")
        folders = below
    return dict(sorted(zones.items(), key=lambda item: _numbers(item[0])))


def is_apart(name: str) -> bool:
    """Whether a zone of the firmware is a part of the chip beside its CPU."""
    return any(part in name.lower() for part in _APART)


def _zone_channel(source: str, zone: str, folder: str, parent: Channel | None) -> Channel:
    name = sysfs.printable(sysfs.text(f"{folder}/name") or zone)
    limits = [(sysfs.integer(f"{folder}/{n}") or 0) * 1e-6 for n in sysfs.entries(folder) if _is_limit(n)]
    return Channel(
        id=f"{parent.id}/{name}" if parent else f"{source}:{name}",
        source=source,
        kind="power",
        name=name,
        unit="uW",
        parent=parent.id if parent else None,
        estimated=source == "dtpm",
        # A run of an estimate has a ceiling; where no limit is believed, a machine's.
        ceiling_w=max((w for w in limits if 0 < w <= PLAUSIBLE_W), default=PLAUSIBLE_W if source == "dtpm" else None),
        device=zone,
        role="scmi-cpu" if source == "scmi" and not is_apart(name) else source,
        sensor={"path": f"{folder}/power_uw"},
        traits=traits("power", "uW", period_ns=_UPDATE_MS * NS_PER_MS),
        **sysfs.unreadable(f"{folder}/power_uw", "power"),
    )


def _is_limit(name: str) -> bool:
    return name == "max_power_range_uw" or (name.startswith("constraint_") and name.endswith("power_uw"))


def _settled(channels: dict[str, Channel]) -> list[Channel]:
    """The zones; a zone counts if no readable zone contains it."""
    out = []
    for zone, channel in channels.items():
        above = zone.rpartition(":")[0]
        while above and not (above in channels and channels[above].readable):
            above = above.rpartition(":")[0]
        if above:
            channel = replace(channel, root=False, note=f"inside {channels[above].id}")
        elif channel.parent is not None:
            channel = replace(channel, note=f"counts because {channel.parent}, which contains it, cannot be read")
        out.append(channel)
    return out


def power_zones(seams: Seams) -> tuple[list[Channel], list[SourceStatus]]:
    """Every zone with a power below ``powercap_root``, and the state of the two sources."""
    found: list[Channel] = []
    states = []
    for control, source in _CONTROLS.items():
        by_zone: dict[str, Channel] = {}
        taken: set[str] = set()
        for zone, folder in _zones(seams.powercap_root, control).items():
            if not os.path.lexists(f"{folder}/power_uw"):
                continue
            channel = _zone_channel(source, zone, folder, by_zone.get(zone.rpartition(":")[0]))
            if channel.id in taken:
                channel = replace(channel, id=f"{channel.id}#{zone.partition(':')[2]}")
            taken.add(channel.id)
            by_zone[zone] = channel
        found += _settled(by_zone)
        states.append(SourceStatus(source, len(by_zone)))
    return found, states
