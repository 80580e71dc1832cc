# SPDX-License-Identifier: Apache-2.0
"""Two hosts whose wall clocks are 3 s apart, played by two namespaces with a boot id and a name each.

Their twin on made-up runs, which needs no rights, is in tests/results/test_run_set.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastgreen as fg
from tests.fakes.build import true_sleep
from tests.fakes.powercap import PowercapTree, Zone

AHEAD_S = 3.0
WATTS = {"node1": 40.0, "node2": 25.0}
FAKE_TIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
MEASURED = """
import sys, time
import fastgreen as fg
with fg.Monitor("rapl:*", hz=200, record=sys.argv[1]) as monitor:
    for _ in range(5):
        with monitor.window("step"):
            time.sleep(0.1)
"""
HOST = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && hostname "$2" && shift 2 && exec env "$@"'


def namespaces_work() -> bool:
    """Whether this user may make another mount and host name."""
    return subprocess.run(["unshare", "--mount", "--uts", "true"], capture_output=True, check=False).returncode == 0


def start(folder: Path, name: str, number: int, root: Path, ahead_s: float) -> subprocess.Popen[bytes]:
    """Measure on a host of its own."""
    boot = folder / f"boot-{name}"
    boot.write_text(f"6aff74a1-0000-4000-8000-00000000000{number}\n")
    settings = {
        "LD_PRELOAD": f"{true_sleep()}:{FAKE_TIME}",
        "FAKETIME": f"{ahead_s:+}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FASTGREEN_PROC_ROOT": "/proc",
        "FASTGREEN_POWERCAP_ROOT": root,
        "RANK": number,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": len(WATTS),
    }
    words = [f"{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-c", MEASURED, str(folder / "job")]
    return subprocess.Popen(["unshare", "--mount", "--uts", "sh", "-c", HOST, "sh", str(boot), name, *words, *command])


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace with another host name and boot id needs root")
@pytest.mark.skipif(FAKE_TIME is None, reason="the second wall clock needs Debian's package libfaketime")
def test_two_hosts_add_up_and_keep_their_windows(tmp_path):
    if not namespaces_work():
        pytest.skip("this container may make no namespaces")
    trees = {name: PowercapTree(tmp_path / name, [Zone("package-0", watts=watts)]) for name, watts in WATTS.items()}
    began = time.time()
    for tree in trees.values():
        tree.__enter__()
    try:
        hosts = [start(tmp_path, name, i, tree.root, AHEAD_S * i) for i, (name, tree) in enumerate(trees.items())]
        assert [host.wait(60) for host in hosts] == [0, 0]
        job = fg.load(tmp_path / "job")
        true = 0.0
        for host in job.hosts:
            alone = host.members[0].result
            true += trees[host.name].energy_j("package-0", alone.start_ns, alone.end_ns)
    finally:
        for tree in trees.values():
            tree.__exit__(None, None, None)
    assert sorted(row["id"] for row in job.channels.to_pylist()) == ["node1/rapl:package-0", "node2/rapl:package-0"]
    assert job.energy_low_j <= true <= job.energy_high_j
    rows = job.windows().to_pylist()
    assert sorted((row["host"], row["rank"]) for row in rows) == [("node1", "0")] * 5 + [("node2", "1")] * 5
    assert all(row["energy_low_j"] <= WATTS[row["host"]] * row["duration_s"] <= row["energy_high_j"] for row in rows)
    firsts = [min(row["start_ns"] for row in rows if row["host"] == host) for host in WATTS]
    apart_s = (firsts[1] - firsts[0]) / 1e9  # of windows that began at the same time, but for the start of a process
    assert apart_s == pytest.approx(AHEAD_S, abs=max(2.5, time.time() - began))
    known = job.clock_uncertainty_s
    assert known is None or known >= apart_s
    assert any("an unknown time" in note if known is None else f"{known:.3g} s" in note for note in job.notes)
