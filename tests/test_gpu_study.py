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
from benchmarks import gpu_study
from fastgreen import _core

from .fakes.nvml import Gpu, Sensor
from .fakes.wave import Square, Steps, Updates

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
    for on_s, off_s in itertools.cycle(gpu_study.PATTERN):
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
    fit = gpu_study.fit_window(*polled(fake, "instant", 20.0), edges)
    assert fit.window_s == pytest.approx(window_s, rel=0.15, abs=0.006)
    assert fit.delay_s < 0.011
    assert fit.low_w == pytest.approx(80, abs=8)
    assert fit.high_w == pytest.approx(320, abs=8)
    assert fit.residual < 0.1


def test_a_load_that_makes_no_difference_teaches_nothing():
    edges = np.array([[0.0, 0.3], [0.6, 0.9], [10.0, 10.3]])
    at_s = np.linspace(0, 10, 200)
    assert gpu_study.fit_window(at_s, np.full(200, 100.0), edges) is None
    assert gpu_study.fit_window(at_s[:5], np.arange(5.0), edges) is None


def test_on_time_equals_a_slow_twin():
    rng = np.random.default_rng(3)
    for _ in range(20):
        cuts = np.sort(rng.uniform(0, 10, 2 * int(rng.integers(1, 9))))
        edges = cuts.reshape(-1, 2)
        at = rng.uniform(-1, 12, 50)
        twin = [sum(max(0.0, min(t, end) - begin) for begin, end in edges) for t in at]
        np.testing.assert_allclose(gpu_study.on_time(edges, at), twin, atol=1e-12)


def samples(*rows: tuple[int, int]) -> np.ndarray:
    out = np.zeros(len(rows), _core.SAMPLE)
    out["at_ns"], out["raw"] = np.array(rows).T
    out["half_ns"] = 1
    return out


def test_another_readers_values_must_lie_between_ours():
    ours = samples((10, 100), (20, 150), (30, 150), (40, 210))
    others = np.array([[0, 1, 90], [12, 13, 100], [22, 23, 150], [32, 33, 160], [50, 51, 210]])
    assert gpu_study.bracketed(ours, others) == {"compared": 3, "outside": 0, "equal_to_a_neighbour": 2}
    assert gpu_study.bracketed(ours, np.array([[12, 13, 99], [22, 23, 151]]))["outside"] == 2


def test_percentiles_are_in_microseconds():
    assert gpu_study.percentiles_us([1000] * 99 + [9000]) == pytest.approx({"p50_us": 1, "p99_us": 1.08, "max_us": 9})


STUDY = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import time
from benchmarks import gpu_study
load = gpu_study.Load("no load", lambda: time.sleep(0.005), lambda: None, lambda: None)
study = gpu_study.Study(Path(sys.argv[1]), seconds=2.0, load=load)
study.launch_latency = lambda: gpu_study.Study.launch_latency(study, rounds=2, launches=50)
study.run()
"""


def test_the_whole_study_on_a_fake_board(tmp_path, nvml):
    # A process of its own: nvidia-ml-py finds the library by its name only.
    fake = nvml(Gpu(name="Fake H100", power=Square(80.0, 320.0, 0.6, 0.5)))
    out = tmp_path / "study"
    code = STUDY.format(root=str(Path(__file__).parents[1]))
    subprocess.run([sys.executable, "-c", code, str(out)], env=fake.env(), check=True, timeout=120)
    report = json.loads((out / "study.json").read_text())
    assert report["board"] == "Fake H100"
    assert report["driver"] == fake.driver
    same = report["against_nvidia_ml_py"]
    assert same["compared"] > 50
    assert same["outside"] == 0
    for state in ("idle", "load"):
        assert report["sensors"][state]["nvml:0"]["period_s"] == pytest.approx(0.1, rel=0.2)
    assert set(report["launch_latency"]) == {"without", "1 ms", "5 ms", "20 ms", "100 ms"}
    assert report["trace"]["bytes"] < gpu_study.TRACE_BYTES
    assert report["trace"]["replayed"] == report["trace"]["energy_j"]
    assert len(fg.load(out / "trace").windows("quarter")) == 4
    text = (out / "study.md").read_text()
    assert text.startswith(f"# Fake H100, driver {fake.driver}\n")
    assert "| nvml:0 | idle | 1" in text


def test_without_a_board_it_says_so(tmp_path):
    with pytest.raises(gpu_study.NoGpu):
        gpu_study.Study(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_study", str(tmp_path / "out")],
        cwd=Path(__file__).parents[1],
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
    out = Path(__file__).parents[1] / "out" / f"gpu-study-{time.strftime('%Y%m%d-%H%M%S')}"
    report = gpu_study.Study(out, library="libnvidia-ml.so.1", load=gpu_study.find_load()).run()
    assert report["against_nvidia_ml_py"]["compared"] > 100
    assert report["against_nvidia_ml_py"]["outside"] == 0
    assert report["sensors"]["idle"]
    print((out / "study.md").read_text())
