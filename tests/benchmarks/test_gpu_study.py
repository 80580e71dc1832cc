# SPDX-License-Identifier: Apache-2.0
"""The study of a board: its arithmetic on scripted series, all of it on a fake board, and on a real one if any."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastgreen as fg
from benchmarks.gpu import arithmetic, load, study
from fastgreen import _resolver
from tests.fakes.nvml import Gpu, Sensor
from tests.fakes.wave import Square, Steps, Updates
from tests.oracles.places import ROOT

S = 1_000_000_000


def polled(fake, reading: str, seconds: float, step_s: float = 0.005) -> tuple[np.ndarray, np.ndarray]:
    """(s, W) of every change that a poller of that step sees."""
    at_ns = fake.epoch_ns + (np.arange(0.0, seconds, step_s) * S).astype(np.int64)
    watts = np.array([fake.power_mw(0, int(t), reading) for t in at_ns]) * 1e-3
    changed = np.flatnonzero(np.diff(watts)) + 1
    return (at_ns[changed] - fake.epoch_ns) / S - step_s / 2, watts[changed]


def on_off(seconds: float, low: float = 80.0, high: float = 320.0) -> tuple[Steps, np.ndarray]:
    """A board under the study's own load, and when that was."""
    steps, edges, at = [(0.0, low)], [], 0.1
    for on_s, off_s in itertools.cycle(load.PATTERN):
        edges.append((at, at + on_s))
        steps += [(at, high), (at + on_s, low)]
        at += on_s + off_s
        if at > seconds:
            return Steps(tuple(steps)), np.array(edges)
    raise AssertionError


@pytest.mark.parametrize(
    ("window_s", "period_s"),
    [(0.025, 0.1), (0.1, 0.1), (1.0, 0.1), (0.01, 0.02)],
    ids=["A100", "530", "Hopper", "Volta"],
)
def test_the_averaging_window_is_found_from_a_load_that_goes_on_and_off(tmp_path, nvml, window_s, period_s):
    wave, edges = on_off(20.0)
    fake = nvml(Gpu(power=wave, instant=Sensor(Updates(period_s), window=window_s)))
    fit = arithmetic.fit_window(*polled(fake, "instant", 20.0), edges)
    assert fit.window_s == pytest.approx(window_s, rel=0.15, abs=0.006)
    assert fit.delay_s < 0.011
    assert fit.low_w == pytest.approx(80, abs=8)
    assert fit.high_w == pytest.approx(320, abs=8)
    assert fit.residual < 0.1


def test_a_load_that_makes_no_difference_teaches_nothing():
    edges = np.array([[0.0, 0.3], [0.6, 0.9], [10.0, 10.3]])
    at_s = np.linspace(0, 10, 200)
    assert arithmetic.fit_window(at_s, np.full(200, 100.0), edges) is None
    assert arithmetic.fit_window(at_s[:5], np.arange(5.0), edges) is None


def test_on_time_equals_a_slow_twin():
    rng = np.random.default_rng(3)
    for _ in range(20):
        cuts = np.sort(rng.uniform(0, 10, 2 * int(rng.integers(1, 9))))
        edges = cuts.reshape(-1, 2)
        at = rng.uniform(-1, 12, 50)
        twin = [sum(max(0.0, min(t, end) - begin) for begin, end in edges) for t in at]
        np.testing.assert_allclose(arithmetic.on_time(edges, at), twin, atol=1e-12)


def samples(*rows: tuple[int, int]) -> np.ndarray:
    out = np.zeros(len(rows), _resolver.SAMPLE)
    out["at_ns"], out["raw"] = np.array(rows).T
    out["half_ns"] = 1
    return out


def test_another_readers_values_must_lie_between_ours():
    ours = samples((10, 100), (20, 150), (30, 150), (40, 210))
    others = np.array([[0, 1, 90], [12, 13, 100], [22, 23, 150], [32, 33, 160], [50, 51, 210]])
    assert arithmetic.bracketed(ours, others) == {"compared": 3, "outside": 0, "equal_to_a_neighbour": 2}
    assert arithmetic.bracketed(ours, np.array([[12, 13, 99], [22, 23, 151]]))["outside"] == 2


def test_percentiles_are_in_microseconds():
    found = arithmetic.percentiles_us(np.array([1000] * 99 + [9000]))
    assert found["p50_us"] == 1
    assert found["p99_us"] == pytest.approx(1.08)
    assert found["max_us"] == 9
    assert found["mean_us"] == pytest.approx(1.08)
    assert found["launches"] == 100


def test_the_age_of_stamps_is_what_lies_between_them_and_the_call():
    at_us = 1.7e15 + np.arange(1000) * 10_000
    stamps = np.floor(at_us / 100_000) * 100_000  # a stamp every 100 ms
    found = arithmetic.ages(np.stack([at_us, stamps], axis=1))
    assert found["stamps"] == 100
    assert found["age_p50_us"] == pytest.approx(45_000, abs=5_000)
    assert found["age_p5_us"] < 10_000
    assert found["age_p95_us"] > 80_000


