"""AIPowerMeter recordings of every generation, against a slow obvious twin that reads them with the standard json
module.
"""

from __future__ import annotations

import datetime
import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgreen.errors import ChannelNotFound, TraceError
from fastgreen.recordings.readers import read, read_aipowermeter
from fastgreen.recordings.readers.aipowermeter import SEGMENT_END

START = datetime.datetime(2024, 3, 1, 12, 0, 0, 250000)


def stamp(seconds: float) -> str:
    return str(START + datetime.timedelta(seconds=seconds))


def line(seconds: float, cpu: dict | None = None, gpu: dict | None = None) -> str:
    metrics = {name: part for name, part in (("cpu", cpu), ("gpu", gpu)) if part is not None}
    return json.dumps({"date": stamp(seconds), "metrics": metrics})


END = json.dumps(SEGMENT_END)


def write(folder, lines, tail="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "power_metrics.json").write_text("\n".join(lines) + tail)
    return folder


def twin_energy(lines: list[str], key: str) -> float:
    """Joules of a scalar cpu key: read line by line, add one trapezoid at a time."""
    total, last = 0.0, None
    for text in lines:
        document = json.loads(text)
        if document == SEGMENT_END:
            last = None
            continue
        moment = datetime.datetime.fromisoformat(document["date"])
        power = document["metrics"].get("cpu", {}).get(key)
        if power is None or power < 0 or (last is not None and moment < last[0]):
            last = None
            if power is None or power < 0:
                continue
        if last is not None:
            total += (moment - last[0]) / datetime.timedelta(seconds=1) * (power + last[1]) / 2
        last = (moment, power)
    return total


V0 = (
    {"intel_power": 30.0, "total_cpu_power": 20.0, "per_process_mem_use_abs": {"11": 1000, "12": 24}},
    {
        "nvidia_draw_absolute": 100.0,
        "nvidia_estimated_attributable_power_draw": 60.0,
        "per_gpu_attributable_mem_use": {"0": {"11": 500, "12": None}},
        "per_gpu_average_estimated_utilization_absolute": [{"gpu": 0.0, "pid": 11.0, "sm": 40.0}],
    },
)
V1 = (
    {
        "intel_power": 30.0,
        "psys_power": -1,
        "uncore_power": [0.5],
        "per_process_cpu_power": {"11": 12.0, "12": 1.0},
        "per_process_cpu_uses": {"11": 0.5},
        "per_process_mem_use_percent": {"11": 0.01},
        "per_process_mem_use_uss": {"11": 900},
        "total_cpu_power": 20.0,
    },
    None,
)
V2 = (
    {
        **V1[0],
        "total_dram_power": [3.0],
        "per_process_dram_power": {"11": 1.0},
        "total_mem_use": 4096,
        "rel_intel_power": 15.0,
        "absolute_cpu_time_per_pid": {"11": 7.5},
    },
    {
        "nvidia_draw_absolute": 300.0,
        "per_gpu_power_draw": {"0": 100.0, "1": 200.0},
        "per_gpu_attributable_mem_use": {"0": {"11": 500}},
        "per_gpu_per_pid_utilization_absolute": {"0": {"11": 0.4}},
        "per_gpu_absolute_percent_usage": {"0": 0.4, "1": 0.1},
        "per_gpu_estimated_attributable_utilization": {"0": 1.0},
        "per_gpu_attributable_power": {"0": 100.0, "all": 100.0},
    },
)
V3 = (
    {**V2[0], "uncore_power": 0.5, "total_dram_power": 3.0},
    {
        "nvidia_power": 300.0,
        "nvidia_memory": 1 << 30,
        "nvidia_use_rate": 40,
        "per_gpu_power": {"0": 100.0, "1": 200.0},
        "per_gpu_use_rate": {"0": 80, "1": 0},
    },
)
EXPECTED_W = {
    "V0": {"package": 30.0, "core": 20.0, "gpu": 100.0, "process/gpu": 60.0},
    "V1": {"package": 30.0, "core": 20.0, "uncore": 0.5, "process/core": 13.0},
    "V2": {"package": 30.0, "uncore": 0.5, "dram": 3.0, "process/dram": 1.0, "process/package": 15.0, "gpu": 300.0,
           "gpu:0": 100.0, "gpu:1": 200.0, "process/gpu": 100.0, "process/gpu:0": 100.0},
    "V3": {"package": 30.0, "uncore": 0.5, "dram": 3.0, "gpu": 300.0, "gpu:0": 100.0, "gpu:1": 200.0},
}  # fmt: skip
GENERATIONS = {"V0": V0, "V1": V1, "V2": V2, "V3": V3}


@pytest.mark.parametrize("name", GENERATIONS)
def test_each_generation_gives_its_watts_times_seconds(tmp_path, name):
    recording = read_aipowermeter(write(tmp_path, [line(t, *GENERATIONS[name]) for t in (0, 2, 3.5)]))
    energy = recording.energy_j()
    for channel, watts in EXPECTED_W[name].items():
        assert energy[channel] == pytest.approx(watts * 3.5, rel=1e-12), channel
    assert "psys" not in energy
    assert "psys" in recording.absent
    assert recording.dropped == 0


def test_roots_count_once_and_children_lie_inside_them(tmp_path):
    recording = read_aipowermeter(write(tmp_path, [line(t, *V2) for t in (0, 1)]))
    assert recording.total_j == pytest.approx(30.0 + 3.0 + 300.0)
    parents = {row["id"]: row["parent"] for row in recording.channels.to_pylist()}
    assert parents["core"] == "package"
    assert parents["gpu:1"] == "gpu"
    assert parents["process/gpu:0"] == "gpu:0"


def test_use_is_a_fraction_whether_written_as_percent_or_not(tmp_path):
    def mean(name, channel):
        recording = read_aipowermeter(write(tmp_path / name, [line(t, *GENERATIONS[name]) for t in (0, 1)]))
        return {row["id"]: row["mean"] for row in recording.channels.to_pylist()}[channel]

    assert mean("V0", "gpu_use") == pytest.approx(0.4)
    assert mean("V2", "gpu_use:0") == pytest.approx(0.4)
    assert mean("V3", "gpu_use") == pytest.approx(0.4)
    assert mean("V3", "gpu_use:0") == pytest.approx(0.8)
    assert mean("V0", "process/gpu_memory") == 500
    assert mean("V0", "process/memory") == 1024


def test_generations_mixed_in_one_file_each_count_where_they_stand(tmp_path):
    lines = [line(t, *generation) for t, generation in enumerate((V0, V1, V1, V2, V2, V3, V3))]
    energy = read_aipowermeter(write(tmp_path, lines)).energy_j()
    assert energy["package"] == pytest.approx(6 * 30.0)
    assert energy["gpu"] == pytest.approx(3 * 300.0)  # V1 has no GPU: its lines are a hole, not a bridge
    assert energy["uncore"] == pytest.approx(5 * 0.5)
    assert energy["dram"] == pytest.approx(3 * 3.0)


def test_minus_one_is_absent_and_never_integrated(tmp_path):
    recording = read_aipowermeter(
        write(tmp_path, [line(t, {"intel_power": 10.0, "psys_power": -1}) for t in range(17)])
    )
    assert recording.energy_j() == {"package": pytest.approx(160.0)}
    assert any("17 negative values" in note for note in recording.notes)


def test_an_absent_value_is_a_hole_and_not_a_bridge(tmp_path):
    values = [10.0, 10.0, None, 10.0, 10.0]
    lines = [line(t, {"intel_power": w, "total_cpu_power": 1.0}) for t, w in enumerate(values)]
    recording = read_aipowermeter(write(tmp_path, lines))
    row = recording.channels.to_pylist()[0]
    assert recording.energy_j()["package"] == pytest.approx(20.0)
    assert (row["covered_s"], row["missing_s"], row["absent"]) == (2.0, 2.0, 1)


def test_the_gap_between_segments_is_not_integrated(tmp_path):
    lines = [line(0, {"intel_power": 10.0}), line(1, {"intel_power": 20.0}), END]
    lines += [line(1001, {"intel_power": 20.0}), line(1003, {"intel_power": 10.0}), END]
    recording = read_aipowermeter(write(tmp_path, lines))
    assert recording.energy_j()["package"] == pytest.approx(15.0 + 30.0, rel=1e-12)
    assert recording.channels.to_pylist()[0]["segments"] == 2
    assert list(recording.points("package")[1]) == [0, 0, 1, 1]


def test_time_going_back_begins_a_segment_and_energy_stays_positive(tmp_path):
    lines = [line(t, {"intel_power": 10.0}) for t in (0, 1, 2, -100, -99)]
    recording = read_aipowermeter(write(tmp_path, lines))
    assert recording.energy_j()["package"] == pytest.approx(30.0)
    assert any("time goes back 1 time;" in note for note in recording.notes)


def test_the_repeated_hour_of_autumn_is_not_time_going_back(tmp_path):
    moments = ["2023-10-29 02:59:58", "2023-10-29 02:59:59", "2023-10-29 02:00:00", "2023-10-29 02:00:01"]
    lines = [json.dumps({"date": m, "metrics": {"cpu": {"intel_power": 10.0}}}) for m in moments]
    recording = read_aipowermeter(write(tmp_path, lines), timezone="Europe/Paris")
    assert recording.energy_j()["package"] == pytest.approx(30.0)
    assert recording.points("package")[0][0] == 1698541198 * 10**9
    assert not recording.notes


@pytest.mark.parametrize("keep", [5, 30, 60, 75])
def test_a_cut_last_line_loses_that_line_only(tmp_path, keep):
    lines = [line(t, {"intel_power": 10.0}) for t in range(4)]
    recording = read_aipowermeter(write(tmp_path, [*lines[:3], lines[3][:keep]], tail=""))
    assert recording.energy_j()["package"] == pytest.approx(20.0)
    assert recording.dropped == 1
    assert "the last line is cut and was left out" in recording.notes


def test_lists_scalars_and_text_under_one_key_all_count(tmp_path):
    values = [5.0, [5.0], [2.0, 3.0], [5.0, -1], "5.0", {"0": 5.0}, 5]
    recording = read_aipowermeter(write(tmp_path, [line(t, {"intel_power": v}) for t, v in enumerate(values)]))
    assert recording.energy_j()["package"] == pytest.approx(30.0)


ODD = [
    "",
    "null",
    "[]",
    "7",
    '"text"',
    "{}",
    '{"date": 5, "metrics": {}}',
    '{"date": "yesterday", "metrics": {"cpu": {"intel_power": 3}}}',
    '{"date": null, "metrics": null}',
    '{"date": "2024-03-01 12:00:00", "metrics": [1, 2]}',
    '{"date": "2024-03-01 12:00:00", "metrics": {"cpu": 4, "gpu": "none"}}',
    '{"date": "2024-03-01 12:00:00", "metrics": {"cpu": {"intel_power": {"a": {"b": [null, "x"]}}}}}',
    '{"date": "2024-03-01 12:00:00", "metrics": {"gpu": {"per_gpu_power_draw": [1], "nvidia_power": "N/A"}}}',
    '{"date": "2024-03-01 12:00:00", "metrics": {"cpu": {"intel_power": 1, "intel_power": 2}}}',
    '{"date": "2024-03-01 12:00:00", "metrics": {"cpu": {"unheard_of": [[1]]}}}',
    '{"date": "2024-03-01T12:00:00+02:00", "metrics": {"cpu": {"intel_power": 1e400}}}',
    '{"date": "9999-99-99", "metrics": {"cpu": {}}}',
    "END OF RECORDING SEGMENT",
    END,
    "\x00\x00",
    "{" * 200,
    line(0, *V0),
    line(1, *V1),
    line(2, *V2),
    line(3, *V3),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(ODD), max_size=30), st.binary(max_size=20))
