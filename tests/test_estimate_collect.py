"""Collecting: which configurations are drawn, how they are measured, what survives a kill, what the fit makes of it."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fastgreen
from fastgreen.errors import ChannelNotFound, TraceError
from fastgreen.estimate.collector import SCHEMA, collect, read_rows
from fastgreen.estimate.layers import complete
from fastgreen.estimate.modelfile import fit_physical
from fastgreen.estimate.sampling import Plan, allowed, configurations, plan_from, read_plan
from fastgreen.estimate.tables import read_tables

CONV = {
    "count": 200, "batch_size": [1, 256], "image_size": [4, 40], "kernel_size": [1, 11], "in_channels": [1, 8],
    "out_channels": [1, 8], "stride": [1, 5], "padding": [0, 3],
    "rules": ["kernel_size <= image_size", "stride <= image_size"],
}  # fmt: skip


def draw(kind, section, seed=1, **options):
    return configurations(kind, section, np.random.default_rng(seed), **options)


def test_random_configurations_are_possible_distinct_and_within_ranges_and_rules():
    found = draw("Conv2d", CONV)
    assert len({tuple(one.values()) for one in found}) == 200
    for one in found:
        complete("Conv2d", one)
        assert one["kernel_size"] <= one["image_size"]
        assert all(CONV[name][0] <= one[name] <= CONV[name][1] for name in one)
    assert found == draw("Conv2d", CONV)
    assert found != draw("Conv2d", CONV, seed=2)


def test_a_grid_has_every_combination_that_is_possible():
    section = {"sample": "grid", "batch_size": {"values": [1, 4]}, "input_size": [7, 9], "output_size": 3}
    found = draw("Linear", section)
    assert [tuple(one.values()) for one in found] == list(itertools.product([1, 4], [7, 8, 9], [3]))
    pool = {"sample": "grid", "batch_size": 1, "image_size": [1, 4], "in_channels": 2, "kernel_size": [1, 4]}
    assert len(draw("MaxPool2d", pool)) == 10


def test_layers_larger_than_the_limit_are_left_out():
    section = {"count": 50, "batch_size": [1, 512], "input_size": [1, 5000], "output_size": [1, 5000]}
    for one in draw("Linear", section, most_bytes=1e7):
        b, i, o = one["batch_size"], one["input_size"], one["output_size"]
        assert 4 * (b * i + b * o + i * o) <= 1e7


def test_a_logarithmic_range_draws_each_decade_alike():
    section = {"count": 3000, "batch_size": 1, "input_size": {"low": 1, "high": 99_999, "log": True}}
    decades = np.bincount([int(math.log10(one["input_size"])) for one in draw("ReLU", {**section, "count": 2000})])
    assert decades[2:].min() > 0.6 * decades[2:].max()


@pytest.mark.parametrize(
    ("rule", "sizes", "truth"),
    [
        ("a <= b + 2 * c", {"a": 5, "b": 1, "c": 2}, True),
        ("1 < a < 3", {"a": 3}, False),
        ("a % 2 == 0 or a // 4 == 1", {"a": 5}, True),
    ],
)
def test_a_rule_compares_whole_number_expressions(rule, sizes, truth):
    assert allowed(rule, sizes) is truth


@pytest.mark.parametrize(
    "rule", ["__import__('os')", "a", "a + 1", "a.b > 1", "a > 1.5", "'x' < a", "a >", "[a] == a", "(lambda: 1) == a"]
)
def test_a_rule_can_do_nothing_else(rule):
    with pytest.raises(ValueError, match=r"rule"):
        allowed(rule, {"a": 1})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "nothing to collect"),
        ({"collect": {"second": 1}, "layer": {"ReLU": {}}}, "no key 'second'"),
        ({"collect": {"seconds": 0}, "layer": {"ReLU": {}}}, "seconds must be more than 0"),
        ({"collect": {"repeats": 0}, "layer": {"ReLU": {}}}, "repeats must be"),
        ({"layer": {"Wavelet": {}}}, "'Wavelet' cannot be collected"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1}}}, "needs input_size"),
        ({"layer": {"ReLU": {"batch_size": 1, "input_size": 3}}}, "needs a count"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": [9, 3]}}}, "from 9 to 3"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": "many"}}}, "'many'"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "size": 3}}}, "no size 'size'"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "sample": "all"}}}, "random or grid"),
        ({"layer": {"ReLU": {"count": 5, "batch_size": 1, "input_size": [1, 3]}}}, "only 3 of 5"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 1, "input_size": 3, "rules": ["width > 1"]}}},
         "'width' is not a size"),
        ({"layer": {"Linear": {"sample": "grid", "batch_size": 1, "input_size": [1, 999], "output_size": [1, 999]}}},
         "998001 points"),
        ({"layer": {"ReLU": {"count": 1, "batch_size": 0, "input_size": 3}}}, "only 0 of 1"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_with_its_reason(document, message):
    with pytest.raises(ValueError, match=message):
        plan_from(document)


def test_a_file_that_is_not_toml_is_a_trace_error(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("[collect\n")
    with pytest.raises(TraceError, match="not a TOML file"):
        read_plan(path)


class Watts:
    """A meter with a clock of its own: two channels of 30 W and 12 W; time passes only when a pass runs."""

    def __init__(self, now, estimated=False):
        self.now, self.estimated, self.spans = now, estimated, []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.result = self

    def window(self, name):
        assert name == "layer"
        meter = self

        class Window:
            def __enter__(self):
                meter.spans.append([meter.now[0], None])

            def __exit__(self, *exc):
                meter.spans[-1][1] = meter.now[0]

        return Window()

    def windows(self, name, per_channel=False):
        rows = []
        for channel, watts in (("cpu", 30.0), ("gpu", 12.0)) if per_channel else ((None, 42.0),):
            for index, (begin, end) in enumerate(self.spans):
                joules = watts * (end - begin)
                row = {"index": index, "duration_s": end - begin, "energy_j": joules}
                rows.append({**row, "energy_low_j": 0.9 * joules, "energy_high_j": 1.1 * joules, "channel": channel})
        return pa.Table.from_pylist(rows)


class Bench:
    """Workloads whose passes take the time of their multiply-accumulates, on the clock of the meter."""

    def __init__(self, fail=None, stop_after=None):
        self.now, self.built, self.fail, self.stop_after = [0.0], [], fail, stop_after

    def workload(self, kind, sizes):
        self.built.append((kind, sizes))
        if self.stop_after is not None and len(self.built) > self.stop_after:
            raise KeyboardInterrupt
        if self.fail is not None and self.fail(sizes):
            raise RuntimeError("out of memory\nmore")
        seconds = 1e-9 * sizes["batch_size"] * sizes["input_size"] * sizes["output_size"] + 1e-3

        def forward():
            self.now[0] += seconds

        return forward

    def collect(self, plan, folder, **options):
        meter = lambda channels: Watts(self.now)  # noqa: E731
        return collect(plan, folder, monitor=meter, workload=self.workload, clock=lambda: self.now[0], **options)


def linear_plan(count=12, **settings):
    section = {"count": count, "batch_size": [1, 64], "input_size": [1, 900], "output_size": [1, 900]}
    return plan_from({"collect": {"seconds": 0.5, "repeats": 2, **settings}, "layer": {"Linear": section}})


def test_every_configuration_has_a_row_per_repeat_with_energy_bounds_and_channels(tmp_path):
    seen = []
    path = Bench().collect(linear_plan(), tmp_path, progress=lambda done, all_: seen.append((done, all_)))
    rows = read_rows(path).to_pylist()
    assert len(rows) == 24
    assert seen == [(n, 12) for n in range(1, 13)]
    for row in rows:
        assert row["passes"] >= 1
        assert row["duration_s"] >= 0.5
        assert row["energy_j"] == pytest.approx(42 * row["duration_s"])
        assert row["energy_low_j"] < row["energy_j"] < row["energy_high_j"]
        assert row["energy_per_pass_j"] * row["passes"] == pytest.approx(row["energy_j"])
        assert row["energy_per_pass_low_j"] < row["energy_per_pass_j"] < row["energy_per_pass_high_j"]
        assert {entry["id"]: round(entry["energy_j"] / row["energy_j"], 6) for entry in row["channels"]} == {
            "cpu": round(30 / 42, 6), "gpu": round(12 / 42, 6),
        }  # fmt: skip
    assert read_rows(path).schema.equals(SCHEMA)
    assert read_rows(path).schema.field("energy_j").metadata == {b"unit": b"J"}


def test_the_file_is_an_arrow_stream_for_anyone(tmp_path):
    path = Bench().collect(linear_plan(3), tmp_path)
    polars = pytest.importorskip("polars")
    with pa.ipc.open_stream(path) as reader:
        table = reader.read_all()
    assert polars.from_arrow(table)["passes"].to_list() == table["passes"].to_pylist()


def test_a_collection_that_was_stopped_goes_on_where_it_was(tmp_path):
    plan = linear_plan()
    with pytest.raises(KeyboardInterrupt):
        Bench(stop_after=5).collect(plan, tmp_path)
    assert read_rows(tmp_path / "layers.arrow").num_rows == 10
    second = Bench()
    path = second.collect(plan, tmp_path)
    assert [sizes for _, sizes in second.built] == [sizes for _, sizes in plan.layers[5:]]
    assert read_rows(path).num_rows == 24
    third = Bench()
    third.collect(plan, tmp_path)
    assert third.built == []
    more = Bench()
    more.collect(linear_plan(count=15), tmp_path)
    assert len(more.built) == 3


def test_a_collection_that_was_killed_has_every_finished_configuration(tmp_path):
    script = (
        "import os, sys\n"
        "from tests.test_estimate_collect import Bench, linear_plan\n"
        "bench = Bench()\n"
        "stop = lambda done, all_: os._exit(9) if done == 7 else None\n"
        "bench.collect(linear_plan(), sys.argv[1], progress=stop)\n"
    )
    root = Path(__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
    assert killed.returncode == 9
    assert read_rows(tmp_path / "layers.arrow").num_rows in (12, 14)
    assert read_rows(Bench().collect(linear_plan(), tmp_path)).num_rows == 24


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.75, 0.97])
def test_a_file_cut_anywhere_loses_only_what_was_being_written(tmp_path, keep):
    plan = linear_plan()
    path = Bench().collect(plan, tmp_path)
    whole = read_rows(path).to_pylist()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    left = read_rows(path).to_pylist()
    assert left == whole[: len(left)]
    Bench().collect(plan, tmp_path)
    assert [row["sizes"] for row in read_rows(path).to_pylist()] == [row["sizes"] for row in whole]


def test_a_configuration_that_cannot_run_is_kept_with_its_reason_and_left_out_of_the_fit(tmp_path):
    plan = linear_plan(count=40)
    path = Bench(fail=lambda sizes: sizes["batch_size"] > 48).collect(plan, tmp_path)
    failed = [row for row in read_rows(path).to_pylist() if row["passes"] == 0]
    assert failed
    assert all(row["failure"] == "out of memory" for row in failed)
    assert read_tables(tmp_path)["Linear"].sizes["batch_size"].max() <= 48


def test_collected_layers_are_fitted_by_any_channel(tmp_path):
    Bench().collect(linear_plan(count=120), tmp_path)
    total, cpu = read_tables(tmp_path)["Linear"], read_tables(tmp_path, "cpu")["Linear"]
    np.testing.assert_allclose(cpu.energy_j / total.energy_j, 30 / 42, rtol=1e-9)
    model = fit_physical({"Linear": total}).models["Linear"]
    layer = {"batch_size": 32, "input_size": 500, "output_size": 700}
    expected = 42 * (1e-9 * 32 * 500 * 700 + 1e-3)
    assert float(model.predict_j(layer)) == pytest.approx(expected, rel=0.05)
    with pytest.raises(ValueError, match="'npu' was not measured"):
        read_tables(tmp_path, "npu")


@pytest.mark.parametrize("content", [b"", b"nothing of arrow", b"ARROW1\x00\x00"])
def test_a_file_that_is_no_collection_is_a_trace_error(tmp_path, content):
    (tmp_path / "layers.arrow").write_bytes(content)
    with pytest.raises(TraceError, match=r"layers\.arrow"):
        read_rows(tmp_path / "layers.arrow")


def test_a_collection_of_another_version_is_refused(tmp_path):
    path = tmp_path / "layers.arrow"
    schema = SCHEMA.with_metadata({b"fastgreen.layers.version": b"9"})
    with pa.ipc.new_stream(path, schema):
        pass
    with pytest.raises(TraceError, match="version 9"):
        read_rows(path)


def test_pytorch_layers_are_measured_by_the_real_meter_and_marked_estimated(tmp_path):
    pytest.importorskip("torch")
    section = {"count": 3, "batch_size": [1, 4], "input_size": [8, 64], "output_size": [8, 64]}
    window = {"batch_size": 2, "image_size": 9, "kernel_size": 3, "in_channels": 2, "count": 1}
    document = {
        "collect": {"seconds": 0.05, "repeats": 2, "channels": ["procstat:*"], "threads": 1},
        "layer": {
            "Linear": section, "Conv2d": {**window, "out_channels": 4, "stride": 2, "padding": 1},
            "MaxPool2d": window, "Softmax": {"count": 1, "batch_size": 2, "input_size": 9},
            "Tanh": {"count": 1, "batch_size": 2, "input_size": 9},
        },
    }  # fmt: skip
    path = collect(plan_from(document), tmp_path / "out")
    rows = read_rows(path).to_pylist()
    assert len(rows) == 14
    for row in rows:
        assert row["failure"] is None
        assert row["passes"] >= 1
        assert row["duration_s"] >= 0.05
        assert row["estimated"]
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["channels"][0]["id"].startswith("procstat:")


def test_no_readable_channel_is_said_before_hours_are_spent(tmp_path):
    plan = linear_plan(2)
    bench = Bench()

    class Blind(Watts):
        def windows(self, name, per_channel=False):
            table = super().windows(name, per_channel)
            return table.slice(0, 0) if per_channel else table

    with pytest.raises(ChannelNotFound, match="fastgreen channels"):
        collect(
            plan,
            tmp_path,
            monitor=lambda channels: Blind(bench.now),
            workload=bench.workload,
            clock=lambda: bench.now[0],
        )
    with pytest.raises(ChannelNotFound):
        collect(Plan(plan.layers, channels=["no:such"]), tmp_path / "b", workload=bench.workload)


def test_energy_survives_counter_wraps_within_a_window(tmp_path):
    """A powercap tree whose counter wraps several times while a layer runs: the row has every joule."""
    root = tmp_path / "powercap" / "intel-rapl:0"
    root.mkdir(parents=True)
    counter, top = root / "energy_uj", 5_000_000
    (root / "name").write_text("package-0\n")
    (root / "max_energy_range_uj").write_text(f"{top}\n")
    counter.write_text("0\n")
    total = [0]

    def workload(kind, sizes):
        def forward():
            import time

            total[0] += 400_000
            # In place: the meter keeps the file open, as it does with the kernel's.
            with counter.open("r+") as file:
                file.write(f"{total[0] % top:09d}\n")
            time.sleep(0.01)

        return forward

    meter = lambda channels: fastgreen.Monitor(channels, hz=1000, powercap_root=tmp_path / "powercap")  # noqa: E731
    plan = Plan([("ReLU", {"batch_size": 1, "input_size": 4})], seconds=0.6, repeats=2, channels=["rapl:*"])
    rows = read_rows(collect(plan, tmp_path / "out", monitor=meter, workload=workload)).to_pylist()
    assert total[0] > 3 * top
    for row in rows:
        assert not row["estimated"]
        assert row["energy_low_j"] <= 0.4 * row["passes"] <= row["energy_high_j"]
        assert row["energy_j"] == pytest.approx(0.4 * row["passes"], rel=0.15)
