"""Collecting: how configurations are measured, what survives a kill, what the fit makes of it."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from click.testing import CliRunner

import fastgreen
from fastgreen.cli import main
from fastgreen.errors import ChannelNotFound, TraceError
from fastgreen.estimate import workload
from fastgreen.estimate.collector import collect, processor
from fastgreen.estimate.layerfile import SCHEMA, read_conditions, read_rows
from fastgreen.estimate.modelfile import fit_physical
from fastgreen.estimate.sampling import Plan, plan_from
from fastgreen.estimate.tables import read_tables
from tests.oracles.places import ROOT


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


def test_more_repeats_are_added_to_those_that_are_there(tmp_path):
    path = Bench().collect(linear_plan(), tmp_path)
    before = read_rows(path).to_pylist()
    more = Bench()
    more.collect(linear_plan(repeats=3), tmp_path)
    rows = read_rows(path).to_pylist()
    assert rows[: len(before)] == before
    assert len(rows) == 36
    assert {row["repeat"] for row in rows[len(before) :]} == {2}


@pytest.mark.parametrize(("change", "why"), [
    ({"threads": 3}, "threads None, not 3"), ({"device": "cuda"}, "device 'cpu', not 'cuda'")
])  # fmt: skip
def test_energies_of_other_conditions_are_not_mixed_in(tmp_path, change, why):
    Bench().collect(linear_plan(3), tmp_path)
    with pytest.raises(TraceError, match=why):
        Bench().collect(linear_plan(4, **change), tmp_path)
    assert read_rows(tmp_path / "layers.arrow").num_rows == 6


def test_energies_of_other_channels_are_not_mixed_in(tmp_path):
    bench = Bench()
    bench.collect(linear_plan(3), tmp_path)

    class OneChannel(Watts):
        def windows(self, name, per_channel=False):
            table = super().windows(name, per_channel)
            return table.filter(pa.compute.equal(table["channel"], "cpu")) if per_channel else table

    with pytest.raises(TraceError, match=r"measured by cpu, gpu; the channels that can be read now are cpu;"):
        collect(
            linear_plan(4), tmp_path, monitor=lambda channels: OneChannel(bench.now), workload=bench.workload,
            clock=lambda: bench.now[0],
        )  # fmt: skip
    assert read_rows(tmp_path / "layers.arrow").num_rows == 6


def test_two_collections_do_not_write_into_one_folder(tmp_path):
    def other(done, all_):
        with pytest.raises(TraceError, match="another collection is writing"):
            Bench().collect(linear_plan(5), tmp_path)

    Bench().collect(linear_plan(3), tmp_path, progress=other)
    assert read_rows(tmp_path / "layers.arrow").num_rows == 6
    Bench().collect(linear_plan(5), tmp_path)


def test_the_machine_of_a_collection_is_the_one_it_was_measured_on(tmp_path):
    Bench().collect(linear_plan(30), tmp_path)
    assert read_conditions(tmp_path / "layers.arrow")["machine"] == processor()
    found = CliRunner().invoke(main, ["fit", str(tmp_path), "--json"])
    assert json.loads(found.stdout)["machine"] == processor()


def test_a_plan_that_grew_by_a_size_is_fitted_with_the_rows_before_it(tmp_path):
    Bench().collect(linear_plan(12), tmp_path)
    section = {"count": 12, "batch_size": [1, 64], "input_size": [1, 900], "output_size": [1, 900], "rows": [1, 4]}
    Bench().collect(plan_from({"collect": {"seconds": 0.5}, "layer": {"Linear": section}}), tmp_path)
    table = read_tables(tmp_path)["Linear"]
    assert len(table) == 24
    assert set(table.sizes["rows"][:12]) == {1}


@pytest.mark.parametrize(("kind", "sizes", "shape", "check"), [
    ("Linear", {"input_size": 5, "output_size": 3, "rows": 4, "bias": 0}, (2, 4, 3), lambda m: m.bias is None),
    ("ReLU", {"input_size": 5, "inplace": 1}, (2, 5), lambda m: m.inplace),
    ("Softmax", {"input_size": 5}, (2, 5), lambda m: m.dim == 1),
    ("Conv2d", {"image_size": 7, "image_width": 5, "kernel_size": 3, "kernel_width": 1, "in_channels": 4,
                "out_channels": 6, "stride_width": 2, "padding": 1, "groups": 2, "bias": 0}, (2, 6, 7, 4),
     lambda m: m.groups == 2),
    ("MaxPool2d", {"image_size": 7, "kernel_size": 2, "in_channels": 4, "ceil_mode": 1}, (2, 4, 4, 4),
     lambda m: m.ceil_mode),
])  # fmt: skip
def test_every_size_of_a_configuration_is_that_of_the_layer_measured(kind, sizes, shape, check):
    torch = pytest.importorskip("torch")
    module, sample = workload._module(torch, kind, {"batch_size": 2, **sizes})
    assert check(module)
    assert tuple(module(torch.zeros(sample)).shape) == shape


def test_a_device_that_pytorch_cannot_use_is_refused_before_anything_is_measured(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="device must be usable, not 'cuda'"):
        collect(linear_plan(3, device="cuda"), tmp_path)
    assert not (tmp_path / "layers.arrow").exists()


def test_a_collection_that_is_interrupted_says_how_to_go_on(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "plan.toml").write_text(
        "[collect]\nseconds = 0.2\nrepeats = 1\n[layer.ReLU]\ncount = 500\nbatch_size = 1\ninput_size = [1, 9999]\n"
    )
    command = [sys.executable, "-m", "fastgreen", "collect", str(tmp_path / "plan.toml"), "-o", str(tmp_path / "out")]
    root = ROOT
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        file, deadline = tmp_path / "out" / "layers.arrow", time.monotonic() + 60
        while not (file.exists() and read_rows(file).num_rows > 1) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=240)[1]
    assert running.returncode == 130
    assert "the same command continues" in said
    assert "Traceback" not in said
    assert read_rows(file).num_rows > 1


def test_a_collection_that_was_killed_has_every_finished_configuration(tmp_path):
    script = (
        "import os, sys\n"
        "from tests.estimate.test_collector import Bench, linear_plan\n"
        "bench = Bench()\n"
        "stop = lambda done, all_: os._exit(9) if done == 7 else None\n"
        "bench.collect(linear_plan(), sys.argv[1], progress=stop)\n"
    )
    root = ROOT
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
    with pytest.raises(ValueError, match="not 'npu'"):
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


def test_energy_survives_counter_wraps_within_a_window(tmp_path, soon):
    """A powercap tree whose counter wraps several times while a layer runs: the row has every joule."""
    root = tmp_path / "powercap" / "intel-rapl:0"
    root.mkdir(parents=True)
    counter, top = root / "energy_uj", 25_000_000
    (root / "name").write_text("package-0\n")
    (root / "max_energy_range_uj").write_text(f"{top}\n")
    counter.write_text("0\n")
    total, monitors = [0], []

    def reads():
        """How often the counter has been read, all in all; None while nobody measures."""
        running = [m for m in monitors if m.running]
        return running[0]._groups[0].sampler.live(0)["samples"] if running else None

    def workload(kind, sizes):
        def forward():
            total[0] += 2_000_000
            # In place: the meter keeps the file open, as it does with the kernel's.
            with counter.open("r+") as file:
                file.write(f"{total[0] % top:09d}\n")
            seen = reads()
            time.sleep(0.01)
            soon(lambda: seen is None or reads() > seen + 1)  # no wrap passes unseen

        return forward

    def meter(channels):
        monitors.append(fastgreen.Monitor(channels, hz=1000, powercap_root=tmp_path / "powercap"))
        return monitors[-1]

    plan = Plan([("ReLU", {"batch_size": 1, "input_size": 4})], seconds=0.6, repeats=2, channels=["rapl:*"])
    rows = read_rows(collect(plan, tmp_path / "out", monitor=meter, workload=workload)).to_pylist()
    assert total[0] > 3 * top
    for row in rows:
        assert not row["estimated"]
        assert row["energy_low_j"] <= 2.0 * row["passes"] <= row["energy_high_j"]
        assert row["energy_j"] == pytest.approx(2.0 * row["passes"], rel=0.15)
