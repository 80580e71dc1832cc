"""The command that shows power while it is drawn."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tests.commands.test_cli import cli
from tests.fakes.powercap import Zone


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0), Zone("core", 20.0))), move=True)


def glances(*options: object) -> list[dict]:
    done = cli("watch", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_lies_in_another_channel_is_shown_and_not_added(tree):
    (glance,) = glances("-c", "rapl:package-0", "-c", "rapl:package-0/core", "--every", 0.3, "--seconds", 0.3)
    core = glance["channels"]["rapl:package-0/core"]
    assert not core["counted"]
    assert glance["energy_j"] == glance["channels"]["rapl:package-0"]["energy_j"]


def test_an_estimate_says_so(only_fakes):
    done = cli("watch", "--every", 0.2, "--seconds", 0.2)
    line, *rest = done.stdout.splitlines()
    assert re.search(r" m?W estimated ", line)
    assert any("estimated" in text for text in rest)  # the report at the end


def test_interrupting_it_ends_it_with_the_energy_of_all(tree):
    command = [sys.executable, "-m", "fastgreen", "watch", "--every", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "rapl:package-0" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "channels" in out
    assert err == ""


def test_a_terminal_gets_a_table(tree):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "fastgreen", "watch", "--every", "0.2", "--seconds", "0.4"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process, shown = subprocess.Popen(command, stdout=follower, stderr=subprocess.DEVNULL, env=env), b""
    os.close(follower)
    with contextlib.suppress(OSError):  # the terminal's other side is closed
        while chunk := os.read(leader, 1 << 16):
            shown += chunk
    os.close(leader)
    assert process.wait(120) == 0
    assert b"power now" in shown
    assert b"together" in shown


def test_a_reader_that_goes_away_ends_it(tree):
    line = f"{sys.executable} -m fastgreen watch --json --every 0.05 | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "0"], "every"),
        (["--seconds", "0"], "seconds"),
        (["--hz", "nan"], "hz"),
        (["-c", "rapl:pakage-0"], "Did you mean 'rapl:package-0'"),
    ],
)
def test_bad_options_are_named(tree, options, said):
    done = cli("watch", *options)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
