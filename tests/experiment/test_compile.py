"""Folders of studies that somebody, or something, has been through: compiled as far as they can be."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest

import fastgreen
from fastgreen.experiment import compile_study, draw_study, for_callable
from fastgreen.experiment.compile import sample_run
from fastgreen.experiment.runner import Study
from fastgreen.measuring.monitor import Monitor
from tests.experiment.test_commands import published_study

CPU = {"channels": ["procstat:*"], "hz": 50}


def study(folder, sizes=(1, 2, 3)):
    made = for_callable(lambda n: sum(range(1000)), list(sizes), iterations=4, name="sum")
    Study(folder, made, repeats=2, **CPU).run(progress=False)
    return folder


def quietly_compiled(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return compile_study(folder)


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_folders_of_any_name_are_sizes_or_are_passed_over(tmp_path):
    study(tmp_path)
    for name in ("input_nan/run_0", "input_inf/run_1", "input_/run_0", "input_日本 🤖/run_0", "input_1e400/run_0"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("input_1/run_99999999999999999999999", "input_1/run_abc", "input_1/run_-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "input_2" / "run_7").touch()
    compiled = quietly_compiled(tmp_path)
    sizes = compiled.sizes.to_pylist()
    assert [row["size"] for row in sizes][:3] == ["1", "2", "3"]
    assert [row["runs"] for row in sizes] == [2, 2, 2, 0, 0, 0, 0, 0]
    assert len(compiled.notes) == 5
    compiled.save(tmp_path / "out")
    assert len(draw_study(compiled, tmp_path / "out")) == 3


def test_a_run_without_an_inference_is_damaged_and_says_so_without_quotes(tmp_path):
    study(tmp_path)
    with Monitor(["procstat:*"], hz=50) as monitor:
        pass
    monitor.result.save(tmp_path / "input_1" / "run_5" / "run")
    compiled = quietly_compiled(tmp_path)
    assert compiled.notes == ["size 1, run 5: damaged: no window 'inference' was entered; there are none"]


def test_the_run_that_a_study_was_in_when_it_was_stopped_is_interrupted_not_empty(tmp_path):
    study(tmp_path)
    for name in ("status.json", "gauges.json", "latency.csv"):
        (tmp_path / "input_3" / "run_1" / name).unlink()
    shutil.rmtree(tmp_path / "input_3" / "run_1" / "run")
    (note,) = quietly_compiled(tmp_path).notes
    assert note == "size 3, run 1: interrupted: the run was cut off; it is repeated when the study goes on"


def test_latencies_of_nothing_have_no_throughput(tmp_path):
    published_study(tmp_path)
    (tmp_path / "input_112" / "run_0" / "latency.csv").write_text("0\n0\n")
    for repeat in range(3):
        (tmp_path / "input_224" / f"run_{repeat}" / "latency.csv").write_text("0\n")
        (tmp_path / "input_336" / f"run_{repeat}" / "latency.csv").write_text("x\n")
    rows = quietly_compiled(tmp_path).sizes.to_pylist()
    assert rows[0]["throughput_per_s"] is not None
    assert rows[1]["throughput_per_s"] is None
    assert rows[2]["runs"] == 0


def test_the_sample_is_the_first_good_run_of_the_largest_size(tmp_path):
    study(tmp_path)
    (tmp_path / "input_3" / "run_0" / "run" / "channels.arrow").write_bytes(b"")
    name, result = sample_run(tmp_path)
    assert name == "size 3, run 1"
    assert result.windows("inference").num_rows == 4
    status = tmp_path / "input_3" / "run_1" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "failed"}))
    assert sample_run(tmp_path)[0] == "size 2, run 0"
    assert sample_run(tmp_path / "input_1") is None


def test_the_table_equals_a_few_lines_of_numpy(tmp_path):
    study(tmp_path)
    compiled = quietly_compiled(tmp_path)
    for row in compiled.sizes.to_pylist():
        energies, latencies, rates = [], [], []
        for place in sorted((tmp_path / f"input_{row['size']:g}").glob("run_*")):
            result = fastgreen.load(place / "run")
            energies.append(float(result.summary().column("mean_energy_j")[0].as_py()))
            seconds = np.loadtxt(place / "latency.csv")
            latencies.append(np.median(seconds))
            rates.append(seconds.size / seconds.sum())
        assert row["energy_j"] == np.median(energies) or np.isclose(row["energy_j"], np.median(energies), rtol=1e-12)
        assert np.isclose(row["latency_s"], np.median(latencies), rtol=1e-12)
        assert np.isclose(row["throughput_per_s"], np.median(rates), rtol=1e-12)
