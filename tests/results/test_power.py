"""Power over time: against windows of the same edges and the truth of a fake, drawn, written, and asked wrongly."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.results.trace import Windows
from tests.fakes.powercap import Zone
from tests.fakes.wave import Square
from tests.oracles.honest import Honest

POWERS = ("power_w", "power_low_w", "power_high_w")


@pytest.fixture
def run(powercap):
    """A measured run of two packages, one with a child, and its tree."""
    zones = (Zone("package-0", Square(20.0, 120.0, 0.2), children=(Zone("dram", 7.0),)), Zone("package-1", 30.0))
    tree = powercap(*zones, move=True)
    with fg.Monitor("rapl:*", hz=500) as monitor:
        work = monitor.window("work")
        for _ in range(4):
            with work:
                time.sleep(0.05)
            with monitor.window("rest"):
                time.sleep(0.05)
    return monitor.result, tree


def columns(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in ("start_ns", "duration_s", *POWERS)}


@pytest.mark.parametrize("step_s", [None, 0.01, 0.07])
def test_each_step_is_a_window_and_all_together_are_the_run(run, step_s):
    result, _ = run
    found = columns(result.power(step_s))
    begin = found["start_ns"]
    end = np.append(begin[1:], result.end_ns)
    assert begin[0] == result.start_ns
    assert found["duration_s"] == pytest.approx((end - begin) * 1e-9, rel=1e-12)
    whole = dict.fromkeys(POWERS, 0.0)
    for trace in result.traces:
        if trace.counted:
            energies = trace.windows(begin, end)
            for name, part in zip(POWERS, (energies.energy_j, energies.low_j, energies.high_j), strict=True):
                whole[name] = whole[name] + part / found["duration_s"]
    for name in POWERS:
        assert found[name] == pytest.approx(whole[name], rel=1e-12, abs=1e-12)
    assert (found["power_low_w"] <= found["power_w"]).all()
    assert (found["power_w"] <= found["power_high_w"]).all()
    energy_j = (found["power_w"] * found["duration_s"]).sum()
    assert result.energy_low_j <= energy_j <= result.energy_high_j


def test_the_truth_lies_within_the_bounds_of_every_step_of_every_channel(run):
    result, tree = run
    truth = Honest(result, tree)
    table = truth.result.power(0.01, per_channel=True)
    ids = np.asarray(table["channel"].to_pylist())
    assert set(ids) == {"rapl:package-0", "rapl:package-0/dram", "rapl:package-1"}
    for channel in set(ids):
        found = columns(table.filter(pa.array(ids == channel)))
        for begin, seconds, _, low_w, high_w in zip(*(column.tolist() for column in found.values()), strict=True):
            edges = [(begin, begin + round(seconds * 1e9))]
            low_j, high_j = low_w * seconds - 1e-9, high_w * seconds + 1e-9
            assert truth.holds([channel.removeprefix("rapl:")], edges, low_j, high_j)


def test_a_step_that_nobody_chose_is_round_and_no_shorter_than_an_update(nvml, soon):
    nvml()
    with fg.Monitor("nvml:0", hz=200) as monitor:
        soon(lambda: monitor._groups[0].sampler.live(0)["samples"] > 150)
    table = monitor.result.power()
    update_s = monitor.result.channels["update_period_s"][0].as_py()
    step_s = table["duration_s"].to_numpy()[:-1]
    assert (step_s == step_s[0]).all()
    assert step_s[0] >= update_s
    assert f"{step_s[0]:.0e}"[0] in "125"
    assert f"{step_s[0]:.6g}" == f"{float(f'{step_s[0]:.0e}'):.6g}"


@pytest.mark.parametrize(("step_s", "pieces"), [(0.1, 4), (0.11, 4), (0.13, 3), (0.3, 1), (0.81, 1), (5.0, 1)])
def test_a_rest_of_less_than_half_a_step_belongs_to_the_last_one(powercap, step_s, pieces):
    powercap(Zone(watts=50.0))
    with fg.Monitor(hz=100) as monitor:
        time.sleep(0.02)
    result = monitor.result
    result.start_ns, result.end_ns = 0, 405_000_000
    found = columns(result.power(step_s))
    assert len(found["start_ns"]) == pieces
    assert found["duration_s"].sum() == pytest.approx(0.405, rel=1e-12)
    assert pieces == 1 or 0.5 * step_s <= found["duration_s"][-1] <= 1.5 * step_s


def test_units_times_and_marks_stand_in_the_table(run):
    result, _ = run
    table = result.power(0.02)
    assert table.schema.metadata == {b"estimated": b"false", b"bounds": b"certain"}
    units = {name: table.schema.field(name).metadata[b"unit"].decode() for name in table.column_names if name != "time"}
    assert units == {"start_ns": "ns", "duration_s": "s", **dict.fromkeys(POWERS, "W")}
    shift_ns = result.metadata["realtime_ns"] - result.metadata["monotonic_ns"]
    assert table["time"].cast(pa.int64()).to_numpy() - shift_ns == pytest.approx(table["start_ns"].to_numpy(), abs=0)


def test_a_saved_run_shows_the_same(run, tmp_path):
    result, _ = run
    result.save(tmp_path / "run")
    assert fg.load(tmp_path / "run").power(0.02, per_channel=True).equals(result.power(0.02, per_channel=True))


@pytest.mark.parametrize("step_s", [0, -1.0, float("nan"), float("inf"), "0.1", True, 1e-9])
def test_a_step_that_is_none_is_refused_and_named(run, step_s):
    with pytest.raises(ValueError, match="step_s"):
        run[0].power(step_s)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_run_of_nothing_has_no_known_power(per_channel):
    with fg.Monitor([]) as monitor:
        time.sleep(0.01)
    table = monitor.result.power(0.005, per_channel=per_channel)
    assert (table.num_rows == 0) == per_channel
    assert table["power_w"].null_count == table.num_rows
    with pytest.raises(ValueError, match="nothing was read"):
        fg.plot.power(monitor.result)


def test_the_picture_shows_power_bounds_channels_and_windows(run):
    result, _ = run
    figure = fg.plot.power(result, step_s=0.02)
    above, below = figure.axes
    labels = above.get_legend_handles_labels()[1]
    assert labels == ["its bounds", "power", "rapl:package-0", "rapl:package-0/dram", "rapl:package-1"]
    drawn = {patch.get_label(): patch for patch in above.patches}
    assert drawn["power"].get_data().values == pytest.approx(result.power(0.02)["power_w"].to_numpy())
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["work", "rest"]
    bars = [len(bar.get_paths()) for bar in below.collections]
    assert bars == [4, 4]


def test_windows_beyond_what_a_picture_can_tell_apart_become_one_bar_and_are_counted(run):
    traces, metadata, span = run[0].traces, run[0].metadata, (run[0].start_ns, run[0].end_ns)
    begin = np.arange(span[0], span[1] - 2000, 2000, dtype=np.int64)
    result = fg.Result(traces, [Windows(f"w{n}", n, begin, begin + 1000) for n in range(13)], metadata, *span)
    figure = fg.plot.power(result)
    assert [len(bar.get_paths()) for bar in figure.axes[1].collections] == [1] * 10
    assert "not shown: 3 windows" in figure.axes[1].get_xlabel()


def test_a_report_draws_and_writes_power_over_time(run, tmp_path):
    run[0].save(tmp_path / "run")
    for ending in ("csv", "parquet", "arrow"):
        out = tmp_path / f"power.{ending}"
        done = CliRunner().invoke(
            main, ["report", str(tmp_path / "run"), "--power", str(out), "--step", "0.02", "--per-channel", "--json"]
        )
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["energy_j"] == run[0].energy_j
        assert out.stat().st_size > 0
    picture = tmp_path / "power.png"
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--step", "0.1"], 2, "--step needs"),
        (["--per-channel", "--picture", "p.png"], 2, "--per-channel needs"),
        (["--step", "0", "--picture", "p.png"], 2, "x>0"),
        (["--step", "nan", "--picture", "p.png"], 2, "step_s"),
        (["--picture", "p.docx"], 2, "docx"),
        (["--picture", "no/such/p.png"], 1, "no such folder"),
        (["--power", "no/such/p.csv"], 1, "no such folder"),
    ],
)
def test_wrong_requests_for_power_are_answered_in_a_sentence(run, tmp_path, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    run[0].save("run")
    done = CliRunner().invoke(main, ["report", "run", *options])
    assert done.exit_code == code
    assert said in done.output
    assert "Traceback" not in done.output
