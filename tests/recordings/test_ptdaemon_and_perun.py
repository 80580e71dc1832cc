# SPDX-License-Identifier: Apache-2.0
"""Logs of SPEC PTDaemon and tables of perun: found by content, and read with their faults."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.recordings.readers import format_of, read


def written(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def said(recording) -> str:
    return " ".join(recording.notes)


def sample(second: int, watts: float = 100.0, mark: str = "run", more: str = "") -> str:
    stamp = f"11-13-2026 22:{second // 60:02}:{second % 60:02}.250"
    return f"Time,{stamp},Watts,{watts:.6f},Volts,228.370000,Amps,0.204280,PF,0.502300,Mark,{mark}{more}"


def test_a_log_of_ptdaemon_is_found_below_other_lines_and_keeps_its_marks_apart(tmp_path):
    ranging = [sample(i, 100, "a") for i in range(6)]
    testing = [sample(i + 600, 50, "b") for i in range(6)]
    file = written(tmp_path / "a", "PTDaemon begins", *ranging, "Range A changed", *testing)
    assert format_of(file) == "ptdaemon"
    recording = read(file)
    assert recording.energy_j() == pytest.approx({"analyzer": 750.0})
    assert recording.extra["marks"] == pytest.approx({"a": 500.0, "b": 250.0})
    assert "a 500 J, b 250 J" in said(recording)
    assert "1 hole" in said(recording)
    assert "2 lines without a power" in said(recording)
    plain = read(written(tmp_path / "b", *ranging))
    assert plain.total_j == pytest.approx(500.0)
    assert not plain.notes
    assert CliRunner().invoke(main, ["import", str(file)]).output.count("together 750 J") == 1


def test_channels_of_an_analyzer_are_parts_of_it_and_count_where_it_has_no_power(tmp_path):
    more = "".join(f",Ch{n},Watts,{30.0 * n},Volts,120.95,Amps,0.83,PF,0.93" for n in (1, 2))
    recording = read(written(tmp_path / "a", *(sample(i, 90, more=more) for i in range(6))))
    assert recording.energy_j() == pytest.approx({"analyzer": 450.0, "analyzer:Ch1": 150.0, "analyzer:Ch2": 300.0})
    assert recording.total_j == pytest.approx(450.0)
    alone = read(written(tmp_path / "b", *(sample(i, -1, more=more) for i in range(6))))
    assert alone.total_j == pytest.approx(450.0)
    assert alone.extra["marks"] == pytest.approx({"run": 450.0})


def test_faults_of_a_log_of_ptdaemon(tmp_path):
    rows = [sample(i) for i in range(6)]
    glued = read(written(tmp_path / "a", *rows[:2], rows[2] + rows[3], *rows[4:]))
    assert glued.total_j == pytest.approx(500.0)
    assert "without a line of its own" in said(glued)
    cut = read(written(tmp_path / "b", *rows[:3], rows[3][:50], *rows[4:]))
    assert cut.total_j == pytest.approx(500.0)
    assert "could not be used" in said(cut)
    bad = read(written(tmp_path / "c", *rows[:3], sample(3, float("nan")), *rows[4:]))
    assert bad.total_j == pytest.approx(300.0)
    assert "without a number" in said(bad)
    assert read(written(tmp_path / "d", *rows[:3], *rows[2:])).total_j == pytest.approx(500.0)
    local = read(written(tmp_path / "e", *rows), timezone="America/New_York")
    assert local.points("analyzer")[0][0] - recording_begin(tmp_path, rows) == 5 * 3600 * 10**9


def recording_begin(folder, rows) -> int:
    return int(read(written(folder / "utc", *rows)).points("analyzer")[0][0])


PERUN = ",run id,hostname,device_group,sensor,unit,magnitude,timestep,value"


def perun(*series: tuple[str, str, str, float, list[float]]) -> list[str]:
    rows = [PERUN]
    for run, group, sensor, unit, magnitude, values in (
        (*name.split("|"), unit, magnitude, values) for name, unit, _, magnitude, values in series
    ):
        for second, value in enumerate(values):
            rows.append(f"{len(rows) - 1},{run},node1,{group},{sensor},{unit},{magnitude},{float(second)},{value}")
    return rows


def test_sensors_of_perun_that_are_powers_or_energies(tmp_path):
    rows = perun(
        ("0|gpu|CUDA:0_POWER", "W", "", 0.001, [100000.0] * 6),
        ("0|cpu|cpu_0_package-0", "W", "", 1.0, [20.0, 20.0, 40.0, 20.0, 20.0, 20.0]),
        ("0|cpu|CPU_USAGE", "%", "", 1.0, [50.0] * 6),
        ("0|ram|ram_0_dram", "J", "", 1e-06, [4e6, 5e6, 6e6, 7e6, 8e6, 9e6]),
        ("1|gpu|CUDA:0_POWER", "W", "", 0.001, [50000.0] * 3),
    )
    file = written(tmp_path / "a", *rows)
    assert format_of(file) == "perun"
    recording = read(file)
    # A counter that perun made powers of: each is the mean of the step before it.
    assert recording.energy_j() == pytest.approx({"CUDA:0_POWER": 600.0, "cpu_0_package-0": 120.0, "ram_0_dram": 5.0})
    assert recording.total_j == pytest.approx(725.0)
    assert "no date" in said(recording)


def test_faults_of_a_table_of_perun(tmp_path):
    rows = perun(("0|gpu|CUDA:0_POWER", "W", "", 0.001, [100000.0] * 6))
    lost = read(written(tmp_path / "a", *rows[:3], *rows[4:]))
    assert lost.total_j == pytest.approx(500.0)
    assert "1 row missing" in said(lost)
    twice = read(written(tmp_path / "b", *rows[:3], *rows[2:]))
    assert twice.total_j == pytest.approx(500.0)
    assert "1 row twice" in said(twice)
    moved = read(written(tmp_path / "c", *rows[:3], *rows[4:], rows[3]))
    assert moved.total_j == pytest.approx(500.0)
    assert "out of order" in said(moved)
    cut = read(written(tmp_path / "d", *rows[:3], rows[3][:30], *rows[4:]))
    assert cut.dropped == 1
    negative = read(written(tmp_path / "e", *rows[:3], rows[3].replace(",100000.0", ",-100000.0"), *rows[4:]))
    assert negative.total_j == pytest.approx(300.0)
    assert "1 value negative" in said(negative)
    back = perun(("0|cpu|package", "J", "", 1.0, [5.0, 6.0, 2.0, 3.0]))
    assert read(written(tmp_path / "f", *back)).total_j == pytest.approx(2.0)
    assert "goes back" in said(read(tmp_path / "f"))


def test_parts_of_a_grace_socket_do_not_count_twice(tmp_path):
    sensors = ("module_power_socket_0_a", "grace_power_socket_0_a", "cpu_power_socket_0_a", "cpu_power_socket_1_a")
    rows = perun(*((f"0|other|{name}", "W", "", 1.0, [10.0] * 3) for name in sensors))
    recording = read(written(tmp_path / "a", *rows))
    assert len(recording.energy_j()) == 4
    assert recording.total_j == pytest.approx(40.0)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89HDF\r\n\x1a\n\x00\x00\x00",
        b'{"id": "app", "type": 1, "metadata": {}, "metrics": {}, "deviceType": null, "nodes": [{}]}',
        b"PERUN REPORT\n\nApp name: app\n",
    ],
)
def test_other_outputs_of_perun_are_refused_with_the_command_that_makes_a_table(tmp_path, content):
    file = tmp_path / "app"
    file.write_bytes(content)
    with pytest.raises(TraceError, match="perun export FILE csv"):
        read(file)


@pytest.mark.parametrize("name", ["ptdaemon", "perun"])
def test_a_header_alone_is_refused(tmp_path, name):
    (tmp_path / "log").write_text(PERUN + "\n")
    with pytest.raises(TraceError, match="log: no "):
        read(tmp_path / "log", name)
