# SPDX-License-Identifier: Apache-2.0
"""Tables as programs of all kinds save them: the right number, or a sentence that says what is not known."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.recordings.readers import read, read_nvidia_smi, read_table

BEGIN = 1763636400
SMI = "timestamp, index, power.draw [W]\n" + "".join(f"2026/11/20 10:00:0{i}.000, 0, 100.00 W\n" for i in range(10))


def table(path, values, power="power", times=None, separator=",", time="time", before=""):
    rows = [f"{at}{separator}{value}" for at, value in zip(times or range(BEGIN, BEGIN + 9), values, strict=False)]
    path.write_text(before + "\n".join([f"{time}{separator}{power}", *rows]) + "\n")
    return read_table(path, time=time, power=power)


def said(recording) -> str:
    return " ".join(recording.notes)


@pytest.mark.parametrize(
    ("power", "value", "joules"),
    [
        ("power_mw", "100000", 400), ("power_kw", "0.1", 400), ("Power (kW)", "0.1", 400),
        ("power (mw)", "100000", 400),
        ("power_MW", "0.0001", 400), ("power_watts", "100", 400), ("power [Milliwatts]", "100000", 400),
        ("power_w", "100", 400), ("power_mw", "100 W", 400),
    ],
)  # fmt: skip
def test_a_unit_in_the_name_of_a_power_counts_in_any_spelling(tmp_path, power, value, joules):
    recording = table(tmp_path / "a", [value] * 5, power)
    assert recording.total_j == pytest.approx(joules)
    assert not recording.notes


@pytest.mark.parametrize("power", ["power (VA)", "power [dBm]", "Leistung (PS)"])
def test_a_unit_that_is_no_power_is_named(tmp_path, power):
    assert "not one of mW, W, kW, MW: taken as W" in said(table(tmp_path / "a", ["100"] * 5, power))


def test_a_row_of_units_below_the_names_counts(tmp_path):
    recording = table(tmp_path / "a", ["mW", *["100000"] * 5], times=["s", *range(BEGIN, BEGIN + 5)])
    assert recording.total_j == pytest.approx(400.0)
    assert table(tmp_path / "b", ["kW"], times=["s"]).total_j == 0


@pytest.mark.parametrize(
    ("time", "step", "seconds"),
    [("time_ms", 100, 0.4), ("t (ms)", 1000, 4), ("elapsed_us", 10**6, 4), ("t [min]", 1, 240), ("uptime_s", 1, 4),
     ("time", 1, 4)],
)  # fmt: skip
def test_small_times_have_the_unit_in_their_name_and_a_note(tmp_path, time, step, seconds):
    recording = table(tmp_path / "a", ["100"] * 5, times=[step * i for i in range(5)], time=time)
    assert recording.duration_s == pytest.approx(seconds)
    assert "small numbers" in said(recording)


def test_days_of_a_spreadsheet_are_never_seconds_without_a_note(tmp_path):
    recording = table(tmp_path / "a", ["100"] * 5, times=[f"{46346.4 + i / 86400:.9f}" for i in range(5)])
    assert "small numbers are taken as seconds" in said(recording)


@pytest.mark.parametrize(
    ("values", "watts"),
    [
        (["950,5", "1.100", "1.100,5"], [950.5, 1100, 1100.5]), (["950.5", "1,100", "1,100.5"], [950.5, 1100, 1100.5]),
        (["1.100.000", "1.200.000", "900.000"], [1.1e6, 1.2e6, 9e5]),
        (["81,500", "82,125", "81,250"], [81.5, 82.125, 81.25]),
        (["1'100,5", "1\u202f100,5", "1\u00a0100,5"], [1100.5] * 3), (["1.5", "2.25", "3"], [1.5, 2.25, 3]),
        (["1e2", "1.5E2", "2e+2"], [100, 150, 200]),
    ],
)  # fmt: skip
def test_one_mark_parts_the_decimals_of_a_column(tmp_path, values, watts):
    recording = table(tmp_path / "a", values, separator=";")
    assert recording.points("power")[2].tolist() == pytest.approx(watts)


def test_a_name_that_two_columns_have_and_a_negative_power_are_noted(tmp_path):
    (tmp_path / "a").write_text("time,power,power\n" + "".join(f"{BEGIN + i},100,200\n" for i in range(5)))
    recording = read_table(tmp_path / "a", time="time", power="power")
    assert "2 columns have the name power: the first counts" in said(recording)
    negative = table(tmp_path / "b", ["100", "100", "-100", "100", "100"])
    assert negative.total_j == pytest.approx(200.0)
    assert "1 negative value: absent" in said(negative)
    (tmp_path / "c").write_text(SMI.replace("05.000, 0, 100", "05.000, 0, -100"))
    assert "1 negative power: absent" in said(read(tmp_path / "c"))


def test_equal_rows_of_one_board_are_no_second_board(tmp_path):
    header, *rows = SMI.splitlines()
    (tmp_path / "a").write_text("\n".join([header, *(row for row in rows for _ in (0, 1))]) + "\n")
    recording = read_nvidia_smi(tmp_path / "a")
    assert recording.energy_j() == pytest.approx({"gpu:0": 900.0})
    assert "10 rows twice in the file: read once" in said(recording)
    two = [row.replace(", 0,", f", {gpu},") for row in rows for _ in (0, 1) for gpu in (0, 1)]
    (tmp_path / "b").write_text("\n".join([header, *two]) + "\n")
    assert read_nvidia_smi(tmp_path / "b").energy_j() == pytest.approx({"gpu:0": 900.0, "gpu:1": 900.0})


@pytest.mark.parametrize(
    ("pack", "name"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"), (lambda b: b"PK\x03\x04" + b, "zip"),
     (lambda b: b"\x28\xb5\x2f\xfd" + b, "zstd")],
)  # fmt: skip
def test_a_compressed_file_is_refused_by_name(tmp_path, pack, name):
    (tmp_path / "log.csv").write_bytes(pack(SMI.encode()))
    with pytest.raises(TraceError, match=f"compressed \\({name}.*unpack it"):
        read(tmp_path / "log.csv")
    with pytest.raises(TraceError, match="compressed"):
        read_table(tmp_path / "log.csv", time="timestamp", power="power.draw [W]")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_encodings_and_line_ends_do_not_matter(tmp_path, encoding, end):
    (tmp_path / "log.csv").write_bytes(SMI.replace("\n", end).encode(encoding))
    recording = read(tmp_path / "log.csv")
    assert recording.total_j == pytest.approx(900.0)
    assert not recording.notes


def test_a_single_reading_has_no_energy_and_the_command_says_so(tmp_path):
    (tmp_path / "log.csv").write_text("\n".join(SMI.splitlines()[:2]) + "\n")
    done = CliRunner().invoke(main, ["import", str(tmp_path / "log.csv")])
    assert done.exit_code == 0
    assert "the energy is not known" in done.output
