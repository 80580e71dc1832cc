# SPDX-License-Identifier: Apache-2.0
"""Runs of a job of Slurm: a real controller and one node, started by the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastgreen as fg
from tests.fakes.powercap import PowercapTree, Zone

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
WATTS = 40.0
SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
MpiDefault=none
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP OverSubscribe=FORCE:4
"""
MEASURED = """
import sys, time
import fastgreen as fg
with fg.Monitor("rapl:*", hz=200, record=sys.argv[1]) as monitor:
    with monitor.window("step"):
        time.sleep(0.3)
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a controller of Slurm that runs jobs needs root"),
    pytest.mark.skipif(any(shutil.which(name) is None for name in PROGRAMS), reason="needs Debian's slurm-wlm"),
]


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def daemons(folder: Path) -> list[list[str]]:
    """The programs of a cluster of one node, in the order of their start."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = {"key-file": key, "socket": folder / "munge.sock", "pid-file": folder / "munge.pid"}
    files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    munged = ["munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())]
    return [munged, ["slurmctld", "-D"], ["slurmd", "-D"]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment in which `srun` reaches the node."""
    folder = Path(tempfile.mkdtemp(prefix="fg-slurm-"))  # a socket's path must be short
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    controller, node = free_ports(2)
    places = {"host": host, "folder": folder, "controller": controller, "node": node, "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(SETTINGS.format(**places))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    running = []
    try:
        for command in daemons(folder):
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
            time.sleep(0.3)
        deadline = time.monotonic() + 30
        while (
            ready := subprocess.run(["srun", "--immediate=5", "true"], env=environment, capture_output=True)
        ).returncode:
            if time.monotonic() > deadline:
                pytest.skip(f"Slurm does not start here: {ready.stderr.decode(errors='replace').strip()[-200:]}")
            time.sleep(0.3)
        yield environment
    finally:
        for one in reversed(running):
            one.terminate()
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[PowercapTree]:
    with PowercapTree(tmp_path / "powercap", [Zone("package-0", watts=WATTS)]) as made:
        yield made


def environment_of(cluster: dict[str, str], tree: PowercapTree) -> dict[str, str]:
    return {**cluster, "FASTGREEN_POWERCAP_ROOT": str(tree.root), "FASTGREEN_PROC_ROOT": "/proc"}


def test_two_ranks_of_a_step_read_the_package_once(cluster, tree, tmp_path):
    command = ["srun", "-n", "2", "--overcommit", sys.executable, "-c", MEASURED, str(tmp_path / "job")]
    for _ in range(2):  # a job that is queued again finds the folders of its first run
        subprocess.run(command, env=environment_of(cluster, tree), check=True, timeout=60, cwd=Path.cwd())
    job = fg.load(tmp_path / "job")
    folders = sorted(path.name for path in (tmp_path / "job").iterdir())
    assert len(folders) == 4
    rows = job.windows().to_pylist()
    assert sorted(row["rank"] for row in rows) == ["0", "0", "1", "1"]
    assert all(row["energy_low_j"] <= WATTS * row["duration_s"] <= row["energy_high_j"] for row in rows)
    packages = {row["id"].partition("#")[0] for row in job.channels.to_pylist()}
    assert packages == {"rapl:package-0"}
    launcher = job.hosts[0].members[0].launch
    assert launcher.launcher == "Slurm"
    assert launcher.size == 2
    assert launcher.job.startswith("Slurm job ")
    assert any("2 jobs" in note for note in job.notes)


def test_the_shell_of_sbatch_is_no_job_of_ranks(cluster, tree, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'measured.py'} {tmp_path / 'run'}\n")
    (tmp_path / "measured.py").write_text(MEASURED)
    command = ["sbatch", "--wait", f"--output={tmp_path / 'out'}", f"--chdir={Path.cwd()}", str(script)]
    done = subprocess.run(command, env=environment_of(cluster, tree), timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, (tmp_path / "out").read_text() + done.stderr
    alone = fg.load(tmp_path / "run")
    assert "SLURM_JOB_ID" in alone.metadata["launcher"]
    assert alone.windows().num_rows == 1
