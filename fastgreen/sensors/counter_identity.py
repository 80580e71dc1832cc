# SPDX-License-Identifier: Apache-2.0
"""The physical counter behind a channel: ranks of a job that read the same one have the same text.

The text is ``BOOT/SOURCE/DEVICE``: the boot id of the host, and the UUID of a GPU, the zone of powercap, the package of
an event, or the file of a sensor. Containers of one host share its boot id. Without a readable boot id its place is
empty, and `fastgreen.results.run_set` goes by the name of the host.
"""

from __future__ import annotations

import re

from fastgreen._light_dataclass import replace
from fastgreen.sensors import sysfs
from fastgreen.sensors.channel import Channel

__all__ = ["boot_id", "identified", "machine_of"]

_BOOT = "sys/kernel/random/boot_id"  # proc(5): a new one for each start of the kernel
_UUID = re.compile(r"[0-9a-fA-F-]{8,64}")


def boot_id(proc_root: str) -> str:
    """The id of this start of the kernel, as a UUID; empty where it cannot be read."""
    found = sysfs.text(f"{proc_root}/{_BOOT}") or ""
    return found.lower() if _UUID.fullmatch(found) else ""


def _cpu_name(proc_root: str) -> str:
    """The model of the CPU, as ``/proc/cpuinfo`` has it; empty where it is not named, as on aarch64."""
    for line in (sysfs.text(f"{proc_root}/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("model name", "model", "cpu model") and not value.strip().isdigit():
            return sysfs.printable(value.strip())
    return ""


def machine_of(found: list[Channel], proc_root: str) -> dict[str, str]:
    """Names of the CPU, the GPUs and their driver, as far as they are known."""
    boards = [c for c in found if c.source in ("nvml", "amdsmi") and c.parent is None and c.readable]
    names = {
        "cpu": _cpu_name(proc_root),
        "gpus": ", ".join(sysfs.printable(c.name) for c in boards),
        "driver": sysfs.printable(boards[0].driver) if boards else "",
    }
    return {key: name for key, name in names.items() if name}


def _device(channel: Channel) -> str:
    """What is read, by a name that no other counter of the host has."""
    if channel.source == "rapl":
        return channel.device
    if channel.source == "perf":
        return channel.id.partition(":")[2]
    if channel.source in ("nvml", "amdsmi"):
        board = channel.device or channel.bus
        return f"{board}/{channel.kind}" if board else ""
    if channel.source == "procstat":
        return "cpu"
    return str(channel.sensor.get("path") or channel.device)


def identified(channel: Channel, boot: str) -> Channel:
    """The channel with its physical counter; without one where nothing tells it from others, and for a replay."""
    device = "" if channel.source == "replay" else _device(channel)
    return replace(channel, counter=f"{boot}/{channel.source}/{device}" if device else "")
