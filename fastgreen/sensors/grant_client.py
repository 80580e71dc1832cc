"""Counters that a privileged helper has opened: the request for their descriptors, and the messages of both sides.

The kernel checks permission when a counter is opened and never again, so ``sudo fastgreen grant`` opens the RAPL
counters and passes the descriptors over a Unix socket (SCM_RIGHTS); the program that measures stays unprivileged.

One connection carries one message each way (SOCK_SEQPACKET keeps them whole). The request is `REQUEST`. The answer is
``{"enclosed": 1}`` with one descriptor, or ``{"error": "..."}`` without any. The descriptor is another socket, in which
one message waits until the helper withdraws it: a JSON object ``{"zones": [{"zone": "intel-rapl:0", "mirrors": null},
...]}`` with one descriptor per zone in the same order.
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

REQUEST = b"fastgreen grant 2: rapl"
MOST_DESCRIPTORS = 253  # SCM_MAX_FD of Linux
_ANSWER_BYTES = 1 << 16
_PATIENCE_S = 5.0
# A helper that did not answer in this time is left alone for a minute, and then asked with little patience.
_SILENCE_S = 60.0
_SHORT_PATIENCE_S = 0.25
# (path, device, inode) of a socket -> when its helper, which did not answer, may be asked again
_silent: dict[tuple[str, int, int], float] = {}


class _NoAnswer(FastgreenError):
    """The helper is there and does not answer."""


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


def _receive(connection: socket, until: float) -> tuple[bytes, list[Descriptor], int]:
    """One message with its descriptors, closed on exec from the start (`socket.recv_fds` ignores its flags).

    BlockingIOError where there is no message at time `until`, however many signals come before.
    """
    import array
    import select
    import socket

    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.poll(max(0.0, until - _now()) * 1e3)
    numbers = array.array("i")
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * numbers.itemsize)
    data, ancillary, flags, _ = connection.recvmsg(_ANSWER_BYTES, room, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, [Descriptor(n) for n in numbers], flags


def _name(mirrored: object) -> str | None:
    return printable(str(mirrored)) if mirrored is not None else None


def _answer(data: bytes) -> dict[str, Any]:
    """The object of a message. FastgreenError for an error in it, and for any other text."""
    import json

    try:
        answer = json.loads(data)
        if "error" in answer:
            raise FastgreenError(printable(str(answer["error"])))
        answer.keys()
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FastgreenError(f"its answer is not a grant: {data[:40]!r}") from error
    return answer


def _parse(data: bytes, descriptors: list[Descriptor]) -> list[dict[str, Any]]:
    try:
        zones = [{"zone": str(z["zone"]), "mirrors": _name(z.get("mirrors"))} for z in _answer(data)["zones"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise FastgreenError(f"its answer is not a grant: {data[:40]!r}") from error
    if len(zones) != len(descriptors):
        raise FastgreenError(f"it named {counted(len(zones), 'counter')}, but passed {len(descriptors)}")
    return zones


def ask(path: str, patience_s: float = _PATIENCE_S) -> dict[str, tuple[Descriptor, str | None]]:
    """Zone -> its open counter, and the id of the channel that it repeats if it does.

    Raises
    ------
    FastgreenError
        Where nobody answers, this user is refused, or the one who answers is neither root nor this user.
    """
    import contextlib
    import socket
    import struct

    until = _now() + patience_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            # A timeout of the kernel: a connect with Python's own does not wait its turn where many start at once.
            timeout = struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
            connection.connect(path)
            _check_server(peer(connection)[1])
            # Strangers are refused before they ask; the refusal is there although the connection has gone.
            with contextlib.suppress(BrokenPipeError):
                connection.send(REQUEST)
            try:
                data, passed, flags = _receive(connection, until)
            except ConnectionResetError:
                data, passed, flags = _receive(connection, until)
            if "enclosed" not in _answer(data) or len(passed) != 1:
                raise FastgreenError(f"its answer is not a grant: {data[:40]!r}")
            data, descriptors, flags = _unwrap(passed[0])
        except BlockingIOError as error:
            raise _NoAnswer(f"no answer in {patience_s:g} s") from error
        except OSError as error:
            raise FastgreenError(f"{error.strerror or error}", code=error.errno or 0) from error
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise FastgreenError("its answer is too long")
    zones = _parse(data, descriptors)
    return {z["zone"]: (d, z["mirrors"]) for z, d in zip(zones, descriptors, strict=True)}


def _now() -> float:
    from time import monotonic

    return monotonic()


def _unwrap(passed: Descriptor) -> tuple[bytes, list[Descriptor], int]:
    """The message in the socket that was passed; it was there before the socket was."""
    import socket

    with socket.socket(fileno=os.dup(int(passed))) as inner:
        try:
            data, descriptors, flags = _receive(inner, 0.0)
        except BlockingIOError:
            data = b""
        if not data:
            raise FastgreenError("it has withdrawn its answer, which this program did not read in time")
    return data, descriptors, flags


def _check_server(uid: int) -> None:
    """FastgreenError for a server that is neither root nor this user.

    In a user namespace, all users without a number there look alike, root outside among them. So the helper of any of
    them is asked. `_is_counter` still compares each descriptor with its counter.
    """
    if uid not in (0, os.getuid()) and not _has_no_number(uid):
        raise FastgreenError(f"it belongs to user {uid}, and only root or this user is trusted")


def _has_no_number(uid: int) -> bool:
    """Whether `uid` may be a user outside of this user namespace."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            named = sum(int(line.split()[2]) for line in file)
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return uid == int(file.read()) and named < (1 << 32) - 1
    except (OSError, ValueError, LookupError):
        return False


