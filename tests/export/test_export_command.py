# SPDX-License-Identifier: Apache-2.0
"""`fastgreen export`: its life, its memory, and lost channels that come back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import fastgreen as fg
from fastgreen.export.endless import EndlessMonitor
from tests.commands.test_cli import cli
from tests.export.scrapes import by_id, samples
from tests.fakes.nvml import Gpu, gpu_is_lost
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(powercap, number):
    powercap(Zone("package-0", 30.0), move=True)
    command = [sys.executable, "-m", "fastgreen", "export", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stderr.readline()
        address = re.search(r"http://(\S+)/metrics", line)[1]
        assert by_id(address, "hw_energy_joules_total")["rapl:package-0"] >= 0
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_wrong_commands_have_sentences(powercap):
    powercap(Zone(watts=5.0), move=True)
    for options, code, said in [
        (["--listen", "0.0.0.0:0"], 2, "--allow-remote"),
        (["--listen", "nowhere"], 2, "listen must be HOST:PORT"),
        (["--allow-remote"], 2, "--allow-remote needs --listen"),
        (["--otlp", "localhost:4318"], 2, "url must be an address"),
        (["-c", "nvml:7"], 1, "nvml:7"),
    ]:
        done = cli("export", "--seconds", 0.1, *options)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


def test_a_taken_address_is_exit_code_1(powercap):
    powercap(Zone(watts=5.0), move=True)
    with fg.export.prometheus(fg.Monitor(), "127.0.0.1:0") as endpoint:
        done = cli("export", "--seconds", 0.1, "--listen", endpoint.address)
    assert done.returncode == 1
    assert "another program listens at this address" in done.stderr


def test_it_says_when_other_machines_can_read(powercap):
    powercap(Zone(watts=5.0), move=True)
    done = cli("export", "--seconds", 0.1, "--listen", "0.0.0.0:0", "--allow-remote")
    assert done.returncode == 0, done.stderr
    assert "other machines can read the energy of this one" in done.stderr


def test_no_sample_is_kept(powercap, soon):
    powercap(Zone(watts=5.0), move=True)
    endless = EndlessMonitor(hz=500)
    try:
        soon(lambda: endless.monitor.readings()["rapl:package-0"].samples > 600)
        assert [one for group in endless.monitor._groups for one in group.samples] == [[]]
        assert endless.monitor.energy_j()["rapl:package-0"] > 0
    finally:
        endless.stop()


def test_a_gpu_that_comes_back_is_measured_again(nvml, soon):
    fake = nvml(Gpu(power=100.0), Gpu(power=50.0))
    endless = EndlessMonitor(["nvml:0", "nvml:1"])
    with fg.export.prometheus(endless.monitor, "127.0.0.1:0") as endpoint:
        try:
            assert not endless.look([endpoint])
            soon(lambda: by_id(endpoint.address, "hw_energy_joules_total").get("nvml:1", 0) > 1)
            fake.write(rules=[gpu_is_lost(1)])
            soon(lambda: endless.monitor.readings()["nvml:1"].ended)
            host_j = samples(endpoint.address)["hw_host_energy_joules_total"][0][1]
            assert not endless.look([endpoint])  # it is still away
            fake.write(rules=[])
            assert endless.look([endpoint])
            soon(lambda: by_id(endpoint.address, "hw_energy_joules_total").get("nvml:1", 0) > 1)
            assert samples(endpoint.address)["hw_host_energy_joules_total"][0][1] >= host_j
            fake.write(rules=[gpu_is_lost(1)])
            soon(lambda: endless.monitor.readings()["nvml:1"].ended)
            fake.write(rules=[])
            assert not endless.look([endpoint])  # not at once again
        finally:
            endless.stop()


def test_the_wait_ends_by_time_and_by_its_event(powercap):
    powercap(Zone(watts=5.0), move=True)
    endless = EndlessMonitor()
    try:
        endless.run([], threading.Event(), most_s=0.05)
        done = threading.Event()
        done.set()
        endless.run([], done)
    finally:
        endless.stop()


def test_a_counter_that_stands_still_or_jumps_does_not_spoil_the_end(powercap):
    tree = powercap(Zone("package-0", 0.0, counter_start_uj=10**9), move=True)
    endless = EndlessMonitor("rapl:*", hz=200)
    with fg.export.prometheus(endless.monitor, "127.0.0.1:0") as endpoint:
        time.sleep(0.3)
        for value_uj in (10**9 + 10**6, 5, 10**9 + 2 * 10**6):
            tree.set_uj("package-0", value_uj)
            time.sleep(0.1)
        time.sleep(2.2)
        first = by_id(endpoint.address, "hw_energy_joules_total")
        assert 0 <= first["rapl:package-0"] < 100
        endless.stop()
    assert endless.monitor.result.channels.num_rows == 1
