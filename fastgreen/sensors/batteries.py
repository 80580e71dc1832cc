"""Batteries: the power of a laptop that runs on one. Listed, and counted only if its id is given.

Linux, Documentation/ABI/testing/sysfs-class-power: power in uW, current in uA, voltage in uV. A battery shows the power
that flows into it while it charges, which is no power of the machine. Updates take seconds.
"""

from __future__ import annotations

import os

from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel, Found, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["batteries"]

_UPDATE_S = 5


def _sensor(folder: str) -> tuple[dict[str, Any], str] | None:
    """What to read and its unit: the power, else current x voltage; None where the battery has neither."""
    names = set(sysfs.entries(folder))
    if "power_now" in names:
        return {"path": f"{folder}/power_now"}, "uW"
    if {"current_now", "voltage_now"} <= names:
        return {"path": f"{folder}/current_now", "factor": f"{folder}/voltage_now"}, "pW"
    return None


def _refused(folder: str, sensor: dict[str, Any]) -> dict[str, Any]:
    """Fields of a battery that cannot be read, or does not show the power of the machine; otherwise empty."""
    fields = sysfs.unreadable(sensor["path"], "power")
    if not fields and "factor" in sensor:
        fields = sysfs.unreadable(sensor["factor"], "factor")
    status = sysfs.text(f"{folder}/status")
    if not fields and status is not None and status != "Discharging":
        shown = sysfs.printable(status) or "empty"
        fields = {
            "readable": False,
            "reason": f"its status is {shown}: it shows the power of the machine only while it discharges",
            "remedy": "unplug the charger",
        }
    return fields


def batteries(seams: Seams) -> Found:
    """Every battery of the machine; those of mice and headsets (scope Device) are not the machine's."""
    root = seams.power_supply_root
    found: list[Channel] = []
    for entry in sysfs.entries(root):
        folder = f"{root}/{entry}"
        if sysfs.text(f"{folder}/type") != "Battery" or sysfs.text(f"{folder}/scope") == "Device":
            continue
        known = _sensor(folder)
        sensor, unit = known or ({"path": f"{folder}/power_now"}, "uW")
        # Some drivers show a current below 0 while the battery discharges, others one above 0.
        if (sysfs.integer(sensor["path"]) or 0) < 0:
            sensor["negate"] = True
        if os.path.lexists(f"{folder}/status"):
            sensor["status"] = f"{folder}/status"
        name = sysfs.printable(entry)
        model = sysfs.printable(sysfs.text(f"{folder}/model_name") or name)
        found.append(
            Channel(
                id=f"battery:{name}",
                source="battery",
                kind="power",
                name=model,
                unit=unit,
                device=name,
                sensor=sensor,
                traits=traits("power", unit, period_ns=_UPDATE_S * NS_PER_S),
                **_refused(folder, sensor),
            )
        )
    return found, SourceStatus("battery", len(found))
