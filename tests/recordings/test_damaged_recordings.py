"""Recordings that a vandal wrote: absurd numbers, moments and bytes. Nothing crashes, and nothing absurd counts."""

from __future__ import annotations

import io
import json
import time
import warnings

import numpy as np
import pytest
from click.testing import CliRunner

import fastgreen
from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.experiment import read, read_aipowermeter, read_codecarbon, read_nvidia_smi, read_omegawatt
from fastgreen.recordings.readers import aipowermeter
from fastgreen.recordings.readers.timestamps import ABSENT_NS, to_utc_ns
from fastgreen.recordings.recording import RecordingBuilder

CARBON = "timestamp,run_id,duration,cpu_energy,gpu_energy,ram_energy,energy_consumed\n"
SMI = "timestamp, power.draw [W]\n"
WALL = "#timestamp,#frame_is_ok,#activepow1\n"


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def quiet(reader, *arguments, **options):
    """The recording, read without a warning of NumPy's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recording = reader(*arguments, **options)
        recording.to_result()
    return recording


def metrics(lines):
    return "".join(json.dumps({"date": date, "metrics": m}) + "\n" for date, m in lines)


def package(watts, start=0, day="2024-01-01"):
    return [(f"{day} 12:00:{start + 2 * i:02d}", {"cpu": {"intel_power": w}}) for i, w in enumerate(watts)]


def test_watts_that_no_meter_can_mean_are_absent(tmp_path):
    recording = quiet(read_aipowermeter, written(tmp_path / "m", metrics(package([10, 10, 1e308, 1e308, 2e9, 10, 10]))))
    assert recording.energy_j() == {"package": 40.0}
    assert "3 values larger than any possible reading: absent" in recording.notes
    text = SMI + "".join(f"2024/01/01 00:00:0{i}, {w} W\n" for i, w in enumerate([50, 50, 1e300, "1e400", 50, 50]))
    recording = quiet(read_nvidia_smi, written(tmp_path / "s.csv", text))
    assert recording.energy_j() == {"gpu:0": 100.0}
    text = WALL + "".join(f"170411040{i}.0,True,{w}\n" for i, w in enumerate([100, 100, 1e300, 100, 100]))
    assert quiet(read_omegawatt, written(tmp_path / "w.csv", text)).energy_j() == {"wall:1": 200.0}


def test_a_gauge_that_overflows_does_not_spoil_its_mean(tmp_path):
    lines = [("2024-01-01 12:00:00", {"cpu": {"total_mem_use": b}}) for b in (1e9, 1e308, 1e308, 3e9)]
    row = {r["id"]: r for r in quiet(read_aipowermeter, written(tmp_path / "m", metrics(lines))).channels.to_pylist()}
    assert row["memory"]["mean"] == 2e9


@pytest.mark.parametrize("moment", ["1700-01-01 00:00:00", "0001-01-01 00:00:00", "2261-01-01 00:00:00", "9999-12-31"])
def test_moments_outside_of_the_age_of_meters_are_no_moments(tmp_path, moment):
    lines = [*package([10, 10]), (moment, {"cpu": {"intel_power": 10}}), *package([10, 10], start=4)]
    recording = quiet(read_aipowermeter, written(tmp_path / "m", metrics(lines)))
    assert recording.energy_j() == {"package": 60.0}
    assert recording.dropped == 1


@pytest.mark.parametrize("moment", ["1e30", "-5", "nan", "inf", "99999999999999999999", "word"])
def test_a_wattmeters_impossible_moments_are_dropped(tmp_path, moment):
    text = WALL + f"1704110400.0,True,100\n{moment},True,100\n1704110401.0,True,100\n"
    recording = quiet(read_omegawatt, written(tmp_path / "w.csv", text))
    assert recording.energy_j() == {"wall:1": 100.0}
    assert recording.dropped == 1


@pytest.mark.parametrize("duration", ["0", "-5", "nan", "inf", "1e300", ""])
def test_a_run_of_impossible_length_is_left_out(tmp_path, duration):
    text = CARBON + f"2024-01-01T00:01:00,a,60,0.001,,,0.001\n2024-01-01T00:02:00,b,{duration},1,,,1\n"
    recording = quiet(read_codecarbon, written(tmp_path / "e.csv", text))
    assert recording.energy_j()["cpu"] == pytest.approx(3600.0)
    assert recording.channels.to_pylist()[0]["segments"] == 1
    assert "1 row without a duration: left out" in recording.notes


@pytest.mark.parametrize(
    ("reader", "name", "head", "rows"),
    [
        (read_nvidia_smi, "s.csv", SMI, ["2024/01/01 00:00:00, 50 W", "2024/01/01 00:00:01, 50 W"]),
        (read_omegawatt, "w.csv", WALL, ["1704110400.0,True,50", "1704110401.0,True,50"]),
        (read_codecarbon, "e.csv", CARBON, ["2024-01-01T00:00:01,a,1,1.388888888888889e-05,,,0"]),
    ],
)
@pytest.mark.parametrize("junk", ["x" * 200_000, "\0,\0,\0", '"' + "y" * 200_000, "\x1b[31m,\x07"])
def test_a_line_that_no_csv_reader_takes_is_dropped(tmp_path, reader, name, head, rows, junk):
    recording = quiet(reader, written(tmp_path / name, head + "\n".join([*rows, junk]) + "\n"))
    assert recording.total_j == pytest.approx(50.0)
    with pytest.raises(TraceError) as caught:
        reader(written(tmp_path / f"only-{name}", junk))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_log_in_two_byte_characters_is_read(tmp_path):
    text = SMI + "2024/01/01 00:00:00, 50 W\r\n2024/01/01 00:00:01, 50 W\r\n"
    for encoding in ("utf-16", "utf-8-sig"):
        assert read(written(tmp_path / encoding, text.encode(encoding))).energy_j() == {"gpu:0": 50.0}


class Slow(aipowermeter._Reader):
    """Counts the lines that are read one by one."""

    lines = 0

    def _few(self, lines):
        Slow.lines += len(lines)
        super()._few(lines)


def test_windows_line_ends_are_no_reason_to_read_line_by_line():
    text = metrics([(f"2024-01-01 12:{i // 60:02d}:{i % 60:02d}", {"cpu": {"intel_power": 10.0}}) for i in range(600)])
    for ends in ("\n", "\r\n"):
        builder = RecordingBuilder("aipowermeter", "test")
        builder.channel("package", root=True)
        Slow.lines = 0
        Slow(builder, "UTC").read(io.BytesIO(text.replace("\n", ends).encode()))
        assert builder.finish().energy_j() == {"package": pytest.approx(5990.0)}
        assert Slow.lines <= 16


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    with pytest.raises(TraceError, match="it is empty"):
        read(written(tmp_path / "nothing", ""))


def test_a_recording_whose_time_goes_back_can_be_saved_and_loaded_with_its_energy(tmp_path):
    lines = [*package([10, 20, 30], start=30), *package([10, 20], start=0), *package([5, 5], start=1)]
    recording = quiet(read_aipowermeter, written(tmp_path / "m", metrics(lines)))
    assert "time goes back 2 times; a new segment begins at each" in recording.notes
    recording.to_result().save(tmp_path / "run")
    result = fastgreen.load(tmp_path / "run")
    assert result.energy_j == pytest.approx(recording.total_j, rel=1e-9)
    windows = result.windows("segment")
    assert windows.num_rows == 3
    assert windows.column("energy_j").to_pylist() == pytest.approx([80.0, 30.0, 10.0])
    assert any("placed one after the other" in note for note in result.notes)


def test_overlapping_runs_of_two_devices_stay_together(tmp_path):
    """Segments go back by the same stretch in every channel, so what was measured together stays together."""
    builder = RecordingBuilder("test", "test")
    stamps = np.array([100, 101, 102, 90, 91], np.int64) * 10**9
    for name, watts in (("package", 10.0), ("gpu", 100.0)):
        builder.channel(name, root=True)
        values = np.full(5, watts)
        values[2 if name == "gpu" else 4] = np.nan
        builder.add(name, stamps, np.array([0, 0, 0, 1, 1]), values)
    result = builder.finish().to_result()
    assert result.energy_j == pytest.approx(10 * 2 + 100 * 1 + 100 * 1)
    assert result.windows("segment").num_rows == 2
    result.save(tmp_path / "run")
    assert fastgreen.load(tmp_path / "run").energy_j == result.energy_j


def test_gpus_count_where_their_sum_is_not_recorded(tmp_path):
    lines = [
        (f"2024-01-01 12:00:0{i}", {"cpu": {"intel_power": 10}, "gpu": {"per_gpu_power_draw": {"0": 50, "1": 30}}})
        for i in range(3)
    ]
    recording = quiet(read_aipowermeter, written(tmp_path / "m", metrics(lines)))
    assert recording.total_j == pytest.approx(2 * (10 + 50 + 30))
    assert "gpu" in recording.absent
    assert recording.to_result().energy_j == pytest.approx(recording.total_j)


def test_values_that_are_no_latencies_are_left_out_and_reported(tmp_path):
    written(tmp_path / "power_metrics.json", metrics(package([10, 10])))
    written(tmp_path / "latency.csv", "0.1\nnan\n-1\ninf\n0.3\n")
    written(tmp_path / "results_exp.json", "[" * 100_000)
    recording = read(tmp_path)
    assert recording.latency_s.tolist() == [0.1, 0.3]
    assert "3 lines of latency.csv without a time: left out" in recording.notes
    assert any("results_exp.json could not be read" in note for note in recording.notes)


# ---- as a user types it ----


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words], env={"COLUMNS": "200"})


def test_rows_are_dropped_from_logs_of_nvidia_smi_alone(tmp_path):
    file = written(tmp_path / "power_metrics.json", metrics(package([10, 10])))
    done = call("import", file, "--drop", 3)
    assert done.exit_code == 2
    assert "--drop: only a log of nvidia-smi" in done.output


def test_a_shifted_clock_is_put_right(tmp_path):
    inside = written(tmp_path / "power_metrics.json", metrics(package([60, 60])))
    wall = written(tmp_path / "w.csv", WALL + "".join(f"{1704117600 + i}.0,True,100\n" for i in range(3)))
    assert "--timezone" in call("import", inside, "--against", wall).output
    done = call("import", inside, "--against", wall, "--shift", 7200, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["comparison"]["ratio"] == pytest.approx(0.6)


def test_two_names_of_gpus_never_become_one_channel(tmp_path):
    lines = [f"2023/05/01 00:00:0{i}, {gpu}, {w} W" for i in range(3) for gpu, w in (("x", 10), ("0", 20), ("7", 30))]
    path = written(tmp_path / "s.csv", "timestamp, index, power.draw [W]\n" + "\n".join(reversed(lines[:3])) + "\n")
    with path.open("a") as stream:
        stream.write("\n".join(lines[3:]) + "\n")
    recording = quiet(read_nvidia_smi, path)
    assert recording.energy_j() == {"gpu:7": 60.0, "gpu:0": 40.0, "gpu:1": 20.0}


FULL = "2023/05/01,{},1\n"
MANY = {
    "gpus.csv": "timestamp, index, power.draw [W]\n" + "".join(FULL.format(i) for i in range(40_000)),
    "names.csv": "timestamp, index, power.draw [W]\n" + "".join(FULL.format(f"x{i}") for i in range(40_000)),
    "wall.csv": "#timestamp" + "".join(f",#activepow{i}" for i in range(30_000)) + "\n17041104" + ",1" * 30_000 + "\n",
    "gpus": metrics([("2024-01-01 12:00:00", {"gpu": {"per_gpu_power_draw": {str(i): 1 for i in range(50_000)}}})]),
    "gpus_in_turn": metrics(("2024-01-01 12:00:00", {"gpu": {"per_gpu_power": {str(i): 1}}}) for i in range(9_000)),
    "keys": metrics(("2024-01-01 12:00:00", {"cpu": {f"k{i}": 1}}) for i in range(9_000)),
    "no_line": '{"date": 1}\n' + "{}\n" * 300_000,
}


@pytest.mark.parametrize("name", MANY)
def test_a_megabyte_of_names_is_read_in_seconds(tmp_path, name):
    assert len(MANY[name]) < 1_000_000
    began = time.process_time()
    recording = quiet(read, written(tmp_path / name, MANY[name]))
    assert time.process_time() - began < 5
    assert recording.channels.num_rows <= 1024
    assert len(recording.notes) < 100


def test_values_in_deep_lists_and_sums_beyond_a_double_are_absent(tmp_path):
    deep = json.loads("[" * 300 + "1" + "]" * 300)
    lines = [*package([10, 10]), ("2024-01-01 12:00:04", {"cpu": {"intel_power": deep}})]
    lines += [("2024-01-01 12:00:05", {"cpu": {"intel_power": [1e308, 1e308]}})]
    recording = quiet(read_aipowermeter, written(tmp_path / "m", metrics(lines)))
    assert recording.energy_j() == {"package": 20.0}
    assert recording.dropped == 1


def test_a_latency_too_large_for_a_double_is_a_note(tmp_path):
    written(tmp_path / "power_metrics.json", metrics(package([10, 10])))
    written(tmp_path / "latency.json", f"[1{'0' * 400}]")
    recording = quiet(read_aipowermeter, tmp_path)
    assert any(note.startswith("latency.json could not be read") for note in recording.notes)


@pytest.mark.parametrize("zone", ["x" * 3000, "\0", "..", "\udc80"])
def test_a_name_that_is_no_time_zone_is_refused(tmp_path, zone):
    with pytest.raises(ValueError, match="timezone must be the name of a zone"):
        read_codecarbon(tmp_path, timezone=zone)


def test_a_half_of_a_surrogate_pair_is_no_time():
    assert list(to_utc_ns(["\udc80", "1970-01-01 00:00:01"])) == [ABSENT_NS, 10**9]


def test_a_total_that_a_line_gives_twice_counts_once(tmp_path):
    twice = {"nvidia_draw_absolute": 90.0, "per_gpu_power_draw": {"0": 60.0, "1": 30.0, "all": 90.0}}
    lines = [(f"2024-01-01 12:00:0{i}", {"gpu": twice}) for i in range(4)]
    (row,) = [
        row
        for row in quiet(read_aipowermeter, written(tmp_path / "m", metrics(lines))).channels.to_pylist()
        if row["id"] == "gpu"
    ]
    assert (row["energy_low_j"], row["energy_j"], row["energy_high_j"], row["samples"]) == (270.0, 270.0, 270.0, 4)


def test_a_clock_that_jumps_by_decades_gives_no_negative_time(tmp_path):
    lines = [f"{s},True,100\n" for _ in range(40) for s in (3, 1_704_110_405)]
    recording = read(written(tmp_path / "w.csv", WALL + "".join(lines)))
    row = recording.channels.to_pylist()[0]
    assert row["covered_s"] == pytest.approx(40 * 1_704_110_402)
    assert row["missing_s"] >= 0
    with pytest.raises(TraceError, match="too long to be placed"):
        recording.to_result()
