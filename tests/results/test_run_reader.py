"""Runs on disk: whole, cut short anywhere, foreign, newer; and read by programs that do not know fastgreen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import TraceError
from fastgreen.results import run_folder
from tests.fakes.nvml import FakeNvml
from tests.fakes.powercap import PowercapTree, Zone
from tests.oracles.places import ROOT

FILES = ("channels.arrow", "samples.arrow", "windows.arrow")


def measured(folder: Path, record: Path | None = None) -> fg.Result:
    """A run of two RAPL zones that move, a GPU's counter and its power."""
    fake = FakeNvml(folder / "nvml")
    with PowercapTree(folder / "powercap", [Zone("package-0", 90.0, children=(Zone("dram", 9.0),))]) as tree:
        seams = {"powercap_root": tree.root, "nvml_library": fake.library}
        with fg.Monitor(hz=200, record=record, **seams) as monitor:
            for name in ("a", "b"):
                window = monitor.window(name)
                for _ in range(30):
                    with window:
                        time.sleep(0.005)
        return monitor.result


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[fg.Result, Path]:
    """A run and the folder that it was saved to."""
    folder = tmp_path_factory.mktemp("run")
    result = measured(folder)
    result.save(folder / "saved")
    return result, folder / "saved"


def same(one: fg.Result, other: fg.Result) -> None:
    assert one.to_dict() == other.to_dict()
    for per_channel in (False, True):
        assert one.windows(per_channel=per_channel).equals(other.windows(per_channel=per_channel))
    for identity in one.channels["id"].to_pylist():
        ours, theirs = one.samples(identity), other.samples(identity)
        assert ours.to_pylist() == theirs.to_pylist()
    assert one.metadata == other.metadata
    assert (one.start_ns, one.end_ns) == (other.start_ns, other.end_ns)


def test_a_saved_run_comes_back_equal_and_saves_again_equal(saved, tmp_path):
    result, path = saved
    loaded = fg.load(path)
    same(result, loaded)
    loaded.save(tmp_path / "again")
    same(result, fg.load(tmp_path / "again"))


def test_a_recorded_run_is_the_result_of_its_monitor(tmp_path):
    result = measured(tmp_path, tmp_path / "recorded")
    same(result, fg.load(str(tmp_path / "recorded")))
    assert sorted(p.name for p in (tmp_path / "recorded").iterdir()) == sorted(FILES)


def test_runs_without_windows_or_without_channels_come_back(tmp_path):
    with fg.Monitor() as no_windows:
        time.sleep(0.02)
    with fg.Monitor([]) as no_channels, no_channels.window("w"):
        pass
    for n, monitor in enumerate((no_windows, no_channels)):
        monitor.result.save(tmp_path / str(n))
        loaded = fg.load(tmp_path / str(n))
        assert loaded.to_dict()["windows"] == monitor.result.to_dict()["windows"]
        assert loaded.energy_j == monitor.result.energy_j
        assert loaded.windows(per_channel=True).equals(monitor.result.windows(per_channel=True))
        assert str(loaded)


@pytest.mark.filterwarnings("ignore:window 'w' was still open")
@pytest.mark.parametrize("record", [False, True])
def test_a_run_without_channels_keeps_its_duration_and_its_notes(tmp_path, record):
    with fg.Monitor([], record=tmp_path / "run" if record else None) as monitor:
        monitor.window("w").begin()
        time.sleep(0.02)
    if not record:
        monitor.result.save(tmp_path / "run")
    loaded = fg.load(tmp_path / "run")
    assert loaded.duration_s == monitor.result.duration_s > 0.02
    assert loaded.notes == monitor.result.notes
    assert "still open" in loaded.notes[0]
    loaded.save(tmp_path / "again")
    same(loaded, fg.load(tmp_path / "again"))


