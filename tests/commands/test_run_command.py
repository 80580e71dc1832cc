"""`fastgreen run` as a wrapper that nobody notices: what it leaves behind, whose signals it takes, where it writes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT

FASTGREEN = f"{sys.executable} -m fastgreen"


@pytest.fixture(autouse=True)
def tree(powercap):
    return powercap(Zone("package-0", 60.0), move=True)


def shell(line: str, **options: object) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=120, **options)


def heed_signals() -> None:
    """Whoever runs the tests may ignore some, as nohup does, and children inherit that."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def started(line: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(["bash", "-c", f"exec {line}"], env=env, text=True, preexec_fn=heed_signals, **options)


WAITING = f"""{sys.executable} -c 'import time; print("ready", flush=True); time.sleep(60)'"""


@pytest.mark.parametrize(
    ("command", "code"),
    [("no-such-command-at-all", 127), ("./nowhere", 127), ("./plain", 126), ("/", 126), ("''", 127)],
)
def test_a_command_that_cannot_start_is_one_sentence_and_leaves_no_run(tmp_path, command, code):
    (tmp_path / "plain").write_text("echo hello\n")
    done = shell(f"{FASTGREEN} run -o run -- {command}", cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(f"fastgreen run: {command.strip(chr(39))}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_ends_is_passed_on_and_the_run_is_completed(tmp_path, number):
    process = started(f"{FASTGREEN} run -o {tmp_path / 'run'} -- {WAITING}")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "rapl:package-0" in err
    assert fg.load(tmp_path / "run").notes == []


def test_a_quit_from_the_terminal_ends_the_child_and_is_reported(tmp_path):
    process = started(f"{FASTGREEN} run -o {tmp_path / 'run'} -- {WAITING}")
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGQUIT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGQUIT
    assert "rapl:package-0" in err


COUNTING = """
import signal, sys, time
seen, told = [], 0
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(number))
print("ready", flush=True)
until = time.monotonic() + 120
while told < int(sys.argv[1]) and time.monotonic() < until:
    time.sleep(0.05)
    if told < len(seen):
        told += 1
        print("seen", flush=True)
time.sleep(1)  # one too many would come soon
print(len(seen), flush=True)
"""


@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_child_once_whether_sent_to_us_or_to_our_group(tmp_path, send, number):
    script = tmp_path / "counting.py"
    script.write_text(COUNTING)
    process = started(f"{FASTGREEN} run -- {sys.executable} {script} 1")
    assert process.stdout.readline() == "ready\n"
    send(process.pid, number)
    out, err = process.communicate(timeout=240)
    assert out == "seen\n1\n"
    assert process.returncode == 0
    assert "rapl:package-0" in err


def test_each_of_several_interrupts_is_passed_on(tmp_path):
    script = tmp_path / "counting.py"
    script.write_text(COUNTING)
    process = started(f"{FASTGREEN} run -- {sys.executable} {script} 3")
    assert process.stdout.readline() == "ready\n"
    for send in (os.killpg, os.kill, os.killpg):
        send(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "seen\n"  # two that wait at once would be one
        time.sleep(0.3)
    out, _ = process.communicate(timeout=240)
    assert out == "3\n"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_a_signal_that_the_caller_ignores_stays_ignored_in_the_child_and_here(name):
    process = started(
        f"{sys.executable} -c 'import os, signal, sys; signal.signal(signal.{name}, signal.SIG_IGN); "
        f"os.execv(sys.executable, [sys.executable, *sys.argv[1:]])' -m fastgreen run -- {sys.executable} -c \""
        f'import signal, time; print(signal.getsignal(signal.{name}) is signal.SIG_IGN, flush=True); time.sleep(0.5)"'
    )
    assert process.stdout.readline() == "True\n"
    os.killpg(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "rapl:package-0" in err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_child_does_not_write_into_the_recording_where_its_output_is_closed(tmp_path, closed):
    run = tmp_path / "run"
    done = shell(f"{FASTGREEN} run -o {run} -- sh -c 'echo out; echo err >&2; sleep 1; echo out; exit 3' {closed}")
    assert done.returncode == 3
    loaded = fg.load(run)
    assert loaded.notes == []
    (row,) = loaded.channels.to_pylist()
    assert loaded.samples().num_rows == row["samples"] >= 2
    assert row["samples"] + row["missed"] > 20  # of 100 deadlines


@pytest.mark.parametrize("place", ["2>/dev/full", "2>&1 >/dev/null | true", "2>&-"])
@pytest.mark.parametrize("option", ["", "--json"])
def test_the_childs_code_comes_back_where_the_report_cannot_be_written(place, option):
    done = shell(f"{FASTGREEN} run {option} -- sh -c 'sleep 0.2; exit 9' {place}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 9
    assert done.stderr == ""


@pytest.mark.parametrize("option", ["", " --json"])
def test_a_table_that_cannot_be_written_is_one_sentence(option):
    done = shell(f"{FASTGREEN} channels{option} >/dev/full")
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_repeats_idle_power_and_the_place_of_the_run_are_reported(tmp_path):
    """60 W all the time, so nothing is above idle."""
    line = f"{FASTGREEN} run -r 3 --idle --idle-seconds 0.3 -o {tmp_path / 'run'}"
    done = shell(f"{line} -- sh -c 'echo out; sleep 0.3'")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n" * 3
    assert re.search(r"^one of 3 repeats: [12]\d\.\d+ J \(.* J\) ± [\d.e-]+ % in 3\d\d\.\d ms ±", done.stderr, re.M)
    found = re.search(r"^one repeat above idle: .* of [12]\d\.\d+ J \(.*\); idle power \d+\.\d+ W", done.stderr, re.M)
    assert found, done.stderr
    assert f"saved in {tmp_path / 'run'}" in done.stderr
    assert fg.load(tmp_path / "run").windows("repeat").num_rows == 3
    answer = tmp_path / "answer.json"
    done = shell(f"{line}2 --json --json-file {answer} -- sleep 0.3")
    found = json.loads(answer.read_text())
    assert found == json.loads(done.stderr)
    assert (found["repeats"]["count"], len(found["repeats"]["runs"])) == (3, 3)
    assert found["idle"]["energy_above_idle_low_j"] <= 0 <= found["idle"]["energy_above_idle_high_j"]
    truth = 60 * found["repeats"]["mean_duration_s"]
    assert found["repeats"]["mean_energy_low_j"] <= truth <= found["repeats"]["mean_energy_high_j"]


def test_a_repeat_that_fails_ends_the_repeats_with_its_code(tmp_path):
    script = f"echo x >> {tmp_path}/count; test $(wc -l < {tmp_path}/count) != 2 || exit 7"
    done = shell(f"{FASTGREEN} run -r 5 -- sh -c '{script}'")
    assert done.returncode == 7
    assert "repeat 2 ended with exit code 7, so the repeats ended there" in done.stderr
    assert shell(f"{FASTGREEN} run -r 0 -- true").returncode == 2
    assert shell(f"{FASTGREEN} run --idle --idle-seconds nan -- true").returncode == 2


def test_a_command_too_short_for_the_sensors_is_reported_with_the_time_that_it_needs(powercap):
    powercap(Zone("package-0", 60.0), move=True, period_s=0.5)
    done = shell(f"{FASTGREEN} run -- sleep 1.2")
    assert re.search(r"the command is too short for the sensors: in 1\.\d s .* run [\d.]+ times longer", done.stderr)
