# SPDX-License-Identifier: Apache-2.0
"""Every attack on the granting helper that docs/permissions.md lists and a client can play, at random and at once.

``python -m tests.sensors.grant_attacks SECONDS SEED refuse`` (as root; ``accept`` as before Linux 6.16) plays them
against a helper with few open files and a log that nobody reads, while a friend asks for its counters all the time, and
prints the waits of the friend, and the memory and descriptors of the helper.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  (the interpreter's own folder may be barred to other users)
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastgreen.errors import FastgreenError
from fastgreen.sensors.grant_client import REQUEST, ask
from tests.fakes.grant_helper import helper
from tests.fakes.permissions import CAP_SYS_ADMIN, CAP_SYS_RESOURCE, drop
from tests.fakes.powercap import PowercapTree, Zone

FRIEND, GREEDY, STRANGER = 4101, 4102, 4103
FEW_FILES = 256
ATTACKERS = 3
SECRET = "not for you"
BROKEN = 70  # exit status of an attack that failed by its own fault
_HELD_S = 1.0


def connect(path: str, wait: bool = True) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(wait)
    if wait:
        connection.settimeout(2.0)
    connection.connect(path)
    return connection


@contextlib.contextmanager
def many(path: str, number: int) -> Iterator[list[socket.socket]]:
    """So many connections, or as many as one gets."""
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(number):
            with contextlib.suppress(OSError):
                held.append(stack.enter_context(connect(path, wait=False)))
        yield held


def silent(path: str) -> None:
    with many(path, 300):
        time.sleep(_HELD_S)


def vanishing(path: str) -> None:
    for _ in range(100):
        connection = connect(path)
        if random.random() < 0.5:
            connection.send(REQUEST)
        connection.close()


def garbage(path: str) -> None:
    for _ in range(30):
        with connect(path) as connection:
            for _ in range(random.choice((1, 40))):
                connection.send(random.choice((b"", REQUEST + b"!", REQUEST[:-1], os.urandom(random.randint(1, 9000)))))


def unread(path: str) -> None:
    with many(path, 200) as held:
        for connection in held:
            with contextlib.suppress(OSError):
                connection.send(REQUEST)
        time.sleep(random.choice((_HELD_S, 7.0)))


def half_read(path: str) -> None:
    """The socket with the counters is taken, and they are left in it."""
    with many(path, 60) as held, contextlib.ExitStack() as stack:
        for connection in held:
            with contextlib.suppress(OSError):
                connection.send(REQUEST)
        time.sleep(0.2)
        for connection in held:
            with contextlib.suppress(OSError):
                for number in socket.recv_fds(connection, 100, 4)[1]:
                    stack.callback(os.close, number)
        time.sleep(random.choice((_HELD_S, 7.0)))


def lingering(path: str) -> None:
    """A TCP socket in a message waits for a minute in the process that closes it."""
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            connection = stack.enter_context(connect(path))
            tcp = socket.create_connection(server.getsockname())
            tcp.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while tcp.send(b"x" * 65536):
                    pass
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
            try:
                socket.send_fds(connection, [random.choice((REQUEST, b"take this"))], [tcp.fileno()])
            except OSError:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tcp.close()  # the message, where it was sent, has the last reference now
            connection.close()
        time.sleep(_HELD_S)  # to end would reset the connections, and with them the wait


def circular(path: str) -> None:
    """Connections and answers inside sockets that nobody can reach any more."""
    for _ in range(20):
        with connect(path) as connection:
            connection.send(REQUEST)
            first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            socket.send_fds(first, [b"x"], [first.fileno(), second.fileno(), connection.fileno()])
            first.close()
            second.close()


def half_closed(path: str) -> None:
    with many(path, 100) as held:
        for connection in held:
            with contextlib.suppress(OSError):
                connection.send(REQUEST)
                connection.shutdown(random.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))
        time.sleep(_HELD_S)


def flood(path: str) -> None:
    until = time.monotonic() + _HELD_S
    while time.monotonic() < until:
        with many(path, 200):
            pass
        time.sleep(0.02)


def stopped(path: str) -> None:
    with many(path, 30) as held:
        for connection in held:
            connection.send(REQUEST)
        os.kill(os.getpid(), signal.SIGSTOP)


def no_room(path: str) -> None:
    """A client whose own limit lets no descriptor in."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))
    for _ in range(30):
        with contextlib.suppress(FastgreenError, OSError):
            ask(path)


_ALL = (silent, vanishing, garbage, unread, half_read, lingering, circular, half_closed, flood, stopped, no_room)
ATTACKS: dict[str, Callable[[str], None]] = {attack.__name__: attack for attack in _ALL}


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = BROKEN
        try:
            with contextlib.suppress(OSError, FastgreenError):
                work()
            status = 0
        finally:
            os._exit(status)
    return pid


def attack_for(path: str, seconds: float, seed: int, report: Path) -> None:
    """One attack after the other, each in a process of its own that lives for three seconds at most, or for eight."""
    random.seed(seed)
    played, broken = dict.fromkeys(ATTACKS, 0), set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        name, uid = random.choice(list(ATTACKS)), random.choice((GREEDY, STRANGER))

        def work(name: str = name, uid: int = uid) -> None:
            random.seed()
            become(uid)
            ATTACKS[name](path)

        pid, end = _child(work), time.monotonic() + random.choice((3.0, 8.0))
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)
        if ended == (0, 0):
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
        played[name] += 1
        if os.waitstatus_to_exitcode(ended[1]) == BROKEN:
            broken.add(name)
    report.write_text(json.dumps({"played": played, "broken": sorted(broken)}))