def test_no_recording_makes_the_reader_crash(tmp_path_factory, lines, tail):
    file = tmp_path_factory.mktemp("odd") / "power_metrics.json"
    file.write_bytes("\n".join(lines).encode() + b"\n" + tail)
    recording = read_aipowermeter(file)
    assert all(math.isfinite(joules) and joules >= 0 for joules in recording.energy_j().values())


POWER = st.one_of(st.floats(0, 500, allow_subnormal=False), st.just(-1), st.none())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 40), POWER, st.booleans()), min_size=1, max_size=60))
def test_energy_equals_a_trapezoid_added_line_by_line(tmp_path_factory, steps):
    at, lines = 0.0, []
    for tenths, power, ends in steps:
        at += tenths / 10
        cpu = {"total_cpu_power": 1.0} | ({} if power is None else {"intel_power": power})
        lines.append(line(at, cpu))
        if ends:
            lines.append(END)
    recording = read_aipowermeter(write(tmp_path_factory.mktemp("twin"), lines))
    assert recording.energy_j().get("package", 0.0) == pytest.approx(
        twin_energy(lines, "intel_power"), rel=1e-9, abs=1e-9
    )


def test_empty_folder_and_empty_file_are_reported_and_a_missing_one_is_an_error(tmp_path):
    recording = read_aipowermeter(tmp_path)
    assert recording.energy_j() == {}
    assert recording.notes == ["no power_metrics.json in this folder"]
    assert "package" in recording.absent
    assert read_aipowermeter(write(tmp_path / "empty", [], tail="")).energy_j() == {}
    with pytest.raises(TraceError, match="no such file"):
        read_aipowermeter(tmp_path / "nowhere")
    with pytest.raises(TraceError, match=r"must hold one of power_metrics\.json"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"timezone.*Mars"):
        read_aipowermeter(tmp_path, timezone="Mars/Base")
    with pytest.raises(ChannelNotFound, match="no channel 'gpu:7'"):
        recording.power("gpu:7")


