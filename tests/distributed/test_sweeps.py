# SPDX-License-Identifier: Apache-2.0
"""Sweeps on a Dask cluster: the numbers of one process, datasets that are resumed, and refusals in sentences."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.errors import FastgreenError
from fastgreen.metrics.sweep_blocks import stretches
from tests.commands.test_cli import cli
from tests.oracles.places import ROOT


def grid(seed: int = 0, columns: int = 40) -> fg.Sweep:
    random = np.random.default_rng(seed)
    axes = {"accuracy": random.uniform(0, 1, 23), "consumption": random.uniform(0, 9, columns).round(1)}
    return fg.Sweep("apc", alpha=[0.1, 0.3, 0.9], beta=[0.5, 1.0], unit="J", **axes)


def times(seed: int = 0) -> fg.Sweep:
    random = np.random.default_rng(seed)
    columns = {
        "time": np.arange(6.0),
        "accuracy": random.uniform(0, 1, (7, 6)),
        "consumption": random.uniform(0, 5, (7, 6)),
    }
    return fg.Sweep("ttcapc", target=[None, 0.2, (0.9, 1.0)], alpha=[0.1, 0.5], accuracy_delta=[0.01, 0.1], **columns)


def values(folder: Path) -> np.ndarray:
    table = pa.dataset.dataset(folder, format="ipc").to_table()
    return np.concatenate([chunk.storage.flatten().to_numpy() for chunk in table["apc"].chunks])


# ---- blocks


@pytest.mark.parametrize("make", [grid, times])
@pytest.mark.parametrize("chunks", ["auto", -1, 2, 5])
def test_a_lazy_array_has_the_very_values(make, chunks):
    sweep = make()
    lazy = sweep.dask(chunks)
    assert lazy.shape == sweep.shape
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), sweep.compute())
    np.testing.assert_array_equal(lazy[..., 1:3].compute(), sweep.compute()[..., 1:3])
    assert make().dask(dtype="float32").compute().tobytes() == sweep.compute("float32").tobytes()


def test_a_lazy_array_is_computed_by_a_cluster(client):
    sweep = grid()
    assert client.compute(sweep.dask(8).max()).result() == sweep.compute().max()


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (3, 1, 4, 5), (1, 1, 1)])
@pytest.mark.parametrize("most", [1, 2, 7, 20, 1000])
def test_stretches_follow_each_other_and_cover_the_grid(shape, most):
    places = np.arange(np.prod(shape)).reshape(shape)
    seen = []
    for first, part in stretches(shape, most):
        own = places[part].ravel()
        assert own[0] == first
        assert own.size <= most
        seen.append(own)
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(places.size))


@pytest.mark.parametrize("make", [grid, times])
@pytest.mark.parametrize("points", [1, 50, 10_000])
def test_best_and_where_are_those_of_one_process(make, points, monkeypatch):
    monkeypatch.setattr("fastgreen.distributed.sweep_answers._POINTS", points)
    sweep = make()
    for k in (1, 5, 10_000):
        assert fg.distributed.best(sweep, k).equals(sweep.best(k))
    low, high = (0.2, 0.5) if make is grid else (1.0, 3.0)
    assert fg.distributed.where(sweep, low, high).equals(sweep.where(low, high))


def test_best_and_where_on_a_cluster(client):
    sweep = grid()
    assert fg.distributed.best(sweep, 7, client).equals(sweep.best(7))
    assert fg.distributed.where(sweep, 0.4, 0.5, client).equals(sweep.where(0.4, 0.5))


# ---- datasets


@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}, {"compression": "zstd"}])
def test_a_dataset_holds_the_values_in_order(tmp_path, client, options):
    sweep = fg.Sweep("apc", accuracy=np.linspace(0, 1, 300), consumption=np.linspace(0, 5, 4000))
    assert fg.distributed.write(sweep, tmp_path / "set", client, part_bytes=1, **options) > 2
    np.testing.assert_array_equal(values(tmp_path / "set"), sweep.compute(options.get("dtype")).ravel())
    assert fg.distributed.write(sweep, tmp_path / "set", client, part_bytes=1, **options) == 0


def test_a_long_dataset_is_read_by_other_programs(tmp_path):
    import duckdb
    import polars

    sweep = grid()
    fg.distributed.write(sweep, tmp_path / "set", layout="long")
    files = str(tmp_path / "set" / "part-*.arrow")
    assert polars.scan_ipc(files).collect()["apc"].to_list() == sweep.compute().ravel().tolist()
    dataset = pa.dataset.dataset(tmp_path / "set", format="ipc")
    view = duckdb.from_arrow(dataset)
    ((count, most),) = view.aggregate("count(*), max(apc)").fetchall()
    assert (count, most) == (sweep.size, sweep.compute().max())


KILLED = """
    import sys, dask, numpy as np, fastgreen as fg
    from distributed import Client, LocalCluster
    if __name__ == "__main__":
        sweep = fg.Sweep("apc", accuracy=np.linspace(0, 1, 4000), consumption=np.linspace(0, 5, 4000))
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
            fg.distributed.write(sweep, sys.argv[1], Client(cluster), part_bytes=1)
