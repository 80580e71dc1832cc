"""Sweeps on disk and on the command line: written in tiles, read back by others, complete or not there."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import settings

import fastgreen as fg
from fastgreen import atomic_file
from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.metrics import sweep_writer
from tests.metrics.test_sweep import small
from tests.oracles.places import ROOT

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.mark.parametrize("layout", ["dense", "long"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_written_sweep_comes_back_as_it_was_computed(tmp_path, layout, compression, dtype):
    sweep = small(unit="Wh")
    path = tmp_path / "grid.arrow"
    sweep.write(path, layout=layout, compression=compression, dtype=dtype, threads=2)
    stored = fg.open_sweep(path)
    assert (stored.metric, stored.layout, stored.unit, stored.shape) == ("apc", layout, "Wh", sweep.shape)
    assert (stored.dtype, stored.size) == (np.dtype(dtype), sweep.size)
    assert all(np.array_equal(stored.axes[name], axis) for name, axis in sweep.axes.items())
    wanted = sweep.compute(dtype=dtype)
    assert np.array_equal(stored.to_numpy(), wanted)
    assert np.array_equal(stored.read(5, 40), wanted.ravel()[5:40])
    assert [path] == list(tmp_path.iterdir())
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("layout", ["dense", "long"])
def test_many_tiles_come_back_in_order(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(sweep_writer, "_TILE", 400)
    sweep = small()
    sweep.write(tmp_path / "x", layout=layout, threads=4)
    stored = fg.open_sweep(tmp_path / "x")
    tiles = list(stored.tiles())
    assert len(tiles) >= 8
    assert [first for first, _ in tiles] == np.cumsum([0, *[v.size for _, v in tiles[:-1]]]).tolist()
    assert np.array_equal(stored.to_numpy(), sweep.compute())
    assert not tiles[0][1].flags.writeable
    # The axes' columns: of each point in the long layout, of each row in the dense one.
    names = list(sweep.axes)[: 4 if layout == "long" else 3]
    coordinates = np.meshgrid(*[sweep.axes[name] for name in names], indexing="ij")
    for name, values in zip(names, coordinates, strict=True):
        assert np.array_equal(stored.table[name].to_numpy(), values.ravel())


def test_the_dense_file_reads_in_polars_and_duckdb(tmp_path):
    pl, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    sweep = small()
    sweep.write(tmp_path / "dense.arrow")
    wanted = sweep.compute()
    frame = pl.read_ipc(tmp_path / "dense.arrow")
    assert np.array_equal(frame["apc"].ext.storage().to_numpy().reshape(sweep.shape), wanted)
    assert frame["accuracy"].unique().sort().to_list() == [0.0, 0.5, 0.9, 1.0]
    grid = fg.open_sweep(tmp_path / "dense.arrow").table
    assert grid.num_rows == 24  # DuckDB finds the table by its name
    assert grid.schema.field("apc").type == pa.fixed_shape_tensor(pa.float64(), [13], dim_names=["consumption"])
    seen = duckdb.sql("select max(list_max(apc::double[])) from grid where beta = 20 and accuracy = 0.9").fetchall()[0][
        0
    ]
    assert seen == wanted[2, :, 2].max()


def test_the_long_file_reads_in_polars_and_duckdb(tmp_path):
    pl, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    sweep = small()
    sweep.write(tmp_path / "long.arrow", layout="long")
    wanted = sweep.compute()
    frame = pl.read_ipc(tmp_path / "long.arrow")
    assert frame.columns == ["beta", "alpha", "accuracy", "consumption", "apc"]
    assert np.array_equal(frame["apc"].to_numpy(), wanted.ravel())
    grid = pa.ipc.open_file(pa.memory_map(str(tmp_path / "long.arrow"))).read_all()
    assert grid.num_rows == 312
    seen = duckdb.sql("select count(*), max(apc) from grid where beta = 20 and accuracy = 0.9").fetchall()[0]
    assert seen == (2 * 13, wanted[2, :, 2].max())


def test_the_axes_stand_in_the_metadata_for_any_reader(tmp_path):
    small(unit="Wh").write(tmp_path / "x", layout="long")
    schema = pa.ipc.open_file(tmp_path / "x").schema
    metadata = json.loads(schema.metadata[b"fastgreen"])
    assert metadata["axes"]["alpha"] == [0.1, 0.5]
    told = {"kind": "sweep", "metric": "apc", "layout": "long", "unit": "Wh", "format": 1, "version": fg.__version__}
    assert metadata.items() >= told.items()
    assert list(metadata["axes"]) == ["beta", "alpha", "accuracy", "consumption"]
    assert schema.field("consumption").metadata == {b"unit": b"Wh"}


def test_an_axis_of_many_points_stands_there_as_its_bytes(tmp_path):
    axis = np.arange(65537) * 1e-4
    fg.Sweep("apc", consumption=axis, accuracy=[0.5]).write(tmp_path / "x")
    stored = json.loads(pa.ipc.open_file(tmp_path / "x").schema.metadata[b"fastgreen"])["axes"]["consumption"]
    assert np.array_equal(np.frombuffer(base64.b64decode(stored["float64"]), "<f8"), axis)
    assert np.array_equal(fg.open_sweep(tmp_path / "x").axes["consumption"], axis)


def test_long_coordinates_are_as_precise_as_the_values(tmp_path):
    small().write(tmp_path / "x", layout="long", dtype="float32")
    assert set(pa.ipc.open_file(tmp_path / "x").schema.types) == {pa.float32()}


def test_a_stored_sweep_is_mapped_and_not_read(tmp_path):
    path = tmp_path / "grid.arrow"
    sweep = fg.Sweep("apc", consumption=np.linspace(0, 9, 1000), accuracy=np.linspace(0, 1, 1000))
    sweep.write(path)
    before = pa.total_allocated_bytes()
    stored = fg.open_sweep(path)
    tiles = list(stored.tiles())
    assert str(path) in Path("/proc/self/maps").read_text()
    assert pa.total_allocated_bytes() - before < 100_000
    assert not any(values.flags.owndata or values.flags.writeable for _, values in tiles)
    assert np.array_equal(np.concatenate([values for _, values in tiles]), sweep.compute().ravel())


def test_a_stored_sweep_larger_than_memory_says_its_size_and_points_to_its_tiles(tmp_path):
    small().write(tmp_path / "x")
    stored = fg.open_sweep(tmp_path / "x")
    stored.nbytes = 10**18  # as that of a file that does not fit on this disk either
    with pytest.raises(MemoryError, match=r"takes 1,000,000,000\.0 GB.* read it by tiles\(\)"):
        stored.to_numpy()


def test_an_existing_file_is_left_alone_unless_told(tmp_path):
    path = tmp_path / "grid.arrow"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="exists already"):
        small().write(path)
    assert path.read_text() == "precious"
    small().write(path, overwrite=True)
    assert fg.open_sweep(path).size == 312
    assert [path] == list(tmp_path.iterdir())


def test_a_file_that_came_in_the_meantime_is_not_replaced(tmp_path):
    path = tmp_path / "x"

    def meet() -> None:
        with atomic_file.new_file(path, overwrite=False) as name:
            Path(name).write_text("mine")
            path.write_text("theirs")

    with pytest.raises(FileExistsError):
        meet()
    assert path.read_text() == "theirs"


def test_bad_places_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        small().write(tmp_path / "no" / "x")
    with pytest.raises(IsADirectoryError):
        small().write(tmp_path, overwrite=True)
    with pytest.raises(OSError, match="not a regular file"):
        small().write("/dev/null", overwrite=True)


def test_where_files_cannot_be_nameless_a_hidden_neighbour_stands_in(tmp_path):
    path = tmp_path / "x"
    with atomic_file._hidden_neighbour(path, overwrite=False) as name:
        Path(name).write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(RuntimeError), atomic_file._hidden_neighbour(path, overwrite=True) as name:
        raise RuntimeError
    assert [path] == list(tmp_path.iterdir())
    with atomic_file._hidden_neighbour(path, overwrite=True) as name:
        Path(name).write_text("newer")
    assert path.read_text() == "newer"


LARGE = """
    import numpy as np, sys, resource, signal
    import fastgreen as fg
    axis = np.linspace(0, 1, 1000)
    sweep = fg.Sweep("apc", consumption=axis, accuracy=axis, alpha=axis[:100])  # 800 MB
"""


def test_a_full_disk_leaves_no_file_and_says_what_was_missing(tmp_path, python):
    # RLIMIT_FSIZE is a disk that is full at 10 MB, for anyone on any file system.
    done = python(
        textwrap.dedent(LARGE)
        + textwrap.dedent("""
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
            try:
                sweep.write(sys.argv[1])
            except OSError as error:
                print(error)
        """),
        tmp_path / "x",
    )
    assert "File too large: the sweep takes 0.8 GB; it was not written" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_disk_too_small_is_told_before_anything_is_written(tmp_path):
    axis = np.linspace(0, 1, 20_000)
    with pytest.raises(OSError, match=r"the sweep takes .* GB, but only .* GB are free"):
        fg.Sweep("apc", consumption=axis, accuracy=axis, alpha=axis[:2000]).write(tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_file_system_leaves_no_file(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("this container may not mount")
    try:
        axis = np.linspace(0, 1, 1000)
        with pytest.raises(OSError, match=f"{os.strerror(28)}|are free"):
            fg.Sweep("apc", consumption=axis, accuracy=axis, alpha=axis[:10]).write(tmp_path / "x", compression="lz4")
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def _largest_open_file(pid: int) -> int:
    sizes = [0]
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it may be closed meanwhile
            sizes.append(handle.stat().st_size if "(deleted)" in os.readlink(handle) else 0)
    return max(sizes)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_writing_leaves_nothing(tmp_path, kind, soon):
    code = textwrap.dedent(LARGE) + "print(flush=True)\nsweep.write(sys.argv[1], compression='zstd')"
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    child.stdout.readline()
    soon(lambda: _largest_open_file(child.pid) > 1_000_000)  # it is in the middle of it
    child.send_signal(kind)
    child.communicate(timeout=60)
    assert child.returncode != 0
    assert not list(tmp_path.iterdir())


def test_memory_stays_constant_while_a_large_sweep_is_written(tmp_path, python):
    done = python(
        # getrusage would count the parent's memory, too.
        textwrap.dedent(LARGE) + "sweep.write(sys.argv[1])\nprint(open('/proc/self/status').read())",
        tmp_path / "x",
    )
    (tmp_path / "x").unlink()
    (peak,) = [line for line in done.stdout.splitlines() if line.startswith("VmHWM")]
    assert int(peak.split()[1]) < 256_000


def test_a_dense_row_too_long_to_hold_points_to_the_long_layout(tmp_path):
    sweep = fg.Sweep("apc", consumption=np.linspace(0, 1, 5_000_000), accuracy=[0.5])
    with pytest.raises(ValueError, match="layout='long'"):
        sweep.write(tmp_path / "x")
    sweep.write(tmp_path / "x", layout="long", dtype="float32")
    assert np.array_equal(fg.open_sweep(tmp_path / "x").axes["consumption"], sweep.axes["consumption"])


def test_progress_leaves_files_and_pipes_alone(tmp_path, capfd):
    small().write(tmp_path / "x", progress=True)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_sweep_is_refused(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(FileNotFoundError):
        fg.open_sweep(path)
    path.write_bytes(b"not an arrow file at all")
    with pytest.raises(TraceError, match="is not an Arrow file"):
        fg.open_sweep(path)
    path.write_bytes(b"")
    with pytest.raises(TraceError, match="is not an Arrow file"):
        fg.open_sweep(path)
    small().write(path, overwrite=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match="is not an Arrow file, or it is damaged"):
        fg.open_sweep(path)
    table = pa.table({"a": [1]})
    for metadata, message in (
        (None, "holds no sweep"),
        ({b"fastgreen": b'{"kind": "sweep", "format": 99, "version": "9"}'}, "format 99, written by fastgreen 9"),
        ({b"fastgreen": b"[" * 100_000}, "holds no sweep"),
        ({b"fastgreen": b"[1]"}, "holds no sweep"),
        ({b"fastgreen": b'{"kind": "sweep", "format": "1"}'}, "holds no sweep"),
        ({b"fastgreen": b'{"kind": "sweep", "format": 1}'}, "do not describe its points: KeyError"),
        (
            {b"fastgreen": b'{"kind": "sweep", "format": 1, "metric": "a", "layout": "long", "unit": "J", "axes": []}'},
            "do not describe its points: AttributeError",
        ),
    ):
        with pa.ipc.new_file(path, table.schema.with_metadata(metadata)) as writer:
            writer.write_table(table.replace_schema_metadata(metadata))
        with pytest.raises(TraceError, match=message):
            fg.open_sweep(path)


# ---- the command line


def command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_an_axis_that_memory_cannot_hold_is_told_before_any_of_it_is_made(tmp_path, python):
    code = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # an attempt would fail with NumPy's words
        from fastgreen.cli import main
        main(["sweep", "apc", "--consumption", f"0:{sys.argv[1]}:1", "--accuracy", "0.5", "-o", "x.arrow"])
    """
    done = python(code, psutil.virtual_memory().total // 40, cwd=tmp_path)
    assert done.returncode == 2
    assert "has more numbers than memory can hold" in done.stderr
    assert "GB are free" in done.stderr


@pytest.mark.parametrize("layout", ["dense", "long"])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_bytes_changed_anywhere_in_a_sweep_are_refused_or_read(tmp_path, layout, compression):
    sweep = fg.Sweep("apc", consumption=np.arange(20) / 2, accuracy=np.linspace(0, 1, 9), alpha=[0.1, 0.5])
    path, random = tmp_path / "x.arrow", np.random.default_rng(5)
    sweep.write(path, layout=layout, compression=compression)
    good = path.read_bytes()
    refused = read = 0
    for turn in range(200):
        damaged = np.frombuffer(good, np.uint8).copy()
        damaged[random.integers(len(good), size=4)] = random.integers(256, size=4)
        path.write_bytes(damaged[: random.integers(len(good)) if turn % 10 == 0 else None].tobytes())
        try:
            stored = fg.open_sweep(path)
            assert stored.to_numpy().shape == stored.shape
            assert sum(values.size for _, values in stored.tiles()) == stored.size
            read += 1
        except (fg.errors.TraceError, MemoryError):
            refused += 1
    assert refused > 20
    assert refused + read == 200


def test_a_sweep_whose_column_is_no_number_or_lacks_one_is_refused(tmp_path):
    sweep = fg.Sweep("apc", consumption=[1.0, 2.0], accuracy=[0.5])
    sweep.write(tmp_path / "x.arrow", layout="long")
    table = pa.ipc.open_file(tmp_path / "x.arrow").read_all()
    for column in (pa.array([1, 2]), pa.array(["a", "b"]), pa.array([0.5, None]), pa.array([[0.5], [0.5]])):
        other = table.set_column(table.schema.get_field_index("apc"), "apc", column)
        with pa.ipc.new_file(tmp_path / "y.arrow", other.schema) as writer:
            writer.write_table(other)
        with pytest.raises(fg.errors.TraceError, match="damaged"):
            fg.open_sweep(tmp_path / "y.arrow")


def test_the_command_writes_what_the_library_computes(tmp_path):
    path = tmp_path / "grid.arrow"
    axes = ["--consumption", "0:10:0.1", "--accuracy", "0:1:0.01", "--alpha", "0.1,0.25"]
    assert "20,402 points" in command("sweep", "apc", *axes, "-o", path, "--unit", "Wh")
    stored = fg.open_sweep(path)
    assert stored.shape == (1, 2, 101, 101)
    assert np.array_equal(stored.axes["consumption"], [*(np.arange(100) * 0.1), 10.0])
    assert "exists already" in command("sweep", "apc", *axes, "-o", path, code=1)
    command("sweep", "apc", *axes, "-o", path, "--overwrite", "--progress", "--layout", "long", "--dtype", "float32")
    assert fg.open_sweep(path).dtype == np.float32


@pytest.mark.parametrize(
    ("text", "count", "last"),
    [("0:1:0.1", 11, 1.0), ("0:10:0.01", 1001, 10.0), ("0:0.3:0.1", 4, 0.3), ("1:2:0.3", 4, 1.9)],
)
def test_an_axis_has_the_points_that_its_decimals_name(text, count, last):
    from fastgreen.commands.ranges import Range

    axis = Range().convert(text, None, None)
    assert axis.size == count
    assert axis[-1] == pytest.approx(last, abs=1e-12)


def test_the_command_prints_the_best_points():
    axes = ["--consumption", "0:1:0.1", "--accuracy", "0.5,0.9"]
    rows = json.loads(command("sweep", "apc", *axes, "--best", 2, "--json"))
    assert [row["apc"] for row in rows] == [0.9, fg.apc(0.1, 0.9)]
    assert "0.9" in command("sweep", "apc", *axes, "--best", 2)


def test_json_has_no_number_that_json_has_not(tmp_path):
    def no_number(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    (tmp_path / "runs.csv").write_text("run,time,accuracy,consumption\na,1,0.5,0.2\na,2,0.9,0.4\n")
    given = ("sweep", "ttcapc", "--runs", tmp_path / "runs.csv", "--target", "best,0.99", "--best", 2, "--json")
    best, never = json.loads(command(*given), parse_constant=no_number)
    assert (best["target"], best["ttcapc"]) == (None, 2)
    assert (never["target"], never["ttcapc"]) == (0.99, None)
    (tmp_path / "models.csv").write_text("model,accuracy,consumption\na,0.9,2\nb,,2\n")
    rows = json.loads(command("metrics", tmp_path / "models.csv", "--json"), parse_constant=no_number)
    assert [row["apc"] for row in rows] == [fg.apc(2, 0.9), None]


def test_the_command_reads_runs_from_a_table(tmp_path):
    (tmp_path / "runs.csv").write_text("run,time,accuracy,consumption\na,1,0.5,0.2\na,2,0.9,0.4\nb,1,0.7,0.3\n")
    path = tmp_path / "times.arrow"
    command("sweep", "ttcapc", "--runs", tmp_path / "runs.csv", "--target", "best,0.6,0.8/0.5", "-o", path)
    assert fg.open_sweep(path).to_numpy()[0, 0, 0, 0, 0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["apc", "--consumption", "0:x:1", "--accuracy", "0.5", "--best", "1"], "is not a range"),
        (["apc", "--consumption", "0:10", "--accuracy", "0.5", "--best", "1"], "must be START:STOP:STEP"),
        (["apc", "--consumption", "0:1e18:1e-3", "--accuracy", "0.5", "--best", "1"], "has 1e+21 numbers"),
        (["apc", "--consumption", "0:1:0", "--accuracy", "0.5", "--best", "1"], "STEP must be above 0"),
        (["apc", "--consumption", "1:0:0.1", "--accuracy", "0.5", "--best", "1"], "STOP must be at least START"),
        (["apc", "--consumption", "1", "--accuracy", "0.5"], "give a file to write"),
        (["acp", "--best", "1"], "Invalid value"),
    ],
)
def test_a_misused_command_says_how_to_use_it(arguments, message):
    assert message in command("sweep", *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["apc", "--consumption", "1", "--accuracy", "50"], "if it is in percent"),
        (["apc", "--accuracy", "0.5"], "consumption must be given"),
        (["apc", "--consumption", "0:1:1e-7", "--accuracy", "0:1:1e-7", "-o", "here.arrow"], "layout='long'"),
    ],
)
def test_a_bad_value_is_one_sentence(arguments, message):
    output = command("sweep", *arguments, *(["--best", "1"] if "-o" not in arguments else []), code=2)
    assert message in output
    assert output.startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["sweep", "apc", "--consumption", "1", "--accuracy", "0.5", "-o"], "no/folder/x"),
        (["sweep", "apc", "--consumption", "1", "--accuracy", "0.5", "-o"], "/proc/x"),
        (["sweep", "apc", "--consumption", "1", "--accuracy", "0.5", "-o"], "grid.arrow/x"),
        (["plot", "grid.arrow", "-o"], "no/folder/x.png"),
        (["plot", "grid.arrow", "-o"], "/proc/x.png"),
        (["figures", "--only", "apc-grid", "-o"], "/proc/x"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, arguments, place):
    monkeypatch.chdir(tmp_path)
    small().write("grid.arrow")
    output = command(*arguments, place, code=1)
    assert output.startswith("Error: ")
    assert output.count("\n") == 1
    assert place.rsplit("/", 1)[0] in output
    assert "Errno" not in output
    assert ".partial" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["grid.arrow"]
