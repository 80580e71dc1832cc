"""RAPL through powercap: the zones, their names, and the zones that count toward a total."""

from __future__ import annotations

import os
import stat

from fastgreen._light_dataclass import replace
from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Found, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS

__all__ = ["rapl"]

_HEX = set("0123456789abcdef")
DEEPEST_ZONE = 4  # control type, package, domain, and one to spare
# At 1 kW a shorter range would be gone between two readings; those of real counters are a thousand times as long.
LEAST_RANGE_UJ = 20_000_000


def _is_zone(name: str) -> bool:
    kind, *numbers = name.split(":")
    return kind in ("intel-rapl", "intel-rapl-mmio") and bool(numbers) and all(n and set(n) <= _HEX for n in numbers)


def _zones(root: str) -> dict[str, str]:
    """Zone id -> folder. /sys/class/powercap lists every zone at the top; a copied tree may only nest them.

    The walk goes level by level and takes each folder once, by the shortest of the links that lead to it.
    """
    zones: dict[str, str] = {}
    seen: set[tuple[int, int]] = set()
    folders = {root: sorted(os.listdir(root))}
    for _ in range(DEEPEST_ZONE):
        below = {}
        for folder, names in folders.items():
            for name in (n for n in names if n.startswith("intel-rapl")):
                entry = os.path.join(folder, name)
                identity = _folder_identity(entry)
                if identity is None or identity in seen:
                    continue
                seen.add(identity)
                if _is_zone(name):
                    zones.setdefault(name, entry)
                below[entry] = sysfs.entries(entry)
        folders = below
    return dict(sorted(zones.items(), key=lambda item: [int(n, 16) for n in item[0].split(":")[1:]]))


def _folder_identity(path: str) -> tuple[int, int] | None:
    """The same for every link that leads to one folder; None for any other."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _same_counter(first: str, second: str) -> bool:
    """True when two zones show one counter: the second's value is between two reads of the first."""
    before, value, after = (sysfs.integer(f"{p}/energy_uj") for p in (first, second, first))
    return before is not None and value is not None and after is not None and 0 < before <= value <= after


def _mirrors(folders: dict[str, str]) -> dict[str, str]:
    """Zone -> the first zone whose counter it repeats, of those that do.

    All are read twice before any two are compared: of a counter and its mirror, the second's first value lies between
    the first's two, which hardly any other pair can say.
    """
    rounds = [[sysfs.integer(f"{folder}/energy_uj") or 0 for folder in folders.values()] for _ in range(2)]
    mirrors: dict[str, str] = {}
    originals: list[tuple[str, int, int]] = []
    for zone, first, second in zip(folders, *rounds, strict=True):
        near = (z for z, low, high in originals if 0 < low <= first <= high)
        twin = next((z for z in near if _same_counter(folders[z], folders[zone])), None)
        if twin is None:
            originals.append((zone, first, second))
        else:
            mirrors[zone] = twin
    return mirrors


def _is_limit(name: str) -> bool:
    return name.startswith("constraint_") and "power" in name and name.endswith("_uw")


def _zone_channel(zone: str, folder: str, parent: Channel | None) -> Channel:
    mmio = "-mmio" in zone
    name = sysfs.printable(sysfs.text(f"{folder}/name") or zone)
    identity = f"{parent.id}/{name}" if parent else f"rapl:{name}" + ("@mmio" if mmio else "")
    span = sysfs.integer(f"{folder}/max_energy_range_uj") or 0
    span = span if LEAST_RANGE_UJ <= span < 1 << 62 else 0  # 64 bits do not wrap in the life of a machine
    # The counter has 32 bits of a unit that powercap rounds to uJ; it wraps one unit past the range.
    quantum = max(1, round(span / (2**32 - 1)))
    limits = [(sysfs.integer(f"{folder}/{n}") or 0) * 1e-6 for n in sysfs.entries(folder) if _is_limit(n)]
    note: str | None = None
    root = parent is None or name == "dram"
    if mmio:
        note, root = "shows the package counter over another bus", False
    elif name.startswith("psys"):
        note, root = "the whole platform, packages included", False
    elif parent is not None and not root:
        note = f"inside {parent.name}"
    if span <= 0:
        note = "; ".join(filter(None, [note, "its range is not known, so a wrap counts as a restart"]))
    return Channel(
        id=identity,
        source="rapl",
        kind="energy",
        name=name,
        unit="uJ",
        parent=parent.id if parent else None,
        root=root,
        wrap_j=(span + quantum) * 1e-6 if span > 0 else None,
        note=note,
        device=zone,
        ceiling_w=max((w for w in limits if 0 < w <= PLAUSIBLE_W), default=None),
        sensor={"path": f"{folder}/energy_uj"},
        traits=traits("energy", "uJ", modulus=span + quantum if span > 0 else 0, quantum=quantum, period_ns=NS_PER_MS),
        **sysfs.unreadable(f"{folder}/energy_uj", "energy"),
    )


def rapl(seams: Seams) -> Found:
    root = seams.powercap_root
    try:
        zones = _zones(root)
    except PermissionError:
        return [], SourceStatus("rapl", 0, f"permission denied: {root}", sysfs.remedy("a+rx", root))
    except OSError as error:
        reason = f"{root}: {error.strerror}; most virtual machines and containers have no powercap"
        return [], SourceStatus("rapl", 0, reason, "on a physical machine: sudo modprobe intel_rapl_msr")
    by_zone: dict[str, Channel] = {}
    taken: set[str] = set()
    for zone, folder in zones.items():
        channel = _zone_channel(zone, folder, by_zone.get(zone.rpartition(":")[0]))
        if channel.id in taken:
            channel = replace(channel, id=f"{channel.id}#{zone.partition(':')[2]}")
        taken.add(channel.id)
        by_zone[zone] = channel
    for inside in (False, True):  # a domain's counter repeats no package's
        roots = {z: zones[z] for z, c in by_zone.items() if c.root and c.readable and (c.parent is not None) == inside}
        for zone, twin in _mirrors(roots).items():
            by_zone[zone] = replace(by_zone[zone], root=False, note=f"mirrors {by_zone[twin].id}")
    found = list(by_zone.values())
    if found and not any(c.root for c in found):
        # Only psys or only mmio zones: better one of them than none.
        found = [replace(c, root=c.id == found[0].id) for c in found]
    if {"sgx", "tdx_guest"} & set((sysfs.text(f"{seams.proc_root}/cpuinfo") or "").split()):
        noise = "SGX or TDX adds noise to the readings: totals are right, short windows are not"
        found = [replace(c, note="; ".join(filter(None, [c.note, noise]))) for c in found]
    return found, SourceStatus("rapl", len(found), None if found else f"{root} has no RAPL zone")