def truncated(path: Path, target: Path, name: str, size: int) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(path, target)
    with open(target / name, "r+b") as file:
        file.truncate(size)
    return target


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_any_place_is_refused_or_gives_what_is_left_and_says_so(saved, tmp_path, name):
    result, path = saved
    whole = result.to_dict()
    refused = partial = 0
    size = (path / name).stat().st_size
    cuts = range(0, size, 97 if size < 20_000 else 97 * (size // 20_000 + 1))
    for cut in cuts:
        target = truncated(path, tmp_path / "cut", name, cut)
        try:
            loaded = fg.load(target)
            found = loaded.to_dict()
        except TraceError as error:
            refused += name in str(error)
            continue
        partial += 1
        assert any(name in note for note in loaded.notes), (cut, loaded.notes)
        assert found["energy_j"] == whole["energy_j"], cut  # the totals stand in channels.arrow
        rows = {row["name"]: row for row in whole["windows"]}
        for row in found["windows"]:
            if row["count"] == rows[row["name"]]["count"]:
                ours = rows[row["name"]]
                assert not row["energy_low_j"] > ours["energy_high_j"]  # NaN: no sample of a channel is left
                assert not row["energy_high_j"] < ours["energy_low_j"]
    assert refused > 0
    assert refused + partial == len(cuts)
    assert partial > 0 or name == "channels.arrow"


def test_bytes_changed_anywhere_never_crash(saved, tmp_path):
    _, path = saved
    code = """
        import random, shutil, sys
        import fastgreen as fg
        path, target = sys.argv[1:]
        random.seed(5)
        refused = read = 0
        for n in range(240):
            name = ("channels.arrow", "samples.arrow", "windows.arrow")[n % 3]
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(path, target)
            with open(f"{target}/{name}", "r+b") as file:
                size = file.seek(0, 2)
                for _ in range(random.randint(1, 8)):
                    file.seek(random.randrange(size))
                    file.write(bytes([random.randrange(256)]))
            try:
                loaded = fg.load(target)
                loaded.to_dict(), loaded.windows(), loaded.samples(), str(loaded)
                read += 1
            except fg.errors.TraceError:
                refused += 1
        print(refused, read)
        """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path), str(tmp_path / "spoilt")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused, read = map(int, done.stdout.split())
    assert refused + read == 240


def foreign_stream(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "kind", ["empty", "text", "zeros", "arrow stream", "arrow file", "parquet", "folder", "missing"]
)
def test_a_foreign_file_in_the_place_of_ours_is_refused_by_name(saved, tmp_path, name, kind):
    _, path = saved
    shutil.copytree(path, tmp_path / "run")
    file = tmp_path / "run" / name
    file.unlink()
    table = pa.table({"id": ["x"], "energy": [1.0]})
    if kind in ("empty", "text", "zeros"):
        file.write_bytes({"empty": b"", "text": b"hello, this is no run\n" * 9, "zeros": bytes(4096)}[kind])
    elif kind == "arrow stream":
        foreign_stream(file, table)
    elif kind == "arrow file":
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, file)
    elif kind == "folder":
        file.mkdir()
    with pytest.raises(TraceError, match=name):
        fg.load(tmp_path / "run")


def test_our_metadata_over_other_columns_is_refused(saved, tmp_path):
    _, path = saved
    for name in FILES:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(path, tmp_path / "run")
        metadata = pa.ipc.open_stream(str(path / name)).schema.metadata
        table = pa.table({"id": ["x"], "channel": ["y"], "name": ["z"]}).replace_schema_metadata(metadata)
        foreign_stream(tmp_path / "run" / name, table)
        with pytest.raises(TraceError, match=name):
            fg.load(tmp_path / "run").to_dict()


@pytest.mark.parametrize("name", FILES)
def test_a_newer_format_is_refused_with_both_numbers(saved, tmp_path, name):
    _, path = saved
    shutil.copytree(path, tmp_path / "run")
    table = pa.ipc.open_stream(str(path / name)).read_all()
    metadata = {**json.loads(table.schema.metadata[b"fastgreen"]), "format": 99, "version": "7.0"}
    foreign_stream(tmp_path / "run" / name, table.replace_schema_metadata({"fastgreen": json.dumps(metadata)}))
    with pytest.raises(TraceError, match=r"format 99, written by fastgreen 7\.0.*up to format 1"):
        fg.load(tmp_path / "run")


@pytest.mark.parametrize("metadata", ["", "[]", "{}", '{"format": "x"}', '{"format": 1}', "null", '{"format": null}'])
def test_damaged_metadata_is_refused(saved, tmp_path, metadata):
    _, path = saved
    shutil.copytree(path, tmp_path / "run")
    table = pa.ipc.open_stream(str(path / "channels.arrow")).read_all()
    foreign_stream(tmp_path / "run" / "channels.arrow", table.replace_schema_metadata({"fastgreen": metadata}))
    with pytest.raises(TraceError, match=r"channels\.arrow"):
        fg.load(tmp_path / "run")


