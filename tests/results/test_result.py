"""The tables of a result: schemas and units as promised, numbers that agree with each other, text for people."""

from __future__ import annotations

import copy
import gc
import html
import json
import multiprocessing
import pickle
import time
import weakref
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

import fastgreen as fg
from fastgreen.errors import ChannelNotFound
from fastgreen.results.console import bounds, quantity, render, with_bounds
from fastgreen.results.trace import Windows
from tests.fakes.hwmon import amdgpu
from tests.fakes.powercap import RANGE_61UJ, Zone

ENERGIES = ["energy_j", "energy_low_j", "energy_high_j"]


@pytest.fixture
def result(powercap, hwmon):
    """Two zones, one of them close to a wrap, and a Radeon's power."""
    tree = hwmon(amdgpu(average_uw=30_000_000))
    inner = (Zone("dram", 5.0), Zone("core", 20.0))
    powercap(Zone("package-0", 80.0, RANGE_61UJ - 2_000_000, children=inner), move=True)
    with fg.Monitor(["rapl:*", "hwmon:*"], hz=500) as monitor:
        for name, count in (("short", 20), ("long", 2)):
            window = monitor.window(name)
            for _ in range(count):
                with window:
                    time.sleep(0.2 / count)
        tree.set(0, "power1_average", 50_000_000)
        time.sleep(0.05)
    return monitor.result


def units(table: pa.Table) -> dict[str, str]:
    return {f.name: f.metadata[b"unit"].decode() for f in table.schema if f.metadata and b"unit" in f.metadata}


def kinds(table: pa.Table) -> dict[str, str]:
    return {f.name: str(f.type) for f in table.schema}


def test_the_channel_table_has_the_promised_columns_and_units(result):
    table = result.channels
    promised = (
        "id energy_j energy_low_j energy_high_j mean_power_w samples updates update_period_s missed lost read_errors"
    )
    assert table.schema.names[:13] == [*promised.split(), "estimated", "method"]
    assert (
        units(table).items() >= (dict.fromkeys(ENERGIES, "J") | {"mean_power_w": "W", "update_period_s": "s"}).items()
    )
    for name in table.schema.names:
        suffix = name.rpartition("_")[2]
        assert units(table).get(name) == {"j": "J", "w": "W", "s": "s"}.get(suffix), name
    assert {kinds(table)[name] for name in ("samples", "updates", "missed", "lost", "read_errors")} == {"int64"}
    methods = dict(zip(table["id"].to_pylist(), table["method"].to_pylist(), strict=True))
    assert methods == {
        "rapl:package-0": "counter",
        "rapl:package-0/dram": "counter",
        "rapl:package-0/core": "counter",
        "hwmon:amdgpu/PPT": "trapezoid",
    }


def test_the_sample_table_has_the_promised_columns_and_two_clocks_that_agree(result):
    table = result.samples()
    assert table.schema.names[:4] == ["channel", "time", "monotonic_ns", "raw"]
    assert kinds(table)["time"] == "timestamp[ns, tz=UTC]"
    assert kinds(table)["monotonic_ns"] == kinds(table)["raw"] == "int64"
    assert units(table)["monotonic_ns"] == "ns"
    assert units(table)["raw"] == "the channel's"
    offset = table["time"].cast(pa.int64()).to_numpy() - table["monotonic_ns"].to_numpy()
    assert set(offset) == {result.metadata["realtime_ns"] - result.metadata["monotonic_ns"]}
    newest = table["time"].cast(pa.int64()).to_numpy().max()
    assert abs(newest / 1e9 - time.time()) < 60
    for identity in result.channels["id"].to_pylist():
        one = result.samples(identity)
        assert np.all(np.diff(one["monotonic_ns"].to_numpy()) > 0)
        assert set(one["channel"].to_pylist()) == {identity}
    with pytest.raises(ChannelNotFound, match="rapl:package-0"):
        result.samples("rapl:package-9")


def test_the_window_tables_have_the_promised_columns_and_units(result):
    table = result.windows()
    assert table.schema.names == ["name", "index", "start_ns", "duration_s", *ENERGIES]
    assert units(table) == dict.fromkeys(ENERGIES, "J") | {"start_ns": "ns", "duration_s": "s"}
    assert table.schema.metadata == {b"estimated": b"false", b"bounds": b"sampled"}
    assert kinds(table)["start_ns"] == kinds(table)["index"] == "int64"
    split = result.windows("short", per_channel=True)
    assert split.schema.names == [*table.schema.names, "channel"]
    assert split.num_rows == 20 * 4
    assert units(split) == units(table)


