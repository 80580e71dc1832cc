# SPDX-License-Identifier: Apache-2.0
"""GPU windows by scripted events: where their edges come to lie, with drift, rounding, several streams and failures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.measuring.gpu_timeline import Lane, Timeline
from fastgreen.measuring.gpu_windows import CupyEvents, TorchEvents
from tests.fakes.gpu_clock import Event, ScriptedGpu
from tests.fakes.nvml import Gpu

US, MS, S = 1_000, 1_000_000, 1_000_000_000


def timeline(gpu: ScriptedGpu) -> tuple[Timeline, list[Lane]]:
    lanes: list[Lane] = []
    line = Timeline(gpu, lanes.append, gpu.now_ns)
    line.anchor()
    return line, lanes


def window(line: Timeline, gpu: ScriptedGpu, busy_ns: float, name: str = "w") -> tuple[float, float]:
    """One window round a kernel; where it really lay."""
    gpu.keep, gpu.recorded = True, []
    begin = line.record()
    gpu.work(busy_ns)
    line.close(name, begin)
    gpu.keep = False
    return tuple(e.passed_at_ns for e in gpu.recorded)  # type: ignore[return-value]


def placed(lanes: list[Lane]) -> np.ndarray:
    """(begin, end) of all lanes, by begin."""
    edges = [np.stack(lane.edges(), axis=1) for lane in lanes]
    return np.array(sorted(map(tuple, np.concatenate(edges)))) if edges else np.empty((0, 2))


def error_ns(lanes: list[Lane], truth: list[tuple[float, float]]) -> np.ndarray:
    return np.abs(placed(lanes) - np.array(sorted(truth)))


# ---- where edges come to lie ----


@pytest.mark.parametrize("rate", [1.0, 1 + 50e-6, 1 - 50e-6], ids=["in step", "fast by 50 ppm", "slow by 50 ppm"])
def test_edges_lie_where_the_gpu_was(rate):
    gpu = ScriptedGpu(rate=rate)
    line, lanes = timeline(gpu)
    truth = []
    for _ in range(3000):
        truth.append(window(line, gpu, 200 * US))
        gpu.sleep(20 * MS)
    line.anchor()
    assert len(lanes) == 1
    sure_ns = max(a.half_ns for a in line.anchors)
    # A minute at 50 ppm is 3 ms; what is left is how sure the anchors are, and the rounding of the steps between.
    assert error_ns(lanes, truth).max() < sure_ns + 5 * US


def test_without_an_end_the_drift_remains_and_with_one_it_does_not():
    gpu = ScriptedGpu(rate=1 + 100e-6)
    line, lanes = timeline(gpu)
    truth = []
    for _ in range(100):
        truth.append(window(line, gpu, MS))
        gpu.sleep(100 * MS)
    gpu.sleep(S)
    window(line, gpu, MS, "last")  # so that the events before it are seen to have passed
    line._collect()
    line.give_up()
    late = error_ns([x for x in lanes if x.name == "w"], truth)
    assert late.max() == pytest.approx(100e-6 * 10 * S, rel=0.05)

    gpu = ScriptedGpu(rate=1 + 100e-6)
    line, lanes = timeline(gpu)
    truth = []
    for _ in range(100):
        truth.append(window(line, gpu, MS))
        gpu.sleep(100 * MS)
    line.anchor()
    assert error_ns(lanes, truth).max() < late.max() / 50


def test_anchors_in_between_follow_a_clock_that_changes_its_drift():
    gpu = ScriptedGpu()
    line, lanes = timeline(gpu)
    truth = []
    for rate in (1 + 80e-6, 1 - 80e-6):
        # A change of rate is a change of slope of the GPU's clock, so start the new slope at an anchor.
        gpu.rate = rate
        for _ in range(50):
            truth.append(window(line, gpu, MS))
            gpu.sleep(100 * MS)
        line.anchor()
    assert error_ns(lanes, truth).max() < 20 * US


def test_a_day_is_placed_as_well_as_a_second_although_cuda_answers_in_32_bits():
    gpu = ScriptedGpu(rate=1 + 20e-6)
    line, lanes = timeline(gpu)
    truth = []
    for _ in range(86_400 // 4):
        truth.append(window(line, gpu, 30 * MS))
        gpu.sleep(4 * S)
    line.anchor()
    # From the first event on, 32 bits would leave 4 ms of a day; the truncation of each step, half a resolution in the
    # mean, is drift as well and goes with it.
    assert error_ns(lanes, truth).max() < 300 * US
    lengths = placed(lanes)[:, 1] - placed(lanes)[:, 0]
    real = np.array([e - b for b, e in truth])
    assert np.abs(lengths - real).max() < 5 * US


def test_an_asynchronous_window_is_as_long_as_the_work_not_as_its_launch():
    gpu = ScriptedGpu()
    line, lanes = timeline(gpu)
    before = gpu.now
    for _ in range(50):
        window(line, gpu, 5 * MS)
    assert gpu.now - before < MS  # the CPU never waited
    line.anchor()
    lengths = placed(lanes)[:, 1] - placed(lanes)[:, 0]
    np.testing.assert_allclose(lengths, 5 * MS, atol=10 * US)
    assert len(lanes) == 1


# ---- events, memory ----


def test_events_are_used_again_so_that_memory_stays_as_the_gpu_lags_behind():
    gpu = ScriptedGpu()
    line, lanes = timeline(gpu)
    for _ in range(20_000):
        window(line, gpu, 100 * US)
        gpu.sleep(200 * US)
    line.anchor()
    assert len(placed(lanes)) == 20_000
    assert line.created < 200


def test_a_gpu_far_behind_costs_events_and_no_quadratic_looking():
    gpu = ScriptedGpu()
    line, lanes = timeline(gpu)
    looks = 0
    query = gpu.query

    def counting(event: Event) -> bool:
        nonlocal looks
        looks += 1
        return query(event)

    gpu.query = counting  # type: ignore[method-assign]
    for _ in range(4000):
        window(line, gpu, 50 * MS)
    assert looks < 10 * 8000
    line.anchor()
    assert len(placed(lanes)) == 4000


def test_streams_that_pass_out_of_order_are_placed_and_overlaps_share_no_lane():
    gpu = ScriptedGpu(rate=1 + 30e-6)
    line, lanes = timeline(gpu)
    truth = []
    for i in range(400):
        gpu.stream = i % 2
        truth.append(window(line, gpu, 30 * MS if i % 2 else 2 * MS))
        gpu.sleep(31 * MS if i % 2 else 0)
    line.anchor()
    assert error_ns(lanes, truth).max() < 50 * US
    assert len(lanes) == 2
    for lane in lanes:
        begin, end = lane.edges()
        assert (begin <= end).all()
        assert (end[:-1] <= begin[1:]).all()


def test_lanes_equal_a_slow_twin_on_random_overlaps():
    rng = np.random.default_rng(7)
    for _ in range(50):
        count = int(rng.integers(1, 60))
        begin = np.sort(rng.integers(0, 2_000_000, count)) * 10
        end = begin + rng.integers(0, 400_000, count) * 10
        lanes: list[Lane] = []
        line = Timeline(ScriptedGpu(), lanes.append)
        half = int(rng.integers(0, count + 1))
        for part in (slice(None, half), slice(half, None)):
            if len(begin[part]):
                line._into_lanes("w", begin[part], end[part])
        assert sum(map(len, lanes)) == count
        for lane in lanes:
            b, e = lane.edges()
            assert (b <= e).all()
            assert (e[:-1] <= b[1:]).all()
        # Edges may move by no more than what counts as rounding.
        np.testing.assert_allclose(placed(lanes)[:, 0], begin, atol=2000)
        deepest = max(int(((begin <= t) & (t < end - 2000)).sum()) for t in begin)
        assert len(lanes) <= max(1, deepest) + 1


def test_a_window_open_across_an_anchor_is_placed_by_the_next():
    gpu = ScriptedGpu(rate=1 - 40e-6)
    line, lanes = timeline(gpu)
    gpu.keep = True
    begin = line.record()
    gpu.keep = False
    gpu.sleep(3 * S)
    line.anchor()
    assert placed(lanes).size == 0
    gpu.sleep(3 * S)
    gpu.keep = True
    line.close("long", begin)
    line.anchor()
    truth = [(gpu.recorded[0].passed_at_ns, gpu.recorded[1].passed_at_ns)]
    assert error_ns(lanes, truth).max() < 20 * US


# ---- in a monitor ----


@pytest.fixture
def gpu() -> RealTimeGpu:
    return RealTimeGpu()


class RealTimeGpu(ScriptedGpu):
    """A scripted GPU on the real clock, for a real monitor."""

    def __init__(self) -> None:
        super().__init__(call_ns=0.0)

    @property
    def now(self) -> float:
        return float(time.monotonic_ns())

    @now.setter
    def now(self, value: float) -> None:
        while time.monotonic_ns() < value:
            time.sleep(0)


def test_gpu_windows_stand_in_the_result_like_any_other(nvml, gpu):
    nvml(Gpu(power=250.0))
    with fg.Monitor("nvml:0") as monitor:
        infer = monitor.gpu_window("infer", gpu)
        for _ in range(5):
            with infer:
                gpu.work(20 * MS)
        with monitor.window("launches"):
            pass
    result = monitor.result
    table = result.windows("infer").to_pylist()
    assert [row["index"] for row in table] == [0, 1, 2, 3, 4]
    for row in table:
        assert row["duration_s"] > 0.015  # longer where the machine was busy between the edges
        assert row["energy_low_j"] <= 250.0 * row["duration_s"] <= row["energy_high_j"]
    together = next(row for row in result.summary().to_pylist() if row["name"] == "infer")
    assert together["count"] == 5
    assert set(result.names) == {"infer", "launches"}


def test_gpu_windows_are_recorded_and_read_back(nvml, gpu, tmp_path):
    nvml(Gpu(power=250.0))
    with fg.Monitor("nvml:0", record=tmp_path / "run") as monitor:
        windows = fg.GpuWindows(monitor, gpu)
        for _ in range(3):
            with windows.window("infer"):
                gpu.work(2 * MS)
            windows.anchor()
    assert fg.load(tmp_path / "run").windows("infer").equals(monitor.result.windows("infer"))
    assert len(monitor.result.windows("infer")) == 3


def test_one_backend_and_device_share_a_timeline_and_handles_are_kept(gpu):
    with fg.Monitor([]) as monitor:
        first = monitor.gpu_window("a", gpu)
        assert monitor.gpu_window("a", gpu) is first
        assert monitor.gpu_window("b", gpu) is not first
        with first:
            nested = monitor.gpu_window("a", gpu)
            assert nested is not first
            with nested:
                gpu.work(MS)
        assert len(monitor.window_handles.deferred) == 1
    assert len(monitor.result.windows("a")) == 2


def test_a_window_still_open_ends_with_the_measurement_and_a_note(gpu):
    monitor = fg.Monitor([]).start()
    monitor.gpu_window("long", gpu).begin()
    with pytest.warns(FastgreenWarning, match="'long' was still open"):
        monitor.stop()
    assert len(monitor.result.windows("long")) == 1


def test_misuse_is_an_error_that_names_the_window(gpu):
    monitor = fg.Monitor([])
    with pytest.raises(RuntimeError, match="need a running monitor; this monitor is new"):
        monitor.gpu_window("w", gpu)
    with monitor:
        w = monitor.gpu_window("w", gpu)
        with pytest.raises(RuntimeError, match="'w' was ended before it was begun"):
            w.end()
        w.begin()
        with pytest.raises(RuntimeError, match="'w' was begun twice"):
            w.begin()
        w.end()
        with pytest.raises(TypeError, match="a window's name"):
            monitor.gpu_window(3, gpu)
        with pytest.raises(ValueError, match="backend must be one of torch, cupy, not 'jax'"):
            monitor.gpu_window("w", "jax")
    with pytest.raises(RuntimeError, match="not running"):
        w.begin()


def test_a_gpu_that_fails_at_the_end_loses_the_last_windows_and_says_how_many(gpu):
    monitor = fg.Monitor([]).start()
    windows = fg.GpuWindows(monitor, gpu)
    with windows.window("kept"):
        gpu.work(MS)
    windows.anchor()
    with windows.window("lost"):
        gpu.work(MS)
    gpu.fails = "CUDA error: an illegal memory access was encountered"
    with pytest.warns(FastgreenWarning, match=r"last windows \(1\) are lost: CUDA error: an illegal"):
        monitor.stop()
    assert monitor.result.names == ["kept"]
    assert any("illegal memory access" in note for note in monitor.result.notes)


def test_an_error_of_the_gpu_reaches_the_program_that_caused_it(gpu):
    with fg.Monitor([]) as monitor:
        w = monitor.gpu_window("w", gpu)
        gpu.fails = "CUDA error: out of memory"
        with pytest.raises(RuntimeError, match="out of memory"):
            w.begin()
        gpu.fails = None
    assert monitor.result.names == []


def test_in_a_forked_child_the_windows_do_nothing(gpu):
    with fg.Monitor([]) as monitor:
        w = monitor.gpu_window("w", gpu)
        child = os.fork()
        if child == 0:
            with w:
                pass
            os._exit(0 if not w.is_open else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with w:
            pass
    assert len(monitor.result.windows("w")) == 1


# ---- the adapters ----


def fake_torch(log: list) -> types.SimpleNamespace:
    class CudaEvent(Event):
        def __init__(self, enable_timing: bool) -> None:
            super().__init__()
            log.append(("event", enable_timing))

        def record(self, stream: object) -> None:
            log.append(("record", stream))

        def query(self) -> bool:
            return True

        def elapsed_time(self, other: object) -> float:
            return 1.5

    cuda = types.SimpleNamespace(
        Event=CudaEvent,
        is_available=lambda: True,
        device_count=lambda: 2,
        current_stream=lambda device: f"stream of {device}",
        synchronize=lambda device: log.append(("synchronize", device)),
    )
    return types.SimpleNamespace(cuda=cuda)


def test_torch_events_time_the_current_stream_of_their_device():
    log: list = []
    events = TorchEvents(1, fake_torch(log))
    event = events.create()
    events.record(event)
    events.synchronize()
    assert log == [("event", True), ("record", "stream of 1"), ("synchronize", 1)]
    assert events.query(event)
    assert events.elapsed_ms(event, events.create()) == 1.5
    with pytest.raises(ValueError, match="one of the 2 that PyTorch sees, not 2"):
        TorchEvents(2, fake_torch(log))


def test_cupy_events_time_the_current_stream_of_their_device():
    log: list = []

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            log.append(("use", self.number))

        def __exit__(self, *exc_info: object) -> None:
            log.append("done")

        def synchronize(self) -> None:
            log.append(("synchronize", self.number))

    class CudaEvent:
        done = True

        def record(self) -> None:
            log.append("record")

    cuda = types.SimpleNamespace(
        Event=CudaEvent,
        Device=Device,
        is_available=lambda: True,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1),
        get_elapsed_time=lambda a, b: 2.5,
    )
    events = CupyEvents(0, types.SimpleNamespace(cuda=cuda))
    event = events.create()
    events.record(event)
    events.synchronize()
    assert log == [("use", 0), "done", ("use", 0), "record", "done", ("synchronize", 0)]
    assert events.query(event)
    assert events.elapsed_ms(event, event) == 2.5
    with pytest.raises(ValueError, match="one of the 1 that CuPy sees, not -1"):
        CupyEvents(-1, types.SimpleNamespace(cuda=cuda))


def test_a_missing_library_or_gpu_is_one_clear_sentence():
    absent = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))
    with pytest.raises(FastgreenError, match=r"torch\.cuda\.is_available\(\) is False"):
        TorchEvents(0, absent)
    with pytest.raises(FastgreenError, match=r"cupy\.cuda\.is_available\(\) is False"):
        CupyEvents(0, absent)
    code = (
        "import sys; sys.modules['cupy'] = None; import fastgreen as fg\n"
        "with fg.Monitor([]) as m:\n"
        "    try: m.gpu_window('w', 'cupy')\n"
        "    except fg.errors.FastgreenError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "GPU windows of cupy need cupy: pip install 'fastgreen[cupy]'\n"


def test_neither_library_is_imported_before_it_is_used():
    code = "import sys, fastgreen as fg; fg.GpuWindows; fg.Monitor; print({'torch', 'cupy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.gpu
def test_on_a_real_gpu_a_window_is_as_long_as_its_kernels():
    if not os.path.exists("/dev/nvidiactl"):
        pytest.skip("no NVIDIA GPU")
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a = torch.randn(4096, 4096, device="cuda")
    with fg.Monitor() as monitor:
        w = monitor.gpu_window("work")
        synchronised = monitor.window("synchronised")
        for _ in range(20):
            torch.cuda.synchronize()
            with synchronised:
                with w:
                    for _ in range(10):
                        a @ a
                torch.cuda.synchronize()
    inner = monitor.result.windows("work").to_pylist()
    outer = monitor.result.windows("synchronised").to_pylist()
    for x, y in zip(inner, outer, strict=True):
        assert y["start_ns"] - 50 * US <= x["start_ns"]
        assert x["start_ns"] + x["duration_s"] * S <= y["start_ns"] + y["duration_s"] * S + 50 * US
        assert x["duration_s"] == pytest.approx(y["duration_s"], rel=0.2, abs=200e-6)
