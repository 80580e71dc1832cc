# SPDX-License-Identifier: Apache-2.0
"""The granting helper: who gets descriptors, what they can do with them, and what cannot bring it down."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.errors import ChannelPermission, FastgreenError
from fastgreen.sensors.catalog import channels, discover
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.grant_client import MOST_DESCRIPTORS, REQUEST, ask
from fastgreen.sensors.grant_server import PLACES, Allowed, Granter, counters
from tests.fakes.grant_helper import helper, of_tree
from tests.fakes.permissions import without_dac_override
from tests.fakes.powercap import PowercapTree, Zone
from tests.fakes.proc import ProcRoot

NOBODY = 65534
Serve = Callable[..., Granter]


def lines(said: list[str]) -> Callable[[str, str], None]:
    """A log in a list."""
    return lambda line, subject: said.append(line)


@pytest.fixture
def tree(powercap) -> PowercapTree:
    """At rest until entered; its counters are plain files, whose mode binds as that of energy_uj does."""
    return powercap(Zone(watts=30.0, counter_start_uj=5_000_000, children=[Zone("dram", watts=4.0)]), mode="file")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves what this process may open, in a thread; serve(path, allowed=..., ...)."""
    running: list[tuple[Granter, threading.Thread]] = []

    def start(**options) -> Granter:
        seams = Seams.of()
        options = {"allowed": Allowed(users=[os.getuid()]), **of_tree(seams.powercap_root), **options}
        granter = Granter(seams.grant_socket, counters(seams), **options)
        granter.open()
        thread = threading.Thread(target=granter.serve)
        thread.start()
        running.append((granter, thread))
        return granter

    yield start
    for granter, thread in running:
        granter.stop()
        thread.join()
        granter.close()


def connect(granter: Granter) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(60)
    connection.connect(granter.path)
    return connection


