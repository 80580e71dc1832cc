"""Sweeps: the grid is the formula, the answers without a grid are those of the grid, the file is whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgreen as fg
from fastgreen import newfile, sweep_file
from fastgreen.cli import main
from fastgreen.errors import TraceError

from . import reference

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]


def small(**changes: object) -> fg.Sweep:
    axes = {
        "consumption": np.arange(13) * 0.7,
        "accuracy": [0.0, 0.5, 0.9, 1.0],
        "alpha": [0.1, 0.5],
        "beta": [0.0, 1, 20],
    }
    return fg.Sweep("apc", **{**axes, **changes})


def twin(sweep: fg.Sweep, dtype: type = np.float64) -> np.ndarray:
    return reference.grid(*[axis.astype(dtype) for axis in sweep.axes.values()])


# ---- compute


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_the_grid_is_the_formula_to_the_bit(dtype, threads):
    rng = np.random.default_rng(0)
    # Large enough for several threads and for streaming stores.
    sweep = fg.Sweep(
        "apc", consumption=rng.random(997) * 9, accuracy=rng.random(301), alpha=rng.random(3), beta=[1, 5.0]
    )
    wanted = twin(sweep, np.dtype(dtype).type)
    assert np.array_equal(sweep.compute(dtype=dtype, threads=threads), wanted)
    out = np.empty(sweep.shape, dtype)
    assert sweep.compute(threads=threads, out=out) is out
    assert np.array_equal(out, wanted)


def test_a_grid_larger_than_the_cache_is_the_formula_too():
    sweep = fg.Sweep("apc", consumption=np.linspace(0, 9, 3001), accuracy=np.linspace(0, 1, 2000))
    grid = sweep.compute()
    for row in (0, 1, 999, 1999):
        assert np.array_equal(
            grid[0, 0, row], reference.apc(sweep.axes["consumption"], sweep.axes["accuracy"][row], 0.1, 1.0)
        )


def test_the_published_heat_maps():
    grid = fg.Sweep("apc", consumption=np.arange(101) * 0.1 + 0.05, accuracy=np.arange(100) * 0.01 + 0.005).compute()[
        0, 0
    ]
    assert grid.shape == (100, 101)
    assert grid.sum() == pytest.approx(2205.3501743037255, rel=1e-14)
    wanted = [0.004762925389, 0.134495409179, 0.485312587643]
    assert [grid[0, 0], grid[50, 50], grid[99, 100]] == pytest.approx(wanted, abs=1e-12)
    large = fg.Sweep("apc", consumption=np.arange(10001) * 0.1 + 0.05, accuracy=np.arange(1000) * 0.001 + 0.0005)
    assert large.compute().sum() == pytest.approx(95237.58100989895, rel=1e-14)


def test_a_sweep_knows_its_axes():
    sweep = small()
    assert list(sweep.axes) == ["beta", "alpha", "accuracy", "consumption"]
    assert sweep.shape == (3, 2, 4, 13)
    assert (sweep.size, sweep.nbytes) == (312, 2496)
    assert "312 points" in repr(sweep)
    assert list(fg.Sweep("apec", cost=[1, 2], accuracy=0.5).axes) == ["beta", "alpha", "accuracy", "cost"]
    with pytest.raises(ValueError, match="read-only"):
        sweep.axes["alpha"][0] = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": [50, 90]}, "accuracy .* got 50 at index 0; if it is in percent"),
        ({"consumption": [0, -1]}, "consumption .* got -1 at index 1"),
        ({"consumption": [0, np.inf]}, "consumption .* got inf at index 1"),
        ({"consumption": [0, np.nan]}, "axis consumption holds NaN at index 1"),
        ({"consumption": []}, "axis consumption is empty"),
        ({"alpha": []}, "axis alpha is empty"),
        ({"alpha": [0.1, -0.1]}, "alpha .* got -0.1 at index 1"),
        ({"beta": -1}, "beta .* got -1"),
        ({"consumption": [[1, 2]]}, "one-dimensional"),
        ({"consumption": ["a"]}, "consumption must be numbers"),
        ({"consumption": np.array([1, None])}, "consumption must be numbers"),
        ({"consumption": None}, "needs consumption"),
        ({"cost": [1]}, "takes consumption, not cost"),
        ({"time": [1]}, "takes no time"),
        ({"target": 0.5}, "takes no target"),
    ],
)
def test_a_bad_axis_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="metric must be one of"):
        fg.Sweep("acp", consumption=[1], accuracy=[0.5])
    for call, message in (
        (lambda: small().compute(dtype="int32"), "float64 or float32"),
        (lambda: small().compute(dtype="grue"), "float64 or float32"),
        (lambda: small().compute(threads=0), "threads"),
        (lambda: small().compute(out=np.empty(3)), "shape"),
        (lambda: small().compute(out=np.empty(small().shape, int)), "float64 or float32"),
        (lambda: small().compute(dtype="float32", out=np.empty(small().shape)), "out is float64"),
        (lambda: small().compute(out=np.empty(small().shape[::-1]).T), "C-contiguous"),
        (lambda: small().best(0), "k must be"),
        (lambda: small().where(0.5, 0.4), "low must not be above high"),
        (lambda: small().where(float("nan")), "low must not be above high"),
        (lambda: small().write(tmp_path / "x", layout="wide"), "layout"),
        (lambda: small().write(tmp_path / "x", compression="rar"), "compression"),
        (lambda: small().write(tmp_path / "x", dtype="int8"), "float64 or float32"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not list(tmp_path.iterdir())


def test_a_sweep_larger_than_memory_says_its_size_and_points_to_write():
    axis = np.linspace(0, 1, 10_000)
    sweep = fg.Sweep("apc", consumption=axis, accuracy=axis, alpha=axis, beta=[1.0])
    with pytest.raises(MemoryError, match=r"8,000\.0 GB \(1,000,000,000,000 points\).*write\(path\)"):
        sweep.compute()
    with pytest.raises(MemoryError, match=r"points lie in low..high"):
        sweep.where(0, 1)


# ---- best and where

ties = st.sampled_from([0.0, 0.25, 0.5, 1.0])
costs = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 7.0]) | st.floats(0, 10), min_size=1, max_size=30)


@given(
    costs,
    st.lists(ties | st.floats(0, 1), min_size=1, max_size=5),
    st.lists(ties, min_size=1, max_size=3),
    st.lists(st.sampled_from([0.0, 1.0, 50.0]), min_size=1, max_size=3),
    st.integers(1, 400),
)
def test_the_best_are_those_that_sorting_everything_finds(c, acc, a, b, k):
    sweep = fg.Sweep("apc", consumption=c, accuracy=acc, alpha=a, beta=b)
    grid = sweep.compute()
    wanted = reference.first_best(grid, k)
    assert np.array_equal(sweep.plan.best(min(k, sweep.size)), wanted)
    table = sweep.best(k)
    assert np.array_equal(table["apc"], grid.ravel()[wanted])
    assert np.array_equal(table["consumption"], np.asarray(c, float)[wanted % len(c)])


@given(costs, st.lists(ties | st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1) | ties, st.floats(0, 1) | ties)
def test_where_finds_what_looking_at_everything_finds(c, acc, low, high):
    low, high = sorted((low, high))
    sweep = fg.Sweep("apc", consumption=c, accuracy=acc, beta=[0.0, 1.0])
    grid = sweep.compute().ravel()
    assert np.array_equal(sweep.plan.where(low, high), np.flatnonzero((grid >= low) & (grid <= high)))
    assert sweep.where(low, high).num_rows == ((grid >= low) & (grid <= high)).sum()


def test_best_and_where_look_through_many_rows_in_pieces(monkeypatch):
    # A seam would be an argument nobody else needs; the piece is only a number.
    monkeypatch.setattr("fastgreen.sweep_score._ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(3)
    axes = {"consumption": rng.choice([0.1, 0.5, 3.0, 4.0], 9), "accuracy": rng.random(10), "alpha": rng.random(4)}
    sweep = fg.Sweep("apc", **axes, beta=[1.0, 2.0])
    grid = sweep.compute()
    for k in (1, 5, 50, 720):
        assert np.array_equal(sweep.plan.best(k), reference.first_best(grid, k))
    assert np.array_equal(sweep.plan.where(0.2, 0.4), np.flatnonzero((grid >= 0.2) & (grid <= 0.4)))


# ---- times


def run_sweep(**changes: object) -> tuple[fg.Sweep, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    runs = {
        "time": np.sort(rng.random((7, 40)), axis=1),
        "accuracy": rng.random((7, 40)),
        "consumption": rng.random((7, 40)),
    }
    axes = {"alpha": [0.1, 0.9], "beta": [1.0, 3.0], "accuracy_delta": [0.01, 0.1], "target": [None, 0.3, (0.8, 0.4)]}
    return fg.Sweep("ttcapc", **runs, **{**axes, **changes}), runs


def test_a_sweep_of_times_is_time_to_closest_for_each_combination(tmp_path):
    sweep, runs = run_sweep()
    assert list(sweep.axes) == ["beta", "alpha", "accuracy_delta", "consumption_delta", "target", "run"]
    assert sweep.shape == (2, 2, 2, 1, 3, 7)
    grid = sweep.compute()
    for i, beta in enumerate([1.0, 3.0]):
        for j, alpha in enumerate([0.1, 0.9]):
            for k, delta in enumerate([0.01, 0.1]):
                for t, target in enumerate([None, 0.3, (0.8, 0.4)]):
                    wanted = fg.ttcapc(**runs, alpha=alpha, beta=beta, accuracy_delta=delta, target=target).time
                    assert np.array_equal(grid[i, j, k, 0, t], wanted)
    assert np.array_equal(sweep.compute(threads=2, dtype="float32"), grid.astype("f4"))
    flat = grid.ravel()
    assert np.array_equal(sweep.plan.best(30), np.lexsort((np.arange(flat.size), flat))[:30])
    assert np.array_equal(sweep.where(0.2, 0.5)["ttcapc"], flat[(flat >= 0.2) & (flat <= 0.5)])
    for layout in ("dense", "long"):
        sweep.write(tmp_path / layout, layout=layout)
        stored = fg.open_sweep(tmp_path / layout)
        assert np.array_equal(stored.to_numpy(), grid)
        assert stored.axes["target"].tolist() == ["best", "0.3", "(0.8, 0.4)"]


def test_a_sweep_of_times_over_ragged_runs_and_on_cost():
    lists = [pa.array(x) for x in ([[1.0, 2.0], [1.0], []], [[0.5, 0.9], [0.7], []], [[1.0, 1.0], [2.0], []])]
    sweep = fg.Sweep("ttcapec", time=lists[0], accuracy=lists[1], cost=lists[2], cost_delta=0.5, target=[None, 0.9])
    assert sweep.compute()[0, 0, 0, 0].tolist() == [[2, 1, np.inf], [np.inf] * 3]
    assert np.isnan(sweep.axes["target"][0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": None}, "needs time"),
        ({"accuracy_delta": [0.1, 0.0]}, "accuracy_delta .* got 0 at index 1"),
        ({"consumption_delta": [-1.0]}, "consumption_delta .* got -1"),
        ({"cost_delta": [1.0]}, "takes consumption, not cost"),
        ({"target": []}, "axis target is empty"),
        ({"target": [0.5, 50]}, "target .* got 50"),
        ({"time": np.zeros((6, 40))}, "do not fit together"),
    ],
)
def test_a_bad_sweep_of_times_is_told_what_is_wrong(changes, message):
    _, runs = run_sweep()
    with pytest.raises(ValueError, match=message):
        fg.Sweep("ttcapc", **{**runs, **changes})
    backwards = {**runs, "time": runs["time"][:, ::-1]}
    with pytest.raises(ValueError, match=r"time goes back .* of run 0"):
        fg.Sweep("ttcapc", **backwards).compute()


# ---- files


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
    monkeypatch.setattr(sweep_file, "_TILE", 400)
    sweep = small()
    sweep.write(tmp_path / "x", layout=layout, threads=4)
    stored = fg.open_sweep(tmp_path / "x")
    tiles = list(stored.tiles())
    assert len(tiles) >= 8
    assert [first for first, _ in tiles] == np.cumsum([0, *[v.size for _, v in tiles[:-1]]]).tolist()
    assert np.array_equal(stored.to_numpy(), sweep.compute())
    assert not tiles[0][1].flags.writeable


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
    assert metadata["format"] == 1
    assert schema.field("consumption").metadata == {b"unit": b"Wh"}


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
        with newfile.new_file(path, overwrite=False) as name:
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
    with newfile._hidden_neighbour(path, overwrite=False) as name:
        Path(name).write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(RuntimeError), newfile._hidden_neighbour(path, overwrite=True) as name:
        raise RuntimeError
    assert [path] == list(tmp_path.iterdir())
    with newfile._hidden_neighbour(path, overwrite=True) as name:
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
    assert "File too large: the sweep takes 0.8 GB and was not written" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_disk_too_small_is_told_before_anything_is_written(tmp_path):
    axis = np.linspace(0, 1, 20_000)
    with pytest.raises(OSError, match=r"the sweep takes .* GB and .* GB are free"):
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
        textwrap.dedent(LARGE) + "sweep.write(sys.argv[1])\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)",
        tmp_path / "x",
    )
    (tmp_path / "x").unlink()
    assert int(done.stdout) < 256_000, done.stderr


def test_a_dense_row_too_long_to_hold_points_to_the_long_layout(tmp_path):
    sweep = fg.Sweep("apc", consumption=np.linspace(0, 1, 5_000_000), accuracy=[0.5])
    with pytest.raises(ValueError, match="layout='long'"):
        sweep.write(tmp_path / "x")
    sweep.write(tmp_path / "x", layout="long", dtype="float32")
    assert np.array_equal(fg.open_sweep(tmp_path / "x").axes["consumption"], sweep.axes["consumption"])


def test_progress_goes_to_stderr(tmp_path, capfd):
    small().write(tmp_path / "x", progress=True)
    captured = capfd.readouterr()
    assert "100 %" in captured.err
    assert captured.out == ""


def test_what_is_no_sweep_is_refused(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(FileNotFoundError):
        fg.open_sweep(path)
    path.write_bytes(b"not an arrow file at all")
    with pytest.raises(TraceError, match="is no Arrow file"):
        fg.open_sweep(path)
    path.write_bytes(b"")
    with pytest.raises(TraceError, match="is no Arrow file"):
        fg.open_sweep(path)
    small().write(path, overwrite=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match="is no Arrow file, or it is damaged"):
        fg.open_sweep(path)
    table = pa.table({"a": [1]})
    for metadata, message in (
        (None, "holds no sweep"),
        ({b"fastgreen": b'{"kind": "sweep", "format": 99, "version": "9"}'}, "format 99, written by fastgreen 9"),
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


def test_the_command_writes_what_the_library_computes(tmp_path):
    path = tmp_path / "grid.arrow"
    axes = ["--consumption", "0:10:0.1", "--accuracy", "0:1:0.01", "--alpha", "0.1,0.25"]
    assert "20,000 points" in command("sweep", "apc", *axes, "-o", path, "--unit", "Wh")
    stored = fg.open_sweep(path)
    assert stored.shape == (1, 2, 100, 100)
    assert np.array_equal(stored.axes["consumption"], np.arange(100) * 0.1)
    assert "exists already" in command("sweep", "apc", *axes, "-o", path, code=1)
    command("sweep", "apc", *axes, "-o", path, "--overwrite", "--progress", "--layout", "long", "--dtype", "float32")
    assert fg.open_sweep(path).dtype == np.float32


@pytest.mark.parametrize(
    ("text", "count", "last"),
    [("0:1:0.1", 10, 0.9), ("0:10:0.01", 1000, 9.99), ("0:0.3:0.1", 3, 0.2), ("1:2:0.3", 4, 1.9)],
)
def test_an_axis_has_the_points_that_its_decimals_name(text, count, last):
    from fastgreen.commands.metrics import Axis

    axis = Axis().convert(text, None, None)
    assert axis.size == count
    assert axis[-1] == pytest.approx(last, abs=1e-12)


def test_the_command_prints_the_best_points():
    axes = ["--consumption", "0:1:0.1", "--accuracy", "0.5,0.9"]
    rows = json.loads(command("sweep", "apc", *axes, "--best", 2, "--json"))
    assert [row["apc"] for row in rows] == [0.9, fg.apc(0.1, 0.9)]
    assert "0.9" in command("sweep", "apc", *axes, "--best", 2)


def test_the_command_reads_runs_from_a_table(tmp_path):
    (tmp_path / "runs.csv").write_text("run,time,accuracy,consumption\na,1,0.5,0.2\na,2,0.9,0.4\nb,1,0.7,0.3\n")
    path = tmp_path / "times.arrow"
    command("sweep", "ttcapc", "--runs", tmp_path / "runs.csv", "--target", "best,0.6,0.8/0.5", "-o", path)
    assert fg.open_sweep(path).to_numpy()[0, 0, 0, 0, 0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["apc", "--consumption", "0:x:1", "--accuracy", "0.5", "--best", "1"], "is no axis"),
        (["apc", "--consumption", "0:1:0", "--accuracy", "0.5", "--best", "1"], "step must be above 0"),
        (["apc", "--consumption", "1:0:0.1", "--accuracy", "0.5", "--best", "1"], "START must be below STOP"),
        (["apc", "--consumption", "1", "--accuracy", "0.5"], "say where to write it"),
        (["acp", "--best", "1"], "Invalid value"),
    ],
)
def test_a_misused_command_says_how_to_use_it(arguments, message):
    assert message in command("sweep", *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["apc", "--consumption", "1", "--accuracy", "50"], "if it is in percent"),
        (["apc", "--accuracy", "0.5"], "needs consumption"),
        (["apc", "--consumption", "0:1:1e-7", "--accuracy", "0:1:1e-7", "-o", "here.arrow"], "layout='long'"),
    ],
)
def test_a_bad_value_is_one_sentence(arguments, message):
    output = command("sweep", *arguments, *(["--best", "1"] if "-o" not in arguments else []), code=1)
    assert message in output
    assert output.startswith("Error: ")
