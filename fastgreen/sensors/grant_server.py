"""The helper behind ``sudo fastgreen grant``: opens the RAPL counters and passes the descriptors to chosen users.

It takes no path, name or option from a client: it passes the counters that it found itself, opened read-only, to users
and groups named when it was started. Descriptors of clients never enter it, and each user has a share of its places.

A message cannot be taken back from the socket of its reader. So the counters wait in a socket pair of the helper's
own: the client gets one end of it, and the helper keeps a copy of this end and empties it when the client does not.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import termios
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastgreen._core import on_sysfs
from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.grant_client import MOST_DESCRIPTORS, REQUEST, peer
from fastgreen.sensors.grant_tree import Tree
from fastgreen.sensors.rapl import rapl

__all__ = ["Allowed", "Counter", "Granter", "counters", "more_descriptors", "prepare_folder"]

# At most these; fewer where the limit of open files is low, which is also the kernel's of those on their way.
PLACES = 400
UNREAD_PER_USER = 16
QUEUE = 1024  # a client waits its turn behind at most these; a longer queue would only be a longer wait
ACCEPTED_AT_ONCE = 64
SILENT_S = 2.0  # a client that does not ask
UNREAD_S = 5.0  # an answer that is not read, or not sent because others of this user are not read
SWEEP_S = 0.1
STALL_S = 0.01  # see `_without_stalling`
SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h; Python has no name for these two
SO_PASSRIGHTS = 83


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


@dataclass(eq=False)
class _Client:
    """A connection of an allowed user, on its way from silent over waiting to unread, and to withdrawn if it must."""

    connection: socket.socket
    pid: int
    uid: int
    deadline: float
    state: str = "silent"
    answer: socket.socket | None = None  # the helper's copy of the end that the client gets

    def has_read(self) -> bool:
        """Whether nothing that was sent waits to be read."""
        return _bytes(self.connection, termios.TIOCOUTQ) == 0 and (
            self.answer is None or _bytes(self.answer, termios.FIONREAD) == 0
        )

    def withdraw(self) -> None:
        """Take back the counters; the empty end remains with the client."""
        if self.answer is not None:
            with contextlib.suppress(BlockingIOError):
                self.answer.recv(1, socket.MSG_DONTWAIT)
            self.answer.close()
        self.answer, self.state = None, "withdrawn"


def _bytes(connection: socket.socket, request: int) -> int:
    number = array.array("i", [0])
    fcntl.ioctl(connection, request, number)
    return number[0]


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
        Called with a line for every grant and refusal, and with its subject, the user. It must not raise.
    root : str
        The folder below which counters are opened; a counter elsewhere is an error.
    check : callable
        Called with the descriptor of each folder and counter on the way; False refuses it. By default only the
        kernel's sysfs will do.
    refuse_rights : bool
        Have the kernel refuse messages that carry descriptors (Linux 6.16).
    """

    path: str
    counters: Sequence[Counter]
    allowed: Allowed
    mode: int = 0o660
    group: int | None = None
    say: Callable[[str, str], object] = lambda line, subject: None
    root: str = "/sys"
    check: Callable[[int], bool] = on_sysfs
    refuse_rights: bool = True
    _listener: socket.socket | None = None
    _clients: dict[int, _Client] = field(default_factory=dict)
    _held: Tally[int] = field(default_factory=Tally)  # user -> places
    _stalls: bool = True
    _places: int = PLACES
    _unread_per_user: int = UNREAD_PER_USER

    def open(self) -> None:
        """Bind the socket.

        Raises
        ------
        FastgreenError
            If another helper serves it, a file of another kind is in its place, or a counter is outside of the root.
        """
        self._tree = Tree(self.root, self.check)
        self._files: list[tuple[Counter, tuple[str, ...]]] = []
        for counter in self.counters:
            with contextlib.suppress(OSError):  # gone since
                self._files.append((counter, self._tree.locate(counter.path)))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY:
            self._places = max(2, min(PLACES, limit // 4))
            self._unread_per_user = max(1, min(UNREAD_PER_USER, limit // (8 * (len(self._files) + 1))))
        self._clear_the_place()
        self._poll = select.epoll()
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
        if self.refuse_rights:
            with contextlib.suppress(OSError):
                self._listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)  # each connection inherits it
                self._stalls = False
        self._listener.listen(QUEUE)
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(self._woken, select.EPOLLIN)

    def _clear_the_place(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FastgreenError(f"{self.path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                os.unlink(self.path)
                return
            except BlockingIOError:
                pass  # a stopped one with a full queue
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
        for client in list(self._clients.values()):
            self._drop(client)
        self._poll.close()
        with self._without_stalling():
            self._listener.close()
        self._wake.close()
        self._woken.close()
        self._listener = None
        with contextlib.suppress(OSError):
            if self._in_place() == self._identity:
                os.unlink(self.path)

    def _in_place(self) -> tuple[int, int]:
        found = os.lstat(self.path)
        return found.st_dev, found.st_ino

    def serve(self) -> None:
        """Answer until `stop`."""
        sweep_at = 0.0
        while True:
            for number, events in self._poll.poll(SWEEP_S if self._clients else None):
                if number == self._woken.fileno():
                    return
                if self._listener is not None and number == self._listener.fileno():
                    self._accept(self._listener)
                elif number in self._clients:  # it may have lost its place to another one since
                    self._listen_to(self._clients[number], events)
            self._answer_the_waiting()
            now = time.monotonic()
            if now >= sweep_at:
                sweep_at = now + SWEEP_S
                self._sweep(now)

    # ---- arrivals ----

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # gone again, or too many files open; neither is the end
                self.say(f"accept: {error.strerror}", "accept")
                time.sleep(0.01)
                return
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        """A place for an allowed user. All others are answered at once, so that they take no places."""
        connection.setblocking(False)
        pid, uid, _ = peer(connection)
        refusal = None
        if not self.allowed.admits(connection):
            refusal = f"user {uid} is not allowed"
        elif self._held[uid] >= self._places // 2:
            refusal = f"user {uid} has too many connections"
        if refusal is not None:
            self.say(f"refused: {refusal}, process {pid}", f"user {uid}")
            self._send(connection, {"error": refusal})
            with self._without_stalling():
                connection.close()
            return
        if len(self._clients) >= self._places:
            self._make_room()
        self._clients[connection.fileno()] = _Client(connection, pid, uid, time.monotonic() + SILENT_S)
        self._held[uid] += 1
        self._poll.register(connection, select.EPOLLIN)

    def _make_room(self) -> None:
        """The user with most places loses one, if possible one that leaves nothing in the client's socket."""
        greedy = max(self._held, key=self._held.__getitem__)
        theirs = [c for c in self._clients.values() if c.uid == greedy]
        self._drop(next((c for c in theirs if c.state in ("silent", "waiting")), theirs[0]))

    def _listen_to(self, client: _Client, events: int) -> None:
        if events & (select.EPOLLHUP | select.EPOLLERR) and client.state != "silent":
            self._drop(client)
            return
        try:
            # Looked at and left: to take a message would close descriptors in it, which may take its time.
            request = client.connection.recv(len(REQUEST) + 1, socket.MSG_PEEK if self._stalls else 0)
        except BlockingIOError:
            return
        except OSError:
            request = b""
        if request == REQUEST:
            client.state, client.deadline = "waiting", time.monotonic() + UNREAD_S
            self._poll.modify(client.connection, 0)  # that leaves the news that it has gone
            return
        if request:
            self._send(client.connection, {"error": "unknown request"})
        self._drop(client)

    # ---- answers ----

    def _answer_the_waiting(self) -> None:
        unread = Tally(c.uid for c in self._clients.values() if c.state in ("unread", "withdrawn"))
        for client in [c for c in self._clients.values() if c.state == "waiting"]:
            if unread[client.uid] < self._unread_per_user:
                self._answer(client)
                unread[client.uid] += 1

    def _answer(self, client: _Client) -> None:
        subject = f"user {client.uid}"
        try:
            self._grant(client)
        except OSError as error:
            self.say(f"{subject}, process {client.pid}: {error.strerror}", subject)
            self._send(client.connection, {"error": f"the helper cannot pass its counters: {error.strerror}"})
            self._drop(client)
            return
        client.state, client.deadline = "unread", time.monotonic() + UNREAD_S
        self.say(f"granted: {subject}, process {client.pid}", subject)

    def _grant(self, client: _Client) -> None:
        with contextlib.ExitStack() as opened:
            files: list[tuple[Counter, int]] = []
            for counter, parts in self._files:
                with contextlib.suppress(OSError):  # a zone that has gone, or is no longer what it was, is left out
                    number = self._tree.open(parts)
                    opened.callback(os.close, number)
                    files.append((counter, number))
            ours, client.answer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.callback(ours.close)
            zones = [{"zone": c.zone, "mirrors": c.mirrors} for c, _ in files]
            socket.send_fds(ours, [json.dumps({"zones": zones}).encode()], [number for _, number in files])
            socket.send_fds(client.connection, [b'{"enclosed": 1}'], [client.answer.fileno()])

    def _send(self, connection: socket.socket, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it has gone, or does not read
            connection.send(json.dumps(answer).encode())

    # ---- departures ----

    def _sweep(self, now: float) -> None:
        for client in list(self._clients.values()):
            if client.state in ("unread", "withdrawn") and client.has_read():
                self._drop(client)
            elif client.deadline > now or client.state == "withdrawn":
                continue
            elif client.state == "unread":
                client.withdraw()
                self.say(f"withdrawn: user {client.uid}, process {client.pid} did not read", f"user {client.uid}")
                if client.has_read():
                    self._drop(client)
            else:
                if client.state == "waiting":
                    unread = f"{self._unread_per_user} answers to user {client.uid} have not been read"
                    self._send(client.connection, {"error": unread})
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        number = client.connection.fileno()
        self._poll.unregister(number)
        del self._clients[number]
        self._held[client.uid] -= 1
        if not self._held[client.uid]:
            del self._held[client.uid]
        if client.answer is not None:
            client.answer.close()
        with self._without_stalling():
            client.connection.close()

    @contextlib.contextmanager
    def _without_stalling(self) -> Iterator[None]:
        """End the wait of a close that disposes of descriptors in messages not read.

        A TCP socket among them can linger for as long as its sender likes; a signal ends this wait.
        """
        if not self._stalls or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, STALL_S, STALL_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def more_descriptors() -> None:
    """Raise this process's limit of open files as far as it may, before its granter opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def prepare_folder(path: str) -> None:
    """Make the socket's folder where it is not there; its parent must be."""
    folder = Path(path).parent
    if not folder.is_dir():
        try:
            folder.mkdir(mode=0o755)
        except OSError as error:
            raise FastgreenError(f"cannot make {folder}: {error.strerror}") from error
