"""Tables of any tool, by the columns that a user names: separators, decimals, units, times, and the options' words."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.errors import TraceError
from fastgreen.recordings.readers import format_of, read, read_table
from tests.oracles.places import CASES

cases = pytest.mark.skipif(not CASES.exists(), reason=f"the cases are not at {CASES}")


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words], env={"COLUMNS": "200"})


def total_j(*words):
    done = call("import", *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["total_j"]


T = "2026-11-20T10:00:"
# Each is 100 W over 20 s.
TABLES = [
    (f"t,w\n{T}00,100\n{T}10,100\n{T}20,100\n", {}),
    (f"t;w\n{T}00;100,0\n{T}10;100,0\n{T}20;100,0\n", {}),
    (f"t\tw\n{T}00\t100\n{T}10\t100\n{T}20\t100\n", {}),
    (f"t|w\n{T}00|100\n{T}10|100\n{T}20|100\n", {}),
    ("t w\n1700000000 100\n1700000010 100\n1700000020 100\n", {}),
    ("t,w\n1700000000.25,100\n1700000010.25,100\n1700000020.25,100\n", {}),
    ("t,w\n1700000000000,100\n1700000010000,100\n1700000020000,100\n", {}),
    ("t,w\n1700000000000000,100\n1700000010000000,100\n1700000020000000,100\n", {}),
    ("t,w\n1700000000000000000,100\n1700000010000000000,100\n1700000020000000000,100\n", {}),
    ("t,w\n0,100\n10,100\n20,100\n", {}),
    (f"t,w\n{T}00+02:00,100\n{T}10+02:00,100\n{T}20+02:00,100\n", {}),
    (f"t,w\n{T}00Z,100 W\n{T}10Z,0.1 kW\n{T}20Z,100000 mW\n", {}),
    ("t,w\n20.11.2026 10:00:00,100\n20.11.2026 10:00:10,100\n20.11.2026 10:00:20,100\n", {}),
    (f"t;w\n{T}00;1.000,0 dW\n{T}00;100\n{T}10;100\n{T}20;100\n", {}),
    (f'remark\n\n"t","w"\n"{T}00","100"\n"{T}10","100"\n"{T}20","100"\n', {}),
    (f"t,w\n{T}00,100\n{T}10,100\nw,t\n100,{T}20\n", {}),
    (f"t,w\n{T}00,100\n{T}10,100\n{T}20,1", {"tolerance_j": 500}),
    (f"{T}00,100\n{T}10,100\n{T}20,100\n", {"columns": ["t", "w"]}),
    (f"x;{T}00;100\nx;{T}10;100\nx;{T}20;100\n", {"columns": ["name", "t", "w"]}),
    (f"t,d,w\n{T}00,a,60\n{T}00,b,40\n{T}20,a,60\n{T}20,b,40\n", {"device": "d"}),
    (f"t,w\n{T}00.0,60\n{T}00.0,40\n{T}10.0,60\n{T}10.0,40\n{T}20.0,60\n{T}20.0,40\n", {}),
    (f"t,w\n{T}00,100000\n{T}10,100000\n{T}20,100000\n", {"unit": "mW"}),
]


@pytest.mark.parametrize(("text", "options"), TABLES)
def test_every_form_of_table(tmp_path, text, options):
    file = tmp_path / "table.txt"
    file.write_text(text)
    tolerance = options.pop("tolerance_j", 1e-6) if "tolerance_j" in options else 1e-6
    recording = read_table(file, time="t", power="w", **options)
    assert recording.total_j == pytest.approx(2000.0, abs=tolerance)
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name}", value if isinstance(value, str) else ",".join(value))
    ]
    assert total_j(file, "--time", "t", "--power", "w", *words) == recording.total_j


@pytest.mark.parametrize(
    ("text", "options", "joules"),
    [
        (f"t,total_kWh\n{T}00,5\n{T}10,5.001\n{T}20,5.003\n", {"energy": "total_kWh"}, 0.003 * 3.6e6),
        (f"t,e\n{T}00,5\n{T}10,6\n{T}20,8\n", {"energy": "e", "unit": "Wh"}, 3 * 3600),
        (f"t,e\n{T}00,5\n{T}10,6\n{T}20,1\n{T}30,2\n", {"energy": "e", "unit": "J"}, 2),
        (f"t,e\n{T}00,5\n2026-11-21T10:00:00,50\n2026-11-21T10:00:01,51\n", {"energy": "e", "unit": "J"}, 46),
        (f"t,e (J)\n{T}00,5\n{T}10,\n{T}20,8\n", {"energy": "e (J)"}, 3),
    ],
)
def test_a_counter_of_energy_counts_through_holes_and_not_through_restarts(tmp_path, text, options, joules):
    (tmp_path / "t.csv").write_text(text)
    assert read_table(tmp_path / "t.csv", time="t", **options).total_j == pytest.approx(joules)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "t"}, "power or energy must be given"),
        ({"time": "t", "power": "w", "energy": "e"}, "power or energy must be given"),
        ({"power": "w"}, "time or period_s must be given"),
        ({"power": "w", "period_s": -1}, "period_s must be above 0, not -1"),
        ({"time": "t", "power": "w", "unit": "BTU"}, "unit must be one of mW, W"),
        ({"time": "t", "power": "watts"}, "no columns t, watts among: t, w"),
        ({"time": "t", "power": "w", "columns": ["t", "x"]}, "'w' is not one of the named columns"),
        ({"time": "t", "power": "w", "columns": ["t", "x", "w"]}, "the first row has 2 columns, and 3 are named"),
        ({"time": "t", "energy": "w"}, "give it, as in --unit kWh"),
    ],
)
def test_bad_arguments_name_what_is_wrong(tmp_path, options, message):
    (tmp_path / "t.csv").write_text("t,w\n0,1\n")
    with pytest.raises((TraceError, ValueError), match=message):
        read_table(tmp_path / "t.csv", **options)


def test_a_table_without_times_has_a_period(tmp_path):
    (tmp_path / "t.csv").write_text("w\n" + "100\n" * 5)
    assert read_table(tmp_path / "t.csv", power="w", period_s=2).total_j == pytest.approx(800.0)


ROCM = "device,Average Graphics Package Power (W),GPU use (%)\n"
DMON = "#Date       Time        gpu    pwr  gtemp\n#YYYYMMDD   HH:MM:SS    Idx      W      C\n"


@pytest.mark.parametrize(
    ("text", "known", "options", "joules"),
    [
        (3 * (ROCM + "card0,300.0,99\ncard1,280.0,98\n\n"), "rocm-smi", {"period_s": 2}, 4 * 580),
        (ROCM + 3 * "card0,300.0,99\n", "rocm-smi", {"period_s": 1}, 600),
        (3 * "device,Current Socket Graphics Package Power (W)\ncard0,50\n", "rocm-smi", {"period_s": 10}, 1000),
        (
            DMON + "".join(f" 20261120   10:00:{s}    0    100     50\n" for s in (10, 20, 30)),
            "nvidia-smi-dmon",
            {},
            2000,
        ),
        (
            2 * (DMON + " 20261120   10:00:00    0    100     50\n 20261120   10:00:00    1    50     50\n")
            + " 20261120   10:00:10    0    100     50\n 20261120   10:00:10    1    -     50\n",
            "nvidia-smi-dmon",
            {},
            1000,
        ),
        ("# gpu    pwr\n# Idx      W\n" + 3 * "    0    100\n", "nvidia-smi-dmon", {"period_s": 1}, 200),
    ],
)
def test_tables_that_are_known_by_their_content(tmp_path, text, known, options, joules):
    (tmp_path / "log").write_text(text)
    assert format_of(tmp_path / "log") == known
    assert read(tmp_path / "log", **options).total_j == pytest.approx(joules)


def test_options_that_a_format_has_no_use_for_are_refused(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text(f"timestamp, power.draw [W]\n{T}00, 10 W\n{T}10, 10 W\n")
    assert total_j(file) == pytest.approx(100)
    done = call("import", file, "--period", 3)
    assert done.exit_code == 2
    assert "--period: this is a recording of nvidia-smi" in done.output
    assert total_j(file, "--max-gap", 5) == 0


def test_an_unknown_table_is_refused_with_the_options_that_read_it(tmp_path):
    (tmp_path / "t.csv").write_text("when;W\n1;2\n")
    done = call("import", tmp_path / "t.csv")
    assert done.exit_code != 0
    assert "--time COLUMN --power COLUMN" in " ".join(done.output.split())
    assert "--columns A,B,C" in " ".join(done.output.split())


@cases
def test_cases():
    assert total_j(CASES / "plug.csv", "--time", "timestamp", "--power", "plug_power_W") == pytest.approx(815.0)
    with pytest.raises(TraceError, match="--time COLUMN --power COLUMN"):
        read(CASES / "plug.csv")
    assert total_j(CASES / "smi-dmon.txt") == pytest.approx(1000.0)
    assert total_j(CASES / "rocm-smi-loop.csv", "--period", 1) == pytest.approx(580.0)
    with pytest.raises(TraceError, match="--period 1"):
        read(CASES / "rocm-smi-loop.csv")
    names = "timestamp,index,power.draw"
    assert total_j(CASES / "smi-noheader-nounits.csv", "--columns", names) == pytest.approx(200.0)
    assert math.isclose(total_j(CASES / "smi-hole.csv", "--max-gap", 1e6), 2880200.0)