def _queued_s(*pids: int) -> float:
    """Time that these processes were ready to run and the machine ran others; 0 where the kernel does not count it."""
    with contextlib.suppress(OSError):
        return sum(int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1]) for pid in pids) * 1e-9
    return 0.0


def be_friend(path: str, seconds: float, report: Path, helper_pid: int) -> None:
    """Ask all the time; note the waits, the failures, and any counter that is not one.

    A wait has two parts: the machine was busy with others, so that neither the helper nor the friend ran; and the rest,
    which is the helper's.
    """
    waits: list[float] = []
    busy: list[float] = []
    failures: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = _queued_s(os.getpid(), helper_pid)
        begin = time.monotonic()
        try:
            zones = ask(path)
            waits.append(time.monotonic() - begin)
            busy.append(min(waits[-1], _queued_s(os.getpid(), helper_pid) - before))
            texts = [os.pread(int(descriptor), 30, 0) for descriptor, _ in zones.values()]
            if "intel-rapl:0" not in zones or not all(text.strip().isdigit() for text in texts):
                failures.append(f"{sorted(zones)} {texts}")
        except (FastgreenError, OSError) as error:
            failures.append(f"{error} after {time.monotonic() - begin:.2f} s")
        time.sleep(0.02)
    by_helper = max((wait - late for wait, late in zip(waits, busy, strict=True)), default=None)
    waits.sort()
    middle, late = (waits[int(len(waits) * part)] if waits else None for part in (0.5, 0.999))
    answer = {"asked": len(waits), "median_s": middle, "p999_s": late, "longest_s": waits[-1] if waits else None}
    answer |= {"longest_by_helper_s": by_helper, "busiest_s": max(busy, default=None)}
    with open(report, "w", encoding="utf-8") as file:
        json.dump({**answer, "failures": failures[:20], "failed": len(failures)}, file)


def _swap(tree: PowercapTree, secret: Path) -> None:
    """The dram zone's counter becomes a link to a file of root's, and a counter again."""
    energy = tree["dram"].energy
    fresh = energy.with_name("fresh")
    if energy.is_symlink():
        fresh.write_bytes(b"7\n")
    else:
        fresh.symlink_to(secret)
    fresh.rename(energy)


def _memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _few_rights() -> None:
    """As in the service of docs/permissions.md: the limit of descriptors on their way binds."""
    drop(CAP_SYS_ADMIN, CAP_SYS_RESOURCE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))


def _play(machine: Path, process: subprocess.Popen, tree: PowercapTree, seconds: float, seed: int) -> dict:
    path, report = str(machine / "grant.sock"), machine / "report.json"
    report.touch()
    report.chmod(0o666)
    at_rest = _descriptors(process.pid)

    def friend() -> None:
        become(FRIEND)
        be_friend(path, seconds, report, process.pid)

    children = [_child(friend)]
    reports = [machine / f"attacker{n}.json" for n in range(ATTACKERS)]
    children += [_child(lambda n=n: attack_for(path, seconds, seed + n, reports[n])) for n in range(ATTACKERS)]
    begin = time.monotonic()
    most, memory = 0, []
    while time.monotonic() < begin + seconds:
        time.sleep(0.1)
        _swap(tree, machine / "secret")
        most = max(most, _descriptors(process.pid))
        memory.append(_memory_kib(process.pid))
    for child in children:
        os.waitpid(child, 0)
    until = time.monotonic() + 20.0
    while _descriptors(process.pid) > at_rest and time.monotonic() < until:
        time.sleep(0.1)
    attacks = [json.loads(file.read_text()) for file in reports]
    warm = memory[: max(1, len(memory) // 3)]
    return {
        **json.loads(report.read_text()),
        "played": {name: sum(a["played"][name] for a in attacks) for name in ATTACKS},
        "broken": sorted({name for a in attacks for name in a["broken"]}),
        "alive": process.poll() is None,
        "descriptors_at_rest": at_rest,
        "descriptors_most": most,
        "descriptors_afterwards": _descriptors(process.pid),
        "memory_warm_kib": max(warm),
        "memory_most_kib": max(memory),
        "memory_afterwards_kib": _memory_kib(process.pid),
    }


def play(seconds: float, seed: int = 0, refuse_rights: bool = True) -> dict:
    """The waits of the friend, memory and descriptors of the helper; without `refuse_rights`, as before Linux 6.16."""
    machine = Path(tempfile.mkdtemp(prefix="fastgreen-"))
    try:
        machine.chmod(0o755)
        (machine / "secret").write_text(SECRET)
        (machine / "secret").chmod(0o600)
        tree = PowercapTree(machine / "tree", [Zone(counter_start_uj=5, children=[Zone("dram", counter_start_uj=7)])])
        options = {"mode": 0o666, "refuse_rights": refuse_rights, "stderr": subprocess.PIPE, "preexec_fn": _few_rights}
        with helper(machine / "grant.sock", tree.root, FRIEND, GREEDY, **options) as process:
            assert process.stderr is not None
            process.stderr.readline()  # and not a line more
            return _play(machine, process, tree, seconds, seed)
    finally:
        shutil.rmtree(machine, ignore_errors=True)


if __name__ == "__main__":
    print(json.dumps(play(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "refuse"), indent=1))
