"""AMD's boards with an energy counter of their own, as AMD's management library (libamd_smi) lists them.

A child process asks the library for its boards: a library can crash in its initialisation, and no program can catch a
crash. Only a library that has answered there is loaded into this process, to measure.
"""

from __future__ import annotations

import math
import os

from fastgreen.errors import ChannelReadError
from fastgreen.sensors.channel import PLAUSIBLE_W, Channel, Found, Seams, SourceStatus, traits
from fastgreen.units import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

__all__ = ["amdsmi", "library_path"]

PATIENCE_S = 30.0  # as for NVML
FRESH_S = (
    10.0  # so long an answer is used again: a child process takes some 0.1 s, more than all other sources together
)
LEAST_LIMIT_W = 1.0  # a board that may draw no more does nothing; its limit is not believed

_INSTALL = "install AMD's amd-smi-lib (ROCm), or set FASTGREEN_AMDSMI_LIBRARY"
_GROUPS = "sudo usermod -aG render,video $USER, then log in again"
_REMEDIES = {  # by amdsmi_status_t
    4: _INSTALL,
    5: _INSTALL,
    10: _GROUPS,
    34: "load the kernel's driver: sudo modprobe amdgpu",
}
_FOLDERS = (
    "/opt/rocm/lib",
    "/opt/rocm/lib64",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/usr/local/lib",
)
_SUFFIXES = ("", ".26", ".25", ".24", ".23")

# The child's standard output is for its answer alone: the library prints there as well.
_LOOK = """
import json, os, sys
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.path[:] = json.loads(sys.argv[1])
from fastgreen import _core
try:
    answer = _core.amdsmi_devices(sys.argv[2])
except Exception as error:
    answer = {"error": str(error), "code": getattr(error, "code", 0)}
with open(out, "w", encoding="ascii") as file:
    json.dump(answer, file)
os._exit(0)
"""

_answers: dict[str, tuple[float, dict[str, Any]]] = {}  # by library: when it answered (s), and the answer
_silent: dict[str, subprocess.Popen[bytes]] = {}  # by library: children without an answer so far


def library_path(name: str) -> str | None:
    """Path of the library: `name` itself if it is a path, else a file in the folders of ROCm and of the system.

    Returns
    -------
    str or None
        None if there is no such file.
    """
    if "/" in name:
        return name if os.path.exists(name) else None
    rocm = os.environ.get("ROCM_PATH")
    folders = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
    folders += [f"{rocm}/lib"] if rocm else []
    there = (folder for folder in (*folders, *_FOLDERS) if os.path.exists(folder))
    paths = (f"{folder}/{name}{suffix}" for folder in there for suffix in _SUFFIXES)
    return next((path for path in paths if os.path.exists(path)), None)


def _started(library: str) -> subprocess.Popen[bytes]:
    """A child process that asks the library for its boards."""
    import json
    import subprocess
    import sys

    if not sys.executable or getattr(sys, "frozen", False):
        raise ChannelReadError("a child process must list the boards, and this program cannot start another Python")
    command = [sys.executable, "-c", _LOOK, json.dumps([os.path.abspath(p) for p in sys.path]), library]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _end_silent() -> None:
    for child in _silent.values():
        child.kill()


def _devices(library: str, patience_s: float) -> dict[str, Any]:
    """`_core.amdsmi_devices` of a child process.

    Raises
    ------
    ChannelReadError
        If the library crashed, or has not answered in `patience_s`. A child without an answer is left behind; until it
        ends, nobody else waits for the same library.
    """
    import atexit
    import json
    import subprocess
    import time

    at_s, kept = _answers.get(library, (-math.inf, {}))
    if time.monotonic() - at_s < FRESH_S:
        return kept
    child = _silent.pop(library, None)
    if child is None:
        child = _started(library)
    else:
        patience_s = 0.05
    try:
        said, _ = child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        atexit.unregister(_end_silent)
        atexit.register(_end_silent)
        _silent[library] = child
        raise ChannelReadError(f"{library} does not answer") from None
    finally:
        if child.returncode is None and library not in _silent:  # Ctrl-C
            child.kill()
    if child.returncode != 0 or not said:
        raise ChannelReadError(f"{library} {_ended(child.returncode)} while it listed the boards")
    answer: dict[str, Any] = json.loads(said)
    if "error" in answer:
        raise ChannelReadError(answer["error"], code=answer["code"])
    _answers[library] = (time.monotonic(), answer)
    return answer


def _ended(code: int) -> str:
    import signal

    if code >= 0:
        return f"ended its process with code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"crashed ({names.get(-code, f'signal {-code}')})"


