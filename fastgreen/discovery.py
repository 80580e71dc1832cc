"""Looking for channels, a function per source: which exist, what they are called, which counts toward a total."""

from __future__ import annotations

import errno
import os

from fastgreen import _core
from fastgreen.channel import PLAUSIBLE_W, Channel, Seams, SourceStatus, traits
from fastgreen.dataclass import replace
from fastgreen.errors import FastgreenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["hwmon", "nvml", "procstat", "rapl"]

MS = 1_000_000
_HEX = set("0123456789abcdef")
Found = tuple[list[Channel], SourceStatus]

# Cloud Carbon Footprint, "Methodology", average over its server microarchitectures: watts per virtual CPU.
IDLE_W_PER_CPU = 0.74
MAX_W_PER_CPU = 3.50


def _read(path: str) -> str:
    # O_NONBLOCK: a fifo in the place of an attribute must not hang the caller.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    finally:
        os.close(fd)
    return content.decode("utf-8", "replace").strip()


def _text(path: str) -> str | None:
    try:
        return _read(path)
    except OSError:
        return None


def _entries(folder: str) -> list[str]:
    """The names that a folder holds; none where it may not be listed or is gone."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _remedy(mode: str, path: str) -> str:
    from shlex import quote

    return f"sudo chmod {mode} {quote(os.path.realpath(path))}"


def _integer(path: str) -> int | None:
    text = _text(path)
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if -1 << 63 <= value < 1 << 63 else None  # the kernel has no longer ones


def _unreadable(path: str, kind: str) -> dict[str, Any]:
    """Fields of a channel whose attribute cannot be read; empty when it can be, and holds what the engine takes."""
    try:
        text = _read(path)
    except OSError as error:
        if isinstance(error, PermissionError):
            return {
                "readable": False,
                "reason": f"permission denied: {path}",
                "remedy": _remedy("a+r", path),
            }
        name = errno.errorcode.get(error.errno or 0, "?")
        return {"readable": False, "reason": f"{error.strerror} ({name}): {path}"}
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        return {"readable": False, "reason": f"{path} holds no integer: {text[:24]!r}"}
    if kind == "energy" and text.startswith("-"):
        return {"readable": False, "reason": f"{path} holds a negative energy: {text!r}"}
    return {}


# ---- powercap ----


def _is_zone(name: str) -> bool:
    kind, *numbers = name.split(":")
    return kind in ("intel-rapl", "intel-rapl-mmio") and bool(numbers) and all(n and set(n) <= _HEX for n in numbers)


def _zones(root: str) -> dict[str, str]:
    """Zone id -> folder. /sys/class/powercap lists every zone at the top; a copied tree may only nest them."""
    zones: dict[str, str] = {}

    def walk(folder: str, names: list[str], depth: int) -> None:
        for name in names:
            entry = os.path.join(folder, name)
            if name.startswith("intel-rapl") and os.path.isdir(entry) and depth < 4:
                if _is_zone(name):
                    zones.setdefault(name, entry)
                walk(entry, _entries(entry), depth + 1)

    walk(root, sorted(os.listdir(root)), 0)
    return dict(sorted(zones.items(), key=lambda item: [int(n, 16) for n in item[0].split(":")[1:]]))


def _same_counter(first: str, second: str) -> bool:
    """True when two zones show one counter: the second's value lies between two reads of the first."""
    before, value, after = (_integer(f"{p}/energy_uj") for p in (first, second, first))
    return before is not None and value is not None and after is not None and 0 < before <= value <= after


def _is_limit(name: str) -> bool:
    return name.startswith("constraint_") and "power" in name and name.endswith("_uw")


def _zone_channel(zone: str, folder: str, parent: Channel | None) -> Channel:
    mmio = "-mmio" in zone
    name = _text(f"{folder}/name") or zone
    identity = f"{parent.id}/{name}" if parent else f"rapl:{name}" + ("@mmio" if mmio else "")
    span = _integer(f"{folder}/max_energy_range_uj") or 0
    span = span if span < 1 << 62 else 0  # a counter of 64 bits does not wrap in the life of a machine
    # The counter has 32 bits of a unit that powercap rounds to uJ; it wraps one unit past the range.
    quantum = max(1, round(span / (2**32 - 1)))
    limits = [(_integer(f"{folder}/{n}") or 0) * 1e-6 for n in _entries(folder) if _is_limit(n)]
    note: str | None = None
    root = parent is None or name == "dram"
    if mmio:
        note, root = "repeats the package over another bus", False
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
        traits=traits("energy", "uJ", modulus=span + quantum if span > 0 else 0, quantum=quantum, period_ns=1 * MS),
        **_unreadable(f"{folder}/energy_uj", "energy"),
    )


