# SPDX-License-Identifier: Apache-2.0
"""An hwmon tree in a folder, with the chips whose energy or power people read; values are moved by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Chip:
    """A driver's `name`, its device (as the `device` link shows it) and its files' contents."""

    name: str
    files: Mapping[str, int | str]
    device: str = "platform/fake.0"
    at_device: bool = False  # as older kernels lay out ACPI meters: the files in the device's folder


def amdgpu(average_uw: int | None = 30_000_000, input_uw: int | None = None, bus: str = "0000:03:00.0") -> Chip:
    """A Radeon: power1_average on older parts, power1_input on newer, both labelled PPT."""
    files: dict[str, int | str] = {"power1_label": "PPT", "power1_cap": 300_000_000}
    if average_uw is not None:
        files["power1_average"] = average_uw
    if input_uw is not None:
        files["power1_input"] = input_uw
    return Chip("amdgpu", files, f"pci0000:00/{bus}")


def amd_energy(cores: int = 2, sockets: int = 1) -> Chip:
    """EPYC counters in uJ: a core each, then a socket each."""
    labels = [f"Ecore{i:03}" for i in range(cores)] + [f"Esocket{i}" for i in range(sockets)]
    files: dict[str, int | str] = {}
    for number, label in enumerate(labels, start=1):
        files |= {f"energy{number}_label": label, f"energy{number}_input": 0}
    return Chip("amd_energy", files, "platform/amd_energy.0")


def i915(energy_uj: int = 0, bus: str = "0000:00:02.0") -> Chip:
    """An Intel GPU under its older driver: a card-level energy counter in uJ."""
    return Chip("i915", {"energy1_input": energy_uj, "power1_max": 120_000_000}, f"pci0000:00/{bus}")


def xe(card_uj: int = 0, package_uj: int = 0, bus: str = "0000:03:00.0") -> Chip:
    """An Intel GPU under xe: energy of the card, which holds that of the package."""
    files = {
        "energy1_input": card_uj,
        "energy1_label": "card",
        "energy2_input": package_uj,
        "energy2_label": "pkg",
        "power1_max": 150_000_000,
    }
    return Chip("xe", files, f"pci0000:00/{bus}")


def ina3221(rails: Mapping[str, tuple[int, int]] | Sequence[tuple[str, tuple[int, int]]]) -> Chip:
    """A Jetson's power monitor: for each rail (mV, mA). The fourth voltages are shunts, as on the real chip."""
    files: dict[str, int | str] = {}
    for number, (label, (millivolt, milliampere)) in enumerate(dict(rails).items(), start=1):
        files |= {f"in{number}_label": label, f"in{number}_input": millivolt, f"curr{number}_input": milliampere}
        files |= {f"in{number + 4}_input": 0, f"in{number}_enable": 1}
    return Chip("ina3221", files, "platform/c240000.i2c/i2c-1/1-0040")


def power_meter(input_uw: int = 10_000_000, label: str | None = None) -> Chip:
    """A plain powerN_input, as of a power supply."""
    files: dict[str, int | str] = {"power1_input": input_uw}
    if label is not None:
        files["power1_label"] = label
    return Chip("power_meter", files, "platform/ACPI000D:00")


def apu(input_uw: int = 25_000_000, bus: str = "0000:c4:00.0") -> Chip:
    """The graphics of an AMD laptop: the power of the whole chip, and the voltages vddgfx and vddnb."""
    files = {"power1_label": "PPT", "power1_input": input_uw, "in0_label": "vddgfx", "in0_input": 900}
    return Chip("amdgpu", files | {"in1_label": "vddnb", "in1_input": 800}, f"pci0000:00/{bus}")


def acpi_meter(oem_info: str, average_uw: int, number: int = 0, at_device: bool = True) -> Chip:
    """An ACPI power meter with the name that its firmware gives it; the mean over 50 ms."""
    files = {"power1_average": average_uw, "power1_oem_info": oem_info, "power1_average_interval": 50}
    return Chip("power_meter", files, f"platform/ACPI000D:{number:02x}", at_device)


def altra(cores: int = 4, socket: int = 0) -> Chip:
    """Ampere's counters in uJ, one a core."""
    files: dict[str, int | str] = {}
    for number in range(1, cores + 1):
        files |= {f"energy{number}_label": f"Core Energy {number - 1:03}", f"energy{number}_input": 0}
    return Chip("altra_hwmon", files, f"platform/AMPC0005:{socket:02x}")


def apm_xgene(cpu_uw: int, io_uw: int) -> Chip:
    """Two powers of one chip, the CPU's and that of its inputs and outputs."""
    files = {"power1_label": "CPU power", "power1_input": cpu_uw, "power2_label": "IO power", "power2_input": io_uw}
    return Chip("apm_xgene", files, "platform/APMC0D29:00")


def amd_hsmp(input_uw: int, socket: int = 0) -> Chip:
    """EPYC's socket power by HSMP; a driver of 2025, without labels."""
    files = {"power1_input": input_uw, "power1_cap": 400_000_000, "power1_cap_max": 400_000_000}
    return Chip("amd_hsmp_hwmon", files, f"platform/AMDI0097:{socket:02x}")


def ina238(millivolt: int, milliampere: int, label: str | None = None) -> Chip:
    """A monitor of one rail: in0 is its shunt, in1 the rail, power1 the product; Thor names the rail by `label`."""
    files: dict[str, int | str] = {
        "in0_input": 3,
        "in1_input": millivolt,
        "curr1_input": milliampere,
        "power1_input": millivolt * milliampere,
    }
    return Chip("ina238", files | ({"label": label} if label is not None else {}), "platform/i2c-2/2-0044")


@dataclass
class HwmonTree:
    """`root` stands for /sys/class/hwmon; chip number i is `hwmon<i>`."""

    folder: Path
    chips: Sequence[Chip] = ()
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = Path(self.folder) / "class" / "hwmon"
        self.root.mkdir(parents=True)
        for number, chip in enumerate(self.chips):
            device = Path(self.folder) / "devices" / chip.device
            folder = device / "hwmon" / f"hwmon{number}"
            folder.mkdir(parents=True)
            (folder / "device").symlink_to(os.path.relpath(device, folder))
            home = device if chip.at_device else folder
            (home / "name").write_text(f"{chip.name}\n")
            for name, value in chip.files.items():
                (home / name).write_text(f"{value}\n")
            (self.root / folder.name).symlink_to(os.path.relpath(folder, self.root))

    def path(self, number: int, file: str) -> Path:
        return self.root / f"hwmon{number}" / file

    def set(self, number: int, file: str, value: int | str) -> None:
        """Another value in the same file: descriptors already open see it."""
        content = f"{value}\n".encode()
        fd = os.open(self.path(number, file), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, content, 0)
            os.ftruncate(fd, len(content))
        finally:
            os.close(fd)

    def remove(self, number: int, file: str) -> None:
        self.path(number, file).unlink()
