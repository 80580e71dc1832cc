"""ACPI power meters (driver ``power_meter``): NVIDIA Grace names its parts, any other machine shows the whole chassis.

Two namings of Grace are in use, by firmware: "Grace Power Socket 0" and "Total Power in uW socket 0" with their kin
(NVIDIA Grace Performance Tuning Guide, "Power Telemetry"; sensor tables of GB200's firmware). Older kernels keep a
meter's attributes in ``hwmonN/device/``, newer ones in ``hwmonN/``.
"""

from __future__ import annotations

from fastgreen.sensors import sysfs
from fastgreen.sensors.hwmon_chips import Meaning

__all__ = ["DRIVERS", "label", "mean_over_ms", "meaning"]

DRIVERS = ("power_meter", "acpi_power_meter")

# The first that fits; case does not matter.
_GRACE = (
    Meaning(r".*(output power|chipthrot|throttle).*", "", "label", refused="it shows no power in use"),
    Meaning(r"total cpu energy\b.*", "grace-counter", "socket", "a counter of uJ in a file of power", kind="energy"),
    Meaning(r"grace power\b.*|total (input )?power\b.*", "grace-total", "socket"),
    Meaning(r"module (power )?socket\b.*|module power\b.*", "grace-module", "socket"),
    Meaning(r"cpu (rail )?(input )?power\b.*|cpu rail\b.*", "grace-cpu-part", "label"),
    Meaning(r"(sysio|soc)\b.*power\b.*|soc rail\b.*|dram\b.*", "grace-part", "label"),
)
_CHASSIS = Meaning(r".*", "chassis", "label")


def meaning(name: str) -> Meaning:
    """What the meter of that name shows; the chassis where the name is empty, or not one of Grace's."""
    import re

    return next((m for m in _GRACE if re.fullmatch(m.pattern, name, re.IGNORECASE)), _CHASSIS)


def label(folder: str, number: str) -> str | None:
    """What the firmware calls a meter; None where it does not say."""
    return sysfs.text(f"{folder}/power{number}_oem_info") or None


def mean_over_ms(folder: str, number: str) -> int | None:
    """The averaging time of ``powerN_average``, in ms; None if it is missing or impossible."""
    interval = sysfs.integer(f"{folder}/power{number}_average_interval")
    return interval if interval is not None and 0 < interval <= 3_600_000 else None
