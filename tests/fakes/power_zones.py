# SPDX-License-Identifier: Apache-2.0
"""Zones of powercap with a power and no energy: Arm's SCMI and the kernel's DTPM, nested as the driver nests them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def power_zones(folder: Path, zones: Mapping[str, tuple[str, int]]) -> Path:
    """What stands for /sys/class/powercap: zone id ("arm-scmi:0:1") -> (name, uW). Parents come before children."""
    root, devices = folder / "class" / "powercap", folder / "devices" / "virtual" / "powercap"
    root.mkdir(parents=True)
    homes: dict[str, Path] = {}
    for zone, (name, power_uw) in zones.items():
        control = zone.partition(":")[0]
        if control not in homes:
            homes[control] = devices / control
            homes[control].mkdir(parents=True)
            (root / control).symlink_to(os.path.relpath(homes[control], root))
        home = homes[zone] = homes[zone.rpartition(":")[0]] / zone
        home.mkdir()
        (home / "name").write_text(f"{name}\n")
        (home / "power_uw").write_text(f"{power_uw}\n")
        (home / "max_power_range_uw").write_text("40000000\n")
        (root / zone).symlink_to(os.path.relpath(home, root))
    return root
