"""`fastgreen compare` on commands that move the counters by known energies, on saved runs, and with bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0), move=True)


def compare(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastgreen", "compare", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, **options)


@pytest.mark.slow
def test_a_program_that_runs_twice_as_long_at_constant_power_uses_twice_the_energy(tree, tmp_path):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "md", "csv")}
    done = compare(
        "sleep 0.2", "sleep 0.4", "--repeats", 5, "--json-file", files["json"], "--markdown", files["md"],
        "--csv", files["csv"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sleep 0\.4 uses \d+ % more \(\d+ to \d+\) than sleep 0\.2\.$", done.stdout, re.MULTILINE)
    rows = json.loads(files["json"].read_text())["rows"]
    assert [row["count"] for row in rows] == [5, 5]
    assert len(rows[1]["runs"]) == 5
    # The truth: 60 W all the time, so the ratio of energies is that of the durations.
    times = [sum(run["duration_s"] for run in row["runs"]) for row in rows]
    assert rows[1]["ratio_low"] <= times[1] / times[0] <= rows[1]["ratio_high"]
    assert rows[1]["verdict"] == "more"
    assert float(list(csv.DictReader(files["csv"].open()))[1]["ratio"]) == rows[1]["ratio"]
    assert files["md"].read_text().startswith("| name | repeats | energy |")


@pytest.mark.slow
def test_parameters_setup_and_until(tree, tmp_path):
    done = compare(
        "sleep {t}", "--parameter", "t", "0.1,0.2", "--until", "30%", "--setup", f"touch {tmp_path}/made-{{t}}",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["rows"]] == ["sleep 0.1", "sleep 0.2"]
    assert found["rows"][0]["count"] >= 8
    assert {path.name for path in tmp_path.glob("made-*")} == {"made-0.1", "made-0.2"}


def test_commands_behind_dashes_and_a_command_too_short(powercap):
    powercap(Zone("package-0", 60.0), move=True, period_s=0.1)
    done = compare("-r", 2, "-w", 0, "--", "sleep", "0.01", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "sleep 0.01 is too short for the sensors" in done.stdout
    assert re.search(r"true is too short .* it would have to run [\d.]+ times longer for ±5 %", done.stdout)
    assert "these sensors cannot tell" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["true"], 2, "two commands or more"),
        (["true", "false", "-r", "2"], 1, "false ended with exit code 1"),
        (["true", "no-such-command-at-all"], 1, "no-such-command-at-all: No such file"),
        (["true", "true", "-r", "1"], 2, "1 is not in the range"),
        (["true", "true", "--until", "2"], 2, "such as 2%"),
        (["true", "true", "--until", "0%"], 2, "above 0%"),
        (["true", "true", "--until", "nan%"], 2, "such as 2%"),
        (["true", "true", "--until", "2%", "-r", "3"], 2, "at least 8"),
        (["true", "'"], 2, "No closing quotation"),
        (["true", ""], 2, "must not be empty"),
        (["true", "true", "--parameter", "x", "1,2"], 2, "{x}"),
        (["a.json", "b.json"], 1, "a.json"),
        (["--setup", "false", "true", "true"], 1, "of --setup ended with exit code 1"),
        (["--setup", "true", "--setup", "true", "--setup", "true", "true", "true"], 2, "once for each of 2 commands"),
    ],
)
def test_bad_input_is_one_sentence(tree, tmp_path, arguments, code, text):
    done = compare(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_saved_runs_are_compared_by_window_name(powercap, tmp_path):
    powercap(Zone("package-0", 60.0), move=True)
    for name, seconds in (("a", 0.02), ("b", 0.08)):  # on a busy machine each may take some 20 ms longer
        with fg.Monitor(record=tmp_path / name) as monitor:
            step = monitor.window("step")
            for _ in range(10):
                with step:
                    time.sleep(seconds)
            with monitor.window(f"only-{name}"):
                pass
    found = fg.compare(tmp_path / "a", fg.load(tmp_path / "b"))
    truth = [fg.load(tmp_path / x).summary()["total_duration_s"][0].as_py() for x in "ab"]
    ratio = found.ratio("step")
    assert ratio.low <= truth[1] / truth[0] <= ratio.high
    assert ratio.verdict == "more"
    assert "one run each" in str(found)
    assert any("'only-a' is only in" in note for note in found.notes)
    with pytest.raises(KeyError, match="nothing named 'other'"):
        found.ratio("other")
    done = compare(tmp_path / "a", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert "step: " in done.stdout
    assert compare(tmp_path / "absent", tmp_path / "b").returncode == 1


def test_runs_without_a_reading_are_refused(only_fakes, tmp_path):
    (only_fakes / "proc" / "stat").unlink()
    with fg.Monitor() as monitor:
        pass
    with pytest.raises(fg.errors.TraceError, match="no channel gave a reading"):
        fg.compare(monitor.result, monitor.result)


def test_runs_of_different_machines_are_refused_unless_forced(powercap, tmp_path):
    powercap(Zone("package-0", 60.0), move=True)
    results = []
    for _ in range(2):
        with fg.Monitor() as monitor:
            time.sleep(0.1)
        results.append(monitor.result)
    results[1].metadata = {**results[1].metadata, "host": "elsewhere"}
    for result, name in zip(results, "ab", strict=True):
        result.save(tmp_path / name)
    with pytest.raises(fg.errors.TraceError, match=r"different machines: .* and elsewhere; --force"):
        fg.compare(*results)
    assert "different machines" in str(fg.compare(*results, force=True))
    assert compare(tmp_path / "a", tmp_path / "b").returncode == 1
    done = compare("--force", tmp_path / "a", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert "note: the runs are of different machines" in done.stdout