def test_the_summary_has_the_promised_columns_and_units(result):
    table = result.summary()
    assert units(table)["duration_p50_s"] == "s"
    assert {"name", "count", *ENERGIES, "mean_energy_j", "mean_power_w", "duration_p95_s"} <= set(table.schema.names)
    assert units(table)["mean_power_w"] == "W"
    rows = {row["name"]: row for row in table.to_pylist()}
    assert {name: row["count"] for name, row in rows.items()} == {"short": 20, "long": 2}
    for row in rows.values():
        assert row["mean_energy_j"] * row["count"] == pytest.approx(row["energy_j"])
        assert row["mean_power_w"] == pytest.approx(row["energy_j"] / row["total_duration_s"])
        durations_s = result.windows(row["name"])["duration_s"].to_numpy()
        told = [row[f"duration_{p}_s"] for p in ("p50", "p95", "p99")]
        assert told == pytest.approx(np.percentile(durations_s, [50, 95, 99]), rel=1e-12)
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]


def test_totals_are_the_sums_of_the_counted_channels_and_of_no_other(result):
    rows = result.channels.to_pylist()
    counted = [row for row in rows if row["counted"]]
    assert {row["id"] for row in rows} - {row["id"] for row in counted} == {"rapl:package-0/core"}
    for name in ENERGIES:
        assert getattr(result, name) == pytest.approx(sum(row[name] for row in counted), rel=1e-12)
    assert result.energy_wh == pytest.approx(result.energy_j / 3600)
    assert result.mean_power_w == pytest.approx(result.energy_j / result.duration_s)
    assert result.energy_low_j <= result.energy_j <= result.energy_high_j
    assert not result.estimated


def test_a_window_is_the_sum_of_its_counted_channels(result):
    split = result.windows("long", per_channel=True).to_pylist()
    for row in result.windows("long").to_pylist():
        parts = [r for r in split if r["index"] == row["index"] and r["channel"] != "rapl:package-0/core"]
        assert len(parts) == 3
        for name in ENERGIES:
            assert row[name] == pytest.approx(sum(r[name] for r in parts), rel=1e-12)


def test_windows_that_fill_the_run_add_up_to_it(powercap):
    tree = powercap(Zone("package-0", 80.0), move=True)
    with fg.Monitor(hz=1000) as monitor:
        window = monitor.window("w")
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            with window:
                time.sleep(0.005)
    total = monitor.result.summary().to_pylist()[0]
    assert total["energy_low_j"] <= monitor.result.energy_high_j
    left_out_s = monitor.result.duration_s - total["total_duration_s"]
    tally = monitor.result.traces[0].tally  # a jump of the counter, or a pause of its reader, may fall in between
    late_s = (sum(tree.punctuality_ns()) + tally["step_longest_ns"] + tally["read_longest_ns"]) * 1e-9
    allowed_j = 2.0 + 80.0 * (left_out_s + late_s)
    assert total["energy_j"] == pytest.approx(monitor.result.energy_j, rel=0.1, abs=allowed_j)


def test_the_power_integral_of_a_step_lies_between_its_bounds(powercap, hwmon, soon):
    tree = hwmon(amdgpu(average_uw=20_000_000))
    with fg.Monitor("hwmon:*", hz=200) as monitor:
        time.sleep(0.1)
        before_ns = time.monotonic_ns()
        tree.set(0, "power1_average", 80_000_000)
        after_ns = time.monotonic_ns()
        time.sleep(0.1)
    result = monitor.result
    tally = result.traces[0].tally
    first, last = tally["first_at_ns"], tally["end_at_ns"]
    least_j = (20 * (after_ns - first) + 80 * (last - after_ns)) * 1e-9
    most_j = (20 * (before_ns - first) + 80 * (last - before_ns)) * 1e-9
    assert result.energy_low_j <= most_j
    assert result.energy_high_j >= least_j
    samples = result.samples()
    at, raw = samples["monotonic_ns"].to_numpy(), samples["raw"].to_numpy() * 1e-6
    assert result.energy_j == pytest.approx(np.trapezoid(raw, at * 1e-9), rel=1e-9)


def test_results_without_data_keep_every_schema(result):
    with fg.Monitor([]) as nothing:
        pass
    empty = nothing.result
    for ours, theirs in (
        (empty.channels, result.channels),
        (empty.samples(), result.samples()),
        (empty.windows(), result.windows()),
        (empty.windows(per_channel=True), result.windows(per_channel=True)),
        (empty.summary(), result.summary()),
    ):
        assert ours.num_rows == 0
        assert ours.schema.equals(theirs.schema)
    assert (empty.energy_j, empty.energy_low_j, empty.energy_high_j) == (0.0, 0.0, 0.0)


# ---- a result stands on its own ----


def same(one: fg.Result, other: fg.Result) -> None:
    """Equal in every table and number."""
    assert one.to_dict() == other.to_dict()
    assert one.windows(per_channel=True).equals(other.windows(per_channel=True))
    assert one.samples().equals(other.samples())
    assert (one.start_ns, one.end_ns, one.metadata) == (other.start_ns, other.end_ns, other.metadata)


def no_wait() -> None:
    """A sync that has nothing to wait for."""