def granted(channels: Iterable[Channel], path: str) -> list[Channel]:
    """The channels, those that may not be opened made readable where somebody at socket `path` hands them out."""
    channels = list(channels)
    barred = [c for c in channels if not c.readable and c.reason and c.reason.startswith("permission denied")]
    place = _socket(path) if barred and path else None
    if place is None:
        return channels
    try:
        zones = _ask_if_it_answers(place)
    except FastgreenError as error:
        return [_still_barred(c, path, str(error)) if c in barred else c for c in channels]
    return [_open(c, path, *zones[c.device]) if c in barred and c.device in zones else c for c in channels]


def _ask_if_it_answers(place: tuple[str, int, int]) -> dict[str, tuple[Descriptor, str | None]]:
    """`ask`, unless this helper was silent lately: a stopped one costs a program its patience once."""
    again = _silent.get(place)
    if again is not None and _now() < again:
        raise _NoAnswer("it did not answer before; the next request is a minute after that")
    try:
        answer = ask(place[0], _PATIENCE_S if again is None else _SHORT_PATIENCE_S)
    except _NoAnswer:
        _silent[place] = _now() + _SILENCE_S
        raise
    _silent.pop(place, None)
    return answer


def _still_barred(channel: Channel, path: str, why: str) -> Channel:
    return replace(channel, reason=f"{channel.reason}; grant socket {path}: {why}")


def _open(channel: Channel, path: str, descriptor: Descriptor, mirrors: str | None) -> Channel:
    if not _is_counter(int(descriptor), channel.sensor["path"]):
        return _still_barred(channel, path, "it passed another file")
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


def _is_counter(number: int, path: str) -> bool:
    """Whether a descriptor is open on the file at `path`, which this process may see but not open."""
    try:
        passed, seen = os.fstat(number), os.stat(path)
    except OSError:
        return False
    if not stat.S_ISREG(passed.st_mode) or passed.st_ino != seen.st_ino:
        return False
    if passed.st_dev == seen.st_dev:
        return True
    # A container has its own sysfs: another device, the same inodes.
    from fastgreen._core import on_sysfs

    return on_sysfs(number) and _on_sysfs(path)


def _on_sysfs(path: str) -> bool:
    from fastgreen._core import on_sysfs

    number = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return on_sysfs(number)
    finally:
        os.close(number)


def _socket(path: str) -> tuple[str, int, int] | None:
    """The path and identity of a socket; None for anything else."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (path, found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None
