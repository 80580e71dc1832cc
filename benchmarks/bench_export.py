# SPDX-License-Identifier: Apache-2.0
"""Cost of exporting: one scrape of 64 channels, and a process that is scraped once a second."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import fastgreen as fg
from tests.fakes.powercap import PowercapTree, Zone

CHANNELS = 64


@pytest.fixture
def tree(tmp_path):
    zones = [Zone(f"package-{n}", 50.0, children=[Zone("dram", 5.0)]) for n in range(CHANNELS // 2)]
    with PowercapTree(tmp_path / "powercap", zones) as tree:
        yield tree


def test_a_scrape_of_64_channels(benchmark, tree, bar):
    registry = CollectorRegistry()
    with fg.Monitor("rapl:*", hz=10, powercap_root=tree.root) as monitor:
        assert len(monitor.channels) == CHANNELS
        with fg.export.prometheus(monitor, None, registry=registry):
            time.sleep(1.5)
            text = benchmark(generate_latest, registry)
    assert text.count(b"\nhw_power_watts{") == CHANNELS
    bar("a scrape of 64 channels", "<= 5 ms", benchmark.stats["median"] * 1e3)


CLIENT = """
import sys, time, urllib.request
while True:
    with urllib.request.urlopen(sys.argv[1]) as answer:
        assert b"hw_energy_joules_total{" in answer.read()
    print("scraped", flush=True)
    time.sleep(1)
"""


def _cpu_s(seconds: int) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_exporting_at_one_scrape_a_second(benchmark, tree, bar):
    """The time above that of the monitor alone. The client is another process."""
    seconds = 10
    with fg.Monitor("rapl:*", hz=10, powercap_root=tree.root) as monitor:
        alone_s = _cpu_s(seconds)
        with fg.export.prometheus(monitor, "127.0.0.1:0") as endpoint:
            command = [sys.executable, "-c", CLIENT, f"http://{endpoint.address}/metrics"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
                client.stdout.readline()
                exporting_s = benchmark.pedantic(_cpu_s, (seconds,), rounds=1)
                client.terminate()
                assert client.stdout.read().count(b"scraped") >= seconds - 2
    share = (exporting_s - alone_s) / seconds
    bar("a scrape of 64 channels each second, beside the monitor alone", "<= 0.5 % of a core", 100 * share)