def test_a_load_that_fails_is_told_and_not_taken_for_a_rest():
    def burst() -> None:
        raise RuntimeError("CUDA error")

    with pytest.raises(RuntimeError, match="CUDA error"), load.OnOff(burst):
        time.sleep(0.05)


# What the study asks of PyTorch, for a machine without a GPU.
TORCH = """
import time
__version__ = "0.0"
class Tensor:
    def __matmul__(self, other): return self
    def add_(self, number): time.sleep(1e-5); return self
class cuda:
    is_available = staticmethod(lambda: True)
    synchronize = staticmethod(lambda device=None: time.sleep(0.003))
device = lambda kind, index: (kind, index)
randn = zeros = lambda *shape, device=None: Tensor()
"""


def run_study(fake, tmp_path: Path, **modules: str) -> subprocess.CompletedProcess:
    """The command as a user calls it; nvidia-ml-py finds the library by its name."""
    (tmp_path / "site").mkdir()
    for name, text in modules.items():
        (tmp_path / "site" / f"{name}.py").write_text(text)
    root = ROOT
    command = [sys.executable, "-m", "benchmarks.gpu.study", str(tmp_path / "study"), "--seconds=1.6"]
    env = fake.env() | {"PYTHONPATH": f"{tmp_path / 'site'}:{root}"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_the_whole_study_on_a_fake_board(tmp_path, nvml):
    fake = nvml(Gpu(name="Fake H100", power=Square(80.0, 320.0, 0.6, 0.5)))
    done = run_study(fake, tmp_path, torch=TORCH)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "study"
    report = json.loads((out / "study.json").read_text())
    assert tuple(report) == study.PARTS
    assert report["machine"]["board"] == "Fake H100"
    assert report["machine"]["driver"] == fake.driver
    assert report["machine"]["load"] == "PyTorch 0.0"
    same = report["against_nvidia_ml_py"]
    assert same["compared"] > 30
    assert same["outside"] == 0
    for state in ("idle", "load"):
        for quantity in ("energy", "instant", "average", "usage"):
            facts = report["sensors"][state][quantity]
            assert facts["samples"] > 100
            assert facts["updates"] > 0
        assert report["sensors"][state]["energy"]["period_s"] == pytest.approx(0.1, rel=0.2)
    assert set(report["sensors"]["averaging"]) == {"instant", "average", "usage"}
    assert report["fields"]["186 at scope 0"]["code"] == 0
    assert report["fields"]["186 at scope 1"]["code"] == 3
    assert 1 < report["fields"]["stamps of 186"]["stamps"] < 25  # of 48 readings
    assert report["fields"]["driver's buffer"]["samples"] > 1
    assert set(report["launch_latency"]) == {"without", "1 ms", "5 ms", "20 ms", "100 ms"}
    assert all(row["launches"] > 100 for row in report["launch_latency"].values())
    assert report["trace"]["fits"]
    assert report["trace"]["replayed"] == report["trace"]["energy_j"]
    assert len(fg.load(out / "trace").windows("quarter")) == 4
    text = (out / "study.md").read_text()
    assert text.startswith(f"# Fake H100, driver {fake.driver}\n")
    assert "| energy | idle | 1" in text
    assert "failed" not in text
    assert done.stdout == text + "\n"


@pytest.mark.slow
def test_a_part_that_fails_costs_itself_only_and_is_said(tmp_path, nvml):
    fake = nvml(Gpu(power=100.0))
    done = run_study(fake, tmp_path, pynvml="raise ImportError('no nvidia-ml-py here')", torch="import os; os.abort()")
    assert done.returncode == 1
    report = json.loads((tmp_path / "study" / "study.json").read_text())
    lost = {part for part in study.PARTS if "failed" in report[part]}
    assert lost == {"against_nvidia_ml_py", "fields", "launch_latency"}
    assert report["sensors"]["with_load"]["failed"] == "exit code -6"
    text = (tmp_path / "study" / "study.md").read_text()
    assert "no nvidia-ml-py here" in text
    assert "sensors, under load failed: exit code -6" in text
    assert "| energy | idle | 1" in text
    assert len(fg.load(tmp_path / "study" / "trace").windows("quarter")) == 4


def test_without_a_board_it_says_so(tmp_path):
    with pytest.raises(study.NoGpu):
        study.Study(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.study", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("there is no GPU to study: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.gpu
def test_a_real_board_agrees_with_nvidia_ml_py_and_is_described():
    if not os.path.exists("/dev/nvidiactl"):
        pytest.skip("no NVIDIA GPU")
    out = ROOT / "out" / f"gpu-study-{time.strftime('%Y%m%d-%H%M%S')}"
    report = study.run(out, ["--library=libnvidia-ml.so.1"])
    print((out / "study.md").read_text())
    assert not any(study.failed(part) for part in report.values())
    assert report["against_nvidia_ml_py"]["compared"] > 100
    assert report["against_nvidia_ml_py"]["outside"] == 0
    assert report["sensors"]["idle"]["energy"]["updates"] > 10
