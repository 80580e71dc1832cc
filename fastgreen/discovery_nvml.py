"""Looking for NVIDIA's boards, which the library itself lists, and which of them this process may use."""

from __future__ import annotations

import os

from fastgreen import _core
from fastgreen.channel import Channel, Seams, SourceStatus, traits
from fastgreen.dataclass import replace
from fastgreen.errors import FastgreenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["nvml"]

MS = 1_000_000


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


def nvml(seams: Seams) -> tuple[list[Channel], SourceStatus]:
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
