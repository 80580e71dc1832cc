"""Time of a sweep, compared with the speed of memory and file system, and with NumPy and numba on the same axes.

Each base writes the same buffer; all its pages were touched before. The answer is asserted first, the bar last.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fastgreen as fg
from benchmarks.ratios import interleaved

ROOT = Path(__file__).parents[1]
ROUNDS = 31  # of some hundredths of a second each


def sweep_of(betas: int) -> fg.Sweep:
    """8 million points for each beta."""
    return fg.Sweep(
        "apc",
        consumption=np.arange(1000) * 0.01,
        accuracy=np.arange(1000) / 1000,
        alpha=np.linspace(0, 1, 8),
        beta=np.linspace(0.1, 5, betas),
    )


@pytest.fixture(scope="module")
def sweep() -> fg.Sweep:
    return sweep_of(8)


@pytest.fixture(scope="module")
def out(sweep) -> np.ndarray:
    """Touched pages, aligned to a cache line for the fill."""
    room = np.ones(sweep.size + 8)
    start = -room.ctypes.data % 64 // 8
    return room[start : start + sweep.size].reshape(sweep.shape)


@pytest.fixture(scope="module")
def fill(tmp_path_factory):
    library = tmp_path_factory.mktemp("fill") / "fill.so"
    compiler = [os.environ.get("CC", "cc"), "-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run([*compiler, str(Path(__file__).with_name("fill.c")), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).fill
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_double)

    def run(array: np.ndarray, threads: int = 1) -> None:
        if threads == 1:
            function(array.ctypes.data, array.size, 1.0)
            return
        part = array.size // threads // 8 * 8
        with ThreadPoolExecutor(threads - 1) as pool:
            for i in range(1, threads):
                count = part if i < threads - 1 else array.size - part * i
                pool.submit(function, array.ctypes.data + i * part * 8, count, 1.0)
            function(array.ctypes.data, part, 1.0)

    return run


def peak_mb() -> float:
    """Peak resident memory of this process; getrusage would include its parent's."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def formula(sweep: fg.Sweep) -> np.ndarray:
    b, a, acc, c = sweep.axes.values()
    b, a, acc = b[:, None, None, None], a[:, None, None], acc[:, None]
    return acc / (b * (c * ((1 - a) * (1 - acc) + a)) + 1)