def test_what_is_no_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(TraceError, match="is not a folder"):
            fg.load(path)
    with pytest.raises(TraceError, match="missing"):
        fg.load(tmp_path)


READERS = {
    "pyarrow": """
import pyarrow as pa
tables = [pa.ipc.open_stream(f"{run}/{n}.arrow").read_all() for n in names]
out = [t.num_rows for t in tables] + [sum(tables[1]["raw"].to_pylist())]
""",
    "polars": """
import polars as pl
tables = [pl.read_ipc_stream(f"{run}/{n}.arrow") for n in names]
out = [len(t) for t in tables] + [int(tables[1]["raw"].sum())]
assert sorted(tables[1]["channel"].unique().to_list()) == sorted(tables[0]["id"].to_list())
""",
    "duckdb": """
import duckdb, pyarrow as pa
streams = [pa.ipc.open_stream(f"{run}/{n}.arrow") for n in names]
out = []
for stream in streams:
    out.append(duckdb.sql("select count(*) from stream").fetchall()[0][0])
stream = pa.ipc.open_stream(f"{run}/samples.arrow")
out.append(int(duckdb.sql("select sum(raw) from stream").fetchall()[0][0]))
""",
    "pandas": """
import pyarrow as pa
tables = [pa.ipc.open_stream(f"{run}/{n}.arrow").read_pandas() for n in names]
out = [len(t) for t in tables] + [int(tables[1]["raw"].sum())]
""",
}


@pytest.mark.parametrize("reader", sorted(READERS))
def test_the_files_open_without_fastgreen(saved, tmp_path, reader):
    pytest.importorskip(reader)
    result, path = saved
    code = "import sys\nrun = sys.argv[1]\nnames = ('channels', 'samples', 'windows')\n" + READERS[reader]
    code += "\nassert not any(name.startswith('fastgreen') for name in sys.modules)\nprint(*out)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    samples = result.samples()
    expected = [len(result.traces), samples.num_rows, 60, int(np.sum(samples["raw"].to_numpy()))]
    assert list(map(int, done.stdout.split())) == expected


def test_the_schemas_carry_units_and_the_metadata_of_the_run(saved):
    _, path = saved
    units = {
        "channels.arrow": {"wrap_j": b"J", "ceiling_w": b"W", "floor_w": b"W"},
        "samples.arrow": {"monotonic_ns": b"ns", "half_read_ns": b"ns"},
        "windows.arrow": {"start_ns": b"ns", "end_ns": b"ns"},
    }
    for name, expected in units.items():
        schema, _ = run_folder.read_stream(path / name)
        for field, unit in expected.items():
            assert schema.field(field).metadata[b"unit"] == unit
        metadata = json.loads(schema.metadata[b"fastgreen"])
        assert metadata["format"] == 1
        assert metadata["version"] == fg.__version__
        assert metadata["host"] == os.uname().nodename
        assert abs(metadata["realtime_ns"] / 1e9 - time.time()) < 600
        assert abs(metadata["monotonic_ns"] / 1e9 - time.monotonic()) < 600


def test_without_pyarrow_a_recording_says_what_it_needs_before_it_begins(tmp_path, python):
    done = python(
        """
        import sys
        sys.modules["pyarrow"] = None
        import fastgreen as fg
        from fastgreen.cli import main
        try:
            fg.Monitor(record=sys.argv[1]).start()
        except ModuleNotFoundError as error:
            print(error)
        main(["run", "-o", sys.argv[1], "true"])
        """,
        tmp_path / "run",
    )
    sentence = "the files of a run need pyarrow: pip install pyarrow"
    assert done.stdout.splitlines() == [sentence]
    assert done.stderr == f"Error: {sentence}\n"
    assert done.returncode == 1
    assert not (tmp_path / "run").exists()


def test_a_program_that_changes_its_folder_is_recorded_where_it_began(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with fg.Monitor(record="run") as monitor, monitor.window("w"):
        monkeypatch.chdir(tmp_path / "elsewhere")
        time.sleep(0.02)
    assert monitor.result.notes == []
    same(monitor.result, fg.load(tmp_path / "run"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    loaded = fg.load("../run")
    monkeypatch.chdir("/")
    same(monitor.result, loaded)
