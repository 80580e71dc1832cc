# SPDX-License-Identifier: Apache-2.0
"""What stands for /sys/class/power_supply: a laptop's battery, its charger, and the battery of a mouse."""

from __future__ import annotations

from pathlib import Path


def supply(root: Path, name: str, **attributes: int | str) -> Path:
    """A power supply of any kind; without a type it is a battery that discharges."""
    folder = root / name
    folder.mkdir(parents=True)
    for file, value in ({"type": "Battery", "status": "Discharging"} | attributes).items():
        (folder / file).write_text(f"{value}\n")
    return folder


def laptop(root: Path, power_uw: int = 8_000_000, status: str = "Discharging") -> Path:
    """A battery that shows its power, a charger, and a mouse whose battery is not the machine's."""
    supply(root, "AC", type="Mains", status="", online=int(status != "Discharging"))
    supply(root, "BAT0", status=status, power_now=power_uw, energy_now=50_000_000, model_name="L20M4PC2")
    supply(root, "hidpp_battery_0", scope="Device", power_now=1)
    return root