"""


def test_a_killed_run_goes_on_and_its_bytes_are_the_same(tmp_path, soon):
    (tmp_path / "killed.py").write_text(textwrap.dedent(KILLED))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / "killed.py", tmp_path / "set"]
    with subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        soon(lambda: len(list((tmp_path / "set").glob("part-*"))) >= 3)
        os.killpg(process.pid, signal.SIGKILL)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("part-*")}
    sweep = fg.Sweep("apc", accuracy=np.linspace(0, 1, 4000), consumption=np.linspace(0, 5, 4000))
    written = fg.distributed.write(sweep, tmp_path / "set", part_bytes=1)
    assert fg.distributed.write(sweep, tmp_path / "whole", part_bytes=1) == written + len(there)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "set").iterdir())
    assert filecmp.cmpfiles(tmp_path / "whole", tmp_path / "set", names, shallow=False) == (names, [], [])


def test_another_sweep_or_other_files_are_refused(tmp_path):
    fg.distributed.write(grid(), tmp_path / "set")
    for other in (grid(seed=1), grid(columns=41)):
        with pytest.raises(FileExistsError, match="holds another sweep"):
            fg.distributed.write(other, tmp_path / "set")
    with pytest.raises(FileExistsError, match="holds another sweep"):
        fg.distributed.write(grid(), tmp_path / "set", dtype="float32")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(FileExistsError, match="holds other files"):
        fg.distributed.write(grid(), tmp_path / "mine")
    with pytest.raises(FileExistsError, match="is a file"):
        fg.distributed.write(grid(), tmp_path / "mine" / "notes.txt")
    (tmp_path / "set" / "_sweep.json").write_text("{")
    with pytest.raises(FileExistsError, match="holds another sweep"):
        fg.distributed.write(grid(), tmp_path / "set")


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "64M"])
def test_a_bad_size_of_parts_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="part_bytes must be a whole number above 0"):
        fg.distributed.write(grid(), tmp_path / "set", part_bytes=bad)


def test_a_bad_target_is_refused():
    with pytest.raises(ValueError, match="target must be a path or the URI of a folder"):
        fg.distributed.write(grid(), "nonsense://x/y")
    with pytest.raises(TypeError, match="target must be a path"):
        fg.distributed.write(grid(), 5)


def test_progress_is_shown(tmp_path, capsys):
    fg.distributed.write(grid(), tmp_path / "set", progress=True)
    assert "1/1 parts" in capsys.readouterr().err


# ---- S3


@pytest.fixture(scope="module")
def s3():
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    before = dict(os.environ)
    os.environ |= names
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="sweeps")
    yield client, f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    os.environ.clear()
    os.environ |= before
    server.stop()


def test_a_bucket_gets_the_same_bytes(tmp_path, s3):
    client, query = s3
    sweep = fg.Sweep("apc", accuracy=np.linspace(0, 1, 300), consumption=np.linspace(0, 5, 4000))
    count = fg.distributed.write(sweep, f"s3://sweeps/grid{query}", part_bytes=1)
    client.delete_object(Bucket="sweeps", Key="grid/part-00001.arrow")
    assert fg.distributed.write(sweep, f"s3://sweeps/grid{query}", part_bytes=1) == 1
    assert fg.distributed.write(sweep, tmp_path / "set", part_bytes=1) == count
    for path in (tmp_path / "set").iterdir():
        body = client.get_object(Bucket="sweeps", Key=f"grid/{path.name}")["Body"].read()
        assert body == path.read_bytes(), path.name


def test_the_command_writes_to_a_bucket_by_a_cluster(s3, cluster):
    client, query = s3
    axes = ["--accuracy", "0:1:0.01", "--consumption", "0:5:0.01"]
    done = cli(
        "sweep", "apc", *axes, "--best", "2", "--cluster", cluster.scheduler_address, "-o", f"s3://sweeps/cli{query}"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    done = cli("sweep", "apc", *axes, "-o", f"s3://sweeps/cli2{query}", "--progress")
    assert done.returncode == 0, done.stderr
    assert "50,601 points, 1 part written" in done.stderr
    assert {o["Key"] for o in client.list_objects_v2(Bucket="sweeps", Prefix="cli2/")["Contents"]} == {
        "cli2/_sweep.json",
        "cli2/part-00000.arrow",
    }


def test_a_bucket_that_refuses_is_one_sentence(s3):
    _, query = s3
    uri = f"s3://mykey:mysecret@nobucket/x{query}"
    done = cli("sweep", "apc", "--accuracy", "0.5", "--consumption", "1", "-o", uri)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: s3://nobucket/x: ")
    assert "bucket does not exist" in done.stderr
    assert "mysecret" not in done.stdout + done.stderr


# ---- clusters that do not fit


def worker_of(package: str, tmp_path: Path, soon):
    """A cluster of one worker whose fastgreen is this text."""
    (tmp_path / "fastgreen").mkdir()
    (tmp_path / "fastgreen" / "__init__.py").write_text(package)
    place = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    options = ["--no-dashboard", "--scheduler-file", place]
    base = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
    scheduler = subprocess.Popen(base, **quiet)
    soon(lambda: place.exists() and place.read_text().endswith("}"))
    command = [sys.executable, "-m", "distributed.cli.dask_worker", *options, "--nworkers", "1", "--no-nanny"]
    return scheduler, subprocess.Popen(command, **quiet), json.loads(place.read_text())["address"]


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("raise ImportError('not here')", "cannot use fastgreen .*ImportError: not here"),
        ("__version__ = '0.0.9'", r"has fastgreen 0.0.9, not .*; install the same version there"),
    ],
)
def test_a_worker_without_this_fastgreen_is_named(package, said, tmp_path, soon):
    from distributed import Client

    *programs, address = worker_of(package, tmp_path, soon)
    try:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(FastgreenError, match=said):
                fg.distributed.write(grid(), tmp_path / "set", client)
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_a_worker_of_another_version_is_named(client, monkeypatch):
    monkeypatch.setattr(fg, "__version__", "99.0")
    with pytest.raises(FastgreenError, match=r"has fastgreen .*, not 99.0; install the same version there"):
        fg.distributed.best(grid(), 1, client)


def test_no_scheduler_is_one_sentence(monkeypatch):
    monkeypatch.setattr("fastgreen.distributed.cluster._WAIT_S", 0.2)
    words = ["sweep", "apc", "--accuracy", "0.5", "--consumption", "1", "--best", "1", "--cluster"]
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        done = CliRunner().invoke(main, [*words, address])
        assert done.exit_code == 1, done.exception
        assert f"no Dask scheduler answers at {address}" in done.output


def test_options_of_one_file_are_refused_with_a_cluster():
    axes = ["--accuracy", "0.5", "--consumption", "1", "-o", "x", "--cluster", "tcp://127.0.0.1:1"]
    for option in (["--threads", "2"], ["--overwrite"]):
        done = cli("sweep", "apc", *axes, *option)
        assert done.returncode == 2
        assert "are for one file" in done.stderr
