"""hwmon: the energies and powers that drivers show. What their labels mean is in `hwmon_chips` and `acpi_meters`."""

from __future__ import annotations

import os

from fastgreen._light_dataclass import dataclass, replace
from fastgreen.sensors import acpi_meters, hwmon_chips, sysfs
from fastgreen.sensors.channel import Channel, Found, Seams, SourceStatus, traits
from fastgreen.sensors.hwmon_chips import PAIRS, Meaning
from fastgreen.units import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["hwmon"]

_NOT_KNOWN = Meaning("", "", "label", "may overlap other channels, so not part of a total unless its id is given")
_UPDATE_MS = 100  # until learnt better


@dataclass(frozen=True)
class _Sensor:
    """One energy, power or product of a current and a voltage, as the folder of a chip shows it."""

    folder: str  # that of the attribute: hwmonN, or its device
    attribute: str
    quantity: str  # energy, power or curr
    number: str
    label: str
    factor: str | None = None  # of a current: the path of its voltage
    refused: str = ""

    @property
    def stem(self) -> str:
        return f"{self.quantity}{self.number}"

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.attribute}"


def _attributes(chip: str, seen: set[str]) -> list[tuple[str, str, str, str]]:
    """(folder, attribute, quantity, number) of each energy or power, in order. Each real file is listed once:
    a driver can show an attribute in the chip's folder, in that of its device, and in both by a link."""
    import re

    out: dict[str, tuple[str, str, str, str]] = {}
    for folder in (chip, f"{chip}/device"):
        for name in sysfs.entries(folder):
            match = re.fullmatch(r"(energy|power|curr)([0-9]{1,6})_(input|average)", name)
            if match is None or name in out:
                continue
            real = os.path.realpath(f"{folder}/{name}")
            if real not in seen:
                seen.add(real)
                out[name] = (folder, name, match[1], match[2])
    ordered = sorted(out.values(), key=lambda found: (found[2], int(found[3]), found[1]))
    # One channel a sensor: the instant value where there is one.
    instant = {(quantity, number) for _, name, quantity, number in ordered if name.endswith("_input")}
    return [found for found in ordered if found[1].endswith("_input") or found[2:] not in instant]


def _label(chip: str, folder: str, driver: str, kind: str, number: str, alone: bool) -> str:
    """What the driver calls a sensor, else the beginning of its attribute. A chip of one rail can have one label."""
    label = sysfs.text(f"{folder}/{kind}{number}_label")
    if not label and driver in acpi_meters.DRIVERS:
        label = acpi_meters.label(folder, number)
    if not label and alone:
        label = sysfs.text(f"{chip}/label")
    return sysfs.printable(label or f"{kind}{number}")


def _sensors(chip: str, driver: str, seen: set[str]) -> list[_Sensor]:
    """Every energy, power and current x voltage of a chip."""
    found = _attributes(chip, seen)
    measured = {(quantity, number) for _, _, quantity, number in found if quantity != "curr"}
    alone = len({number for _, _, _, number in found}) == 1
    pairs, out = PAIRS.get(driver), []
    for folder, attribute, quantity, number in found:
        if quantity != "curr":
            label = _label(chip, folder, driver, quantity, number, alone)
            out.append(_Sensor(folder, attribute, quantity, number, label))
        elif pairs is not None:
            voltage = pairs.get(int(number))
            factor = f"{folder}/in{voltage}_input"
            # Where the chip multiplies by itself, its power is the same thing once more.
            if voltage is not None and ("power", number) not in measured and os.path.lexists(factor):
                label = _label(chip, folder, driver, "in", str(voltage), alone)
                out.append(_Sensor(folder, attribute, quantity, number, label, factor))
        elif not measured and any(name.startswith("in") and name.endswith("_input") for name in sysfs.entries(folder)):
            why = f"the voltage of {attribute} is not known for the chip {driver}, so no power can be computed"
            label = _label(chip, folder, driver, quantity, number, alone)
            out.append(_Sensor(folder, attribute, quantity, number, label, refused=why))
    return out


def _is_apu(chip: str) -> bool:
    """Whether an amdgpu is part of a CPU: only there it has the voltage of the northbridge (Linux, amdgpu_pm.c)."""
    names = (name for name in sysfs.entries(chip) if name.startswith("in") and name.endswith("_label"))
    return any(sysfs.text(f"{chip}/{name}") == "vddnb" for name in names)