def _key(device: dict[str, Any]) -> str:
    """The bus id, or without one the UUID; the engine finds the board again by it."""
    return device["bus_id"] or device["uuid"]


def _told_apart(device: dict[str, Any], devices: list[dict[str, Any]]) -> dict[str, Any]:
    """The device, or an error in its place if it cannot be distinguished from another one."""
    if "error" in device:
        return device
    key = _key(device)
    same = [d["index"] for d in devices if "error" not in d and d is not device and _key(d) == key]
    if key and "?" not in key and not same:
        return device
    what = f"the address of amdsmi:{same[0]}, {key}," if key and same else "no address and no UUID,"
    return {"index": device["index"], "error": f"it has {what} so it cannot be told from another board", "code": 0}


def _why_not(device: dict[str, Any]) -> str | None:
    """The reason if its counter cannot be used, else None."""
    if "error" in device:
        return str(device["error"])
    if device["energy"] != 0:
        return f"energy: {device['energy_text']} (AMD SMI {device['energy']})"
    if device["accumulator"] == 0:
        return "its energy counter shows 0, so it does not count; the second die of a board is counted by the first"
    resolution_uj = device["resolution_uj"]
    if not device["binary"] and not 1e-3 <= resolution_uj <= 1e6:
        return f"its energy counter has an impossible resolution: {resolution_uj:g} uJ"
    return None


def _counter(device: dict[str, Any], library: str) -> dict[str, Any]:
    """Fields of a readable channel. A counter below 2^32 may have 32 bits, as in the first driver tables."""
    modulus = 1 << (32 if device["accumulator"] < 1 << 32 else 62) if device["binary"] else 0
    unit = "J/2^16" if device["binary"] else "uJ"
    quantum = 1 if device["binary"] else int(device["resolution_uj"]) + 2
    sensor = {"uuid": _key(device), "resolution_uj": device["resolution_uj"], "modulus": modulus, "library": library}
    return {
        "unit": unit,
        "wrap_j": 65536.0 if modulus == 1 << 32 else None,
        "sensor": sensor,
        "traits": traits("energy", unit, modulus=modulus, quantum=quantum, period_ns=100 * NS_PER_MS),
    }


def _channel(device: dict[str, Any], first: str | None, library: str, version: str) -> Channel:
    """The channel of a board; `first` is the channel that counts the same board."""
    identity = f"amdsmi:{device['index']}"
    reason = _why_not(device)
    limit_w = device.get("power_limit_mw", 0) * 1e-3
    code = device.get("code") or device.get("energy", 0)
    common: dict[str, Any] = {
        "id": identity,
        "source": "amdsmi",
        "kind": "energy",
        "name": device.get("name") or identity,
        "device": device.get("uuid") or device.get("bus_id") or "",
        "bus": device.get("bus_id", ""),
        "driver": version,
        "ceiling_w": limit_w if LEAST_LIMIT_W <= limit_w <= PLAUSIBLE_W else None,
        "root": first is None,
        "parent": first,
        "note": None if first is None else f"a part of the board that {first} counts",
    }
    if reason is not None:
        return Channel(unit="J/2^16", readable=False, reason=reason, remedy=_REMEDIES.get(code), **common)
    return Channel(**common, **_counter(device, library))


def _channels(devices: list[dict[str, Any]], library: str, version: str) -> list[Channel]:
    """A channel for each GPU. Of the parts of one board, as in partition mode, the first that counts is the root."""
    counts: dict[int, str] = {}
    for device in devices:
        if _why_not(device) is None:
            counts.setdefault(device["socket"], f"amdsmi:{device['index']}")
    out = []
    for device in devices:
        first = counts.get(device.get("socket", -1))
        out.append(_channel(device, None if first == f"amdsmi:{device['index']}" else first, library, version))
    return out


def amdsmi(seams: Seams, patience_s: float = PATIENCE_S) -> Found:
    """Every board that the library lists; no board if it has not answered in `patience_s`."""
    library = library_path(seams.amdsmi_library)
    if library is None:
        return [], SourceStatus("amdsmi", 0, f"{seams.amdsmi_library}: there is no such library", _INSTALL)
    try:
        listed = _devices(library, patience_s)
    except ChannelReadError as error:
        return [], SourceStatus("amdsmi", 0, str(error), _REMEDIES.get(error.code))
    devices = [_told_apart(d, listed["devices"]) for d in listed["devices"]]
    found = _channels(devices, library, listed["version"])
    return found, SourceStatus("amdsmi", len(found), None if found else "the library lists no GPU")