def a_run(hz: float | None = 200, draws: bool = False, **options: object) -> fg.Result:
    """Ten windows, and where it `draws`, as long as it takes for the counter to move."""
    until = time.monotonic() + 60
    with fg.Monitor(hz=hz, sync=no_wait, **options) as monitor:
        for _ in range(10):
            with monitor.window("outer"), monitor.window("inner"):
                time.sleep(0.005)
        while draws and not any(monitor.energy_j().values()) and time.monotonic() < until:
            time.sleep(0.01)
    return monitor.result


@pytest.mark.parametrize("asked", [False, True])
def test_a_result_outlives_its_monitor_and_does_not_keep_it(powercap, tmp_path, asked):
    powercap(Zone("package-0", 80.0), move=True)
    for record in (None, tmp_path / "run"):
        monitor = fg.Monitor(record=record).start()
        with monitor.window("w"):
            time.sleep(0.02)
        result, gone = monitor.stop(), weakref.ref(monitor)
        before = str(result) if asked else None
        del monitor
        gc.collect()
        assert gone() is None
        assert before in (None, str(result))
        assert result.windows().num_rows == 1


def test_a_monitor_that_was_stopped_goes_without_the_garbage_collector(powercap):
    powercap(Zone("package-0", 80.0), move=True)
    gc.collect()
    gc.disable()
    try:
        monitor = fg.Monitor().start()
        result, gone = monitor.stop(), weakref.ref(monitor)
        del monitor
        assert gone() is None
    finally:
        gc.enable()
    assert result.samples().num_rows > 0


@pytest.mark.parametrize("again", [lambda r: pickle.loads(pickle.dumps(r)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize("record", [False, True])
def test_a_result_is_pickled_and_copied(powercap, tmp_path, monkeypatch, record, again):
    powercap(Zone("package-0", 80.0, children=(Zone("dram", 5.0),)), move=True)
    monkeypatch.chdir(tmp_path)
    result = a_run(record="run" if record else None)
    other = again(result)
    monkeypatch.chdir("/")
    same(result, other)
    same(result, again(result))  # after it was asked


def test_a_loaded_and_a_replayed_result_are_pickled(powercap, tmp_path, monkeypatch):
    powercap(Zone("package-0", 80.0), move=True)
    a_run().save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    loaded, replayed = fg.load("run"), a_run(hz=None, channels="replay:run", speed=0)
    monkeypatch.chdir("/")
    for result in (loaded, replayed):
        data = pickle.dumps(result)
        assert len(data) < 2 * result.samples().nbytes + 20_000
        same(result, pickle.loads(data))
        same(result, copy.deepcopy(result))


def test_a_measured_block_is_pickled_and_copied(powercap):
    powercap(Zone("package-0", 80.0), move=True)
    with fg.measure(sync=no_wait) as measured:
        time.sleep(0.02)
    for other in (pickle.loads(pickle.dumps(measured)), copy.deepcopy(measured)):
        same(measured.result, other.result)


def test_a_result_comes_back_from_another_process(powercap, tmp_path):
    powercap(Zone("package-0", 80.0), move=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(a_run, draws=True).result(timeout=240)
        assert result.summary()["count"].to_pylist() == [10, 10]
        assert result.energy_j > 0
        result.save(tmp_path / "run")
    same(result, fg.load(tmp_path / "run"))


def test_a_result_as_plain_python_is_json(result):
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["energy_j"] == result.energy_j
    assert len(plain["channels"]) == 4
    assert [row["name"] for row in plain["windows"]] == ["short", "long"]


def test_the_table_for_people_shows_energy_bounds_counts_and_what_is_not_counted(result):
    text = str(result)
    for word in ("rapl:package-0/core *", "not part of the total", "counter", "trapezoid", "short", "long", "between"):
        assert word in text
    assert with_bounds(result.energy_j, result.energy_low_j, result.energy_high_j, "J")[0] in text
    assert repr(result).startswith("<fastgreen.Result: ")
    assert all(len(line) <= 120 for line in text.splitlines())
    assert render(result, width=80)


def test_a_notebook_shows_tables_and_no_markup_of_others(result):
    window = Windows("<b>&", 0, np.array([result.start_ns]), np.array([result.end_ns]))
    other = fg.Result(result.traces, [window], result.metadata, result.start_ns, result.end_ns)
    shown = other._repr_html_()
    assert html.escape("<b>&") in shown
    assert "<b>" in str(other)
    assert "<b>" not in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123, "1.230 mJ"),
        (0.0, "0 J"),
        (999.96, "1.000 kJ"),
        (1234.5, "1.234 kJ"),
        (float("nan"), "-"),
        (None, "-"),
        (float("inf"), "inf J"),
        (2.5e-10, "0.2500 nJ"),
        (1e13, "10000 GJ"),
    ],
)
def test_quantities_read_well(value, text):
    assert quantity(value, "J") == text


def test_bounds_name_their_unit_once_where_they_share_it():
    assert bounds(0.96, 1.3, "J") == "960 mJ .. 1.30 J"
    assert bounds(1.0, 1.3, "J") == "1.00 .. 1.30 J"
    assert bounds(None, 1.0, "J") == "-"
