"""Looking for NVIDIA's boards, which the library itself lists, and which of them this process may use."""

from __future__ import annotations

import os
import threading

from fastgreen import _core
from fastgreen._light_dataclass import replace
from fastgreen.errors import ChannelReadError, FastgreenError
from fastgreen.sensors.board_notes import HIDDEN_BY, REORDERED
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["nvml"]

PATIENCE_S = 30.0  # drivers have been seen to hold a lock for 10 s and to go on

LEAST_LIMIT_W = 1.0  # a board that may not draw as much does nothing; its limit is not believed

_INSTALL = "install the NVIDIA driver, or set FASTGREEN_NVML_LIBRARY"
_RESET = "sudo nvidia-smi --gpu-reset, or restart the machine"
_REMEDIES = {  # by nvmlReturn
    4: "give this user access to the device files /dev/nvidia*",
    9: _INSTALL,
    12: _INSTALL,
    15: _RESET,
    16: _RESET,
    18: "restart the machine: the driver was updated while its old version was running",
}

_silent: dict[str, threading.Thread] = {}  # by library, who waits for one that has not answered in time


def _devices(library: str, patience_s: float) -> dict[str, Any]:
    """`_core.nvml_devices`, but ChannelReadError where a hung driver does not answer in time.

    Who waits for such a driver is left behind, and nobody else waits for the same one while he does.
    """
    answers: list[dict[str, Any]] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(_core.nvml_devices(library))
        except (FastgreenError, MemoryError, ValueError) as error:
            errors.append(error)

    waiting = _silent.get(library)
    if waiting is None or not waiting.is_alive():
        waiting = threading.Thread(target=ask, name="fastgreen-nvml", daemon=True)
        waiting.start()
        waiting.join(patience_s)
        _silent.pop(library, None)
    if errors:
        raise errors.pop()  # kept, it would hold this frame, which holds it, and with it our callers
    if not answers:
        _silent[library] = waiting
        raise ChannelReadError(f"{library} does not answer")
    return answers[0]


def _visible_boards(devices: list[dict[str, Any]], variable: str | None) -> set[str]:
    """UUIDs of the boards that CUDA_VISIBLE_DEVICES shows; CUDA stops at the first entry it cannot place."""
    uuids = {d["index"]: d["uuid"] for d in devices if "uuid" in d}
    if variable is None:
        return set(uuids.values())
    shown: set[str] = set()
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isascii() and entry.isdecimal():
            board = uuids.get(int(entry))
        elif entry.startswith("MIG-GPU-"):  # MIG-GPU-<uuid>/<gpu instance>/<compute instance>, drivers before 470
            board = next((u for u in uuids.values() if entry[4:].split("/")[0] == u), None)
        elif entry.startswith("MIG-"):
            board = _only(d["uuid"] for d in devices for m in d.get("mig_uuids", []) if m.startswith(entry))
        else:
            board = _only(u for u in uuids.values() if entry and u.startswith(entry))
        if board is None:
            break
        shown.add(board)
    return shown


def _only(boards: Iterable[str]) -> str | None:
    """The one board there is: CUDA takes the beginning of a UUID only where it is that of one device."""
    found = list(boards)
    return found[0] if len(found) == 1 else None


def _distinguished(device: dict[str, Any], devices: list[dict[str, Any]]) -> dict[str, Any]:
    """The device, or in its place an error where its UUID cannot find it again."""
    if "error" in device:
        return device
    same = [f"nvml:{d['index']}" for d in devices if d.get("uuid") == device["uuid"] and d is not device]
    fit = device["uuid"] and "?" not in device["uuid"]  # which stands for what is no text
    if fit and not same:
        return device
    what = f"the UUID of {same[0]}, {device['uuid']}," if fit else "no UUID,"
    return {"index": device["index"], "error": f"it has {what} so it cannot be distinguished from another board"}


_MEANINGS = {
    "instant": "instant power",
    "average": "average power",
    "usage": "power usage, a mean over a time that depends on board and driver",
}


# GPUs that are part of a Jetson's module; NVML calls them "Orin (nvgpu)", "NVIDIA Thor".
_INTEGRATED = ("nvgpu", "tegra", "orin", "xavier", "thor")


def _board_notes(device: dict[str, Any], visible: bool, mixed: bool) -> list[str]:
    notes = {
        "MIG: the energy of the whole board, all instances together": device["mig"],
        f"{HIDDEN_BY}CUDA_VISIBLE_DEVICES": not visible,
        REORDERED: mixed,
    }
    return [text for text, holds in notes.items() if holds]


def _role(device: dict[str, Any], module: bool) -> str:
    """The board's word in `settlement`; `module`: the power of the whole module counts."""
    words = device["name"].lower().replace("(", " ").replace(")", " ").split()
    if any(word in _INTEGRATED for word in words):
        return "nvml-integrated"
    return "nvml-module" if module else ""


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
                remedy=_REMEDIES.get(getattr(device["error"], "code", 0)),
            )
        ]
    notes = _board_notes(device, visible, mixed)
    limit_w = device["power_limit_mw"] * 1e-3
    common: dict[str, Any] = {
        "source": "nvml",
        "name": device["name"],
        "visible": visible,
        "device": device["uuid"],
        "ceiling_w": limit_w if LEAST_LIMIT_W <= limit_w <= PLAUSIBLE_W else None,
    }
    power = next((q for q in ("instant", "average", "usage") if device[q] == 0), None)
    scope = device["scope"] if power in ("instant", "average") else 0
    common["role"] = _role(device, module=scope == 1 and device["energy"] != 0)
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
                traits=traits("energy", "mJ", period_ns=100 * NS_PER_MS),
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
                traits=traits("power", "mW", period_ns=100 * NS_PER_MS),
                **common,
            )
        )
    if not found:
        reason = f"energy: {device['energy_text']}; power: {device['usage_text']} (NVML {device['usage']})"
        found.append(Channel(id=identity, kind="energy", unit="mJ", readable=False, reason=reason, **common))
    return found


def nvml(seams: Seams, patience_s: float = PATIENCE_S) -> tuple[list[Channel], SourceStatus]:
    """Every board, as the library lists them; empty if it has not answered in `patience_s`."""
    try:
        listed = _devices(seams.nvml_library, patience_s)
    except FastgreenError as error:
        return [], SourceStatus("nvml", 0, str(error), _REMEDIES.get(error.code))
    devices = [_distinguished(d, listed["devices"]) for d in listed["devices"]]
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