def rapl(seams: Seams) -> Found:
    root = seams.powercap_root
    try:
        zones = _zones(root)
    except PermissionError:
        return [], SourceStatus("rapl", 0, f"permission denied: {root}", _remedy("a+rx", root))
    except OSError as error:
        reason = f"{root}: {error.strerror}; virtual machines and containers seldom have powercap"
        return [], SourceStatus("rapl", 0, reason, "on a physical machine: sudo modprobe intel_rapl_msr")
    by_zone: dict[str, Channel] = {}
    for zone, folder in zones.items():
        channel = _zone_channel(zone, folder, by_zone.get(zone.rpartition(":")[0]))
        if any(channel.id == other.id for other in by_zone.values()):
            channel = replace(channel, id=f"{channel.id}#{zone.partition(':')[2]}")
        twin = next(
            (
                z
                for z, c in by_zone.items()
                if c.root
                and channel.root
                and (c.parent is None) == (channel.parent is None)
                and c.readable
                and channel.readable
                and _same_counter(zones[z], folder)
            ),
            None,
        )
        if twin is not None:
            channel = replace(channel, root=False, note=f"mirrors {by_zone[twin].id}")
        by_zone[zone] = channel
    found = list(by_zone.values())
    if found and not any(c.root for c in found):
        # Only psys or only mmio zones: better one of them than none.
        found = [replace(c, root=c.id == found[0].id) for c in found]
    if {"sgx", "tdx_guest"} & set((_text(f"{seams.proc_root}/cpuinfo") or "").split()):
        noise = "with SGX or TDX the readings are filtered with noise: totals hold, short windows do not"
        found = [replace(c, note="; ".join(filter(None, [c.note, noise]))) for c in found]
    return found, SourceStatus("rapl", len(found), None if found else f"{root} has no RAPL zone")


# ---- NVML ----


def _visible_boards(devices: list[dict[str, Any]], variable: str | None) -> set[str]:
    """UUIDs of the boards that CUDA_VISIBLE_DEVICES shows; CUDA stops at the first entry it cannot place."""
    uuids = {d["index"]: d["uuid"] for d in devices if "uuid" in d}
    if variable is None:
        return set(uuids.values())
    shown: set[str] = set()
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isdecimal():
            board = uuids.get(int(entry))
        elif entry.startswith("MIG-GPU-"):  # MIG-GPU-<uuid>/<gpu instance>/<compute instance>, drivers before 470
            board = next((u for u in uuids.values() if entry[4:].split("/")[0] == u), None)
        elif entry.startswith("MIG-"):
            board = next((d["uuid"] for d in devices if any(m.startswith(entry) for m in d.get("mig_uuids", []))), None)
        else:
            board = next((u for u in uuids.values() if entry and u.startswith(entry)), None)
        if board is None:
            break
        shown.add(board)
    return shown


_MEANINGS = {
    "instant": "instant power",
    "average": "average power",
    "usage": "power usage, a mean whose length depends on board and driver",
}


def _board_notes(device: dict[str, Any], visible: bool, mixed: bool) -> list[str]:
    notes = {
        "MIG: the energy of the whole board, all instances together": device["mig"],
        "hidden by CUDA_VISIBLE_DEVICES": not visible,
        "CUDA_VISIBLE_DEVICES counts fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID; boards differ here": mixed,
    }
    return [text for text, holds in notes.items() if holds]


def _board_channels(device: dict[str, Any], visible: bool, mixed: bool) -> list[Channel]:
    identity = f"nvml:{device['index']}"
    if "error" in device:
        return [
            Channel(
                id=identity,
                source="nvml",
                kind="energy",
                name=identity,
                unit="mJ",
                readable=False,
                reason=str(device["error"]),
            )
        ]
    notes = _board_notes(device, visible, mixed)
    common: dict[str, Any] = {
        "source": "nvml",
        "name": device["name"],
        "visible": visible,
        "device": device["uuid"],
        "ceiling_w": device["power_limit_mw"] * 1e-3 or None,
    }
    power = next((q for q in ("instant", "average", "usage") if device[q] == 0), None)
    scope = device["scope"] if power in ("instant", "average") else 0
    if scope == 1:
        notes.append("power is the module's: the board refuses GPU scope")
    found = []
    if device["energy"] == 0:
        found.append(
            Channel(
                id=identity,
                kind="energy",
                unit="mJ",
                note="; ".join(notes) or None,
                sensor={"uuid": device["uuid"], "quantity": "energy"},
                traits=traits("energy", "mJ", period_ns=100 * MS),
                **common,
            )
        )
    if power is not None:
        child = bool(found)
        found.append(
            Channel(
                id=f"{identity}/power" if child else identity,
                kind="power",
                unit="mW",
                root=not child,
                parent=identity if child else None,
                note="; ".join([_MEANINGS[power]] + ([] if child else ["no energy counter", *notes])),
                sensor={"uuid": device["uuid"], "quantity": power, "scope": scope},
                traits=traits("power", "mW", period_ns=100 * MS),
                **common,
            )
        )
    if not found:
        reason = f"energy: {device['energy_text']}; power: {device['usage_text']} (NVML {device['usage']})"
        found.append(Channel(id=identity, kind="energy", unit="mJ", readable=False, reason=reason, **common))
    return found


