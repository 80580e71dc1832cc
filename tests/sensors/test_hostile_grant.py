# SPDX-License-Identifier: Apache-2.0
"""Folders and servers that mean harm to the granting helper and to those who ask it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastgreen as fg
from fastgreen._core import on_sysfs
from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.grant_client import _is_counter, ask, granted
from fastgreen.sensors.grant_server import Allowed, Granter, counters
from fastgreen.sensors.grant_tree import Tree
from fastgreen.sensors.rapl import rapl
from tests.fakes.grant_helper import helper, of_tree
from tests.fakes.permissions import without_dac_override
from tests.fakes.powercap import PowercapTree, Zone
from tests.oracles.places import ROOT
from tests.sensors.grant_attacks import become

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
ATTRIBUTE = "/sys/kernel/uevent_seqnum"


@pytest.fixture(autouse=True)
def tree(powercap) -> PowercapTree:
    """One counter to grant, at rest."""
    return powercap(Zone(), mode="file")


def test_a_socket_has_its_mode_from_the_start_and_nothing_is_changed_through_its_path(tmp_path, tree):
    """Who owns the folder could put a link in the socket's place, and root would change what it leads to."""
    seen: list[tuple[str, object]] = []
    watching = True

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in ("os.chmod", "os.chown"):
            seen.append((event, arguments[0]))

    sys.addaudithook(watch)
    for mode in (0o600, 0o660, 0o666):
        granter = Granter(str(tmp_path / f"{mode:o}"), counters(Seams.of()), Allowed(), mode=mode, **of_tree(tree.root))
        granter.open()
        assert stat.S_IMODE(os.stat(granter.path).st_mode) == mode
        granter.close()
        assert not os.path.lexists(granter.path)
    watching = False
    assert seen == []


def test_a_link_that_takes_the_sockets_place_survives_its_end(tmp_path, tree):
    granter = Granter(str(tmp_path / "s"), counters(Seams.of()), Allowed(), **of_tree(tree.root))
    granter.open()
    os.rename(granter.path, tmp_path / "moved")
    os.symlink(tmp_path / "moved", granter.path)
    granter.close()
    assert os.path.islink(granter.path)


