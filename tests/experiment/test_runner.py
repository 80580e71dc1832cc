"""Studies: run, killed, resumed, failed in one size; protocols of every kind; compiled tables against the runs
themselves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgreen
from fastgreen.errors import TraceError
from fastgreen.experiment import detector_torch, models_torch
from fastgreen.experiment.compile import compile_study
from fastgreen.experiment.protocols import (
    SERIES,
    CommandFailed,
    Protocol,
    for_callable,
    for_command,
    for_onnx,
    for_torch,
)
from fastgreen.experiment.runner import Study
from fastgreen.experiment.statistics import correlations
from fastgreen.measuring.monitor import Monitor
from tests.oracles.places import ROOT

CPU = {"channels": ["procstat:*"], "hz": 50}


def protocol(sizes=(1000, 2000), iterations=5, **options):
    return for_callable(
        lambda n: sum(range(n)), sizes, iterations=iterations, name="sum", size_unit="numbers", **options
    )


def test_a_study_keeps_a_saved_run_and_every_latency_of_each_run(tmp_path):
    study = Study(tmp_path / "s", protocol(), repeats=2, **CPU)
    statuses = study.run(progress=False)
    assert [(s.size, s.repeat, s.state) for s in statuses] == [
        ("1000", 0, "done"),
        ("1000", 1, "done"),
        ("2000", 0, "done"),
        ("2000", 1, "done"),
    ]
    folder = tmp_path / "s" / "input_2000" / "run_1"
    result = fastgreen.load(folder / "run")
    windows = result.windows("inference")
    assert windows.num_rows == 5
    latencies = [float(line) for line in (folder / "latency.csv").read_text().split()]
    assert latencies == windows.column("duration_s").to_pylist()
    assert study.pending() == []


class Counted:
    """A model that counts its inferences."""

    def __init__(self):
        self.calls = []

    def __call__(self, size):
        self.calls.append(size)


def test_what_is_finished_is_not_run_again(tmp_path):
    model = Counted()
    made = for_callable(model, [1, 2], iterations=3, name="counted", warmup=1)
    Study(tmp_path, made, repeats=2, **CPU).run(progress=False)
    assert model.calls.count(1) == model.calls.count(2) == 2 * (3 + 1)
    (tmp_path / "input_2" / "run_0" / "status.json").unlink()  # as if killed in the middle of it
    Study(tmp_path, made, repeats=2, **CPU).run(progress=False)
    assert model.calls.count(1) == 8
    assert model.calls.count(2) == 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"iterations": 6}, "iterations"),
        ({"sizes": (1000,)}, "iterations"),
        ({"warmup": 0}, "warmup"),
        ({"what": "other.onnx"}, "what"),
    ],
)
def test_a_folder_of_another_study_is_refused(tmp_path, change, said):
    Study(tmp_path, protocol(), repeats=2, **CPU)
    with pytest.raises(ValueError, match=f"folder: .* holds a study with {said}"):
        Study(tmp_path, protocol(**change), repeats=2, **CPU)
    with pytest.raises(ValueError, match="repeats = 2, not 3"):
        Study(tmp_path, protocol(), repeats=3, **CPU)


KILLED = """
import sys, time
from fastgreen.experiment import Study, for_callable
patient = len(sys.argv) > 2
calls = []

def sleep(n):
    calls.append(n)
    time.sleep(60 if patient and len(calls) == 18 else n / 1000)  # in the fifth run of eight