def test_what_lies_beside_the_recording_is_read_too(tmp_path):
    folder = write(tmp_path, [line(t, *V1) for t in (0, 1)])
    (folder / "latency.csv").write_text("0.25\n0.5\n")
    (folder / "model_summary.json").write_text('{"total_params": 5}')
    (folder / "results_exp.json").write_text("not json")
    recording = read(folder)
    np.testing.assert_array_equal(recording.latency_s, [0.25, 0.5])
    assert recording.extra["model_summary"]["total_params"] == 5
    assert any(note.startswith("results_exp.json could not be read") for note in recording.notes)


def test_many_points_move_to_a_file_and_come_back_the_same(tmp_path):
    lines = [line(t / 10, {"intel_power": 10.0 + t % 7}) for t in range(3000)]
    folder = write(tmp_path, lines)
    small, large = read_aipowermeter(folder, limit_points=100), read_aipowermeter(folder)
    assert small.power("package").equals(large.power("package"))
    assert small.power("package").schema.field("value").metadata == {b"unit": b"W"}
    assert small.energy_j() == large.energy_j()


def test_memory_does_not_grow_with_the_recording(tmp_path):
    block = "\n".join(line(t / 10, *V1) for t in range(5000)) + "\n"

    def peak(blocks):
        file = tmp_path / f"{blocks}.json"
        file.write_text(block * blocks)
        tracemalloc.start()
        read_aipowermeter(file, limit_points=1000)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(4)
    assert peak(24) < 1.3 * peak(8)
