"""hwmon: the energies and powers that drivers show, and which of them count toward a total."""

from __future__ import annotations

import os

from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel, Found, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["hwmon"]

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
    names = set(sysfs.entries(folder))
    sensors = [match for n in names if (match := re.fullmatch(r"(energy|power|curr)([0-9]+)_(input|average)", n))]
    for match in sorted(sensors, key=lambda m: (m[1], int(m[2]), m[3])):
        attribute, (quantity, number, suffix) = match[0], match.groups()
        if quantity == "power" and suffix == "average" and f"power{number}_input" in names:
            continue  # one channel a sensor, the instant value where there is one
        sensor = {"path": f"{folder}/{attribute}"}
        named = quantity
        kind, unit = ("energy", "uJ") if quantity == "energy" else ("power", "uW")
        if quantity == "curr":
            if f"in{number}_input" not in names:
                continue
            sensor["factor"] = f"{folder}/in{number}_input"
            named = "in"
        label = sysfs.text(f"{folder}/{named}{number}_label") or f"{named}{number}"
        out.append((sysfs.printable(label), kind, unit, sensor, attribute))
    return out


def _unreadable(sensor: dict[str, str], kind: str) -> dict[str, Any]:
    """As `sysfs.unreadable`, of a sensor that may be a product of two."""
    fields = sysfs.unreadable(sensor["path"], kind)
    return fields or (sysfs.unreadable(sensor["factor"], "factor") if "factor" in sensor else {})


def hwmon(seams: Seams) -> Found:
    root = seams.hwmon_root
    try:
        names = sorted(os.listdir(root), key=lambda name: (len(name), name))
    except OSError as error:
        return [], SourceStatus("hwmon", 0, f"{root}: {error.strerror}")
    import re

    found: list[Channel] = []
    drivers: set[str] = set()
    taken: set[str] = set()
    for name in names:
        folder = os.path.join(root, name)
        sensors = _hwmon_attributes(folder)
        if not sensors:
            continue
        driver = sysfs.printable(sysfs.text(f"{folder}/name") or name)
        device = driver if driver not in drivers else f"{driver}@{sysfs.printable(name)}"
        drivers.add(driver)
        rule = _HWMON_ROOTS.get(driver)
        have_root = False
        for label, kind, unit, sensor, attribute in sensors:
            root_here = rule is not None and re.fullmatch(rule, label) is not None
            if driver in ("amdgpu", "i915", "xe", "ina3221"):
                root_here = root_here and not have_root
            have_root = have_root or root_here
            identity = f"hwmon:{device}/{label}"
            if identity in taken:  # a board may call several rails NC
                identity += f"#{attribute.partition('_')[0]}"
            taken.add(identity)
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
                    traits=traits(kind, unit, period_ns=100 * NS_PER_MS),
                    **_unreadable(sensor, kind),
                )
            )
    return found, SourceStatus("hwmon", len(found), None if found else f"{root} has no energy or power attribute")