def check_answer(sweep: fg.Sweep, out: np.ndarray) -> None:
    out[:] = -1
    sweep.compute(out=out, threads=1)
    for beta in (0, sweep.shape[0] - 1):
        some = fg.Sweep("apc", **{**sweep.axes, "beta": sweep.axes["beta"][beta]})
        assert np.array_equal(out[beta], formula(some)[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_compute_runs_at_0_9_of_a_streaming_fill(sweep, out, fill, threads, benchmark, bar):
    check_answer(sweep, out)
    ratio = interleaved(lambda: fill(out, threads), lambda: sweep.compute(out=out, threads=threads), ROUNDS)
    benchmark.pedantic(sweep.compute, kwargs={"out": out, "threads": threads}, rounds=3)
    gb_per_s = out.nbytes / ratio.second_s / 1e9
    bar(f"speed of `compute`, threads: {threads}", ">= 0.9 x a streaming fill", ratio, gb_per_s=gb_per_s)


def test_compute_is_8_times_as_fast_as_the_numpy_expression(sweep, out, benchmark, bar):
    check_answer(sweep, out)
    ratio = interleaved(lambda: formula(sweep), lambda: sweep.compute(out=out, threads=1), 5)
    benchmark.pedantic(sweep.compute, kwargs={"out": out, "threads": 1}, rounds=3)
    bar("`compute` on one thread against NumPy", ">= 8 x the NumPy expression", ratio)


def test_compute_on_one_thread_beats_numba_on_two(sweep, out, benchmark, bar):
    numba = pytest.importorskip("numba")

    @numba.njit(parallel=True, fastmath=False)
    def loop(b, a, acc, c, out):
        for row in numba.prange(b.size * a.size * acc.size):
            i, j, k = row // (a.size * acc.size), row // acc.size % a.size, row % acc.size
            weight = (1 - a[j]) * (1 - acc[k]) + a[j]
            for n in range(c.size):
                out[i, j, k, n] = acc[k] / (b[i] * (c[n] * weight) + 1)

    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    theirs = np.ones_like(out)
    loop(*sweep.axes.values(), theirs)
    check_answer(sweep, out)
    assert np.array_equal(out, theirs)
    ratio = interleaved(lambda: loop(*sweep.axes.values(), theirs), lambda: sweep.compute(out=out, threads=1), ROUNDS)
    benchmark.pedantic(sweep.compute, kwargs={"out": out, "threads": 1}, rounds=3)
    bar("`compute` on one thread against numba", "> 1 x numba on two threads", ratio)


def test_float32_is_1_8_times_as_fast_as_float64(sweep, out, benchmark, bar):
    single = np.ones(sweep.shape, np.float32)
    sweep.compute(out=single, threads=1)
    axes = (axis.astype(np.float32) for axis in sweep.axes.values())
    b, a, acc, c = axes
    a, acc, one = a[-1], acc[:, None], np.float32(1)
    assert np.array_equal(single[-1, -1], acc / (b[-1] * (c * ((one - a) * (one - acc) + a)) + one))
    ratio = interleaved(lambda: sweep.compute(out=out, threads=1), lambda: sweep.compute(out=single, threads=1), ROUNDS)
    benchmark.pedantic(sweep.compute, kwargs={"out": single, "threads": 1}, rounds=3)
    bar("speed in float32", ">= 1.8 x float64", ratio)


def test_the_best_100_come_faster_than_compute(sweep, out, benchmark, bar):
    grid = sweep.compute(out=out)
    best = np.sort(np.partition(grid.ravel(), grid.size - 100)[-100:])[::-1]
    assert np.array_equal(sweep.best(100)["apc"], best)
    ratio = interleaved(lambda: sweep.compute(out=out), lambda: sweep.best(100), ROUNDS)
    benchmark.pedantic(sweep.best, (100,), rounds=3)
    bar("speed of `best(100)`", "> 1 x compute on all CPUs", ratio)


def test_write_runs_at_0_9_of_pyarrow_with_a_ready_buffer(tmp_path, benchmark, bar):
    sweep = sweep_of(32)
    ready = sweep.compute().reshape(-1, sweep.shape[-1])
    ours, theirs = tmp_path / "ours.arrow", tmp_path / "theirs.arrow"
    rows = (4 << 20) // ready[0].nbytes

    def clear() -> None:
        ours.unlink(missing_ok=True)
        theirs.unlink(missing_ok=True)

    def write() -> None:
        sweep.write(ours)

    def base() -> None:
        kind = pa.fixed_shape_tensor(pa.float64(), [ready.shape[1]])
        with pa.OSFile(str(theirs), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("apc", kind)])) as writer:
            for first in range(0, len(ready), rows):
                flat = pa.array(ready[first : first + rows].reshape(-1))
                cells = pa.FixedSizeListArray.from_arrays(flat, type=kind.storage_type)
                writer.write_batch(pa.record_batch([pa.ExtensionArray.from_storage(kind, cells)], ["apc"]))

    write()
    assert all(
        np.array_equal(values, ready.reshape(-1)[first : first + values.size])
        for first, values in fg.open_sweep(ours).tiles()
    )
    ratio = interleaved(base, write, 15, before=clear)
    clear()
    benchmark.pedantic(write, rounds=1)
    gb_per_s = sweep.nbytes / ratio.second_s / 1e9
    bar("speed of `write`, 2 GB dense", ">= 0.9 x pyarrow from a ready buffer", ratio, gb_per_s=gb_per_s)


def test_writing_2_gb_takes_at_most_256_mb_of_memory(tmp_path, benchmark, bar):
    code = f"""
        from benchmarks.bench_sweep import peak_mb, sweep_of
        sweep_of(32).write({str(tmp_path / "x")!r}, overwrite=True)
        print(peak_mb())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = benchmark.pedantic(
        subprocess.run, (command,), {"cwd": ROOT, "capture_output": True, "check": True}, rounds=1
    )
    bar("memory to write 2 GB", "<= 256 MB", float(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["dense", "long"])
def test_a_billion_points_in_float32_are_written_in_constant_memory(tmp_path, layout, benchmark, bar):
    """4 GB dense, 20 GB long; it needs that much disk. The progress bar goes to stderr."""
    before = peak_mb()
    sweep = sweep_of(125)
    assert sweep.size == 10**9
    path = tmp_path / "x"
    options = {"dtype": "float32", "layout": layout, "progress": True}
    benchmark.pedantic(sweep.write, (path,), options, rounds=1)
    grown = peak_mb() - before
    stored = fg.open_sweep(path)
    assert stored.size == 10**9
    b, a, acc, c = (axis.astype(np.float32) for axis in sweep.axes.values())
    one = np.float32(1)
    wanted = acc[-1] / (b[-1] * (c * ((one - a[-1]) * (one - acc[-1]) + a[-1])) + one)
    assert np.array_equal(stored.read(10**9 - 1000, 10**9), wanted)
    bar(f"memory to write a billion points, {layout}", "<= 256 MB", grown, gb=path.stat().st_size / 1e9)
    path.unlink()