def test_what_a_server_says_of_an_error_is_fit_to_be_printed(only_fakes):
    path = str(only_fakes / "odd.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.send(b'{"error": "\\u001b[31mno\\n"}')
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(FastgreenError) as caught:
            ask(path)
        thread.join()
    assert str(caught.value).isprintable()


# ---- what it opens ----


@pytest.fixture
def grant(tree, tmp_path) -> Iterator[Callable[[], dict]]:
    """Asks a helper that was started before what happens in the test."""
    granter = Granter(str(tmp_path / "s"), counters(Seams.of()), Allowed(), **of_tree(tree.root))
    granter.open()
    thread = threading.Thread(target=granter.serve)
    thread.start()
    yield lambda: ask(granter.path)
    granter.stop()
    thread.join()
    granter.close()


@pytest.mark.parametrize("place", ["the counter", "its folder"])
def test_a_link_in_the_way_to_a_counter_is_not_followed(tree, grant, tmp_path, place):
    assert len(grant()) == 1
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "energy_uj").write_text("1")
    folder = tree["package-0"].folder
    if place == "the counter":
        tree["package-0"].energy.unlink()
        tree["package-0"].energy.symlink_to(secret / "energy_uj")
    else:
        folder.rename(folder.with_name("before"))
        folder.symlink_to(secret)
    assert tree["package-0"].energy.read_text() == "1"
    assert grant() == {}


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device"])
def test_what_is_no_regular_file_is_not_passed(tree, grant, kind):
    path = tree["package-0"].energy
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            os.chdir(path.parent)
            bound.bind(path.name)
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("no devices may be made here")
    assert grant() == {}


def test_a_counter_outside_of_sys_is_an_error(tree, tmp_path):
    with pytest.raises(FastgreenError, match="which is not below /sys"):
        Granter(str(tmp_path / "s"), counters(Seams.of()), Allowed()).open()
    (tmp_path / "sys").mkdir()
    with pytest.raises(FastgreenError, match="is not below"):
        Tree(str(tmp_path / "sys")).locate(str(tree["package-0"].energy))
    with pytest.raises(FastgreenError, match="is not below"):
        Tree(str(tmp_path / "sys")).locate(str(tmp_path / "sys"))


def test_only_the_kernels_sysfs_will_do(tree):
    """Its own check, on a folder that is not, and on the real one, through the links of a class."""
    plain = Tree(of_tree(tree.root)["root"])
    with pytest.raises(OSError, match="not on the file system of the counters"):
        plain.open(plain.locate(str(tree["package-0"].energy)))
    if not os.path.exists("/sys/class/net/lo/mtu"):
        pytest.skip("no sysfs with a class here")
    sys_ = Tree()
    parts = sys_.locate("/sys/class/net/lo/mtu")
    assert parts[0] == "devices"
    number = sys_.open(parts)
    assert on_sysfs(number)
    assert int(os.pread(number, 20, 0)) > 0
    os.close(number)


IN_A_NAMESPACE = """
import os, sys
from fastgreen.sensors.grant_tree import Tree
before = Tree().locate(sys.argv[1])
os.close(Tree().open(before))
assert os.system(f"mount --bind {sys.argv[2]} {sys.argv[1]}") == 0
try:
    Tree().open(before)
except OSError as error:
    print(error.strerror)
"""


def in_a_namespace(*command: object, **options) -> subprocess.CompletedProcess:
    """A command with mounts and a network of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "-n", "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespaces may be made here")
    command = [unshare, "-m", "-n", "--propagation", "private", *map(str, command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.skipif(not os.path.exists(ATTRIBUTE), reason="no sysfs here")
def test_a_file_mounted_over_a_counter_is_not_passed(tmp_path):
    (tmp_path / "secret").write_text("1")
    done = in_a_namespace(sys.executable, "-c", IN_A_NAMESPACE, ATTRIBUTE, tmp_path / "secret")
    assert done.stdout == "not on the file system of the counters\n", done.stderr


def test_the_command_takes_no_place_from_its_environment(powercap, tmp_path, monkeypatch):
    """With a tree of another in its environment it looks at the machine's own counters, whatever these are."""
    foreign = powercap(Zone(number=0x7F), mode="file")
    assert "intel-rapl:7f" in [c.device for c in fg.channels()]
    ours = Granter(str(tmp_path / "s"), counters(Seams.of()), Allowed(), **of_tree(foreign.root))
    assert [c.zone for c in ours.counters] == ["intel-rapl:7f"]
    command = [sys.executable, "-P", "-m", "fastgreen", "grant", "--user", "0", "--socket", str(tmp_path / "s")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    first = process.stderr.readline()
    while first.startswith("warning: "):
        first = process.stderr.readline()
    process.terminate()
    process.communicate()
    assert "7f" not in first
    assert "/sys/class/powercap" in first or first.startswith("granting ")


# ---- who it believes, and what a program believes ----


def answering(path: str, descriptor: int, zone: str = "intel-rapl:0") -> threading.Thread:
    """A server of this user that passes `descriptor` as a counter, once."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with listener, connection, ours, theirs:
            connection.recv(100)
            answer = json.dumps({"zones": [{"zone": zone, "mirrors": None}]}).encode()
            socket.send_fds(ours, [answer], [descriptor])
            socket.send_fds(connection, [b'{"enclosed": 1}'], [theirs.fileno()])

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize("passed", ["another file", "a pipe", "a device", "the counter"])
def test_a_program_reads_only_the_counter_that_it_sees_itself(tree, only_fakes, tmp_path, passed):
    """Whoever passes it: a pipe would stop the sampler, another file would be another energy."""
    (tmp_path / "other").write_text("5")
    places = {"another file": tmp_path / "other", "a device": "/dev/zero", "the counter": tree["package-0"].energy}
    numbers = os.pipe() if passed == "a pipe" else (os.open(places[passed], os.O_RDONLY),)
    tree["package-0"].energy.chmod(0)
    with without_dac_override():
        thread = answering(str(only_fakes / "grant.sock"), numbers[0])
        (channel,) = [c for c in fg.channels() if c.source == "rapl"]
        thread.join()
    for number in numbers:
        os.close(number)
    assert channel.readable == (passed == "the counter")
    assert channel.readable or "it passed another file" in channel.reason


OTHER_SYSFS = """
import os, sys
from fastgreen.sensors.grant_client import _is_counter
assert os.system(f"mount -t sysfs none {sys.argv[2]}") == 0
place = sys.argv[2] + sys.argv[3].removeprefix("/sys")
passed, seen = os.fstat(int(sys.argv[1])), os.stat(place)
other = sys.argv[2] + "/kernel/fscaps"
print(passed.st_dev != seen.st_dev, _is_counter(int(sys.argv[1]), place), _is_counter(int(sys.argv[1]), other))
"""


@pytest.mark.skipif(not os.path.exists(ATTRIBUTE), reason="no sysfs here")
def test_the_counter_of_a_containers_own_sysfs_is_known_again(tmp_path):
    number = os.open(ATTRIBUTE, os.O_RDONLY)
    done = in_a_namespace(sys.executable, "-c", OTHER_SYSFS, number, tmp_path, ATTRIBUTE, pass_fds=[number])
    assert _is_counter(number, ATTRIBUTE)
    os.close(number)
    assert done.stdout == "True True False\n", done.stderr


CLONE_NEWUSER = 0x10000000
FRIEND = 4301


@needs_root
@pytest.mark.parametrize("mapped", [True, False], ids=["as its root", "as nobody"])
def test_a_program_in_a_user_namespace_measures_through_the_helper(mapped):
    """Root outside has no number in there, so the helper's user cannot be told; its counters can."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="fastgreen-") as name:
        machine = Path(name)
        machine.chmod(0o755)
        tree = PowercapTree(machine / "tree", [Zone(counter_start_uj=5)], mode="file")
        tree["package-0"].energy.chmod(0o400)
        path = machine / "grant.sock"
        with helper(path, tree.root, FRIEND, mode=0o666, stderr=subprocess.PIPE) as process:
            assert process.stderr.readline().startswith(b"granting ")
            found, _ = rapl(Seams.of(powercap_root=tree.root))
            barred = [fg.sensors.channel.replace(c, readable=False, reason="permission denied: it") for c in found]
            theirs, ours = os.pipe()
            child = os.fork()
            if child == 0:
                said = "it failed"
                try:
                    become(FRIEND)
                    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, lost with the change of users: it may write its map
                    if libc.unshare(CLONE_NEWUSER) != 0:
                        said = f"skip: {os.strerror(ctypes.get_errno())}"
                    else:
                        if mapped:
                            Path("/proc/self/uid_map").write_text(f"0 {FRIEND} 1")
                        (channel,) = granted(barred, str(path))
                        said = f"{os.getuid()} {channel.readable} {channel.reason}"
                        said += f" {os.pread(int(channel.sensor['fd']), 9, 0)!r}" if channel.readable else ""
                except BaseException as error:
                    said = repr(error)
                os.write(ours, said.encode())
                os._exit(0)
            os.close(ours)
            with open(theirs, "rb") as file:
                said = file.read().decode()
            os.waitpid(child, 0)
    if said.startswith("skip"):
        pytest.skip(f"user namespaces are not permitted here: {said}")
    assert said == f"{0 if mapped else 65534} True None b'5\\n'"


@needs_root
def test_a_descriptor_cannot_be_opened_again(tree):
    """Through /proc it is a new open, which the kernel checks; for writing, too."""
    tree["package-0"].energy.chmod(0o400)
    number = os.open(tree["package-0"].energy, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        become(FRIEND)
        failed = 0
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.open(f"/proc/self/fd/{number}", flags)
            except PermissionError:
                failed += 1
        os._exit(failed)
    os.close(number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
