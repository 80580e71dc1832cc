"""What happens to a measurement when the process forks, ends, is killed, or runs out of disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastgreen as fg
from tests.fakes.permissions import drop_dac_override
from tests.fakes.powercap import Zone
from tests.oracles.honest import Honest
from tests.oracles.interpreter import warnings_in, without_fork_warning
from tests.oracles.places import ROOT

FORK = """
import os, sys, time, warnings
import fastgreen as fg

monitor = fg.Monitor(record=sys.argv[1], hz=500).start()
window = monitor.window("w")
with window:
    time.sleep(0.05)
open_window = monitor.window("open at the fork")
open_window.begin()
pid = os.fork()
if pid == 0:
    with window:
        pass
    window.begin(); window.end(); open_window.end()
    fresh = monitor.window("child's")
    with fresh, monitor.window("another"):
        pass
    said = []
    for action in (monitor.energy_j, lambda: monitor.result, monitor.wait):
        try:
            action()
        except fg.errors.FastgreenError as error:
            said.append("parent" in str(error))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said.append(monitor.stop() is None)
        said.append("parent" in str(caught[0].message))
    said.append("inert" in repr(monitor))
    with fg.Monitor(hz=500) as own, own.window("own"):   # a child may measure for itself
        until = time.monotonic() + 60
        while own.energy_j()["rapl:package-0"] == 0 and time.monotonic() < until:
            time.sleep(0.01)
    said.append(own.result.energy_j > 0)
    print(len(said), all(said), len(window), flush=True)
    getattr(sys, "exit", None)() if sys.argv[2] == "exit" else os._exit(0)
os.waitpid(pid, 0)
time.sleep(0.3)
open_window.end()
with window:
    time.sleep(0.05)
result = monitor.stop()
print(result.summary()["count"].to_pylist(), result.energy_j)
"""


@pytest.mark.parametrize("leave", ["exit", "_exit"])
def test_a_forked_child_is_inert_and_says_so_and_the_parent_goes_on_with_its_recording(
    powercap, python, tmp_path, leave
):
    powercap(Zone("package-0", 90.0), move=True)
    done = python(FORK, tmp_path / "run", leave)
    assert done.returncode == 0, done.stderr
    (warned,) = warnings_in(done.stderr)  # of five windows in the child
    assert "FastgreenWarning: windows in this forked process measure nothing" in warned
    child, parent = done.stdout.splitlines()
    assert child == "7 True 1" or child.startswith("7 True"), child
    counts, energy = parent.rsplit(" ", 1)
    assert json.loads(counts) == [2, 1]
    loaded = fg.load(tmp_path / "run")
    assert loaded.energy_j == float(energy)
    assert loaded.summary()["count"].to_pylist() == [2, 1]
    assert loaded.notes == []


def test_a_fork_server_child_can_end_while_the_parent_measures(powercap, python):
    powercap(Zone("package-0", 90.0), move=True)
    done = python("""
        import multiprocessing, time
        import fastgreen as fg

        def child(n):
            return n * n

        if __name__ == "__main__":
            with fg.Monitor(hz=500) as monitor, monitor.window("pool"):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    print(pool.map(child, range(20))[-1])
                until = time.monotonic() + 60
                while monitor.energy_j()["rapl:package-0"] == 0 and time.monotonic() < until:
                    time.sleep(0.01)
            print(monitor.result.energy_j > 0)
        """)
    assert (done.stdout.split(), done.returncode) == (["361", "True"], 0), done.stderr
    assert without_fork_warning(done.stderr) == ""


LEFT_RUNNING = """
import sys, time
import fastgreen as fg

monitor = fg.Monitor(record=sys.argv[1], hz=500).start()
until = time.monotonic() + 60
with monitor.window("w"):
    while monitor.energy_j()["rapl:package-0"] < 6 and time.monotonic() < until:
        time.sleep(0.01)
print(monitor.energy_j()["rapl:package-0"], flush=True)
{ending}
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError('user')", 1), ("del monitor, fg\nsys.exit(4)", 4)],
)
def test_a_program_that_ends_while_measuring_completes_its_recording(powercap, python, tmp_path, ending, code):
    powercap(Zone("package-0", 90.0), move=True)
    done = python(LEFT_RUNNING.format(ending=ending), tmp_path / "run")
    assert done.returncode == code, done.stderr
    loaded = fg.load(tmp_path / "run")
    assert loaded.names == ["w"]
    assert loaded.energy_j >= float(done.stdout) > 5.0
    assert loaded.notes == []
    assert loaded.channels["status"].to_pylist() == ["ok"]


KILLED = """
import sys, time
import fastgreen as fg

with fg.Monitor(record=sys.argv[1], hz=200) as monitor:
    window = monitor.window("w")
    print("ready", flush=True)
    while True:
        with window:
            time.sleep(0.001)
"""


