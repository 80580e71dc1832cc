"""The helper behind ``sudo fastgreen grant``: opens the RAPL counters and passes the descriptors to permitted users.

It takes no path, name or option from a client: it passes the counters that it found itself, opened read-only, to users
and groups named when it was started. A client that says nothing, says nonsense or does not listen costs a place in a
small table for two seconds and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.grant_client import MOST_DESCRIPTORS, REQUEST, peer
from fastgreen.sensors.rapl import rapl

__all__ = ["Allowed", "Counter", "Granter", "counters"]

CONNECTIONS = 32
PATIENCE_S = 2.0
SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; Python has no name for it


@dataclass(frozen=True)
class Counter:
    """A counter to hand out: the powercap zone, its file, and the channel it repeats if it does."""

    zone: str
    path: str
    mirrors: str | None = None


def counters(seams: Seams) -> list[Counter]:
    """Every RAPL counter that this process may open. FastgreenError without one."""
    channels, state = rapl(seams)
    found = [Counter(c.device, c.sensor["path"], _mirrored(c.note or "")) for c in channels if c.readable]
    if not found:
        why = state.reason or "; ".join(c.reason or "" for c in channels)
        raise FastgreenError(f"there is no RAPL counter to grant: {why}")
    return found[:MOST_DESCRIPTORS]


def _mirrored(note: str) -> str | None:
    return note.removeprefix("mirrors ").partition(";")[0] if note.startswith("mirrors ") else None


@dataclass(frozen=True)
class Allowed:
    """Who may have descriptors: these users, members of these groups, and root."""

    users: Collection[int] = ()
    groups: Collection[int] = ()

    def admits(self, connection: socket.socket) -> bool:
        _, uid, gid = peer(connection)
        if uid == 0 or uid in self.users:
            return True
        return bool(self.groups) and not set(self.groups).isdisjoint({gid, *_supplementary(connection)})


def _supplementary(connection: socket.socket) -> list[int]:
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)  # the most that Python asks for
    except OSError:
        return []  # before Linux 4.13, or a member of more than 256 groups
    return list(struct.unpack(f"{len(data) // 4}I", data))


@dataclass
class Granter:
    """Serves `path` until `stop`; make it, `open` it, `serve`.

    Parameters
    ----------
    path : str
        The socket; the folder must be there. A dead socket in its place is replaced, anything else is not.
    counters : sequence of Counter
    allowed : Allowed
    mode : int
        Mode of the socket: the users that may connect.
    group : int, optional
        Group of the socket.
    say : callable
        Called with one line for every grant and refusal.
    """

    path: str
    counters: Sequence[Counter]
    allowed: Allowed
    mode: int = 0o660
    group: int | None = None
    say: Callable[[str], None] = print
    _listener: socket.socket | None = None
    _deadlines: dict[socket.socket, float] = field(default_factory=dict)

    def open(self) -> None:
        """Bind the socket. FastgreenError where another one serves it or something else is in its place."""
        self._clear_the_place()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        # No chmod afterwards: who owns the folder could have put a link in the socket's place.
        before = os.umask(0o777 & ~self.mode)
        try:
            self._listener.bind(self.path)
        except OSError as error:
            raise FastgreenError(f"cannot serve {self.path}: {error.strerror}") from error
        finally:
            os.umask(before)
        self._identity = self._in_place()
        if self.group is not None:
            os.chown(self.path, -1, self.group, follow_symlinks=False)
        self._listener.listen(socket.SOMAXCONN)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, None)

    def _clear_the_place(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FastgreenError(f"{self.path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                os.unlink(self.path)
                return
            except OSError as error:
                raise FastgreenError(f"{self.path} cannot be replaced: {error.strerror}") from error
        raise FastgreenError(f"{self.path} is already in use by another fastgreen grant")

    def stop(self) -> None:
        """End `serve`; from any thread or signal handler."""
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"x")

    def close(self) -> None:
        """Close everything and remove the socket, unless another one has taken its place."""
        if self._listener is None:
            return
        for connection in list(self._deadlines):
            self._drop(connection)
        self._selector.close()
        for part in (self._listener, self._wake, self._woken):
            part.close()
        self._listener = None
        with contextlib.suppress(OSError):
            if self._in_place() == self._identity:
                os.unlink(self.path)

    def _in_place(self) -> tuple[int, int]:
        found = os.lstat(self.path)
        return found.st_dev, found.st_ino

    def serve(self) -> None:
        """Answer until `stop`."""
        while True:
            for key, _ in self._selector.select(timeout=PATIENCE_S if self._deadlines else None):
                if key.fileobj is self._woken:
                    return
                key.data(key.fileobj)
            now = time.monotonic()
            for connection in [c for c, deadline in self._deadlines.items() if deadline <= now]:
                self._drop(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:  # gone again, or too many files open; neither is the end
            self.say(f"accept: {error.strerror}")
            time.sleep(0.01)
            return
        connection.setblocking(False)
        if not self._welcome(connection):
            connection.close()
            return
        self._deadlines[connection] = time.monotonic() + PATIENCE_S
        self._selector.register(connection, selectors.EVENT_READ, self._answer)
        if len(self._deadlines) == CONNECTIONS:
            self._selector.unregister(listener)  # the rest waits in the queue

    def _welcome(self, connection: socket.socket) -> bool:
        """Strangers are answered at once, so that they cannot take the places of others."""
        if self.allowed.admits(connection):
            return True
        pid, uid, _ = peer(connection)
        self.say(f"refused: user {uid}, process {pid}")
        with contextlib.suppress(OSError):
            self._send(connection, {"error": f"user {uid} is not allowed"}, [])
        return False

    def _drop(self, connection: socket.socket) -> None:
        if len(self._deadlines) == CONNECTIONS and self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._deadlines.pop(connection)
        self._selector.unregister(connection)
        connection.close()

    def _answer(self, connection: socket.socket) -> None:
        pid, uid, _ = peer(connection)
        try:
            request = connection.recv(len(REQUEST) + 1)
            if not request:
                return
            if request != REQUEST:
                self._send(connection, {"error": "unknown request"}, [])
                return
            self._grant(connection)
            self.say(f"granted: user {uid}, process {pid}")
        except OSError as error:
            self.say(f"user {uid}, process {pid}: {error.strerror}")
        finally:
            self._drop(connection)

    def _grant(self, connection: socket.socket) -> None:
        files: list[tuple[Counter, int]] = []
        try:
            for counter in self.counters:
                with contextlib.suppress(OSError):  # a zone that has gone is left out
                    files.append((counter, os.open(counter.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)))
            zones = [{"zone": c.zone, "mirrors": c.mirrors} for c, _ in files]
            self._send(connection, {"zones": zones}, [number for _, number in files])
        finally:
            for _, number in files:
                os.close(number)

    def _send(self, connection: socket.socket, answer: dict[str, Any], descriptors: list[int]) -> None:
        socket.send_fds(connection, [json.dumps(answer).encode()], descriptors)


def prepare_folder(path: str) -> None:
    """Make the socket's folder where it is not there; its parent must be."""
    folder = Path(path).parent
    if not folder.is_dir():
        try:
            folder.mkdir(mode=0o755)
        except OSError as error:
            raise FastgreenError(f"cannot make {folder}: {error.strerror}") from error
