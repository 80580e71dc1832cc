"""The main job: real classifiers, trained and measured, on a machine with sensors and on one without."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone
from tests.oracles.honest import Honest
from tests.oracles.places import ROOT

pytest.importorskip("sklearn")


def demo(folder, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fastgreen", "demo", "-o", str(folder), "--seconds", "0.1", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def machines():
    """What the demo left on each machine, so that it runs once on each."""
    return {}


def test_with_sensors_every_model_has_joules_per_inference_with_bounds(powercap, tmp_path):
    tree = powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0),)), move=True)
    done = demo(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["models"]) == 6
    for row in report["models"]:
        assert 0.7 < row["accuracy"] <= 1.0
        assert 0 <= row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["inferences"] >= 32
        assert row["inferences"] % 32 == 0
        assert 0 < row["latency_p50_s"] <= row["latency_p99_s"]
        assert row["estimated"] is False
    assert "ESTIMATED" not in done.stderr
    run = fg.load(report["run"])
    assert len(run.names) == 12
    by_name = {row["name"]: row for row in run.summary().to_pylist()}
    truth = Honest(run, tree)
    honest = {row["name"]: row for row in truth.result.summary().to_pylist()}
    paused_ns = max(t.tally["read_longest_ns"] + max(0, t.tally["step_longest_ns"] - 20_000_000) for t in run.traces)
    late_s = (truth.age_ns + truth.delay_ns + paused_ns) * 1e-9
    for row in report["models"]:
        name = f"infer {row['model']}"
        infer, train = by_name[name], by_name[f"train {row['model']}"]
        # Where the machine stopped mover or reader for as long as a window, there may be nothing to be seen in it.
        assert row["energy_low_j"] > 0 or infer["total_duration_s"] < 2 * late_s
        assert row["training_j"] > 0 or train["total_duration_s"] < 2 * late_s
        assert row["mean_power_w"] == pytest.approx(infer["energy_j"] / infer["total_duration_s"])
        edges = [(w["start_ns"], w["start_ns"] + round(w["duration_s"] * 1e9)) for w in run.windows(name).to_pylist()]
        low_j, high_j = honest[name]["energy_low_j"], honest[name]["energy_high_j"]
        assert truth.holds(["package-0", "package-0/dram"], edges, low_j, high_j)
        assert row["energy_j"] == pytest.approx(infer["mean_energy_j"] / 32)
        assert row["inferences"] == infer["count"] * 32


def test_without_sensors_it_says_first_that_it_estimates_and_the_saved_run_can_be_reported(tmp_path):
    done = demo(tmp_path, "--batch", "64")
    assert done.returncode == 0, done.stderr
    first = done.stdout.lstrip().splitlines()[0]
    assert "ESTIMATED" in first
    assert "fastgreen channels" in done.stdout
    for word in ("accuracy", "energy", "between", "random forest", "MLP", "whole run", "(estimated)"):
        assert word in done.stdout
    run = next(tmp_path.iterdir())
    result = fg.load(run)
    assert result.estimated
    report = subprocess.run(
        [sys.executable, "-m", "fastgreen", "report", str(run)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert report.returncode == 0
    assert "estimated" in report.stdout
    assert "infer naive Bayes" in report.stdout


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--batch", "0"], ["--batch", "10000"], ["--seconds", "x"]])
def test_impossible_sizes_are_refused(tmp_path, arguments):
    done = demo(tmp_path, *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    done = demo(tmp_path / "file")
    assert done.returncode in (1, 2)
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr
