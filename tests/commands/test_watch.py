"""The command that shows power while it is drawn."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import statistics
import subprocess
import sys

import pytest

from tests.commands.test_cli import cli
from tests.fakes.powercap import Zone


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0), Zone("core", 20.0))), move=True)


def glances(*options: object) -> list[dict]:
    done = cli("watch", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_lies_in_another_channel_is_shown_and_not_added(tree):
    (glance,) = glances("-c", "rapl:package-0", "-c", "rapl:package-0/core", "--every", 0.3, "--seconds", 0.3)
    core = glance["channels"]["rapl:package-0/core"]
    assert not core["counted"]
    assert glance["energy_j"] == glance["channels"]["rapl:package-0"]["energy_j"]


def test_an_estimate_says_so(only_fakes):
    done = cli("watch", "--every", 0.2, "--seconds", 0.2)
    line, *rest = done.stdout.splitlines()
    assert re.search(r" m?W estimated ", line)
    assert any("estimated" in text for text in rest)  # the report at the end


def test_interrupting_it_ends_it_with_the_energy_of_all(tree):
    command = [sys.executable, "-m", "fastgreen", "watch", "--every", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "rapl:package-0" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "channels" in out
    assert err == ""


def test_a_terminal_gets_a_table(tree):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "fastgreen", "watch", "--every", "0.2", "--seconds", "0.4"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process, shown = subprocess.Popen(command, stdout=follower, stderr=subprocess.DEVNULL, env=env), b""
    os.close(follower)
    with contextlib.suppress(OSError):  # the terminal's other side is closed
        while chunk := os.read(leader, 1 << 16):
            shown += chunk
    os.close(leader)
    assert process.wait(120) == 0
    assert b"power now" in shown
    assert b"together" in shown
    assert "█".encode() in shown
    assert b"peak" in shown


def test_a_reader_that_goes_away_ends_it(tree):
    line = f"{sys.executable} -m fastgreen watch --json --every 0.05 | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "0"], "every"),
        (["--seconds", "0"], "seconds"),
        (["--hz", "nan"], "hz"),
        (["-c", "rapl:pakage-0"], "Did you mean 'rapl:package-0'"),
    ],
)
def test_bad_options_are_named(tree, options, said):
    done = cli("watch", *options)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


RECORD = """
import sys, time
import fastgreen as fg
with fg.Monitor("rapl:*", hz=100, record=sys.argv[1]) as monitor:
    work, ledger = monitor.window("infer"), monitor.ledger("chat")
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        with work, ledger.span("a"), ledger.span("b"):
            time.sleep(0.05)
"""


def recording(folder, seconds):
    return subprocess.Popen([sys.executable, "-c", RECORD, str(folder), str(seconds)])


def test_a_run_that_is_recorded_is_followed_to_its_end(tree, tmp_path):
    process = recording(tmp_path / "run", 6)
    done = cli("watch", tmp_path / "run", "--every", 0.5, "--json")
    assert process.wait(60) == 0
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(seen) >= 2
    middle = seen[:-1]  # what came within the last one is not known
    assert statistics.median(g["power_w"] for g in middle) == pytest.approx(66, rel=0.4)
    assert 5 < statistics.median(g["windows_per_s"] for g in middle) <= 21
    assert statistics.median(g["spans_per_s"] for g in middle) > 10
    energies = [g["energy_j"] for g in seen]
    assert energies == sorted(energies)
    assert cli("watch", tmp_path / "run").returncode == 0  # one that has ended is shown at once


def test_a_killed_recording_and_no_recording_are_said(tree, tmp_path):
    process = recording(tmp_path / "run", 60)
    done = cli("watch", tmp_path / "run", "--every", 0.3, "--seconds", 6)
    process.kill()
    process.wait()
    assert done.returncode == 0, done.stderr
    assert " windows per s" in done.stdout
    os.utime(tmp_path / "run" / "samples.arrow", (1, 1))
    done = cli("watch", tmp_path / "run", "--seconds", 0.2)
    assert "has not grown for" in done.stderr
    done = cli("watch", tmp_path / "none", "--seconds", 0.2)
    assert (done.returncode, "holds no reading of a run" in done.stderr) == (1, True)
    (tmp_path / "file").write_text("x")
    assert cli("watch", tmp_path / "file", "--seconds", 0.2).returncode == 1
    (tmp_path / "run" / "channels.arrow").write_bytes(b"damaged")
    assert cli("watch", tmp_path / "run", "--seconds", 0.2).returncode == 1
    done = cli("watch", tmp_path / "run", "-c", "rapl:*")
    assert (done.returncode, "cannot be used with RUN" in done.stderr) == (2, True)


def test_a_spark_shows_in_a_line_of_any_width():
    from fastgreen.reports.histories import Histories, History

    history = History()
    for n in range(300):
        history.add(100.0 if n == 137 else 10.0, 1.0)
    for width in (1, 8, 40, 400):
        line = history.sparkline(width)
        assert len(line) <= max(width, 1)
        assert line.count("█") == 1
    assert history.peak == 100.0
    assert history.mean == pytest.approx(10.3)
    for _ in range(400):
        history.add(0.0, 1.0)
    assert set(history.sparkline(40)) == {"▁"}
    assert History().sparkline(10) == ""
    histories = Histories()
    histories.add({"power_w": 1.0, "duration_s": 1.0, "channels": {"a": {"power_w": 1.0}}})
    assert histories.length == "1 s"
    assert histories.of("a").peak == 1.0


def test_the_recording_behind_a_page_stays_small_and_the_energy_goes_on(tree, tmp_path):
    import fastgreen as fg
    from fastgreen.commands.watch import _Parts
    from fastgreen.reports.live_page import LivePage

    page = LivePage("127.0.0.1", 0, "watch")
    folder = tmp_path / "watch"
    folder.mkdir()
    meter = fg.Monitor("rapl:*", hz=100, keep="totals").start()
    parts = _Parts(folder, meter, lambda record: fg.Monitor("rapl:*", hz=100, record=record).start(), most_bytes=40_000)
    try:
        seen, most = [], 0
        for glance in parts.glances(0.3, 6.0, page):
            seen.append(glance["energy_j"])
            most = max(most, len(list(folder.iterdir())))
        html = page.html().decode()
    finally:
        meter.stop()
        parts.monitor.stop()
        page.close()
    assert parts.before_s > 0.5
    assert "before this began, " in html
    # The energy between two recordings counts as well: the whole run is that of its time.
    assert meter.result.energy_low_j <= 66 * meter.result.duration_s <= meter.result.energy_high_j
    assert most == 1
    assert [part.name for part in folder.iterdir()] != ["run-0"]
    assert seen == sorted(seen)
    assert seen[-1] <= meter.result.energy_high_j
