# SPDX-License-Identifier: Apache-2.0
"""How much one client of the granting helper can take from the others: places, descriptors, time, log lines."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  (the interpreter's own folder may be barred to other users)
import errno
import json
import os
import resource
import select
import signal
import socket
import struct  # noqa: F401  (for the code that runs as another user)
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenError
from fastgreen.sensors import grant_client, grant_log, grant_server
from fastgreen.sensors.grant_client import REQUEST, ask
from fastgreen.sensors.grant_log import Log
from tests.fakes.grant_helper import helper
from tests.fakes.permissions import CAP_SYS_ADMIN, CAP_SYS_RESOURCE, drop, without_dac_override
from tests.fakes.powercap import PowercapTree, Zone
from tests.sensors.grant_attacks import become

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
FRIEND, GREEDY, STRANGER = 4201, 4202, 4203


@pytest.fixture
def tree(powercap) -> PowercapTree:
    zones = [Zone(f"package-{n}", counter_start_uj=1000 * n + 5) for n in range(8)]
    return powercap(*zones, mode="file")


@contextlib.contextmanager
def running(tree: PowercapTree, path: Path, *users: int, **options) -> Iterator[subprocess.Popen]:
    """The helper as a process of root, at work."""
    with helper(path, tree.root, *(users or [os.getuid()]), mode=0o666, stderr=subprocess.PIPE, **options) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"granting ")
        yield process


@pytest.fixture
def place() -> Iterator[Path]:
    """A socket's path in a folder that anybody may enter."""
    with tempfile.TemporaryDirectory(prefix="fastgreen-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "grant.sock"


def asked(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(60)
    connection.connect(str(path))
    connection.send(REQUEST)
    return connection


@contextlib.contextmanager
def as_user(uid: int, code: str, path: Path) -> Iterator[subprocess.Popen]:
    """Code in a fork of this process that has become another user; it ends with the block.

    It finds `asked` and `path`, and says b"ready" by `ready()`.
    """
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            become(uid)
            exec(code, {**globals(), "path": path, "ready": lambda: os.write(ours, b"r")})
            status = 0
        except Exception as error:
            os.write(ours, repr(error).encode())
        finally:
            os._exit(status)
    os.close(ours)
    try:
        assert select.select([theirs], [], [], 60)[0]
        assert os.read(theirs, 1000) == b"r"
        yield pid
    finally:
        os.close(theirs)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ask_as(uid: int, path: Path) -> tuple[int, str]:
    """(number of counters, error) of a user that asks, and that must not wait for long."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(uid)
            begin = time.monotonic()
            answer = [len(ask(str(path))), "", time.monotonic() - begin]
        except BaseException as error:
            answer = [0, str(error), 0.0]
        os.write(ours, json.dumps(answer).encode())
        os._exit(0)
    os.close(ours)
    with open(theirs, "rb") as file:
        counters, error, waited_s = json.loads(file.read())
    os.waitpid(pid, 0)
    assert waited_s < 4.0  # a helper that does not answer takes 5 s
    return counters, error


# ---- descriptors on their way ----


def _service() -> None:
    drop(CAP_SYS_ADMIN, CAP_SYS_RESOURCE)  # whom the kernel does not limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))


UNREAD = """
held = []
for _ in range(30):
    with contextlib.suppress(OSError):  # too many
        held.append(asked(path))
select.select([held[0]], [], [], 60)
ready()
time.sleep(60)
"""


@needs_root
def test_one_users_unread_answers_leave_the_descriptors_of_others(tree, place):
    with running(tree, place, FRIEND, GREEDY, preexec_fn=_service), as_user(GREEDY, UNREAD, place):
        assert ask_as(FRIEND, place) == (8, "")
        with as_user(GREEDY, UNREAD, place):
            assert ask_as(FRIEND, place) == (8, "")


def test_without_limits_the_kernel_would_refuse_descriptors_to_all(tmp_path):
    """The danger itself: descriptors on their way count for the sender, and past its limit of files nobody gets one."""
    code = "import os, socket, sys\n" + (
        "held = []\n"
        "try:\n"
        "    for _ in range(400):\n"
        "        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "        socket.send_fds(pair[0], [b'x'], [0] * 8)\n"
        "        pair[0].close(); held.append(pair[1])\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno)\n"
    )

    def limit() -> None:
        drop(CAP_SYS_ADMIN, CAP_SYS_RESOURCE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
        if os.getuid() == 0:
            os.setresuid(FRIEND, FRIEND, FRIEND)

    done = subprocess.run(["/usr/bin/env", "python3", "-c", code], cwd="/", preexec_fn=limit, capture_output=True)
    if done.returncode not in (errno.ETOOMANYREFS, 0):
        pytest.skip(f"that user cannot run the system's Python: {done.stderr[-200:]!r}")
    assert done.returncode == errno.ETOOMANYREFS


@pytest.mark.parametrize("taken", [False, True], ids=["the socket too", "the socket taken"])
def test_an_answer_that_is_not_read_is_withdrawn(tree, only_fakes, taken, soon):
    """Its counters leave the kernel's queue, whoever holds the socket that they are in."""
    path = only_fakes / "grant.sock"
    with running(tree, path) as process, asked(path) as connection:
        select.select([connection], [], [], 60)
        passed = socket.recv_fds(connection, 100, 4)[1] if taken else []
        counters = lambda: sum(_queued(process.pid))  # noqa: E731
        assert counters() == 8
        soon(lambda: counters() == 0, grant_server.UNREAD_S + 10)
        passed = passed or socket.recv_fds(connection, 100, 4)[1]
        with socket.socket(fileno=passed[0]) as inner:
            assert inner.recv(100) == b""
        assert len(ask(str(path))) == 8


def _queued(pid: int) -> list[int]:
    """Descriptors in the queues of a process's Unix sockets, as its fdinfo counts them (Linux 5.6)."""
    out = []
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines():
                if line.startswith("scm_fds:"):
                    out.append(int(line.split()[1]))
    return out


def test_a_client_that_comes_too_late_learns_the_reason(tree, only_fakes):
    """The helper has withdrawn the answer; a server that does so at once stands in for five seconds."""
    path = str(only_fakes / "grant.sock")

    def serve_once() -> None:
        connection, _ = listener.accept()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with connection, ours, theirs:
            connection.recv(100)
            socket.send_fds(connection, [b'{"enclosed": 1}'], [theirs.fileno()])

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve_once)
        thread.start()
        with pytest.raises(FastgreenError, match="withdrawn its answer"):
            ask(path)
        thread.join()


# ---- places and time ----

SILENT = """
held = []
for _ in range(600):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        connection.connect(str(path))
    held.append(connection)
ready()
time.sleep(60)
"""


@needs_root
def test_one_users_silent_connections_leave_places_for_others(tree, place):
    with running(tree, place, FRIEND, GREEDY), as_user(GREEDY, SILENT, place):
        assert ask_as(FRIEND, place) == (8, "")


@needs_root
def test_two_greedy_users_lose_places_to_a_third(tree, place):
    users = [GREEDY, STRANGER]
    with running(tree, place, FRIEND, *users), as_user(GREEDY, SILENT, place), as_user(STRANGER, SILENT, place):
        assert ask_as(FRIEND, place) == (8, "")


@needs_root
def test_a_strangers_flood_leaves_places_for_friends(tree, place):
    with running(tree, place, FRIEND), as_user(STRANGER, SILENT, place):
        assert ask_as(FRIEND, place) == (8, "")
        assert "is not allowed" in ask_as(STRANGER, place)[1]


LINGERING = """
server = socket.create_server(("127.0.0.1", 0))
for _ in range(3):
    tcp = socket.create_connection(server.getsockname())
    tcp.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while tcp.send(b"x" * 65536):
            pass
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(path))
    try:
        socket.send_fds(connection, [b"take this"], [tcp.fileno()])
        tcp.close()  # the message has the last reference now
        connection.close()
    except PermissionError:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
ready()
time.sleep(60)  # to end would reset the connection, and with it the wait
"""


@needs_root
@pytest.mark.parametrize("refuse_rights", [True, False], ids=["refused by the kernel", "before Linux 6.16"])
@pytest.mark.parametrize("uid", [GREEDY, STRANGER], ids=["allowed", "stranger"])
def test_a_socket_that_lingers_inside_a_message_holds_up_nobody(tree, place, refuse_rights, uid):
    """The process that closes the last reference waits as long as the sender of the socket likes: a minute here."""
    with running(tree, place, FRIEND, GREEDY, refuse_rights=refuse_rights) as process:
        process.send_signal(signal.SIGSTOP)
        with as_user(uid, LINGERING, place):
            process.send_signal(signal.SIGCONT)
            assert ask_as(FRIEND, place) == (8, "")
            process.terminate()
            assert process.wait(10) == 0


# ---- a helper that does not answer ----


def test_a_stopped_helper_costs_a_program_its_patience_once(tree, only_fakes):
    for zone in tree.placed:
        zone.energy.chmod(0)
    with running(tree, only_fakes / "grant.sock") as process, without_dac_override():
        process.send_signal(signal.SIGSTOP)
        waits, reasons = [], []
        for _ in range(4):
            begin = time.monotonic()
            monitor = fg.Monitor(estimate=(1, 2))
            waits.append(time.monotonic() - begin)
            reasons.append(next(c.reason for c in fg.channels() if c.source == "rapl"))
            del monitor
        assert 4.9 < waits[0] < 60
        assert max(waits[1:]) < 4.0
        assert "did not answer" in reasons[0]
        # It is asked again later, with little patience while it is silent, and believed at once when it answers.
        (place,) = grant_client._silent
        grant_client._silent[place] = 0.0
        begin = time.monotonic()
        assert not fg.channels()[0].readable
        assert 0.2 < time.monotonic() - begin < 4.0
        process.send_signal(signal.SIGCONT)
        assert not fg.channels()[0].readable
        grant_client._silent[place] = 0.0
        assert fg.channels()[0].note == "granted"
        assert not grant_client._silent


def test_a_new_helper_is_asked_at_once(tree, only_fakes):
    for zone in tree.placed:
        zone.energy.chmod(0)
    path = only_fakes / "grant.sock"
    with without_dac_override():
        with running(tree, path) as process:
            process.send_signal(signal.SIGSTOP)
            assert not fg.channels()[0].readable
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:  # so that the inode is another one
            other.bind(str(only_fakes / "other.sock"))
            with running(tree, path):
                assert fg.channels()[0].readable


def test_signals_do_not_prolong_the_wait(tree, only_fakes):
    """A profiler's timer interrupts the wait a hundred times; it ends all the same."""
    with running(tree, only_fakes / "grant.sock") as process:
        process.send_signal(signal.SIGSTOP)
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            begin = time.monotonic()
            with pytest.raises(FastgreenError, match="no answer"):
                ask(str(only_fakes / "grant.sock"), patience_s=1.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert 0.9 < time.monotonic() - begin < 60


# ---- the log ----


def _closed() -> int:
    return 999


def _without_reader() -> int:
    theirs, ours = os.pipe()
    os.close(theirs)
    return ours


def _full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def _full_pipe() -> int:
    _, ours = os.pipe()
    os.set_blocking(ours, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ours, b"x" * 4096)
    os.set_blocking(ours, True)
    return ours


def _answers(path: Path) -> bool:
    """Whether the helper listens; between bind and listen its socket is there and refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        return connection.connect_ex(str(path)) == 0


LOGS = {"closed": _closed, "without reader": _without_reader, "full disk": _full_disk, "full pipe": _full_pipe}


@pytest.mark.parametrize("kind", LOGS)
def test_a_helper_whose_log_cannot_be_written_serves_on(tree, only_fakes, soon, kind):
    path, number = only_fakes / "grant.sock", LOGS[kind]()

    def become_stderr() -> None:
        os.dup2(number, 2) if kind != "closed" else os.close(2)

    passed = () if kind == "closed" else (number,)
    with helper(path, tree.root, os.getuid(), preexec_fn=become_stderr, pass_fds=passed) as process:
        soon(lambda: process.poll() is not None or _answers(path))
        for _ in range(2 * grant_log.BURST):
            assert len(ask(str(path))) == 8
        process.terminate()
        assert process.wait(60) == 0


def test_log_lines_have_a_limit_for_each_subject_and_for_all():
    theirs, ours = os.pipe()
    now = 0.0
    log = Log(ours, clock=lambda: now)
    for _ in range(1000):
        log("refused: user 1", "user 1")
    log("granted: user 2", "user 2")
    said = os.read(theirs, 1 << 16).decode().splitlines()
    assert said[:-1] == ["refused: user 1"] * grant_log.BURST
    assert said[-1] == f"granted: user 2 ({1000 - grant_log.BURST} lines left out before this one)"
    for uid in range(10_000):
        log("refused", f"user {uid}")
    assert len(os.read(theirs, 1 << 16).splitlines()) == grant_log.ALL_BURST - grant_log.BURST - 1
    assert len(log._subjects) <= grant_log.MOST_SUBJECTS
    now = 3600.0
    log("refused: user 1", "user 1")
    assert os.read(theirs, 1 << 16).decode().startswith("refused: user 1 (")
    os.close(theirs)
    log("nobody reads this", "")  # and it does not raise
    assert log.left_out == 1
    os.close(ours)


@needs_root
def test_a_stranger_fills_no_log(tree, place):
    with running(tree, place, FRIEND) as process:
        with as_user(STRANGER, SILENT, place):
            assert ask_as(FRIEND, place) == (8, "")
        process.terminate()
        said = process.stderr.read().decode().splitlines()
    assert 1 <= len([line for line in said if "refused" in line]) <= grant_log.BURST + 2
    assert any("granted: user" in line for line in said)
