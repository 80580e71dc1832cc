# SPDX-License-Identifier: Apache-2.0
"""Masked arrays in the metrics: an element is masked where an argument is, and no number under a mask counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen import metrics, ufuncs
from fastgreen.cli import main

_MASK = [False, True, False]
_WRONG = [-999.0, np.inf, 1e300, np.nan]  # sentinels under a mask, all outside of the ranges

# name -> good values of each argument
_ELEMENTWISE = {
    "apc": ([1.0, 2.0, 3.0], [0.5, 0.6, 0.7], [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]),
    "apec": ([1.0, 2.0, 3.0], [0.5, 0.6, 0.7], [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]),
    "weighted_consumption": ([1.0, 2.0, 3.0], [0.5, 0.6, 0.7], [0.1, 0.2, 0.3]),
    "closest_apc": ([1.0, 2.0, 3.0], [0.5, 0.6, 0.7]),
    "closest_apec": ([1.0, 2.0, 3.0], [0.5, 0.6, 0.7]),
    "edp": ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]),
    "ed2p": ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]),
    "accuracy_per_joule": ([0.5, 0.6, 0.7], [0.0, 2.0, 3.0]),  # 1/0 is inf, which numpy.ma alone would mask
    "carbon": ([1.0, 2.0, 3.0], [200.0, 300.0, 400.0]),
    "embodied_carbon": ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [1.0, 1.0, 1.0], [2.0, 2.0, 3.0]),
    "sci": ([1.0, 2.0, 3.0], [200.0, 300.0, 400.0], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]),
    "netscore": ([0.0, 50.0, 70.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]),
}


@pytest.mark.parametrize("name", _ELEMENTWISE)
@pytest.mark.parametrize("wrong", _WRONG)
def test_a_mask_of_each_argument_goes_through_each_metric(name, wrong):
    formula, arguments = getattr(metrics, name), _ELEMENTWISE[name]
    plain = formula(*map(np.array, arguments))
    for place in range(len(arguments)):
        given = [np.array(values) for values in arguments]
        given[place][1] = wrong
        given[place] = np.ma.array(given[place], mask=_MASK)
        found = formula(*given)
        assert isinstance(found, np.ma.MaskedArray)
        assert found.mask.tolist() == _MASK
        assert np.array_equal(found.data[[0, 2]], plain[[0, 2]])


def test_a_mask_goes_through_the_cost_of_zeus_and_broadcasts():
    energy = np.ma.array([[1.0], [-1.0]], mask=[[False], [True]])
    time = np.ma.array([1.0, 2.0, -5.0], mask=[False, False, True])
    found = metrics.zeus_cost(energy, time, max_power_w=10.0)
    assert found.mask.tolist() == [[False, False, True], [True, True, True]]
    assert found[0, :2].tolist() == [5.5, 10.5]
    assert metrics.accuracy_per_joule(0.5, energy).mask.tolist() == [[False], [True]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_types_and_lists_of_masked_rows(dtype):
    energy = np.ma.array([1, 2, -9], mask=[False, False, True], dtype=dtype)
    found = fg.apc(energy, np.array([0.5, 0.6, 0.7], np.float32))
    assert found.mask.tolist() == [False, False, True]
    assert found.dtype == (np.float32 if dtype is np.float32 else np.float64)
    rows = metrics.edp([energy, energy], 2.0)
    assert rows.mask.tolist() == [[False, False, True]] * 2
    assert rows.sum() == 12


def test_a_bad_number_beside_a_mask_is_refused():
    with pytest.raises(ValueError, match="consumption must be finite and not negative, not -1 at index 0"):
        fg.apc(np.ma.array([-1.0, 2.0], mask=[False, True]), 0.5)
    with pytest.raises(ValueError, match=r"accuracy must lie in 0\.\.1, not 7"):
        metrics.accuracy_per_joule(np.ma.array([7.0, 2.0], mask=[False, True]), 1.0)


def test_out_has_to_keep_the_mask():
    energy = np.ma.array([1.0, -2.0], mask=[False, True])
    with pytest.raises(ValueError, match="out must be a masked array as consumption is, not ndarray"):
        fg.apc(energy, 0.5, out=np.zeros(2))
    out = np.ma.zeros(2)
    assert fg.apc(energy, 0.5, out=out) is out
    assert out.mask.tolist() == [False, True]
    assert fg.apc(np.ma.array([1.0, 2.0]), 0.5, out=np.zeros(2)).tolist() == fg.apc([1.0, 2.0], 0.5).tolist()


def test_the_ufuncs_keep_a_mask():
    energy = np.ma.array([1.0, 2.0], mask=[False, True])
    assert ufuncs.apc(energy, 0.5, 0.1, 1.0).mask.tolist() == [False, True]


@pytest.mark.parametrize("column", ["time", "accuracy", "consumption"])
def test_a_masked_checkpoint_is_skipped(column):
    run = {"time": [1.0, 2.0, 3.0], "accuracy": [0.2, 0.9, 0.8], "consumption": [0.1, 0.2, 0.3]}
    without = fg.ttcapc(*(np.delete(values, 1) for values in run.values()))
    hidden = {**run, column: np.ma.array(run[column], mask=_MASK)}
    hidden[column].data[1] = -999.0
    found = fg.ttcapc(**hidden)
    assert (found.time, found.apc, found.index) == (without.time, without.apc, 2)
    many = fg.Sweep("ttcapc", **{name: np.ma.array([values, values]) for name, values in hidden.items()})
    assert many.compute().ravel().tolist() == [3.0, 3.0]


def test_the_time_to_a_target_skips_masked_accuracies_and_masks_an_unknown_time():
    accuracy = np.ma.array([0.5, 0.95, 0.9], mask=_MASK)
    assert metrics.time_to_accuracy([1.0, 2.0, 3.0], accuracy, 0.9) == 3.0
    time = np.ma.array([[1.0, -2.0, 3.0], [1.0, 2.0, 3.0]], mask=[_MASK, [False] * 3])
    found = metrics.time_to_accuracy(time, [[0.5, 0.9, 0.9], [0.5, 0.9, 0.9]], 0.9)
    assert found.tolist() == [None, 2.0]
    assert metrics.energy_to_accuracy(np.ma.array([1.0, -1.0], mask=[False, True]), [0.5, 0.6], 0.9) == np.inf


@pytest.mark.parametrize("axis", ["consumption", "accuracy", "alpha", "beta"])
def test_an_axis_of_a_sweep_refuses_a_mask_by_name(axis):
    given = {"consumption": [0.0, 1.0], "accuracy": [0.5, 0.6], axis: np.ma.array([0.0, 0.5], mask=[False, True])}
    with pytest.raises(ValueError, match=f"the axis {axis} must not hold a masked element"):
        fg.Sweep("apc", **given)
    given[axis] = np.ma.array([0.0, 0.5])
    assert fg.Sweep("apc", **given).axes[axis].tolist() == [0.0, 0.5]


@pytest.mark.parametrize("name", ["target", "alpha", "beta", "accuracy_delta", "consumption_delta"])
def test_a_parameter_of_a_search_refuses_a_mask_by_name(name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        fg.ttcapc([1.0], [0.5], [0.1], **{name: np.ma.masked})


def test_runs_keep_their_names(tmp_path):
    runs = {"time": [[1.0, 2.0]] * 2, "accuracy": [[0.5, 0.8], [0.4, 0.9]], "consumption": [[0.1, 0.2]] * 2}
    sweep = fg.Sweep("ttcapc", **runs, target=[None, 0.3], run_names=["lenet", "vgg"])
    assert sweep.best(1).to_pylist()[0]["run"] == "lenet"
    for layout in ("dense", "long"):
        sweep.write(tmp_path / layout, layout=layout)
        assert fg.open_sweep(tmp_path / layout).axes["run"].tolist() == ["lenet", "vgg"]
    assert fg.Sweep("ttcapc", **runs, run_names=[7, 3]).axes["run"].tolist() == [7, 3]
    for wrong in (["a"], ["a", "a"]):
        with pytest.raises(ValueError, match="run_names must be 2 different names"):
            fg.Sweep("ttcapc", **runs, run_names=wrong)
    arguments = ["sweep", "ttcapc", "--runs", str(tmp_path / "runs.csv"), "--target", "best,0.3", "--best", "4"]
    (tmp_path / "runs.csv").write_text("run,time,accuracy,consumption\nlenet,1,.5,.1\nlenet,2,.8,.2\nvgg,3,.9,.1\n")
    printed = CliRunner().invoke(main, arguments)
    assert printed.exit_code == 0
    assert "nan" not in printed.output
    assert printed.output.count("best") == 2
    rows = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert {(row["run"], row["target"]) for row in rows} == {(r, t) for r in ("lenet", "vgg") for t in (None, 0.3)}
    with pytest.raises(ValueError, match="run_names must be left out"):
        fg.Sweep("apc", consumption=[1.0], accuracy=[0.5], run_names=["a"])


def test_the_apc_of_an_estimate_takes_its_weights():
    plain = CliRunner().invoke(main, ["estimate", "alexnet", "--accuracy", "0.7"])
    assert "APC hardly differs from the accuracy" in plain.output
    arguments = ["estimate", "alexnet", "--accuracy", "0.7", "--alpha", "0.2", "--beta", "100"]
    assert "hardly" not in CliRunner().invoke(main, arguments).output
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert found["apc"] == fg.apc(found["consumption_wh"], 0.7, 0.2, 100.0)
    grid = json.loads(CliRunner().invoke(main, [*arguments, "--grid", "1,2", "--json"]).stdout)
    rows = grid["rows"] if isinstance(grid, dict) else grid
    assert rows[0]["apc"] == pytest.approx(found["apc"])
    for option in (["--beta", "-1"], ["--alpha", "2"], ["--beta", "nan"]):
        assert CliRunner().invoke(main, ["estimate", "alexnet", "--accuracy", "0.7", *option]).exit_code != 0
