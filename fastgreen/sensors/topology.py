"""Which CPUs share a package, a die, a core, as ``/sys/devices/system/cpu`` says; and the kernel's lists of CPUs.

An event source names CPUs to ask. Until Linux 6.19 it named one for each counter, from 7.0 on it names every CPU that
may answer, and all CPUs of a package answer with the same counter (kernel commit 525e0064f3d8). So CPUs are grouped
here, and one CPU of a group is read.
"""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass
from fastgreen.sensors import sysfs

__all__ = ["CpuGroup", "Place", "cpu_list", "groups", "place"]

MOST_CPUS = 1 << 16  # more than a kernel is built for


@dataclass(frozen=True)
class Place:
    """Numbers of a CPU's package, die and core; die and core are 0 where the kernel does not name them."""

    package: int
    die: int
    core: int


@dataclass(frozen=True)
class CpuGroup:
    """CPUs that answer with one counter: any one of them can be read.

    Attributes
    ----------
    name : str
        ``package-0``, ``package-0-die-1`` as powercap calls them, or ``""`` where the topology is not known.
    cpus : tuple of int
        In rising order, those that are online first.
    doubtful : bool
        Whether another group may show the same counter: only the counters themselves can tell.
    """

    name: str
    cpus: tuple[int, ...]
    doubtful: bool = False


def cpu_list(text: str) -> list[int]:
    """The numbers of a list such as "0,18" or "0-1,4", each once, in rising order. ValueError for any other text."""
    import re

    numbers: set[int] = set()
    parts = [part for part in text.split(",") if part.strip()]
    if len(parts) > MOST_CPUS:
        raise ValueError(f"a list of {len(parts)} ranges of CPUs is too long")
    for part in parts:
        match = re.fullmatch(r"\s*([0-9]{1,20})(?:-([0-9]{1,20}))?\s*", part)
        if match is None:
            raise ValueError(f"{part[:24]!r} is not a range of CPUs")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= MOST_CPUS or first > last:
            raise ValueError(f"the range of CPUs {part[:24]!r} is out of range")
        if not {first, last} <= numbers:
            numbers.update(range(first, last + 1))
    return sorted(numbers)


def place(root: str, cpu: int) -> Place | None:
    """The place of a CPU; None if its package is not named (a CPU that is offline has no topology)."""
    folder = f"{root}/cpu{cpu}/topology"
    package = sysfs.integer(f"{folder}/physical_package_id")
    if package is None or package < 0:  # -1: not known
        return None
    die, core = (max(0, sysfs.integer(f"{folder}/{name}") or 0) for name in ("die_id", "core_id"))
    return Place(package, die, core)


def _online(root: str, cpus: list[int]) -> list[int]:
    """The CPUs without those that are offline or not there; all of them where that leaves no CPU."""
    kept = [
        cpu for cpu in cpus if sysfs.integer(f"{root}/cpu{cpu}/online") != 0
    ]  # the first CPU often has no such file
    if os.path.isdir(root):
        kept = [cpu for cpu in kept if os.path.isdir(f"{root}/cpu{cpu}")] or kept
    return kept or cpus


def groups(root: str, cpus: list[int], *, dies: bool) -> list[CpuGroup]:
    """The CPUs of a mask by package.

    Parameters
    ----------
    root : str
        The folder in place of ``/sys/devices/system/cpu``.
    cpus : list of int
        The CPUs that the event source names.
    dies : bool
        Whether each die can have a counter of its own (Intel). They are kept apart only where the mask names one CPU
        for each die. AMD's dies repeat one register, so there it must be False (Linux 6.9 to 6.12 name a CPU for each
        of its dies on Zen 4 and later).
    """
    cpus = _online(root, cpus)
    places = {cpu: found for cpu in cpus if (found := place(root, cpu)) is not None}
    by_die: dict[tuple[int, int], list[int]] = {}
    by_package: dict[int, list[int]] = {}
    for cpu, found in places.items():
        by_die.setdefault((found.package, found.die), []).append(cpu)
        by_package.setdefault(found.package, []).append(cpu)
    out = []
    if dies and len(by_die) > len(by_package) and all(len(mine) == 1 for mine in by_die.values()):
        # Where the mask is all CPUs that are online, it may be the list of Linux 7.0.
        doubtful = set(cpus) == set(_all_online(root))
        for (package, die), mine in sorted(by_die.items()):
            several = sum(p == package for p, _ in by_die) > 1
            name = f"package-{package}" + (f"-die-{die}" if several else "")
            out.append(CpuGroup(name, tuple(mine), doubtful and several))
    else:
        out = [CpuGroup(f"package-{package}", tuple(mine)) for package, mine in sorted(by_package.items())]
    unknown = [cpu for cpu in cpus if cpu not in places]
    return out + [CpuGroup("", (cpu,), len(cpus) > 1) for cpu in unknown]


def _all_online(root: str) -> list[int]:
    try:
        return cpu_list(sysfs.text(f"{root}/online") or "")
    except ValueError:
        return []