def nvml(seams: Seams) -> Found:
    try:
        listed = _core.nvml_devices(seams.nvml_library)
    except FastgreenError as error:
        remedy = "install the NVIDIA driver, or set FASTGREEN_NVML_LIBRARY" if error.code in (9, 12) else None
        return [], SourceStatus("nvml", 0, str(error), remedy)
    devices = listed["devices"]
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = _visible_boards(devices, variable)
    mixed = (
        variable is not None
        and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
        and any(part.strip()[:1].isdecimal() for part in variable.split(","))
        and len({d.get("name") for d in devices}) > 1
    )
    found = [c for d in devices for c in _board_channels(d, d.get("uuid") in visible, mixed)]
    found = [replace(c, driver=listed["driver"]) for c in found]
    return found, SourceStatus("nvml", len(found), None if found else "the driver lists no device")


# ---- hwmon ----

# driver -> labels (or attribute names) that count toward a total; of other drivers nothing is known to be disjoint
_HWMON_ROOTS = {
    "amdgpu": r"PPT|slowPPT|power1",
    "amd_energy": r"Esocket\d+",
    "i915": r"energy1",
    "xe": r"card|energy1",
    "ina3221": r"VDD_IN|POM_5V_IN",
}


def _hwmon_attributes(folder: str) -> list[tuple[str, str, str, dict[str, str], str]]:
    """(label, kind, unit, sensor, attribute) of every energy, power and current x voltage of a device."""
    import re

    out = []
    names = set(_entries(folder))
    for attribute in sorted(names, key=lambda n: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", n)]):
        match = re.fullmatch(r"(energy|power|curr)(\d+)_(input|average)", attribute)
        if match is None:
            continue
        quantity, number, suffix = match.groups()
        if quantity == "power" and suffix == "average" and f"power{number}_input" in names:
            continue  # one channel a sensor, the instant value where there is one
        sensor = {"path": f"{folder}/{attribute}"}
        label = _text(f"{folder}/{quantity}{number}_label") or f"{quantity}{number}"
        kind, unit = ("energy", "uJ") if quantity == "energy" else ("power", "uW")
        if quantity == "curr":
            if f"in{number}_input" not in names:
                continue
            sensor["factor"] = f"{folder}/in{number}_input"
            label = _text(f"{folder}/in{number}_label") or f"in{number}"
        out.append((label, kind, unit, sensor, attribute))
    return out


def hwmon(seams: Seams) -> Found:
    root = seams.hwmon_root
    try:
        names = sorted(os.listdir(root), key=lambda name: (len(name), name))
    except OSError as error:
        return [], SourceStatus("hwmon", 0, f"{root}: {error.strerror}")
    import re

    found: list[Channel] = []
    for name in names:
        folder = os.path.join(root, name)
        driver = _text(f"{folder}/name")
        if driver is None:
            continue
        device = driver
        if any(c.id.startswith(f"hwmon:{device}/") for c in found):
            device = f"{driver}@{name}"
        rule = _HWMON_ROOTS.get(driver)
        have_root = False
        for label, kind, unit, sensor, attribute in _hwmon_attributes(folder):
            root_here = rule is not None and re.fullmatch(rule, label) is not None
            if driver in ("amdgpu", "i915", "xe", "ina3221"):
                root_here = root_here and not have_root
            have_root = have_root or root_here
            identity = f"hwmon:{device}/{label}"
            if any(c.id == identity for c in found):  # a board may call several rails NC
                identity += f"#{attribute.partition('_')[0]}"
            note = None if rule else "not known to be apart from other channels, so not part of a total"
            found.append(
                Channel(
                    id=identity,
                    source="hwmon",
                    kind=kind,
                    name=label,
                    unit=unit,
                    root=root_here,
                    note=note,
                    device=driver,
                    sensor=sensor,
                    traits=traits(kind, unit, period_ns=100 * MS),
                    **_unreadable(sensor["path"], kind),
                )
            )
    return found, SourceStatus("hwmon", len(found), None if found else f"{root} has no energy or power attribute")


# ---- procstat ----


def procstat(seams: Seams, estimate: tuple[float, float] | None) -> Found:
    path = f"{seams.proc_root}/stat"
    text = _text(path)
    if text is None or not text.startswith("cpu "):
        return [], SourceStatus("procstat", 0, f"{path} cannot be read or has no CPU times")
    cpus = max(1, sum(line[:3] == "cpu" and line[3:4].isdecimal() for line in text.splitlines()))
    if estimate is None:
        idle_w, max_w = IDLE_W_PER_CPU * cpus, MAX_W_PER_CPU * cpus
        origin = f"{IDLE_W_PER_CPU} to {MAX_W_PER_CPU} W per CPU, a published mean"
    else:
        idle_w, max_w = estimate
        origin = "as given"
    channel = Channel(
        id="procstat:cpu",
        source="procstat",
        kind="energy",
        name=f"{cpus} CPUs",
        unit="uJ",
        estimated=True,
        note=f"estimated: {idle_w:.4g} W idle to {max_w:.4g} W busy ({origin})",
        floor_w=idle_w,
        ceiling_w=max_w,
        sensor={"path": path, "idle_mw": round(idle_w * 1000), "slope_mw": round((max_w - idle_w) * 1000 / cpus)},
        traits=traits("energy", "uJ", period_ns=10 * MS),
    )
    return [channel], SourceStatus("procstat", 1)