def descriptors(tree: PowercapTree) -> int:
    """Those of this tree that are open in this process, the helper's thread included."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{number}").startswith(str(tree.folder))
    return count


# ---- what is passed ----


def test_the_descriptors_are_of_the_counters_and_read_only(tree, serve):
    zones = ask(serve().path)
    assert set(zones) == {"intel-rapl:0", "intel-rapl:0:0"}
    for zone, (descriptor, mirrors) in zones.items():
        number = int(descriptor)
        assert mirrors is None
        assert os.fstat(number).st_ino == os.stat(tree[zone].energy).st_ino
        assert fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        assert fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(number, b"0")


def test_a_barred_channel_becomes_readable_and_is_measured(tree, serve):
    serve()
    with tree:
        for zone in tree.placed:
            zone.energy.chmod(0)
        with without_dac_override():
            found = {c.id: c for c in channels()}
            assert found["rapl:package-0"].readable
            assert found["rapl:package-0"].note == "granted"
            assert [c.id for c in found.values() if c.root] == ["rapl:package-0", "rapl:package-0/dram"]
            with fg.Monitor() as monitor:
                time.sleep(0.5)
        result, late_ns = monitor.result, sum(tree.punctuality_ns())
    truth = sum(tree.energy_j(t.channel.name, t.tally["first_at_ns"], t.tally["end_at_ns"]) for t in result.traces)
    late_ns += max(t.tally["read_longest_ns"] for t in result.traces)
    assert result.energy_j == pytest.approx(truth, rel=0.01, abs=34e-9 * late_ns)
    assert truth > 1.0


def test_without_a_socket_the_reason_and_remedy_stay(tree):
    tree["package-0"].energy.chmod(0)
    with without_dac_override():
        found = {c.id: c for c in channels()}
        with pytest.raises(ChannelPermission):
            fg.Monitor("rapl:package-0")
    assert not found["rapl:package-0"].readable
    assert found["rapl:package-0/dram"].readable
    assert "grant" not in found["rapl:package-0"].reason


def test_a_readable_channel_is_read_without_asking(tree, serve):
    said: list[str] = []
    serve(say=lines(said))
    assert all("fd" not in c.sensor for c in channels())
    assert said == []


def test_a_counter_that_repeats_another_does_not_count_through_a_grant_either(powercap, serve):
    tree = powercap(Zone("package-0", counter_start_uj=7), Zone("package-1", mirror_of="package-0", counter_start_uj=7))
    tree.set_uj("package-0", 7)
    tree.set_uj("package-1", 7)
    serve()
    for zone in tree.placed:
        zone.energy.chmod(0)
    with without_dac_override():
        found = channels()
    assert [c.id for c in found if c.root] == ["rapl:package-0"]
    assert "mirrors rapl:package-0" in next(c.note for c in found if c.id == "rapl:package-1")


def test_descriptors_are_given_back_with_the_last_channel_that_holds_them(tree, serve, soon):
    serve()
    for zone in tree.placed:
        zone.energy.chmod(0)
    with without_dac_override():
        found = channels()
        soon(lambda: descriptors(tree) == 2)  # the helper's own are closed after its answer
        copies = [asdict(c) for c in found]
        del copies
        for channel in found:
            if channel.source == "rapl":
                assert os.pread(int(channel.sensor["fd"]), 20, 0).strip().isdigit()
        del found, channel
        gc.collect()
        assert descriptors(tree) == 0


# ---- who gets it ----


@pytest.mark.skipif(os.geteuid() == 0, reason="root is never a stranger; with privileges dropped this is tested below")
def test_a_stranger_is_refused_and_the_reason_says_so(tree, serve):
    said: list[str] = []
    granter = serve(allowed=Allowed(users=[12345]), say=lines(said), mode=0o666)
    with pytest.raises(FastgreenError, match="is not allowed"):
        ask(granter.path)
    assert said[0].startswith("refused")


CLIENT = """
import json, os, sys, time, warnings
import array, shlex, socket, struct  # the interpreter's own folder may be barred to that user
import pyarrow, fastgreen.sensors.grant_client, fastgreen.sensors.sensor_facts
import fastgreen.measuring.monitor, fastgreen.results.result
import fastgreen as fg
from fastgreen.sensors.catalog import channels
uid, group = int(sys.argv[1]), json.loads(sys.argv[2])
os.setgroups(group); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
warnings.simplefilter("ignore")
out = {"uid": os.getuid(), "reasons": [c.reason for c in channels() if c.source == "rapl"]}
try:
    open(sys.argv[3]).read()
except PermissionError:
    out["barred"] = True
with fg.Monitor() as monitor:
    time.sleep(0.5)
result = monitor.result
out.update(
    channels=[c.id for c in monitor.channels], energy=result.energy_j,
    edges={t.channel.id: [t.tally["first_at_ns"], t.tally["end_at_ns"]] for t in result.traces},
    read_ns=max(t.tally["read_longest_ns"] for t in result.traces))
print(json.dumps(out))
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def as_user(python, tree: PowercapTree, uid: int = NOBODY, groups: tuple[int, ...] = ()) -> dict:
    done = python(CLIENT, uid, json.dumps(groups), tree["package-0"].energy)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def barred(monkeypatch) -> Iterator[PowercapTree]:
    """A machine whose moving counters only root reads, in a folder that anybody may enter."""
    with tempfile.TemporaryDirectory(prefix="fastgreen-") as name:
        machine = Path(name)
        machine.chmod(0o755)
        ProcRoot(machine / "proc")
        tree = PowercapTree(machine / "tree", [Zone(watts=30.0, children=[Zone("dram", watts=4.0)])], mode="file")
        seams = {"powercap_root": tree.root, "proc_root": machine / "proc", "grant_socket": machine / "grant.sock"}
        for seam in ("hwmon_root", "event_source_root", "nvml_library", "cache_dir"):
            seams[seam] = machine / "nothing"
        for seam, path in seams.items():
            monkeypatch.setenv(f"FASTGREEN_{seam.upper()}", str(path))
        with tree:
            for zone in tree.placed:
                zone.energy.chmod(0o400)
            yield tree


