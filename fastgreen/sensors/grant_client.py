"""Counters that a privileged helper has opened: the request for their descriptors, and the messages of both sides.

The kernel checks permission when a counter is opened and never again, so ``sudo fastgreen grant`` opens the RAPL
counters and passes the descriptors over a Unix socket (SCM_RIGHTS); the program that measures stays unprivileged.

One connection carries one message each way (SOCK_SEQPACKET keeps them whole): the request is `REQUEST`; the answer is
a JSON object ``{"zones": [{"zone": "intel-rapl:0", "mirrors": null}, ...]}`` with one descriptor per zone in the same
order, or ``{"error": "..."}`` without any.
"""

from __future__ import annotations

import os
import stat

from fastgreen._light_dataclass import replace
from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Channel
from fastgreen.sensors.sysfs import printable
from fastgreen.units import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from socket import socket
    from typing import Any

__all__ = ["MOST_DESCRIPTORS", "REQUEST", "Descriptor", "ask", "granted", "peer"]

REQUEST = b"fastgreen grant 1: rapl"
MOST_DESCRIPTORS = 253  # SCM_MAX_FD of Linux
_ANSWER_BYTES = 1 << 16
_PATIENCE_S = 5


class Descriptor:
    """An open descriptor that closes itself when nothing refers to it any more; ``int()`` gives its number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number

    def fileno(self) -> int:
        return self._number

    def __deepcopy__(self, memo: object = None) -> Descriptor:
        return self  # dataclasses.asdict copies; a number must be closed once

    __copy__ = __deepcopy__

    def __repr__(self) -> str:
        return f"<descriptor {self._number}>"

    def __del__(self) -> None:
        os.close(self._number)


def peer(connection: socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process at the other end, as the kernel saw it connect or listen."""
    from socket import SO_PEERCRED, SOL_SOCKET
    from struct import Struct

    fields = Struct("3i")
    pid, uid, gid = fields.unpack(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, fields.size))
    return pid, uid, gid


def _receive(connection: socket) -> tuple[bytes, list[Descriptor], int]:
    """One message with its descriptors, closed on exec from the start (`socket.recv_fds` ignores its flags)."""
    import array
    import socket

    numbers = array.array("i")
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * numbers.itemsize)
    data, ancillary, flags, _ = connection.recvmsg(_ANSWER_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, [Descriptor(n) for n in numbers], flags


def _name(mirrored: object) -> str | None:
    return printable(str(mirrored)) if mirrored is not None else None


def _parse(data: bytes, descriptors: list[Descriptor]) -> list[dict[str, Any]]:
    import json

    try:
        answer = json.loads(data)
        if "error" in answer:
            raise FastgreenError(printable(str(answer["error"])))
        zones = [{"zone": str(z["zone"]), "mirrors": _name(z.get("mirrors"))} for z in answer["zones"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FastgreenError(f"its answer is not a grant: {data[:40]!r}") from error
    if len(zones) != len(descriptors):
        raise FastgreenError(f"it named {counted(len(zones), 'counter')}, but passed {len(descriptors)}")
    return zones


def ask(path: str) -> dict[str, tuple[Descriptor, str | None]]:
    """Zone -> its open counter, and the id of the channel that it repeats if it does.

    Raises
    ------
    FastgreenError
        Where nobody answers, this user is refused, or the one who answers is neither root nor this user.
    """
    import contextlib
    import socket
    import struct

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        # Timeouts of the kernel: a connect with Python's own does not wait its turn where many start at once.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _PATIENCE_S, 0))
        try:
            connection.connect(path)
            uid = peer(connection)[1]
            if uid not in (0, os.getuid()):
                raise FastgreenError(f"it belongs to user {uid}, and only root or this user is trusted")
            # Strangers are refused before they ask; the refusal is there although the connection has gone.
            with contextlib.suppress(BrokenPipeError):
                connection.send(REQUEST)
            try:
                data, descriptors, flags = _receive(connection)
            except ConnectionResetError:
                data, descriptors, flags = _receive(connection)
        except BlockingIOError as error:
            raise FastgreenError(f"no answer in {_PATIENCE_S} s") from error
        except OSError as error:
            raise FastgreenError(f"{error.strerror or error}", code=error.errno or 0) from error
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise FastgreenError("its answer is too long")
    zones = _parse(data, descriptors)
    return {z["zone"]: (d, z["mirrors"]) for z, d in zip(zones, descriptors, strict=True)}


def granted(channels: Iterable[Channel], path: str) -> list[Channel]:
    """The channels, those that may not be opened made readable where somebody at socket `path` hands them out."""
    channels = list(channels)
    barred = [c for c in channels if not c.readable and c.reason and c.reason.startswith("permission denied")]
    if not barred or not path or not _is_socket(path):
        return channels
    try:
        zones = ask(path)
    except FastgreenError as error:
        return [replace(c, reason=f"{c.reason}; grant socket {path}: {error}") if c in barred else c for c in channels]
    return [_open(c, *zones[c.device]) if c in barred and c.device in zones else c for c in channels]


def _open(channel: Channel, descriptor: Descriptor, mirrors: str | None) -> Channel:
    note = "; ".join(filter(None, [channel.note, f"mirrors {mirrors}" if mirrors else None, "granted"]))
    return replace(
        channel,
        readable=True,
        reason=None,
        remedy=None,
        root=channel.root and mirrors is None,
        note=note,
        sensor={**channel.sensor, "fd": descriptor},
    )


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
