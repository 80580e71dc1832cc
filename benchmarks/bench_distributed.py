# SPDX-License-Identifier: Apache-2.0
"""A sweep written by a cluster of two workers, against `Sweep.write` with two threads: alternating pairs."""

from __future__ import annotations

import os
import shutil
import statistics
import time

import numpy as np
import pytest
from distributed import Client, LocalCluster

import fastgreen as fg

ROWS, COLUMNS = 30_000, 10_000
PAIRS = 5


def timed(work) -> float:
    os.sync()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@pytest.mark.slow
def test_a_cluster_is_as_fast_as_one_process(benchmark, tmp_path, bar):
    sweep = fg.Sweep("apc", accuracy=np.linspace(0, 1, ROWS), consumption=np.linspace(0, 10, COLUMNS))
    one, many = tmp_path / "one.arrow", tmp_path / "many"

    def by_cluster() -> None:
        fg.distributed.write(sweep, many, client)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        fg.distributed.write(fg.Sweep("apc", accuracy=[0.5], consumption=[1.0]), tmp_path / "warm", client)
        ratios, seconds = [], []
        for _ in range(PAIRS):
            alone_s = timed(lambda: sweep.write(one, threads=2))
            one.unlink()
            seconds.append(timed(by_cluster))
            bytes_ = sum(path.stat().st_size for path in many.iterdir())
            assert bytes_ >= sweep.nbytes
            shutil.rmtree(many)
            ratios.append(seconds[-1] / alone_s)
        benchmark.pedantic(by_cluster, rounds=1)
    ratio = statistics.median(ratios)
    per_core = sweep.size / statistics.median(seconds) / 2
    bar("sweep of a cluster of two workers", "<= 1.05 x one process", ratio, million_per_s_and_core=per_core / 1e6)
