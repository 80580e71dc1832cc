"""The part of the machine that a channel counts: cpu, gpu, dram or board. By its id, which a saved run keeps.

`fastgreen.sensors.settlement` says which channels count; this says what of, to choose channels by a word, to share
energy out among processes, and to write formats that name parts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["cpu", "gpu", "dram", "board"]

__all__ = ["kind_of"]

# A board is more than one of the three.
_OF_ROLE: dict[str, Kind] = {
    "gpu": "gpu",
    "amdgpu": "gpu",
    "apu": "gpu",  # its sensor is the graphics driver's
    "amd-energy": "cpu",
    "amd-hsmp": "cpu",
    "altra-core": "cpu",
    "xgene-cpu": "cpu",
    "jetson-cpu-rail": "cpu",
    "grace-total": "cpu",
    "grace-counter": "cpu",
    "grace-cpu-part": "cpu",
    "grace-module": "board",
    "jetson-module": "board",
    "chassis": "board",
}
_OF_SOURCE: dict[str, Kind] = {
    "rapl": "cpu",
    "perf": "cpu",
    "procstat": "cpu",
    "dtpm": "cpu",
    "nvml": "gpu",
    "amdsmi": "gpu",
    "battery": "board",
}


def _of_chip(rest: str) -> Kind | None:
    """Of an id of hwmon without its source: ``amd_energy@2/Esocket0``."""
    from fastgreen.sensors import acpi_meters, hwmon_chips

    chip, _, label = rest.partition("/")
    driver = chip.partition("@")[0]
    if driver in acpi_meters.DRIVERS:
        return _OF_ROLE.get(acpi_meters.meaning(label).role)
    known = hwmon_chips.meaning(driver, label.partition("#")[0], label.rpartition("#")[2])
    # A label in another language: of most chips only one thing counts.
    roles = {known.role} if known is not None else {m.role for m in hwmon_chips.CHIPS.get(driver, ()) if m.role}
    return _OF_ROLE.get(roles.pop()) if len(roles) == 1 else None


def kind_of(identity: str) -> Kind | None:
    """The part of the machine that the channel of this id counts; None where that is not known."""
    source, _, rest = identity.partition(":")
    if source in ("rapl", "perf", "dtpm") and identity.endswith("dram"):
        return "dram"
    if source == "nvml" and "module" in rest:
        return "board"
    if source == "hwmon":
        return _of_chip(rest)
    if source == "scmi":
        from fastgreen.sensors.power_zones import is_apart

        return None if is_apart(rest) else "cpu"
    if identity.endswith("dram"):
        return "dram"
    return _OF_SOURCE.get(source) or ("cpu" if "package" in identity else None)
