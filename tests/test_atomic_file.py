"""Whole-or-nothing files: the file itself, and every writer of the package, each stopped in the middle of its work."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fastgreen import atomic_file
from tests.oracles.places import ROOT

OLD = b"the old file"


def test_text_and_bytes_arrive_whole_and_replace_only_where_asked(tmp_path):
    path = tmp_path / "x"
    atomic_file.write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    atomic_file.write_bytes(path, b"\r\n")
    assert path.read_bytes() == b"\r\n"
    with pytest.raises(FileExistsError):
        atomic_file.write_text(path, "other", overwrite=False)
    assert path.read_bytes() == b"\r\n"
    atomic_file.write_text(tmp_path / "new", "kept", overwrite=False, durable=True)
    assert (tmp_path / "new").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "x"]


@pytest.fixture(params=["nameless", "hidden neighbour"])
def kind(request, monkeypatch) -> str:
    """Both ways to hide a file that is being written."""
    if request.param == "hidden neighbour":
        monkeypatch.setattr(atomic_file, "_UNNAMED", 0)  # as on a system without nameless files
    return request.param


def test_a_replaced_file_keeps_its_permissions_and_a_link_stays_a_link(tmp_path, kind):
    secret, link = tmp_path / "secret", tmp_path / "link"
    secret.write_bytes(OLD)
    secret.chmod(0o600)
    link.symlink_to("secret")
    atomic_file.write_text(link, "new")
    assert link.is_symlink()
    assert secret.read_text() == "new"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    atomic_file.write_text(tmp_path / "fresh", "")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o666 & ~umask


def test_a_pipe_is_written_to_and_a_folder_is_refused(tmp_path):
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdin is not None
    atomic_file.write_text(f"/proc/self/fd/{reader.stdin.fileno()}", "through")
    assert reader.communicate()[0] == b"through"
    atomic_file.write_text(os.devnull, "nowhere")
    with pytest.raises(IsADirectoryError):
        atomic_file.write_text(tmp_path, "")


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_exception_leaves_what_was_there(tmp_path, kind, overwrite):
    def stopped() -> None:
        with atomic_file.new_file(tmp_path / "x", overwrite) as place:
            Path(place).write_bytes(b"half")
            raise RuntimeError("stopped")

    if overwrite:
        (tmp_path / "x").write_bytes(OLD)
    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [OLD] * overwrite


def test_a_killed_process_leaves_the_old_file(tmp_path):
    (tmp_path / "x").write_bytes(OLD)
    code = """
import os, signal, sys
from fastgreen.atomic_file import new_file
with new_file(sys.argv[1], overwrite=True) as place, open(place, "w") as stream:
    print("half", file=stream, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "x").read_bytes() == OLD


# Each writer of the package fails in the middle, for it has more than the disk holds: RLIMIT_FSIZE is a disk that
# is full at 100 bytes, for anyone on any file system.
FULL_DISK = """
import resource, sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastgreen import plot, table_files
from fastgreen.estimate import layerfile
from fastgreen.estimate.modelfile import ModelSet
from fastgreen.experiment import read, runner
from fastgreen.recordings import published_layout
from fastgreen.sensors import sensor_facts
from fastgreen.sensors.channel import Channel

folder, old = Path(sys.argv[1]), sys.argv[2]
facts = sensor_facts.SensorFacts(0.1, 0.1, 0.1, 1.0, 0.1, 0.1, 9, 9)
channel = Channel("a", "rapl", "energy", "a", "uJ")
table = pa.table({"a": np.random.default_rng(1).random(10_000)})
figure, _ = plot.new_figure()
log = folder / "emissions.txt"
log.write_text(sys.argv[3])
recording = read(log)

def collect(path):
    with layerfile.appending(path, None, {}):
        raise AssertionError("the first state of a collection was not written")

writers = {
    "models.json": lambda path: ModelSet({}, notes={"a": "b" * 100_000}).save(path),
    "sensors.json": lambda path: sensor_facts.remember(channel, facts, path.parent),
    "latency.csv": lambda path: published_layout.write_latencies(path.parent, [0.5] * 100_000),
    "power_metrics.json": lambda path: published_layout.write_power_metrics(path, recording),
    "status.json": lambda path: runner._write_json(path, {"a": "b" * 100_000}),
    "layers.arrow": collect,
    "x.csv": lambda path: table_files.save_table(table, path),
    "x.parquet": lambda path: table_files.save_table(table, path),
    "x.arrow": lambda path: table_files.save_table(table, path),
    "y.csv": lambda path: table_files.save_arrow(table, path),
    "x.png": lambda path: plot.finish(figure, path),
}
for name in writers:
    (folder / name).write_text(old)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for name, write in writers.items():
    try:
        write(folder / name)
    except OSError as error:
        print(name, "failed")
"""
NAMES = ("models.json", "sensors.json", "latency.csv", "power_metrics.json", "status.json",
         "layers.arrow", "x.csv", "x.parquet", "x.arrow", "y.csv", "x.png")  # fmt: skip
LOG = "timestamp, power.draw [W]\n" + "".join(f"2024/01/01 00:00:{s:02}.000, 50.00 W\n" for s in range(60))


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("full")
    command = [sys.executable, "-c", FULL_DISK, folder, OLD.decode(), LOG]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_writer_that_fails_in_the_middle_leaves_the_old_file(full_disk, name):
    folder, failed = full_disk
    assert f"{name} failed" in failed.splitlines()
    assert (folder / name).read_bytes() == OLD


def test_writers_that_fail_leave_no_other_files(full_disk):
    folder, _ = full_disk
    assert {p.name for p in folder.iterdir()} == {*NAMES, "emissions.txt"}
