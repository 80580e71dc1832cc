"""Memory, use and temperature of each run of a study: read beside the sampling, compiled to columns, correlated."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.experiment import compile_study, for_callable, for_command
from fastgreen.experiment.runner import Study
from fastgreen.recordings.published_layout import write_run
from fastgreen.training.gauges import Gauges, watching
from tests.experiment.test_commands import EPOCH_NS, RecordingBuilder

CPU = {"channels": ["procstat:*"], "hz": 50}


class Nvml:
    """A driver whose GPU tells its use: a little more at every look."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        self.use = 40

    def nvmlInit(self):
        pass

    def nvmlShutdown(self):
        pass

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return "Test GPU"

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 350000

    def nvmlDeviceGetUtilizationRates(self, handle):
        self.use += 1
        return SimpleNamespace(gpu=self.use, memory=10)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=5 << 30)

    def nvmlDeviceGetTemperature(self, handle, which):
        return 55

    def nvmlDeviceGetPowerUsage(self, handle):
        raise self.NVMLError("not supported")


def test_gauges_are_read_about_once_a_period_and_once_at_the_end(soon):
    begun = time.monotonic()
    with watching(Gauges(Nvml()), period_s=0.1) as gauges:
        soon(lambda: len(gauges.readings.get("gpu_memory_b", [])) == 3)
        seen = len(gauges.readings["gpu_memory_b"])
    assert seen < len(gauges.readings["gpu_memory_b"]) <= (time.monotonic() - begun) / 0.1 + 1
    with watching(Gauges(Nvml()), period_s=100.0) as gauges:
        pass
    assert gauges.means() == pytest.approx(
        {**gauges.means(), "gpu_memory_b": 5 << 30, "gpu_c": 55.0, "gpu_memory_use": 0.1}
    )
    assert "gpu_w" not in gauges.means()
    with pytest.raises(ZeroDivisionError), watching(Gauges(Nvml())) as gauges:
        _ = 1 / 0
    assert gauges.readings["gpu_use"]


def test_each_run_keeps_its_gauges_and_the_table_has_their_medians(tmp_path):
    protocol = for_callable(lambda n: sum(range(n)), [1000, 2000, 3000], iterations=3, name="sum")
    Study(tmp_path, protocol, repeats=3, gauges=lambda: Gauges(Nvml()), **CPU).run(progress=False)
    kept = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("input_1000/run_*/gauges.json"))]
    assert len(kept) == 3
    assert all(run["memory_b"] > 1e6 and 0 <= run["cpu_use"] <= 1 for run in kept)
    compiled = compile_study(tmp_path)
    row = compiled.sizes.to_pylist()[0]
    assert row["memory_b"] == np.median([run["memory_b"] for run in kept])
    assert row["gpu_use"] == np.median([run["gpu_use"] for run in kept])
    assert row["gpu_memory_b"] == 5 << 30
    assert compiled.sizes.schema.field("memory_b").metadata == {b"unit": b"B"}
    assert "memory_b" in compiled.pearson.column("column").to_pylist()


def test_a_program_of_its_own_has_no_memory_of_ours(tmp_path):
    Study(tmp_path, for_command([sys.executable, "-c", ""], [1]), repeats=1, **CPU).run(progress=False)
    kept = json.loads((tmp_path / "input_1" / "run_0" / "gauges.json").read_text())
    assert "memory_b" not in kept
    assert "cpu_use" in kept


def test_damaged_gauges_are_absent_and_stop_nothing(tmp_path):
    protocol = for_callable(lambda n: None, [1, 2, 3], iterations=3, name="none")
    Study(tmp_path, protocol, repeats=1, **CPU).run(progress=False)
    for size, text in ((1, "["), (2, "[1]"), (3, '{"memory_b": "much", "cpu_use": null}')):
        (tmp_path / f"input_{size}" / "run_0" / "gauges.json").write_text(text)
    compiled = compile_study(tmp_path)
    assert compiled.sizes.column("runs").to_pylist() == [1, 1, 1]
    assert "memory_b" not in compiled.sizes.column_names


def test_a_published_folder_has_its_memory_and_gpu_use_too(tmp_path):
    stamps = EPOCH_NS + np.arange(5) * 10**9
    for size in (1, 2, 3):
        builder = RecordingBuilder("test", "test")
        builder.channel("package", root=True)
        builder.add("package", stamps, np.zeros(5), np.full(5, 10.0))
        place = write_run(tmp_path, size, 0, builder.finish(), [0.1] * 10)
        lines = [json.loads(line) for line in (place / "power_metrics.json").read_text().splitlines()[:-1]]
        for line in lines:
            line["metrics"]["cpu"]["per_process_mem_use_abs"] = {"7": 1e6 * size, "8": 1e6}
            line["metrics"]["gpu"] = {"nvidia_use_rate": 20.0 * size, "nvidia_memory": 2e9}
        (place / "power_metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = compile_study(tmp_path).sizes.to_pylist()
    assert [row["memory_b"] for row in rows] == pytest.approx([2e6, 3e6, 4e6])
    assert [row["gpu_use"] for row in rows] == pytest.approx([0.2, 0.4, 0.6])
    assert [row["gpu_memory_b"] for row in rows] == pytest.approx([2e9] * 3)


# ---- what compile shows ----


def failing_study(folder):
    def model(size):
        if size > 3:
            raise ValueError("too large")
        time.sleep(size / 1000)

    Study(folder, for_callable(model, [1, 2, 3, 4], iterations=3, name="f"), repeats=4, **CPU).run(progress=False)


def test_failures_of_one_kind_are_one_note_and_correlations_with_energy_are_shown(tmp_path):
    failing_study(tmp_path)
    compiled = compile_study(tmp_path)
    assert compiled.notes == ["size 4, run 0: failed: ValueError: too large; so 3 more of its runs"]
    assert compiled.sizes.column("failed").to_pylist() == [0, 0, 0, 4]
    done = CliRunner().invoke(main, ["compile", str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    (line,) = [line.split() for line in done.output.splitlines() if line.startswith("latency_s ")]
    at = compiled.pearson.column("column").to_pylist().index("latency_s")
    assert line[1:] == [
        f"{table.column('energy_j').to_pylist()[at]:.3f}" for table in (compiled.pearson, compiled.spearman)
    ]
    titles = read_titles(tmp_path / "compiled" / "power_over_time.png")
    assert titles == "f: size 3, run 0"


def read_titles(picture):
    """What the picture says of itself."""
    from PIL import Image

    return Image.open(picture).text["Title"]


def test_a_published_study_has_power_over_time_too(tmp_path):
    from tests.experiment.test_commands import published_study

    done = CliRunner().invoke(main, ["compile", str(published_study(tmp_path))], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert read_titles(tmp_path / "compiled" / "power_over_time.png").endswith("size 560, run 0")