def _meaning(driver: str, sensor: _Sensor, apu: bool) -> Meaning:
    if driver in acpi_meters.DRIVERS:
        found = acpi_meters.meaning(sensor.label)
        interval_ms = acpi_meters.mean_over_ms(sensor.folder, sensor.number)
        if sensor.attribute.endswith("_average") and interval_ms and not found.kind:
            found = replace(found, note="; ".join(filter(None, [found.note, f"the mean of {interval_ms} ms"])))
        return found
    known = hwmon_chips.meaning(driver, sensor.label, sensor.stem) or _NOT_KNOWN
    if apu and known.role == "amdgpu":
        return replace(known, role="apu", note="power of the whole chip, CPU included (it has a vddnb voltage)")
    return known


def _readable(sensor: _Sensor, meaning: Meaning, kind: str) -> dict[str, Any]:
    """Fields of a channel that cannot be read; empty for one that can."""
    refused = sensor.refused or meaning.refused
    if refused:
        return {"readable": False, "reason": refused}
    fields = sysfs.unreadable(sensor.path, kind)
    return fields or (sysfs.unreadable(sensor.factor, "factor") if sensor.factor else {})


def _identity_of_role(meaning: Meaning, sensor: _Sensor, chip: str) -> tuple[str, ...]:
    """The same for two sensors that show the same thing."""
    import re

    if meaning.one == "socket":
        number = re.search(r"([0-9]+)\W*$", sensor.label)
        return (meaning.role, number[1] if number else "")
    parts = {"chip": (chip,), "label": (chip, sensor.label), "machine": ()}[meaning.one]
    return (meaning.role, *parts)


def _channel(identity: str, chip: str, driver: str, sensor: _Sensor, meaning: Meaning, repeats: str | None) -> Channel:
    kind = meaning.kind or ("energy" if sensor.quantity == "energy" else "power")
    unit = "uJ" if kind == "energy" else "uW"
    note = meaning.note
    if repeats:
        note = "; ".join(filter(None, [note, f"its name repeats that of {repeats}, so it is not part of the total"]))
    return Channel(
        id=identity,
        source="hwmon",
        kind=kind,
        name=sensor.label,
        unit=unit,
        root=bool(meaning.role) and repeats is None and not sensor.refused,
        note=note,
        device=driver,
        bus=sysfs.pci_address(f"{chip}/device"),
        role=meaning.role,
        sensor={"path": sensor.path} | ({"factor": sensor.factor} if sensor.factor else {}),
        traits=traits(kind, unit, period_ns=_UPDATE_MS * NS_PER_MS),
        **_readable(sensor, meaning, kind),
    )


def _is_battery(chip: str) -> bool:
    """Whether the chip is a battery's second face: `batteries` lists that battery."""
    return sysfs.text(f"{chip}/device/type") == "Battery"


def hwmon(seams: Seams) -> Found:
    """Every energy and power that a driver shows below ``hwmon_root``."""
    root = seams.hwmon_root
    try:
        names = sorted(os.listdir(root), key=lambda name: (len(name), name))
    except OSError as error:
        return [], SourceStatus("hwmon", 0, f"{root}: {error.strerror}")
    found: list[Channel] = []
    seen: set[str] = set()
    drivers: set[str] = set()
    taken: set[str] = set()
    counted: dict[tuple[str, ...], str] = {}
    for name in names:
        chip = os.path.join(root, name)
        driver = sysfs.printable(sysfs.text(f"{chip}/name") or sysfs.text(f"{chip}/device/name") or name)
        sensors = [] if _is_battery(chip) else _sensors(chip, driver, seen)
        if not sensors:
            continue
        device = driver if driver not in drivers else f"{driver}@{sysfs.printable(name)}"
        drivers.add(driver)
        apu = driver == "amdgpu" and _is_apu(chip)
        for sensor in sensors:
            identity = f"hwmon:{device}/{sensor.label}"
            if identity in taken:  # a board may call several rails NC
                identity += f"#{sensor.attribute.partition('_')[0]}"
            taken.add(identity)
            meaning = _meaning(driver, sensor, apu)
            key = _identity_of_role(meaning, sensor, chip)
            channel = _channel(identity, chip, driver, sensor, meaning, counted.get(key) if meaning.role else None)
            if channel.root and channel.readable:
                counted[key] = identity
            found.append(channel)
    return found, SourceStatus("hwmon", len(found), None if found else f"{root} has no energy or power attribute")