@needs_root
@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({"allowed": Allowed(users=[NOBODY]), "mode": 0o666}, ()),
        ({"allowed": Allowed(groups=[NOBODY]), "mode": 0o660, "group": NOBODY}, ()),
        ({"allowed": Allowed(groups=[4711]), "mode": 0o660, "group": 4711}, (1234, 4711)),
    ],
    ids=["user", "primary group", "supplementary group"],
)
def test_an_unprivileged_program_measures_through_the_helper(python, barred, serve, options, groups):
    serve(**options)
    out = as_user(python, barred, groups=groups)
    assert out["uid"] == NOBODY
    assert out["barred"]
    assert out["channels"] == ["rapl:package-0", "rapl:package-0/dram"]
    truth = sum(barred.energy_j(i.removeprefix("rapl:"), *edges) for i, edges in out["edges"].items())
    late_ns = sum(barred.punctuality_ns()) + out["read_ns"]
    assert out["energy"] == pytest.approx(truth, rel=0.01, abs=34e-9 * late_ns)
    assert truth > 1.0


@needs_root
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"allowed": Allowed(users=[4242], groups=[4242]), "mode": 0o666}, f"user {NOBODY} is not allowed"),
        ({"allowed": Allowed(users=[NOBODY]), "mode": 0o600}, "Permission denied"),
    ],
    ids=["by its credentials", "by the socket's mode"],
)
def test_an_unprivileged_stranger_is_refused(python, barred, serve, options, said):
    serve(**options)
    out = as_user(python, barred)
    assert out["channels"] == ["procstat:cpu"]
    assert all(said in reason for reason in out["reasons"])


@needs_root
def test_a_server_that_is_neither_root_nor_oneself_is_not_believed(barred):
    path = str(barred.folder.parent / "other.sock")
    barred.folder.parent.chmod(0o777)
    child = os.fork()
    if child == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen()
        signal.pause()
    try:
        until = time.monotonic() + 60
        while not os.path.exists(path) and time.monotonic() < until:
            time.sleep(0.01)
        os.chmod(path, 0o666)
        second = os.fork()
        if second == 0:
            os.setresuid(NOBODY - 1, NOBODY - 1, NOBODY - 1)
            try:
                ask(path)
            except FastgreenError as error:
                os._exit(0 if "only root or this user is trusted" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ---- what cannot bring it down ----


def test_garbage_is_answered_and_the_next_client_served(tree, serve):
    granter = serve()
    for garbage in (b"x", b"\0" * 100, REQUEST + b"!", REQUEST[:-1], os.urandom(60_000), b"/etc/shadow"):
        with connect(granter) as connection:
            connection.send(garbage)
            data, passed, _, _ = socket.recv_fds(connection, 1 << 16, MOST_DESCRIPTORS)
            assert json.loads(data) == {"error": "unknown request"}
            assert passed == []
    assert len(ask(granter.path)) == 2


def test_a_client_that_goes_away_or_sends_descriptors_does_no_harm(tree, serve, soon):
    granter = serve()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        connect(granter).close()
        with connect(granter) as connection:
            connection.send(REQUEST)  # and goes without the answer
        # Linux 6.16 refuses it for the helper.
        with connect(granter) as connection, open(os.devnull) as file, contextlib.suppress(PermissionError):
            socket.send_fds(connection, [b"take this"], [file.fileno()])
    assert len(ask(granter.path)) == 2
    soon(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_silent_clients_give_up_their_places_after_two_seconds(tree, serve):
    granter = serve()
    silent = [connect(granter) for _ in range(PLACES // 2 - 1)]
    try:
        assert len(ask(granter.path)) == 2
        silent.append(connect(granter))
        with pytest.raises(FastgreenError, match=f"user {os.getuid()} has too many connections"):
            ask(granter.path)
        assert silent[0].recv(1) == b""
        assert len(ask(granter.path)) == 2
    finally:
        for connection in silent:
            connection.close()


def test_many_programs_that_start_at_once_are_all_served(tree, serve):
    granter = serve()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(len(ask(granter.path)))) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [2] * 60


def test_a_silent_client_delays_nobody(tree, serve):
    granter = serve()
    with connect(granter):
        begin = time.monotonic()
        for _ in range(10):
            ask(granter.path)
        assert time.monotonic() - begin < 10  # it would be two seconds each


def test_a_zone_that_has_gone_is_left_out(tree, serve):
    granter = serve()
    tree.remove_zone("dram")
    assert set(ask(granter.path)) == {"intel-rapl:0"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"no json", "not a grant"),
        (b"[]", "not a grant"),
        (b'{"zones": [{"zone": "intel-rapl:0"}]}', "not a grant"),
        (b'{"enclosed": 1}', "not a grant"),
        (b'{"error": "not today"}', "not today"),
        (b"\xff", "not a grant"),
        (b"", "not a grant"),
    ],
)
def test_an_answer_that_is_no_grant_becomes_part_of_the_reason(tree, only_fakes, answer, said):
    def reply() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            if answer:
                connection.send(answer)

    tree["package-0"].energy.chmod(0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(only_fakes / "grant.sock"))
        listener.listen()
        thread = threading.Thread(target=reply)
        thread.start()
        with without_dac_override():
            package = next(c for c in channels() if c.id == "rapl:package-0")
        thread.join()
    assert not package.readable
    assert package.reason.startswith("permission denied")
    assert said in package.reason


# ---- its place, its life ----


def test_a_dead_socket_is_replaced_and_a_served_one_is_not(tree, only_fakes, serve):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(only_fakes / "grant.sock"))
    granter = serve()
    with pytest.raises(FastgreenError, match="already in use"):
        Granter(granter.path, [], Allowed()).open()
    assert len(ask(granter.path)) == 2


