"""Two meters side by side, the published layout written and read back, recordings as results, attribution to a tree."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgreen import load
from fastgreen.errors import FastgreenWarning
from fastgreen.experiment.attribution import (
    Snapshot,
    TreeMeter,
    attribute,
    between,
    channel_kind,
    share_out,
    share_out_gpu,
    snapshot,
    tree_share,
)
from fastgreen.measuring.monitor import Monitor
from fastgreen.recordings.comparison import Curve, compare
from fastgreen.recordings.conversion import result_of
from fastgreen.recordings.published_layout import published_name, write_power_metrics, write_run
from fastgreen.recordings.readers import read_aipowermeter, read_nvidia_smi
from fastgreen.recordings.recording import RecordingBuilder, recording_of
from tests.oracles.places import SHARED

TRACE = SHARED / "training-runs" / "gpu-power-cloud-mobilenet_v2.csv"
EPOCH_NS = 1_700_000_000 * 10**9


def recording(seconds, watts, *, channel="package", segment=None, source="test"):
    builder = RecordingBuilder(source, source)
    builder.channel(channel, root=True)
    time_ns = EPOCH_NS + np.rint(np.asarray(seconds, float) * 1e9).astype(np.int64)
    builder.add(
        channel, time_ns, np.zeros(len(seconds)) if segment is None else np.asarray(segment), np.asarray(watts, float)
    )
    return builder.finish()


def test_a_meter_inside_against_one_at_the_wall_over_their_common_time():
    inside = recording(np.arange(0, 11), np.full(11, 70.0))
    wall = recording(np.arange(3.5, 20, 0.01), np.full(1650, 100.0), channel="wall:1")
    result = compare(inside, wall)
    assert result.seconds == pytest.approx(6.5)
    assert (result.inner_j, result.outer_j) == pytest.approx((455.0, 650.0))
    assert result.ratio == pytest.approx(0.7)
    assert result.missing_share == pytest.approx(0.3)
    assert result.difference_j == pytest.approx(195.0)
    assert "missing 30.0%" in str(result)


def test_gaps_of_either_meter_are_left_out_of_both():
    inside = recording([0, 4, 6, 10], [50.0] * 4, segment=[0, 0, 1, 1])
    wall = recording([0, 1, 2, 3, 9, 10], [100.0, 100, np.nan, 100, 100, 100])
    result = compare(inside, wall)
    assert result.seconds == pytest.approx(1 + 1 + 4)
    assert result.ratio == pytest.approx(0.5)


def test_recordings_that_do_not_overlap_point_to_the_time_zone():
    first, second = recording([0, 1], [1.0, 1.0]), recording([7200, 7201], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"do not overlap.*time zone"):
        compare(first, second)
    assert compare(first, second, shift_s=7200).ratio == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no root power channel"):
        compare(recording([0], [1.0]), second)


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 500)), min_size=3, max_size=20),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_curve_cut_in_three_adds_up_to_the_whole(steps, a, b):
    seconds = np.cumsum([s for s, _ in steps])
    curve = Curve(np.rint(seconds * 1e9).astype(np.int64), np.zeros(len(steps), int), np.array([w for _, w in steps]))
    ((first, last),) = curve.spans()
    cuts = sorted(first + int((last - first) * x) for x in (a, b))
    parts = [curve.energy_j(x, y) for x, y in zip([first, *cuts], [*cuts, last], strict=True)]
    assert sum(parts) == pytest.approx(curve.energy_j(first, last), rel=1e-9, abs=1e-6)
    with pytest.raises(ValueError, match="one covered stretch"):
        curve.energy_j(first - 1, last)


def test_the_published_layout_reads_back_with_the_same_energy_and_latencies(tmp_path):
    seconds = np.arange(0, 20, 2.0)
    source = recording(seconds, 30 + np.sin(seconds))
    folder = write_run(tmp_path, 224, 3, source, [0.25, 1 / 3], timezone="Europe/Paris")
    assert folder == tmp_path / "input_224" / "run_3"
    assert (folder / "latency.csv").read_text() == "0.25\n0.3333333333333333\n"
    again = read_aipowermeter(folder, timezone="Europe/Paris")
    assert again.energy_j()["package"] == pytest.approx(source.energy_j()["package"], rel=1e-12)
    np.testing.assert_array_equal(again.points("package")[0], source.points("package")[0])
    np.testing.assert_array_equal(again.latency_s, [0.25, 1 / 3])


def test_the_published_keys_are_those_that_old_notebooks_look_up(tmp_path):
    builder = RecordingBuilder("test", "test")
    stamps = EPOCH_NS + np.arange(3) * 10**9
    for name, watts in (("package", 30.0), ("dram", 3.0), ("gpu:0", 100.0), ("gpu:1", 50.0)):
        builder.channel(name)
        builder.add(name, stamps, np.array([0, 0, 1]), np.full(3, watts))
    write_power_metrics(tmp_path / "power_metrics.json", builder.finish())
    lines = [json.loads(line) for line in (tmp_path / "power_metrics.json").read_text().splitlines()]
    marks = [i for i, line in enumerate(lines) if line == "END OF RECORDING SEGMENT"]
    assert marks == [2, 4]
    metrics = lines[0]["metrics"]
    assert metrics["cpu"] == {"intel_power": 30.0, "total_dram_power": 3.0}
    assert metrics["gpu"]["nvidia_draw_absolute"] == 150.0
    assert metrics["gpu"]["per_gpu_power_draw"] == {"0": 100.0, "1": 50.0}
    assert metrics["gpu"]["per_gpu_attributable_power"] == {"all": None}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("rapl:package-0", "package"),
        ("rapl:package-1/dram", "dram"),
        ("rapl:package-0/core", "core"),
        ("rapl:psys", "psys"),
        ("nvml:3", "gpu:3"),
        ("procstat:cpu", "package"),
        ("perf:package-1", "package"),
        ("perf:package-0/dram", "dram"),
        ("perf:package-0/core", "core"),
        ("perf:psys", "psys"),
        ("hwmon:amd_energy/Esocket1", "package"),
        ("hwmon:amd_energy@hwmon3/Esocket0", "package"),
        ("hwmon:amd_energy/Ecore001", None),
        ("hwmon:amd_hsmp_hwmon/power1", "package"),
        ("hwmon:amd_hsmp_hwmon@hwmon2/pinput", "package"),
        ("hwmon:power_meter/Grace Power Socket 0", "package"),
        ("hwmon:power_meter/Module Power Socket 0", None),
        ("hwmon:power_meter/power1", None),
        ("hwmon:altra_hwmon/Core Energy 0", "package"),
        ("scmi:big-cluster", "package"),
        ("scmi:gpu", None),
        ("battery:BAT0", None),
        ("hwmon:amdgpu/PPT", None),
        ("nvml:0/power", None),
    ],
)
def test_our_channels_have_a_word_in_the_published_format(ours, theirs):
    assert published_name(ours) == theirs


def test_a_channel_that_the_format_has_no_name_for_is_reported_if_it_counts(tmp_path):
    builder = RecordingBuilder("test", "test")
    stamps = EPOCH_NS + np.arange(3) * 10**9
    for name, root in (("rapl:package-0", True), ("hwmon:amdgpu/PPT", True), ("nvml:0/power", False)):
        builder.channel(name, root=root)
        builder.add(name, stamps, np.zeros(3), np.full(3, 10.0))
    with pytest.warns(FastgreenWarning, match="hwmon:amdgpu/PPT is left out") as warned:
        write_power_metrics(tmp_path / "power_metrics.json", builder.finish())
    assert "nvml" not in str(warned[0].message)


@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("rapl:package-0", "cpu"),
        ("perf:package-0", "cpu"),
        ("perf:package-0/dram", "dram"),
        ("rapl:package-0/dram", "dram"),
        ("procstat:cpu", "cpu"),
        ("hwmon:amd_energy/Esocket0", "cpu"),
        ("hwmon:power_meter@hwmon1/CPU Power Socket 0", "cpu"),
        ("hwmon:power_meter/Module Power Socket 0", None),
        ("hwmon:amd_hsmp_hwmon/power1", "cpu"),
        ("hwmon:xe/card", None),
        ("scmi:cpu", "cpu"),
        ("scmi:dram", None),
        ("battery:BAT0", None),
        ("nvml:0", "gpu"),
        ("hwmon:amdgpu/PPT", None),
        ("hwmon:nvme/power1", None),
    ],
)
def test_each_channel_is_shared_out_by_the_rule_of_its_device(channel, kind):
    source = channel.partition(":")[0]
    assert channel_kind(SimpleNamespace(id=channel, source=source)) == kind


def test_channels_read_at_different_moments_are_written_as_means_over_periods(tmp_path):
    builder = RecordingBuilder("test", "test")
    for name, step in (("rapl:package-0", 0.3), ("rapl:package-1", 0.5), ("nvml:0", 0.7)):
        builder.channel(name)
        stamps = EPOCH_NS + (np.arange(0, 21, step) * 1e9).astype(np.int64)
        builder.add(name, stamps, np.zeros(stamps.size), np.full(stamps.size, 10.0))
    write_power_metrics(tmp_path / "power_metrics.json", builder.finish(), period_s=1.0)
    energy = read_aipowermeter(tmp_path).energy_j()
    assert energy["package"] == pytest.approx(20.0 * 20.9, rel=0.02)
    assert energy["gpu"] == pytest.approx(10.0 * 20.9, rel=0.05)
    with pytest.raises(ValueError, match="period_s must be above 0, not 0"):
        write_power_metrics(tmp_path / "x.json", builder.finish(), period_s=0)


# ---- as results ----


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.one_of(st.floats(0, 700), st.just(float("nan"))), st.booleans()),
        min_size=2,
        max_size=40,
    )
)
def test_a_recording_as_a_result_has_the_same_energy_to_a_billionth(steps):
    seconds = np.cumsum([s / 1000 for s, _, _ in steps])
    segment = np.cumsum([new for _, _, new in steps])
    source = recording(seconds, [w for _, w, _ in steps], segment=segment)
    mine = source.energy_j().get("package")
    result = result_of(source)
    if mine is None:
        assert result.traces == []
        return
    assert result.energy_j == pytest.approx(mine, rel=1e-9, abs=1e-6)
    assert result.energy_low_j <= result.energy_j <= result.energy_high_j
    row = source.channels.to_pylist()[0]
    assert result.energy_low_j <= row["energy_low_j"] + 1e-6
    assert result.energy_high_j >= row["energy_high_j"] * (1 - 1e-9) - 1e-6


def test_a_recording_in_pieces_makes_the_same_result():
    nan = float("nan")
    watts = [5.0, 6.0, nan, nan, 7.0, 8.0, nan, 9.0, 9.0]
    segment = [0, 0, 0, 0, 0, 1, 1, 1, 2]
    whole = recording(range(9), watts, segment=segment)
    for size in (1, 2, 3, 4):
        builder = RecordingBuilder("test", "test")
        builder.channel("package", root=True)
        for i in range(0, 9, size):
            stamps = EPOCH_NS + np.arange(i, min(i + size, 9)) * 10**9
            builder.add("package", stamps, np.array(segment[i : i + size]), np.array(watts[i : i + size]))
        pieces = builder.finish()
        assert pieces.energy_j() == pytest.approx(whole.energy_j())
        a, b = result_of(pieces), result_of(whole)
        numbers = [(r.energy_j, r.energy_low_j, r.energy_high_j, r.traces[0].tally["gaps"]) for r in (a, b)]
        assert numbers[0] == pytest.approx(numbers[1])
        assert numbers[0][3] == 2


@pytest.mark.skipif(not TRACE.exists(), reason=f"the published trace is not at {TRACE}")
def test_the_published_trace_saved_as_a_run_keeps_its_energy(tmp_path):
    source = read_nvidia_smi(TRACE, drop_first=3, drop_last=3)
    source.to_result().save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert again.energy_j / 1e6 == pytest.approx(0.416474893, abs=1e-9)
    assert again.names == ["segment"]
    assert again.samples().column("time")[0].as_py().isoformat().startswith("2022-12-05T09:55:45.538")


def test_a_measured_run_as_a_recording_keeps_its_counters(tmp_path):
    with Monitor("procstat:*", hz=50) as monitor, monitor.window("work"):
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            sum(range(1000))
    result = monitor.result
    source = recording_of(result)
    trace = result.traces[0]
    counted = trace.tally["end_total"] * 1e-6
    assert source.energy_j()[trace.channel.id] == pytest.approx(counted, rel=1e-9)
    write_run(tmp_path, 1, 0, result, [0.4])
    assert read_aipowermeter(tmp_path / "input_1" / "run_0").energy_j()["package"] == pytest.approx(counted, rel=0.05)


# ---- attribution ----

JOULES = st.floats(0, 1e9)
USES = st.dictionaries(st.integers(0, 30), st.floats(0, 1e6), max_size=12)


@given(JOULES, USES, st.floats(0, 1e6))
def test_what_is_shared_out_is_never_above_what_was_drawn(drawn, uses, machine):
    shares = share_out(drawn, uses, machine)
    assert sum(shares.values()) <= drawn
    assert all(share >= 0 for share in shares.values())
    if machine > 0 and 0 < sum(uses.values()) <= machine:
        for key, use in uses.items():
            assert shares[key] == pytest.approx(drawn * (use / machine), rel=1e-9, abs=1e-12 * drawn)


@given(JOULES, st.dictionaries(st.integers(0, 30), st.floats(0, 1), max_size=12), JOULES)
def test_a_gpus_idle_power_goes_to_its_active_processes_in_equal_parts(drawn, uses, idle):
    shares = share_out_gpu(drawn, uses, idle_j=idle)
    active = [key for key, use in uses.items() if use > 0]
    assert sum(shares.values()) <= drawn
    assert sum(shares.values()) == pytest.approx(drawn if active else 0.0, rel=1e-9)
    assert all(shares[key] == 0 for key in uses if key not in active)
    assert all(shares[key] >= min(idle, drawn) / len(active) * (1 - 1e-9) for key in active)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_energies_and_uses_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="drawn_j"):
        share_out(bad, {}, 1.0)
    with pytest.raises(ValueError, match="use must be"):
        share_out_gpu(1.0, {"x": bad})
    with pytest.raises(ValueError, match=r"kind must be .*not 'psu'"):
        tree_share(between(snap(0), snap(1)), "psu", 1.0)


def snap(second, cpu=(), machine=0.0, memory=(), used=0, gpu=None):
    return Snapshot(second * 10**9, dict(cpu), dict(memory), machine, used, gpu or {})


def test_shares_of_processor_memory_and_gpu_by_hand():
    first = snap(0, {1: 10.0, 2: 5.0}, 100.0, {1: 100, 2: 100}, 1000)
    last = snap(2, {1: 11.0, 3: 0.5}, 106.0, {1: 200, 3: 0}, 1000, {0: {1: 0.3, 99: 0.1}})
    interval = between(first, last)
    assert interval.tree_cpu_s == pytest.approx(1.5)
    assert tree_share(interval, "cpu", 60.0) == pytest.approx(60.0 * 1.5 / 6.0)
    assert tree_share(interval, "dram", 10.0) == pytest.approx(10.0 * 200 / 1000)
    assert tree_share(interval, "gpu", 100.0, idle_w=10.0) == pytest.approx(10.0 + 80.0 * 0.75)
    assert tree_share(interval, "gpu", 100.0, gpu=1) == 0.0


class Nvml:
    """The three calls of NVML that the collector makes, answering from a table."""

    class NVMLError(Exception):
        pass

    def __init__(self, *boards):
        self.boards = boards

    def nvmlDeviceGetCount(self):
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetProcessUtilization(self, handle, since_us):
        if self.boards[handle] is None:
            raise self.NVMLError("not found")
        return [SimpleNamespace(pid=pid, smUtil=use) for pid, use in self.boards[handle]]


def test_gpu_use_is_the_mean_of_nvmls_samples_and_a_silent_board_has_none():
    seen = snapshot(psutil.Process(), nvml=Nvml([(7, 40), (7, 60), (8, 10)], None))
    assert seen.gpu_use == {0: {7: 0.5, 8: 0.1}}


BUSY = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: sum(range(10000))"


def test_a_busy_child_is_seen_and_the_one_left_out_is_not(soon):
    children = [subprocess.Popen([sys.executable, "-c", BUSY.format(240)]) for _ in range(2)]
    try:
        tree, left_out = psutil.Process(), frozenset({children[1].pid})
        soon(lambda: snapshot(tree, leave_out=left_out).cpu_s.get(children[0].pid, 0) > 0)
        first = last = snapshot(tree, leave_out=left_out)
        until = time.monotonic() + 60
        while last.cpu_s[children[0].pid] == first.cpu_s[children[0].pid] and time.monotonic() < until:
            time.sleep(0.1)
            last = snapshot(tree, leave_out=left_out)
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert children[0].pid in last.cpu_s
    assert children[1].pid not in last.cpu_s
    assert last.cpu_s[children[0].pid] > first.cpu_s[children[0].pid]
    assert between(first, last).tree_cpu_s > 0


def test_the_trees_part_of_a_run_is_at_most_the_run():
    with Monitor("procstat:*", hz=50) as monitor, TreeMeter(period_s=0.1) as tree:
        end, until = time.process_time() + 0.5, time.monotonic() + 60
        while time.process_time() < end and time.monotonic() < until:
            sum(range(1000))
    table = attribute(monitor.result, tree.intervals).to_pylist()
    assert [row["kind"] for row in table] == ["cpu"]
    assert 0 < table[0]["tree_j"] <= table[0]["drawn_j"]
    with pytest.raises(ValueError, match="period_s must be above 0, not 0"):
        TreeMeter(period_s=0)
