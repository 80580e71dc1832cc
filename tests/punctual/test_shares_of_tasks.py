# SPDX-License-Identifier: Apache-2.0
"""The shares of Dask's tasks against a slow twin that shares each instant of a constant power."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.distributed.conftest import client, cluster  # noqa: F401
from tests.distributed.test_task_energy import WATTS, measured, rest, tree  # noqa: F401


def slow_shares_j(rows: list[dict]) -> list[float]:
    """Of a constant power: each instant is shared by the tasks that run in it."""
    stretches = [(row["begin_ns"], row["begin_ns"] + round(row["duration_s"] * 1e9)) for row in rows]
    edges = sorted({edge for stretch in stretches for edge in stretch})
    out = [0.0] * len(rows)
    for begin, end in itertools.pairwise(edges):
        running = [n for n, (first, last) in enumerate(stretches) if first <= begin and end <= last]
        for n in running:
            out[n] += WATTS * (end - begin) / 1e9 / len(running)
    return out


def test_tasks_that_overlap_share_each_instant(client, tree):  # noqa: F811
    with measured(client, tree) as energy:
        time.sleep(0.2)
        client.gather([client.submit(rest, 0, key=f"task-{n}", pure=False) for n in range(5)])
    rows = energy.by_key().to_pylist()
    for row, truth_j in zip(rows, slow_shares_j(rows), strict=True):
        assert row["energy_j"] == pytest.approx(truth_j, abs=1.5)  # of 9 to 18 J
