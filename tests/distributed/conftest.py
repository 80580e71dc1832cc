# SPDX-License-Identifier: Apache-2.0
"""A cluster of two worker processes on this machine, for all tests of the folder."""

from __future__ import annotations

import os

import pytest

from tests.oracles.places import ROOT


@pytest.fixture(scope="session")
def cluster():
    import dask
    from distributed import LocalCluster

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", protocol="tcp://") as made,
    ):
        yield made


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as made:
        yield made