def longest_pause_s(path: Path, seconds: float) -> float:
    """How long the file did not grow at most, of so many seconds from now."""
    begun = grown = now = time.monotonic()
    size, longest = path.stat().st_size, 0.0
    while now < begun + seconds:
        time.sleep(0.01)
        now = time.monotonic()
        if path.stat().st_size != size:
            size, longest, grown = path.stat().st_size, max(longest, now - grown), now
    return max(longest, now - grown)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_loses_at_most_the_last_second_and_its_totals_are_made_anew(powercap, tmp_path, number):
    tree = powercap(Zone("package-0", 90.0, children=(Zone("dram", 9.0),)), move=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    told: list[tuple[float, float]] = []
    # It writes every 0.25 s: where the machine did not let it for 0.6 s, nothing is shown, and another is killed.
    while not told or (told[-1][0] >= 1 and told[-1][1] > 0.6 and len(told) < 6):
        run = tmp_path / f"run{len(told)}"
        with subprocess.Popen([sys.executable, "-c", KILLED, str(run)], env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            paused_s = longest_pause_s(run / "samples.arrow", 1.5)
            killed_ns = time.monotonic_ns()  # or a little later
            process.send_signal(number)
            process.wait(60)
        loaded = fg.load(run)
        windows = loaded.windows("w")
        last_ns = windows["start_ns"][-1].as_py() + windows["duration_s"][-1].as_py() * 1e9
        told.append(((killed_ns - min(loaded.end_ns, last_ns)) * 1e-9, paused_s))
    assert told[-1][0] < 1, f"seconds lost, and the longest without a write: {told}"
    truth = Honest(loaded, tree)
    for trace in loaded.traces:
        tally, zone = trace.tally, trace.channel.id[5:]
        edges = (tally["first_at_ns"], tally["end_at_ns"])
        total = truth.result.totals[trace.channel.id]
        assert truth.holds([zone], [edges], total.low_j, total.high_j)
        late_ns = truth.age_ns + truth.delay_ns + tally["read_longest_ns"]
        assert total.energy_j == pytest.approx(tree.energy_j(zone, *edges), rel=0.05, abs=0.5 + 90e-9 * late_ns)
    assert sum("ended before the run was stopped" in note for note in loaded.notes) == 2
    assert loaded.channels["missed"].to_pylist() == [None, None]
    assert "between" in str(loaded)


STOPPED = """
import sys, time
import fastgreen as fg

with fg.Monitor("rapl:*", hz=1000, record=sys.argv[1]) as monitor:
    time.sleep(0.1)
    print("ready", flush=True)
    input()
    time.sleep(0.1)
"""


def test_a_process_that_is_stopped_while_the_counter_goes_round_says_that_it_cannot_know(powercap, tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    ages = []
    for wrap_s in (0.06, 0.12, 0.25, 0.5, 1.0, 2.0):
        zone = Zone("package-0", 1000.0, range_uj=round(wrap_s * 1e9), limit_uw=10**9, max_power_uw=10**9)
        tree, run = powercap(zone, move=True), tmp_path / f"{wrap_s}"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-c", STOPPED, str(run)], env=env, text=True, **pipes) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGSTOP)
            time.sleep(8.3 * wrap_s)  # eight times round
            process.send_signal(signal.SIGCONT)
            process.communicate("\n", timeout=60)
        truth = Honest(fg.load(run), tree)
        ages.append((truth.age_ns + truth.delay_ns) * 1e-9 / wrap_s)
        if ages[-1] < 0.5:
            break  # else the mover, kept waiting, left out half a wrap, as no counter does
    assert ages[-1] < 0.5, f"of slower and slower counters the busy machine left out so many wraps: {ages}"
    trace, total = truth.result.traces[0], truth.result.totals["rapl:package-0"]
    edges = (trace.tally["first_at_ns"], trace.tally["end_at_ns"])
    assert truth.holds(["package-0"], [edges], total.low_j, total.high_j)
    assert trace.tally["resets"] >= 1


FULL_DISK = """
import os, resource, signal, sys, time, warnings
import fastgreen as fg

limit = int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
monitor = fg.Monitor(record=sys.argv[1], hz=2000)
monitor.start()
if limit:
    while os.path.getsize(sys.argv[1] + "/samples.arrow") < 6000:  # the first samples are there
        time.sleep(0.01)
    limit += os.path.getsize(sys.argv[1] + "/samples.arrow")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
window = monitor.window("w")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    begun = time.monotonic()
    live = lambda: monitor._groups[0].sampler.live(0)["samples"]
    done = lambda: time.monotonic() > begun + float(sys.argv[3]) and caught and live() > 600 and len(window) > 200
    while not done() and time.monotonic() < begun + 60:
        with window:
            time.sleep(0.0002)
    monitor.stop()
result = monitor.result
print(result.samples().num_rows, result.channels["samples"][0].as_py(), end=" ")
print(result.summary()["count"][0].as_py(), len(window))
print(result.energy_j, result.windows()["energy_j"].to_pylist() != [])
print(sorted({str(w.message) for w in caught}))
print(result.notes)
"""


def assert_nothing_was_lost(done: subprocess.CompletedProcess, run: Path) -> None:
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    kept, taken, counted, entered = map(int, lines[0].split())
    assert kept == taken > 500
    assert counted == entered > 100
    assert "continues in memory" in lines[2]
    assert "continues in memory" in lines[3]
    loaded = fg.load(run)  # what fitted is a run that can be read
    assert 0 < loaded.samples().num_rows < kept
    assert any("recording" in note for note in loaded.notes), loaded.notes
    whole_j = float(lines[1].split()[0])
    assert loaded.energy_j == whole_j or loaded.energy_j < whole_j


@pytest.mark.parametrize("limit", [1, 13_333])
def test_a_full_disk_ends_the_recording_and_not_the_measurement(powercap, python, tmp_path, limit):
    powercap(Zone("package-0", 90.0), move=True)
    assert_nothing_was_lost(python(FULL_DISK, tmp_path / "run", limit, 1.2), tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    made = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False
    )
    if not made or made.returncode:
        pytest.skip("no right to mount a small tmpfs; the twin with a file size limit runs everywhere")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_small_file_system_that_fills_up_loses_nothing(powercap, python, small_disk):
    powercap(Zone("package-0", 90.0), move=True)
    assert_nothing_was_lost(python(FULL_DISK, small_disk / "run", 0, 2.0), small_disk / "run")


def test_a_disk_without_any_room_is_said_at_the_start(small_disk):
    (small_disk / "filler").write_bytes(bytes(60 * 1024))
    with pytest.raises(OSError, match=r"(?i)no space"):
        fg.Monitor(record=small_disk / "run").start()


def test_recording_into_a_folder_that_may_not_be_written_is_a_clear_error(python, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = python(
        """
        import sys, fastgreen as fg
        try:
            fg.Monitor(record=sys.argv[1] + "/run").start()
        except PermissionError as error:
            print(error.filename)
        """,
        locked,
        preexec_fn=drop_dac_override,
    )
    assert done.stdout.strip() == str(locked / "run"), done.stderr


def test_recording_onto_a_file_or_an_existing_run_is_refused_and_harms_neither(tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises((FileExistsError, NotADirectoryError), match="file"):
        fg.Monitor(record=file).start()
    with pytest.raises(NotADirectoryError, match="file"):
        fg.Monitor(record=file / "run").start()
    assert file.read_text() == "precious"
    run = tmp_path / "run"
    with fg.Monitor(record=run) as monitor, monitor.window("w"):
        time.sleep(0.01)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(FileExistsError, match="holds a run already"):
        fg.Monitor(record=run).start()
    with pytest.raises(FileExistsError, match="holds a run already"):
        monitor.result.save(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_recording_keeps_memory_constant(powercap, python, tmp_path):
    powercap(Zone("package-0", 90.0, children=(Zone("dram", 9.0),)), move=True)
    done = python(
        """
        import os, sys, time, fastgreen as fg, psutil
        process = psutil.Process()
        live = lambda: monitor._groups[0].sampler.live(0)["samples"]
        with fg.Monitor(record=sys.argv[1], hz=5000) as monitor:
            while live() < 5000:
                time.sleep(0.1)
            before = process.memory_info().rss
            while live() < 12_000:
                time.sleep(0.1)
            after = process.memory_info().rss
        kept = sum(len(chunk) for group in monitor._groups for chunks in group.samples for chunk in chunks)
        print(after - before, kept, monitor.result.samples().num_rows)
        """,
        tmp_path / "run",
    )
    grown, kept, rows = map(int, done.stdout.split())
    assert kept == 0
    assert rows > 10_000
    assert grown < 2 << 20


FORK_AT_STOP = """
import os, signal, sys, threading, time
import fastgreen as fg

hung = 0
for k in range(16):
    monitor = fg.Monitor("rapl:*", record=f"{sys.argv[1]}-{k}", hz=500, settle=True).start()
    time.sleep(0.05)
    stopping = threading.Thread(target=monitor.stop)
    stopping.start()
    time.sleep(0.001 * k)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            monitor.result
        except (fg.errors.FastgreenError, RuntimeError):
            pass
        os._exit(0)
    hung += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    stopping.join()
print(hung)
"""


def test_a_child_that_is_forked_while_another_thread_stops_the_monitor_never_hangs(powercap, python, tmp_path):
    powercap(Zone("package-0", 90.0), move=True)
    done = python(FORK_AT_STOP, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0"], done.stdout
