# SPDX-License-Identifier: Apache-2.0
"""Logs of tegrastats, perf stat and turbostat: found by content; holes, cuts, doubled lines and repeated headers."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.recordings.readers import format_of, read


def written(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def tegra(second: int, rails: str, minute: int = 0) -> str:
    return (
        f"11-20-2026 10:{minute:02}:{second:02} RAM 2368/7771MB (lfb 2x4MB) SWAP 0/3885MB (cached 0MB) "
        f"CPU [5%@729,off] EMC_FREQ 0% GR3D_FREQ 0% CPU@45C GPU@43C {rails}"
    )


def perf(end: float, joules: float, event: str = "energy-pkg", socket: str = "") -> str:
    return f"{end:.9f},{socket}{joules:.2f},Joules,power/{event}/,1000000000,100.00,,"


def turbo(second: int, watts: float, cpu: str = "-", more: str = "") -> str:
    return f"{cpu}\t{cpu}\t9.10\t{watts:.2f}\t{second + 1763636400}.500000{more}"


TURBO = "Core\tCPU\tBusy%\tPkgWatt\tTime_Of_Day_Seconds"


def test_the_whole_board_counts_and_its_rails_are_parts(tmp_path):
    lines = [tegra(i, "VDD_IN 5000mW/4905mW VDD_CPU_GPU_CV 1000mW/900mW VDD_SOC 1500mW/9mW") for i in range(5)]
    recording = read(written(tmp_path / "log", *lines))
    assert recording.source == "tegrastats"
    assert recording.total_j == pytest.approx(20.0)
    assert recording.energy_j()["tegrastats:VDD_SOC"] == pytest.approx(6.0)
    assert {row["parent"] for row in recording.channels.to_pylist()} == {"", "tegrastats:VDD_IN"}


@pytest.mark.parametrize(
    ("rails", "joules"),
    [
        ("POM_5V_IN 2000/2000 POM_5V_GPU 100/100 POM_5V_CPU 500/500", 8.0),  # Jetson Nano
        ("GPU 0/0 CPU 300/300 SOC 1200/1200 CV 0/0 VDDRQ 300/300 SYS5V 1900/1900", 14.8),  # AGX Xavier
        ("VDD_GPU_SOC 3000mW/3mW VDD_CPU_CV 1000mW/1mW VIN_SYS_5V0 4000mW/4mW", 32.0),  # AGX Orin
    ],
)
def test_rails_of_other_boards(tmp_path, rails, joules):
    recording = read(written(tmp_path / "log", *(tegra(i, rails) for i in range(5))))
    assert recording.total_j == pytest.approx(joules)
    assert ("sum of the rails" in " ".join(recording.notes)) == ("POM" not in rails)


def test_tegrastats_with_a_hole_a_cut_and_a_doubled_line(tmp_path):
    rail = "VDD_IN 10000mW/1mW"
    hole = read(written(tmp_path / "a", *(tegra(i, rail) for i in range(4)), *(tegra(i, rail, 30) for i in range(4))))
    assert hole.total_j == pytest.approx(60.0)
    assert "1 hole" in " ".join(hole.notes)
    lines = [tegra(i, rail) for i in range(8)]
    cut = read(written(tmp_path / "b", *lines[:3], lines[3][:60], *lines[4:]))
    assert cut.total_j == pytest.approx(70.0)
    assert cut.dropped == 1
    assert read(written(tmp_path / "c", *lines[:4], *lines[3:])).total_j == pytest.approx(70.0)


def test_tegrastats_without_dates_or_faster_than_its_clock_needs_a_period(tmp_path):
    bare = written(tmp_path / "a", *(tegra(i, "VDD_IN 10000mW/1mW").partition(" RAM")[2] for i in range(5)))
    bare.write_text("RAM" + bare.read_text().replace("\n", "\nRAM").removesuffix("RAM"))
    with pytest.raises(TraceError, match="--period 1"):
        read(bare)
    assert read(bare, period_s=2.0).total_j == pytest.approx(80.0)
    fast = written(tmp_path / "b", *(tegra(i // 10, "VDD_IN 10000mW/1mW") for i in range(50)))
    with pytest.raises(TraceError, match=r"several lines a second.*--period 0\.1"):
        read(fast)
    assert read(fast, period_s=0.1).total_j == pytest.approx(49.0)


def test_perf_counts_packages_and_memory_of_each_socket(tmp_path):
    events = [("energy-pkg", 40.0), ("energy-cores", 30.0), ("energy-ram", 5.0), ("energy-psys", 90.0)]
    lines = [perf(i, joules, event) for i in range(1, 6) for event, joules in events]
    recording = read(written(tmp_path / "a", "# started on Fri Nov 20 10:00:00 2026", "", *lines))
    assert recording.energy_j() == pytest.approx({"pkg": 200.0, "ram": 25.0, "cores": 150.0, "psys": 450.0})
    assert recording.total_j == pytest.approx(225.0), "cores are part of pkg, and pkg of psys"
    assert not recording.notes
    lines = [perf(i, 40.0, socket=f"S{s},1,") for i in range(1, 6) for s in (0, 1)]
    assert read(written(tmp_path / "b", *lines)).energy_j() == {"pkg:S0": pytest.approx(200.0), "pkg:S1": 200.0}
    alone = written(tmp_path / "c", *(perf(i, 90.0, "energy-psys") for i in range(1, 6)))
    assert read(alone).energy_j() == {"psys": pytest.approx(450.0)}


def test_perf_with_a_hole_a_cut_and_a_doubled_line(tmp_path):
    lines = [perf(i, 40.0) for i in range(1, 9)]
    hole = read(written(tmp_path / "a", *lines, *(perf(i + 3600, 40.0) for i in range(1, 9))))
    assert hole.total_j == pytest.approx(640.0)
    assert "1 stretch without lines" in " ".join(hole.notes)
    cut = read(written(tmp_path / "b", *lines[:3], lines[3][:15], *lines[4:]))
    assert cut.total_j == pytest.approx(280.0)
    assert cut.notes
    doubled = read(written(tmp_path / "c", *lines[:4], *lines[3:]))
    assert doubled.total_j == pytest.approx(320.0)
    assert "twice" in " ".join(doubled.notes)
    moved = read(written(tmp_path / "d", lines[7], *lines[:7]))
    assert moved.total_j == pytest.approx(320.0)
    assert "out of order" in " ".join(moved.notes)
    absent = [line.replace("40.00", "<not counted>") for line in lines[:2]]
    assert read(written(tmp_path / "e", *lines[2:], *absent)).dropped == 2


def test_turbostat_reads_the_lines_of_the_system_below_each_header(tmp_path):
    rows = [line for i in range(6) for line in (turbo(i, 50.0), turbo(i, 50.0, "0"), "1\t1\t7.00")]
    file = written(tmp_path / "a", "turbostat version 2024", TURBO, *rows[:9], TURBO, *rows[9:])
    assert format_of(file) == "turbostat"
    recording = read(file)
    assert recording.energy_j() == {"turbostat:PkgWatt": pytest.approx(250.0)}
    assert recording.notes == ["1 line before the table: left out"]
    wider = [turbo(i, 50.0, more="\t7.00") for i in range(6, 9)]
    recording = read(written(tmp_path / "b", TURBO, *rows, TURBO + "\tRAMWatt", *wider))
    assert recording.energy_j()["turbostat:PkgWatt"] == pytest.approx(400.0)
    assert recording.energy_j()["turbostat:RAMWatt"] == pytest.approx(14.0)
    assert "the columns change 1 time" in " ".join(recording.notes)


def test_turbostat_with_a_hole_a_cut_a_doubled_line_and_without_times(tmp_path):
    rows = [turbo(i, 50.0) for i in range(6)]
    hole = read(written(tmp_path / "a", TURBO, *rows, *(turbo(i + 7200, 50.0) for i in range(6))))
    assert hole.total_j == pytest.approx(500.0)
    assert "1 hole" in " ".join(hole.notes)
    cut = read(written(tmp_path / "b", TURBO, *rows[:2], rows[2][:9], *rows[3:]))
    assert cut.total_j == pytest.approx(250.0)
    assert cut.dropped == 1
    assert read(written(tmp_path / "c", TURBO, *rows[:3], *rows[2:])).total_j == pytest.approx(250.0)
    bare = written(tmp_path / "d", "PkgWatt\tRAMWatt", *["50.00\t5.00"] * 4)
    with pytest.raises(TraceError, match=r"--enable Time_Of_Day_Seconds.*--period 5"):
        read(bare)
    assert read(bare, period_s=5.0).total_j == pytest.approx(825.0)


def test_the_command_reads_them_and_refuses_an_option_without_use(tmp_path):
    file = written(tmp_path / "perf.csv", *(perf(i, 40.0) for i in range(1, 6)))
    found = json.loads(CliRunner().invoke(main, ["import", str(file), "--json"]).stdout)
    assert (found["source"], found["total_j"]) == ("perf stat", pytest.approx(200.0))
    assert CliRunner().invoke(main, ["import", str(file), "--period", "1"]).exit_code == 2


@pytest.mark.parametrize("name", ["tegrastats", "perf", "turbostat"])
@pytest.mark.parametrize("text", ["", "nothing\n", "PkgWatt\n", "1.0,2,Joules\n", "\x00\n"])
def test_files_without_a_reading_are_refused(tmp_path, name, text):
    file = tmp_path / "log"
    file.write_text(text)
    with pytest.raises(TraceError, match="log: no "):
        read(file, name)
