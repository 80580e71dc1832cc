"""Files that earlier versions wrote, kept as they were written: they open, with their numbers.

``tests/fixtures/format_1`` holds a run, a sweep in both layouts, fitted models, a collection of layers and a study.
Never write them again: a file that a new version wrote shows nothing about the old ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.estimate.layerfile import read_conditions, read_rows
from fastgreen.estimate.modelfile import load_models
from fastgreen.estimate.tables import read_tables
from fastgreen.experiment import compile_study
from fastgreen.experiment.runner import read_status

FILES = Path(__file__).parents[1] / "fixtures" / "format_1"


def test_a_run_opens_with_its_energies_windows_and_notes():
    run = fg.load(FILES / "run")
    # 49 steps of 0.5 J, of 0.1 J, and of 10 ms at 13 W on average.
    assert run.trace("rapl:package-0").total().energy_j == pytest.approx(24.5)
    assert run.trace("procstat:cpu").total().energy_j == pytest.approx(4.9)
    assert run.trace("hwmon:x").total().energy_j == pytest.approx(6.37)
    assert (run.energy_low_j, run.energy_j, run.energy_high_j) == pytest.approx((30.809944, 35.77, 38.475196))
    assert run.duration_s == pytest.approx(0.49)
    assert run.channels["read_errors"].to_pylist() == [1, 1, 1, 1]
    assert run.windows("w").num_rows == 20
    assert run.windows("w")["energy_j"][0].as_py() == pytest.approx(2.92)
    assert run.samples("rapl:package-0")["raw"].to_pylist()[:3] == [19_000_000, 19_500_000, 0]
    assert run.notes[0] == "a note"


def test_a_run_saved_again_keeps_the_columns_of_its_files(tmp_path):
    import pyarrow as pa

    fg.load(FILES / "run").save(tmp_path / "again")
    for name in ("channels.arrow", "samples.arrow", "windows.arrow"):
        old, new = (pa.ipc.open_stream(folder / name).schema for folder in (FILES / "run", tmp_path / "again"))
        assert set(old.names) <= set(new.names)
        assert all(new.field(column.name).type == column.type for column in old)


@pytest.mark.parametrize("layout", ["dense", "long"])
def test_a_sweep_opens_with_its_axes_and_values(layout):
    sweep = fg.open_sweep(FILES / f"sweep_{layout}.arrow")
    assert sweep.metric == "apc"
    assert sweep.unit == "kWh"
    assert {name: list(values) for name, values in sweep.axes.items()} == {
        "beta": [1, 2], "alpha": [0.1, 0.5], "accuracy": [0.25, 0.5, 1], "consumption": [0.5, 1, 2, 4]
    }  # fmt: skip
    for place, value in np.ndenumerate(sweep.to_numpy()):
        point = {name: axis[i] for (name, axis), i in zip(sweep.axes.items(), place, strict=True)}
        assert value == fg.apc(**point)


def test_fitted_models_open_and_predict():
    models = load_models(FILES / "models.json")
    assert (models.machine, models.source, models.notes) == ("a machine", "by hand", {"note": "kept"})
    relu = models.models["ReLU"].predict_j({"batch_size": 2, "input_size": 1000})
    assert relu == pytest.approx(2.4004e-05)
    linear = models.models["Linear"].predict_j({"batch_size": 2, "input_size": 100, "output_size": 50})
    macs = 2 * 50 * (100 + 1)
    assert linear == pytest.approx(0.5 + 0.25 * (macs - 1e6) / 2e6)


def test_a_collection_of_layers_opens():
    path = FILES / "collection" / "layers.arrow"
    assert read_conditions(path) == {"machine": "here", "threads": 2}
    assert read_rows(path)["energy_j"].to_pylist() == [2.5, 4.5]
    assert read_tables(path.parent)["ReLU"].energy_j.tolist() == [0.25, 0.45]


def test_a_study_opens_and_compiles():
    status = read_status(FILES / "study" / "input_10" / "run_0")
    assert (status.size, status.state, status.iterations) == ("10", "done", 4)
    compiled = compile_study(FILES / "study")
    assert compiled.runs["state"].to_pylist() == ["done"]
    assert compiled.sizes["energy_j"].to_pylist() == pytest.approx([2.0])  # 40 ms at 50 W
    assert compiled.sizes["iterations"].to_pylist() == [4]