protocol = for_callable(sleep, [20, 30], iterations=4, name="sleep", warmup=0)
Study(sys.argv[1], protocol, repeats=4, channels=["procstat:*"], hz=50).run(progress=False)
"""


def test_a_study_killed_in_the_middle_resumes_and_loses_only_the_run_it_was_in(tmp_path):
    folder = tmp_path / "study"
    command = [sys.executable, "-c", KILLED, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([*command, "patient"], env=environment)
    done = folder.glob
    deadline = time.monotonic() + 60
    while len(list(done("*/*/status.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in done("*/*/status.json")}
    assert 3 <= len(kept) < 8
    assert compile_study(folder).runs.num_rows >= len(kept)  # what is there can be looked at
    subprocess.run(command, env=environment, check=True)
    assert len(list(done("*/*/status.json"))) == 8
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    compiled = compile_study(folder)
    assert compiled.sizes.column("runs").to_pylist() == [4, 4]
    assert compiled.notes == []


def test_a_model_that_raises_in_one_size_is_kept_as_failed_and_the_rest_goes_on(tmp_path):
    def model(size):
        if size == 2:
            raise MemoryError("too large")

    made = for_callable(model, [1, 2, 3], iterations=2, name="raises")
    statuses = Study(tmp_path, made, repeats=2, **CPU).run(progress=False)
    states = {(s.size, s.repeat): s for s in statuses}
    assert [states[size, 0].state for size in "123"] == ["done", "failed", "done"]
    assert states["2", 0].error == "MemoryError: too large"
    assert states["2", 1].error.startswith("not tried")
    assert "MemoryError" in (tmp_path / "input_2" / "run_0" / "error.txt").read_text()
    compiled = compile_study(tmp_path)
    assert compiled.sizes.column("failed").to_pylist() == [0, 2, 0]
    assert compiled.sizes.column("energy_j").to_pylist()[1] is None
    assert any("size 2, run 0: failed: MemoryError" in note for note in compiled.notes)


def test_failed_runs_are_tried_again_only_when_asked(tmp_path):
    broken = [True]

    def model(size):
        if broken[0]:
            raise ValueError("not yet")

    made = for_callable(model, [1], iterations=2, name="mended")
    study = Study(tmp_path, made, repeats=2, **CPU)
    study.run(progress=False)
    broken[0] = False
    assert [s.state for s in study.run(progress=False)] == ["failed", "failed"]
    assert [s.state for s in study.run(progress=False, retry_failed=True)] == ["done", "done"]


def test_ctrl_c_ends_the_study_and_is_no_failure_of_the_model(tmp_path):
    def model(size):
        raise KeyboardInterrupt

    made = for_callable(model, [1], iterations=2, name="stopped")
    study = Study(tmp_path, made, repeats=1, **CPU)
    with pytest.raises(KeyboardInterrupt):
        study.run(progress=False)
    assert study.pending() == [(1, 0)]


def test_a_monitor_stops_even_when_its_drainer_woke_up_meanwhile():
    monitor = Monitor("procstat:*", hz=50).start()
    with monitor._lock:
        time.sleep(0.6)  # the drainer wakes four times a second
        monitor.stop()
    assert monitor.result.duration_s > 0.5


# ---- protocols ----


def test_a_command_gets_the_size_and_its_exit_code_is_kept(tmp_path):
    made = for_command([sys.executable, "-c", "import sys; sys.exit(int('{size}'))"], [0, 3])
    made.build(0)()
    with pytest.raises(CommandFailed, match="ended with 3") as caught:
        made.build(3)()
    assert caught.value.returncode == 3
    statuses = Study(tmp_path, made, repeats=1, **CPU).run(progress=False)
    assert [(s.state, s.exit_code) for s in statuses] == [("done", None), ("failed", 3)]
    missing = Study(tmp_path / "m", for_command("no-such-program {size}", [1]), repeats=1, **CPU).run(progress=False)
    assert missing[0].error.startswith("FileNotFoundError")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": []}, "sizes must be at least one"),
        ({"sizes": [1, 2, "1"]}, "sizes must be different, not '1' twice"),
        ({"sizes": ["a/b"]}, "sizes must be names of folders, not 'a/b'"),
        ({"sizes": [1], "warmup": -1}, "warmup must be 0 or above, or 'auto', not -1"),
        ({"sizes": [1], "iterations": 0}, "iterations must be at least 1, not 0"),
    ],
)
def test_bad_protocols_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        for_callable(len, **options)


def test_bad_studies_name_the_argument(tmp_path):
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        Study(tmp_path, protocol(), repeats=0)
    with pytest.raises(ValueError, match="pause_s must be 0 or above, or 'auto', not -1"):
        Study(tmp_path, protocol(), pause_s=-1)
    with pytest.raises(ValueError, match="scale must be above 0 and at most 1, not 2"):
        SERIES["bert"](scale=2)
    with pytest.raises(ValueError, match="command must be at least one word"):
        for_command([], [1])


@pytest.mark.parametrize(
    ("name", "sizes", "counts"),
    [
        ("alexnet", [112 * (k + 1) for k in range(20)], [int(40000 / (u + 1)) for u in range(20)]),
        ("resnet50", [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096], [5000] * 9 + [1000]),
        ("bert", list(range(50, 501, 50)), [10000 - 10 * n for n in range(50, 501, 50)]),
        ("convnets", list(range(2, 41, 2)), [int(40000 / n) for n in range(2, 41, 2)]),
    ],
)
def test_the_published_series_keep_their_sizes_and_counts(name, sizes, counts):
    series = SERIES[name]()
    assert list(series.sizes) == sizes
    assert [series.iterations(size) for size in sizes] == counts
    small = SERIES[name](scale=0.001)
    assert [small.iterations(size) for size in sizes] == [max(1, int(n * 0.001)) for n in counts]


def test_the_networks_have_the_published_numbers_of_parameters():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    published = (
        (models_torch.alexnet, 61_100_840),
        (models_torch.resnet50, 25_557_032),
        (models_torch.bert, 109_482_240),
        (models_torch.vit_b16, 86_567_656),
        (detector_torch.ssdlite320, 3_440_060),
    )
    for make, count in published:
        with torch.device("meta"):  # shapes without memory
            network = make()
        assert sum(p.numel() for p in network.parameters()) == count
    small = models_torch.convnet(3, image=16)
    assert (
        sum(p.numel() for p in small.parameters())
        == 3 * 64 * 9 + 64 + 2 * (64 * 64 * 9 + 64) + 64 * 256 * 256 + 256 + 2570
    )


def test_inputs_and_weights_are_random_and_repeatable_never_zeros():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    images, ids = models_torch.images(8), models_torch.tokens(50)
    assert torch.equal(images, models_torch.images(8))
    assert images.std() > 0.2
    assert ids.min() >= 1000
    assert len(ids.unique()) > 40
    assert all(p.abs().sum() > 0 for p in models_torch.convnet(2, filters=8, image=16).parameters())


def test_torch_models_from_a_factory_and_from_files(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = models_torch.convnet(2, filters=4, image=64).eval()
    image = models_torch.images(64)
    expected = models_torch.inference(model, image, "cpu")()
    torch.export.save(torch.export.export(model, (image,)), tmp_path / "a.pt2")
    for source in (lambda size: model, tmp_path / "a.pt2"):
        once = for_torch(source, [64], device="cpu", iterations=1, trust=True).build(64)
        assert torch.allclose(once(), expected, atol=1e-5)


def test_onnx_models_take_random_inputs_of_the_size(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    helper = onnx.helper
    shapes = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 3, "side"]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "g", shapes[:1], shapes[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "exp.onnx")
    (result,) = for_onnx(tmp_path / "exp.onnx", [16, 32], iterations=2).build(32)()
    assert result.shape == (1, 3, 32)
    assert result.std() > 0
    statuses = Study(tmp_path / "s", for_onnx(tmp_path / "none.onnx", [1], iterations=1), repeats=1, **CPU).run(
        progress=False
    )
    assert statuses[0].state == "failed"


# ---- compiled ----


def test_the_compiled_table_is_the_median_of_the_runs(tmp_path):
    Study(tmp_path, protocol(sizes=(20000, 60000), iterations=60), repeats=3, **CPU).run(progress=False)
    compiled = compile_study(tmp_path)
    for row in compiled.sizes.to_pylist():
        energies, latencies = [], []
        for repeat in range(3):
            result = fastgreen.load(tmp_path / f"input_{row['size']:g}" / f"run_{repeat}" / "run")
            energies.append(result.summary().column("mean_energy_j")[0].as_py())
            latencies.append(float(np.median(result.windows("inference").column("duration_s").to_numpy())))
        assert row["energy_j"] == pytest.approx(np.median(energies), rel=1e-6)
        assert row["latency_s"] == pytest.approx(np.median(latencies), rel=1e-9)
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["energy_j[procstat:cpu]"] == row["energy_j"]
        assert row["iterations"] == 180
    assert compiled.estimated
    assert compiled.size_unit == "numbers"
    assert compiled.sizes.schema.field("energy_j").metadata == {b"unit": b"J"}
    files = compiled.save(tmp_path / "out")
    assert {f.name for f in files} >= {"sizes.arrow", "sizes.csv", "pearson.csv", "spearman.arrow"}
    assert pa.ipc.open_file(tmp_path / "out" / "sizes.arrow").read_all().equals(compiled.sizes)


def published_run(folder, watts, latencies, keys=("intel_power",)):
    folder.mkdir(parents=True)
    lines = [
        json.dumps({"date": f"2024-01-01 10:00:{s:02d}.000000", "metrics": {"cpu": dict.fromkeys(keys, watts)}})
        for s in (0, 2, 4)
    ]
    (folder / "power_metrics.json").write_text("\n".join(lines) + "\n")
    (folder / "latency.csv").write_text("".join(f"{x}\n" for x in latencies))


def test_a_published_folder_compiles_too_and_runs_of_other_channels_are_told(tmp_path):
    for repeat, watts in enumerate((10.0, 20.0, 40.0)):
        published_run(tmp_path / "input_112" / f"run_{repeat}", watts, [0.5, 0.25])
    published_run(tmp_path / "input_224" / "run_0", 50.0, [1.0] * 4, keys=("intel_power", "total_dram_power"))
    compiled = compile_study(tmp_path)
    first, second = compiled.sizes.to_pylist()
    assert (first["size"], second["size"]) == (112.0, 224.0)
    assert first["energy_j"] == pytest.approx(20.0 * 4 / 2)
    assert (first["energy_q1_j"], first["energy_q3_j"]) == pytest.approx((30.0, 60.0))
    assert second["energy_j"] == pytest.approx(2 * 50.0 * 4 / 4)
    assert first["energy_j[dram]"] is None
    assert any("only some runs have the channels dram" in note for note in compiled.notes)


def test_empty_and_damaged_runs_are_told_and_do_not_stop_the_rest(tmp_path):
    published_run(tmp_path / "input_1" / "run_0", 10.0, [0.5])
    (tmp_path / "input_1" / "run_1").mkdir()
    published_run(tmp_path / "input_1" / "run_2", 10.0, [])
    (tmp_path / "input_2" / "run_0" / "run").mkdir(parents=True)
    (tmp_path / "input_2" / "run_0" / "run" / "channels.arrow").write_bytes(b"no arrow")
    (tmp_path / "input_2" / "run_1").mkdir()
    (tmp_path / "input_2" / "run_1" / "status.json").write_text("{")
    compiled = compile_study(tmp_path)
    assert compiled.runs.column("state").to_pylist() == ["done", "empty", "empty", "damaged", "damaged"]
    assert compiled.sizes.column("runs").to_pylist() == [1, 0]
    assert len(compiled.notes) == 4
    with pytest.raises(TraceError, match="no such folder"):
        compile_study(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="no run in it"):
        compile_study(tmp_path / "empty")


COLUMN = st.lists(st.integers(-5, 5).map(float), min_size=5, max_size=5)


@given(COLUMN, COLUMN)
def test_correlations_equal_scipys_and_constant_columns_have_none(a, b):
    stats = pytest.importorskip("scipy.stats")
    pearson, spearman = correlations(pa.table({"a": a, "b": b}))
    ours = [t.column("b").to_pylist()[0] for t in (pearson, spearman)]
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours == [None, None]
    else:
        assert ours == pytest.approx([stats.pearsonr(a, b).statistic, stats.spearmanr(a, b).statistic], abs=1e-9)


def test_a_protocol_is_what_it_says():
    made = protocol()
    assert isinstance(made, Protocol)
    assert made.build(1000)() == 499500
