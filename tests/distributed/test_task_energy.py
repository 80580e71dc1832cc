# SPDX-License-Identifier: Apache-2.0
"""The energy of Dask's tasks: shares that add up to what the host drew, measured once for all its workers."""

from __future__ import annotations

import os
import signal
import time

import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from tests.fakes.powercap import Zone

WATTS = 60.0


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", WATTS), move=True)


def measured(client, tree) -> fg.distributed.TaskEnergy:
    return fg.distributed.TaskEnergy(client, "rapl:*", 200, powercap_root=str(tree.root))


def rest(_: int) -> int:
    time.sleep(0.3)
    return os.getpid()


def fail(_: int) -> None:
    time.sleep(0.1)
    raise ValueError("as asked")


def test_tasks_share_the_energy_of_their_host(client, tree):
    with measured(client, tree) as energy:
        time.sleep(0.3)
        processes = client.gather(client.map(rest, range(6), pure=False))
        lone = client.submit(rest, 0, key="lone-1", pure=False)
        lone.result()
    assert len(set(processes)) == 2
    keys, prefixes = energy.by_key(), {row["prefix"]: row for row in energy.by_prefix().to_pylist()}
    (host,) = energy.hosts().to_pylist()
    assert (host["workers"], host["tasks"], len(keys)) == (2, 7, 7)
    shared_j = sum(keys["energy_j"].to_pylist())
    assert shared_j + host["unattributed_j"] == pytest.approx(host["energy_j"], rel=1e-6)
    assert host["unattributed_j"] >= 0.25 * WATTS
    assert (prefixes["rest"]["tasks"], prefixes["lone"]["tasks"]) == (6, 1)
    assert list(prefixes) == ["rest", "lone"]
    for row in keys.to_pylist():
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]


def test_a_task_that_fails_and_a_retry_count_as_often_as_they_ran(client, tree):
    with measured(client, tree) as energy:
        future = client.submit(fail, 0, key="bad-1", retries=2, pure=False)
        assert isinstance(future.exception(), ValueError)
    assert energy.by_key()["key"].to_pylist() == ["bad-1"] * 3
    assert energy.by_prefix()["duration_s"].to_pylist()[0] >= 0.3


def test_nothing_is_left_behind(client, tree):
    with measured(client, tree) as energy:
        pass
    assert (energy.by_key().num_rows, energy.by_prefix().num_rows) == (0, 0)
    (host,) = energy.hosts().to_pylist()
    assert host["unattributed_j"] == host["energy_j"] > 0
    names = client.run(lambda dask_worker: [n for n in dask_worker.plugins if n.startswith("fastgreen")])
    assert list(names.values()) == [[], []]
    energy.stop()
    with pytest.raises(RuntimeError, match="this measurement is stopped; make another one"):
        energy.start()


def test_answers_before_the_end_are_errors(client):
    energy = fg.distributed.TaskEnergy(client)
    for ask in (energy.by_key, energy.by_prefix, energy.hosts):
        with pytest.raises(RuntimeError, match=r"known after stop\(\)"):
            ask()


def measures(dask_worker) -> bool:
    return any(getattr(plugin, "monitor", None) is not None for plugin in dask_worker.plugins.values())


def test_a_worker_that_dies_leaves_the_rest_and_that_is_said(client, tree, soon):
    energy = measured(client, tree).start()
    first = client.gather(client.map(rest, range(4), pure=False))
    (address,) = [worker for worker, has in client.run(measures).items() if has]
    os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
    soon(lambda: len(client.nthreads()) == 2 and address not in client.nthreads())
    soon(lambda: any(client.run(measures).values()))
    second = client.gather(client.map(rest, range(4), pure=False))
    with pytest.warns(FastgreenWarning, match=r"ran on host .* while it was not measured"):
        energy.stop()
    assert len(set(first)) == len(set(second)) == 2
    keys = energy.by_key()
    known = [value for value in keys["energy_j"].to_pylist() if value is not None]
    # The worker that took its place measures on; the tasks that the dead one had noted went with it.
    assert 4 <= len(known) < len(keys)
    (host,) = energy.hosts().to_pylist()
    assert sum(known) + host["unattributed_j"] == pytest.approx(host["energy_j"], rel=1e-6)
