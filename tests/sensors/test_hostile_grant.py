# SPDX-License-Identifier: Apache-2.0
"""Folders and servers that mean harm to the granting helper and to those who ask it."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading

import pytest

from fastgreen.errors import FastgreenError
from fastgreen.sensors.channel import Seams
from fastgreen.sensors.grant_client import ask
from fastgreen.sensors.grant_server import Allowed, Granter, counters
from tests.fakes.grant_helper import of_tree
from tests.fakes.powercap import Zone


@pytest.fixture(autouse=True)
def tree(powercap):
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
