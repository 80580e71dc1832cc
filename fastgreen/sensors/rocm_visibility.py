"""AMD boards that environment variables hide from ROCm's programs.

Sources: ROCm documentation, "GPU isolation techniques" (ROCR_VISIBLE_DEVICES is applied first, by indices or by
``GPU-`` and the unique id; HIP_VISIBLE_DEVICES, or without it CUDA_VISIBLE_DEVICES, then counts the boards that are
left). ROCm counts boards in the order of the kernel's topology (linux/drivers/gpu/drm/amd/amdkfd/kfd_topology.c).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fastgreen._light_dataclass import replace
from fastgreen.sensors import sysfs
from fastgreen.sensors.board_notes import HIDDEN_BY
from fastgreen.sensors.channel import Channel

__all__ = ["boards_in_order", "hidden_boards", "marked"]

_OF_HIP = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


def _properties(node: str) -> dict[str, int]:
    """The numbers of a node of the topology; empty if it cannot be read."""
    words = (line.split() for line in (sysfs.text(f"{node}/properties") or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isascii() and pair[1].isdecimal()}


def boards_in_order(kfd_root: str) -> list[tuple[str, str]]:
    """(PCI address, ``GPU-`` and the unique id) of each GPU, in the order in which ROCm counts them.

    Parameters
    ----------
    kfd_root : str
        The kernel's folder of nodes, as ``/sys/class/kfd/kfd/topology/nodes``.

    Returns
    -------
    list of (str, str)
        Empty if there is no such folder. The unique id is empty for a board without one.
    """
    nodes = sorted((name for name in sysfs.entries(kfd_root) if name.isdecimal()), key=int)
    boards = []
    for node in nodes:
        found = _properties(f"{kfd_root}/{node}")
        if found.get("simd_count", 0) == 0:  # a CPU
            continue
        place, domain = found.get("location_id", 0), found.get("domain", 0)
        address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7:x}"
        unique = found.get("unique_id", 0)
        boards.append((address, f"GPU-{unique:016x}" if unique else ""))
    return boards


def _left(boards: list[tuple[str, str]], entries: str) -> list[tuple[str, str]]:
    """The boards that a variable names, in its order; ROCm stops at the first entry that names no board."""
    left: list[tuple[str, str]] = []
    for entry in (part.strip() for part in entries.split(",")):
        if entry.isascii() and entry.isdecimal():
            named = boards[int(entry)] if int(entry) < len(boards) else None
        else:
            named = next((board for board in boards if board[1] and board[1].lower() == entry.lower()), None)
        if named is None:
            break
        if named not in left:
            left.append(named)
    return left


def hidden_boards(kfd_root: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """PCI address of each hidden board, and the name of the variable that hides it.

    An empty variable counts as absent, as in ROCm. Boards are hidden only where the kernel's topology gives their
    order: a guess could leave out the board that works.
    """
    left = boards_in_order(kfd_root)
    hidden: dict[str, str] = {}
    chosen = ["ROCR_VISIBLE_DEVICES", next((name for name in _OF_HIP if environment.get(name)), "")]
    for variable in chosen:
        if entries := environment.get(variable):
            shown = _left(left, entries)
            hidden.update((address, variable) for address, _ in set(left) - set(shown))
            left = shown
    return hidden


def _is_of_a_board(channel: Channel) -> bool:
    """Whether it measures an AMD board. The power of a chip that holds the CPU as well counts in any case."""
    return channel.source == "amdsmi" or (channel.source == "hwmon" and channel.role == "amdgpu")


def marked(channels: list[Channel], kfd_root: str) -> list[Channel]:
    """The channels; those of hidden boards are not `visible` and have a note."""
    if not any(_is_of_a_board(channel) for channel in channels):
        return channels
    hidden = hidden_boards(kfd_root)

    def mark(channel: Channel) -> Channel:
        variable = hidden.get(channel.bus.lower()) if _is_of_a_board(channel) else None
        if variable is None:
            return channel
        note = "; ".join(filter(None, [channel.note, f"{HIDDEN_BY}{variable}"]))
        return replace(channel, visible=False, note=note)

    return [mark(channel) for channel in channels]