def test_a_file_in_its_place_is_left_alone(tree, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FastgreenError, match="is not a socket"):
        Granter(str(tmp_path / "file"), [], Allowed()).open()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_where_no_socket_can_be_is_one_sentence():
    with pytest.raises(FastgreenError, match="cannot serve /proc/none/sock"):
        Granter("/proc/none/sock", [], Allowed()).open()


def test_nothing_to_grant_is_an_error_that_says_why(tmp_path):
    with pytest.raises(FastgreenError, match=r"no RAPL counter to grant: .*no RAPL zone"):
        counters(Seams.of(powercap_root=str(tmp_path)))


@pytest.fixture
def command(tree, only_fakes, soon) -> Iterator[subprocess.Popen]:
    with helper(only_fakes / "grant.sock", tree.root, os.getuid(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("granting intel-rapl:0, intel-rapl:0:0 on ")
        yield process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end_and_removes_its_socket(command, only_fakes, number):
    path = only_fakes / "grant.sock"
    assert len(ask(str(path))) == 2
    with connect(Granter(str(path), [], Allowed())):  # even while somebody is connected
        command.send_signal(number)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 0
    assert not path.exists()
    assert f"granted: user {os.getuid()}, process {os.getpid()}" in said


def test_granted_descriptors_outlive_the_helper(command, tree, only_fakes):
    zones = ask(str(only_fakes / "grant.sock"))
    command.terminate()
    command.communicate(timeout=60)
    descriptor, _ = zones["intel-rapl:0"]
    tree.set_uj("package-0", 987)
    assert os.pread(int(descriptor), 20, 0) == b"987\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the users allowed to measure"),
        (["--user", "4294967295"], "there is no user '4294967295'"),
        (["--user", "\u00b2"], "there is no user"),
        (["--user", "no-such-user-here"], "there is no user 'no-such-user-here'"),
        (["--group", "no-such-group-here"], "there is no group"),
        (["--user", "0", "--mode", "9"], "mode must be octal"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(tree, arguments, said):
    outcome = CliRunner().invoke(main, ["grant", *arguments], env={"SUDO_UID": None})
    assert outcome.exit_code in (1, 2)
    assert said in outcome.output
    assert "Traceback" not in outcome.output


def test_discovery_still_lists_every_source(tree):
    _, states = discover()
    assert {"rapl", "perf", "nvml", "hwmon", "procstat"} <= {s.source for s in states}
