# SPDX-License-Identifier: Apache-2.0
"""Files of amd-smi, Zeus, Home Assistant, InfluxDB and Carbontracker: found by content, and read with their faults."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.recordings.readers import format_of, read

DAY = "2026-11-20T10:"


def written(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def said(recording) -> str:
    return " ".join(recording.notes)


AMD = "timestamp,gpu,socket_power,gfx_voltage"


def amd(second: int, watts: object, gpu: int = 0) -> str:
    return f"{1763632800 + second},{gpu},{watts},N/A"


def test_amd_smi_of_two_gpus_with_repeated_headers(tmp_path):
    rows = [amd(i, 100 + 100 * gpu, gpu) for i in range(6) for gpu in (0, 1)]
    file = written(tmp_path / "a", "'CTRL' + 'C' to stop watching output:", AMD, *rows[:6], AMD, *rows[6:])
    assert format_of(file) == "amd-smi"
    assert read(file).energy_j() == pytest.approx({"gpu:0": 500.0, "gpu:1": 1000.0})
    parts = [f"{1763632800 + i},0,{xcp},{250 if xcp == 0 else 'N/A'}" for i in range(5) for xcp in (0, 1)]
    assert read(written(tmp_path / "b", "timestamp,gpu,xcp,power_usage", *parts)).total_j == pytest.approx(1000.0)


def test_amd_smi_with_a_hole_a_cut_and_a_doubled_row(tmp_path):
    rows = [amd(i, 100) for i in range(6)]
    hole = read(written(tmp_path / "a", AMD, *rows, *(amd(i + 9000, 100) for i in range(6))))
    assert hole.total_j == pytest.approx(1000.0)
    assert "1 hole" in said(hole)
    cut = read(written(tmp_path / "b", AMD, *rows[:2], rows[2][:12], *rows[3:]))
    assert cut.total_j == pytest.approx(500.0)
    assert cut.dropped == 1
    assert read(written(tmp_path / "c", AMD, *rows[:3], *rows[2:])).total_j == pytest.approx(500.0)
    assert "without a number" in said(read(written(tmp_path / "d", AMD, *rows[:3], amd(3, "N/A"), *rows[4:])))


ZEUS = "start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy"


def test_windows_of_zeus_inside_others_do_not_count_twice(tmp_path):
    steps = [f"{1763632800.0 + 10 * i},step, {i},10.0,500.0,600.0" for i in range(4)]
    rows = [*steps, "1763632800.0,epoch,40.5,2000.0,2400.0", "1763632850.0,evaluation,10.0,100.0,200.0"]
    recording = read(written(tmp_path / "a", ZEUS, *rows))
    assert recording.source == "Zeus"
    assert recording.energy_j() == pytest.approx({"gpu:0": 2100.0, "gpu:1": 2600.0})
    assert "4 windows inside a longer one: not counted" in said(recording)
    plain = read(written(tmp_path / "b", ZEUS, *steps[:2], ZEUS, *steps[2:]))
    assert plain.total_j == pytest.approx(4400.0)
    assert not plain.notes


def test_zeus_with_a_cut_a_doubled_and_an_overlapping_row(tmp_path):
    rows = [f"{1763632800.0 + 20 * i},epoch,10.0,500.0,600.0" for i in range(4)]
    cut = read(written(tmp_path / "a", ZEUS, *rows[:3], rows[3][:30]))
    assert (cut.total_j, cut.dropped) == (pytest.approx(3300.0), 1)
    twice = read(written(tmp_path / "b", ZEUS, *rows, rows[1]))
    assert twice.total_j == pytest.approx(4400.0)
    assert "1 window twice" in said(twice)
    below = read(written(tmp_path / "e", *rows[:2], ZEUS, *rows[2:]))
    assert "2 lines before the header: left out" in said(below)
    across = read(written(tmp_path / "c", ZEUS, *rows, "1763632805.0,other,10.0,500.0,600.0"))
    assert across.total_j == pytest.approx(4400.0)
    assert "overlap" in said(across)
    with pytest.raises(TraceError, match="gpu0_energy"):
        read(written(tmp_path / "d", ",".join(ZEUS.split(",")[:3]), "1,a,2"))


HOME = "entity_id,state,last_changed"


def test_a_power_of_home_assistant_holds_until_the_next_row(tmp_path):
    rows = [("100", "00:00"), ("50", "10:00"), ("unavailable", "20:00"), ("80", "30:00"), ("0", "40:00")]
    lines = [f"sensor.plug_power,{state},{DAY}{time}.000Z" for state, time in rows]
    other = f"sensor.plug_temperature,21.5,{DAY}05:00.000Z"
    recording = read(written(tmp_path / "a", HOME, *lines[:2], other, HOME, *lines[2:]))
    assert recording.energy_j() == pytest.approx({"sensor.plug_power": 600 * (100 + 50 + 80)})
    assert "sensor.plug_temperature" in said(recording)
    assert "holds until the next row" in said(recording)
    cut = read(written(tmp_path / "b", HOME, *lines[:4], lines[4][:20]))
    assert cut.dropped == 1
    moved = read(written(tmp_path / "c", HOME, lines[4], *lines[:4]))
    assert moved.total_j == pytest.approx(recording.total_j)
    assert "out of order" in said(moved)
    assert read(written(tmp_path / "d", HOME, *lines[:2], *lines[1:])).total_j == pytest.approx(recording.total_j)
    with pytest.raises(TraceError, match="--time last_changed --power state"):
        read(written(tmp_path / "e", HOME, other))


def influx(minute: int, value: object, field: str = "power", host: str = "a") -> str:
    return f",,0,2026-11-20T10:{minute:02}:00Z,{value},{field},{host}"


INFLUX = ("#datatype,string,long,dateTime:RFC3339,double,string,string", "#group,false,false,false,false,true,true",
          "#default,_result,,,,,", ",result,table,_time,_value,_field,host")  # fmt: skip


def test_series_of_influxdb_that_are_powers(tmp_path):
    a, b = ([influx(i, 100, host=host) for i in range(6)] for host in "ab")
    warm = [influx(i, 40, "temperature") for i in range(6)]
    small = [influx(i, 5000, "power_mW", "c") for i in range(6)]
    file = written(tmp_path / "a", *INFLUX, *a, "", *INFLUX, *b, "", *INFLUX, *warm, *INFLUX, *small)
    recording = read(file)
    assert recording.energy_j() == pytest.approx(
        {"power:power/a": 30000.0, "power:power/b": 30000.0, "power:power_mW/c": 1500.0}
    )
    assert "temperature" in said(recording)
    cut = read(written(tmp_path / "b", *INFLUX, *a[:3], a[3][:20], *a[4:]))
    assert cut.total_j == pytest.approx(30000.0)
    assert cut.notes
    assert read(written(tmp_path / "c", *INFLUX, *a[:3], *a[2:])).total_j == pytest.approx(30000.0)
    late = [line.replace("T10", "T22") for line in a]
    hole = read(written(tmp_path / "d", *INFLUX, *a, *late))
    assert hole.total_j == pytest.approx(60000.0)
    assert "1 hole" in said(hole)
    with pytest.raises(TraceError, match="--time _time --power _value"):
        read(written(tmp_path / "e", *INFLUX, *warm))


def epoch(number: int, gpu: str = "[100.0 50.0]") -> list[str]:
    stamp = f"2026-11-20 10:{number:02}:00 - "
    texts = [f"Epoch {number}:", "Duration: 0:00:50.00", f"Average power usage (W) for gpu: {gpu}"]
    return [stamp + text for text in (*texts, "Average power usage (W) for cpu: 20.0")]


def test_epochs_of_carbontracker(tmp_path):
    epochs = [line for number in (1, 2, 3) for line in epoch(number)]
    begin = ["2026-11-20 10:00:00 - carbontracker version 2.0", "2026-11-20 10:00:01 - Monitoring thread started."]
    file = written(tmp_path / "a", *begin, *epochs)
    recording = read(file)
    assert recording.source == "Carbontracker"
    assert recording.energy_j() == pytest.approx({"gpu:0": 15000.0, "gpu:1": 7500.0, "cpu:0": 3000.0})
    cut = read(written(tmp_path / "b", *begin, *epochs[:6], epochs[6][:50], *epochs[7:]))
    assert cut.energy_j() == pytest.approx({"gpu:0": 10000.0, "gpu:1": 5000.0, "cpu:0": 3000.0})
    twice = read(written(tmp_path / "c", *begin, *epochs, *epochs[-4:]))
    assert twice.total_j == pytest.approx(recording.total_j)
    assert "read once" in said(twice)
    lost = read(
        written(tmp_path / "d", *begin, *(line for line in epochs if "Duration" not in line or ":02:" not in line))
    )
    assert lost.total_j == pytest.approx(recording.total_j * 2 / 3)
    assert lost.dropped == 2


NAMES = ["amd-smi", "zeus", "home-assistant", "influxdb", "carbontracker", "ptdaemon", "perun"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", "nothing\n", "timestamp,gpu\n1,2\n", "\x00\n"])
def test_files_without_a_reading_are_refused(tmp_path, name, text):
    file = tmp_path / "log"
    file.write_text(text)
    with pytest.raises(TraceError, match="log: no "):
        read(file, name)
    with pytest.raises(TraceError):
        read(tmp_path / "absent", name)


def test_an_option_without_use_is_refused(tmp_path):
    file = written(tmp_path / "a", ZEUS, "1763632800.0,epoch,10.0,500.0,600.0")
    assert CliRunner().invoke(main, ["import", str(file)]).exit_code == 0
    assert CliRunner().invoke(main, ["import", str(file), "--max-gap", "3"]).exit_code == 2
