# SPDX-License-Identifier: Apache-2.0
"""``fastgreen merge`` on a job of real ranks that torchrun starts, and on what is left of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import fastgreen as fg
from tests.fakes.powercap import PowercapTree, Zone

RANKS = 4
TRAINING = """
import os, sys, time
import torch, torch.distributed as dist
import fastgreen as fg

dist.init_process_group("gloo")
rank = dist.get_rank()
with fg.Monitor("rapl:*", hz=200, record=sys.argv[1]) as monitor:
    step = monitor.window("step")
    for i in range(10):
        with step:
            x = torch.ones(1000)
            dist.all_reduce(x)
            time.sleep(0.05)
    dist.barrier()
dist.destroy_process_group()
"""
ALONE = """
import sys, time
import fastgreen as fg
with fg.Monitor("rapl:*", record=sys.argv[1]) as monitor:
    print("measuring", flush=True)
    while True:
        with monitor.window("step"):
            time.sleep(0.01)
"""


def merge(*arguments):
    run = subprocess.run(
        [sys.executable, "-m", "fastgreen", "merge", *map(str, arguments)], capture_output=True, text=True
    )
    return run.returncode, run.stdout, run.stderr


def test_a_job_of_four_ranks_reads_each_package_once(tmp_path):
    pytest.importorskip("torch", reason="torchrun comes with PyTorch")
    zones = [Zone("package-0", watts=40.0), Zone("package-1", watts=25.0)]
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    with PowercapTree(tmp_path / "powercap", zones) as tree:
        begin = time.monotonic_ns()
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS),
             str(script), str(tmp_path / "job")],
            check=True, capture_output=True, timeout=120,
            env={**os.environ, "FASTGREEN_POWERCAP_ROOT": str(tree.root), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        job = fg.load(tmp_path / "job")
        assert begin < job.start_ns
        true = sum(tree.energy_j(f"package-{i}", job.start_ns, job.end_ns) for i in range(2))
    assert job.energy_low_j <= true <= job.energy_high_j
    assert job.energy_j == pytest.approx(true, rel=0.2)
    assert len(job.channels) == 2
    table = job.windows()
    assert sorted(set(table.column("rank").to_pylist())) == ["0", "1", "2", "3"]
    assert len(table) == RANKS * 10
    code, out, err = merge(tmp_path / "job", "-o", tmp_path / "merged", "--json")
    assert code == 0, err
    assert json.loads(out)["energy_j"] == pytest.approx(job.energy_j)
    assert fg.load(tmp_path / "merged").energy_j == pytest.approx(job.energy_j)


def test_a_killed_rank_and_a_damaged_folder_leave_the_rest(tmp_path):
    with PowercapTree(tmp_path / "powercap", [Zone("package-0", watts=40.0)]) as tree:
        environment = {**os.environ, "FASTGREEN_POWERCAP_ROOT": str(tree.root), "WORLD_SIZE": "3", "LOCAL_RANK": "0"}
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", ALONE, str(tmp_path / "job")], stdout=subprocess.PIPE,
                env={**environment, "RANK": str(rank)},
            )
            for rank in range(3)
        ]  # fmt: skip
        for rank in ranks:
            assert rank.stdout.readline()
        time.sleep(1.0)
        for rank, number in zip(ranks, (signal.SIGKILL, signal.SIGINT, signal.SIGTERM), strict=True):
            rank.send_signal(number)
        for rank in ranks:
            rank.wait(20)
            rank.stdout.close()
        (damaged,) = (tmp_path / "job").glob("*-1")
        (damaged / "samples.arrow").write_bytes(b"of another kind")
        code, out, err = merge(tmp_path / "job")
        assert code == 0, err
        job = fg.load(tmp_path / "job")
        true = tree.energy_j("package-0", job.start_ns, job.end_ns)
    assert "ended early" in out
    assert "is left out" in out
    assert "rank 1 of 3" in out
    assert job.energy_low_j <= true <= job.energy_high_j
    assert sorted(set(job.windows().column("rank").to_pylist())) == ["0", "2"]


def test_a_restarted_rank_records_beside_its_first_run(tmp_path):
    script = "import sys, fastgreen as fg\nwith fg.Monitor('procstat:cpu', record=sys.argv[1]): pass"
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "job")], check=True, env=environment)
    first, second = sorted((tmp_path / "job").iterdir())
    assert second.name == f"{first.name}-2"
    assert len(fg.load(tmp_path / "job").channels) == 2
    shutil.rmtree(first)
    assert fg.load(tmp_path / "job").known


def test_folders_without_a_run_are_refused(tmp_path):
    code, _, err = merge(tmp_path)
    assert code == 1
    assert "no run can be read" in err
    assert merge()[0] == 2
