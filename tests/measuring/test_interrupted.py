"""An end that is interrupted, and a program that dies: what was measured is there all the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone
from tests.oracles.interpreter import without_fork_warning
from tests.oracles.places import ROOT

EVERY_LINE = """
import linecache, sys, warnings
import fastgreen as fg

warnings.simplefilter("ignore")  # windows left open

class Cut(BaseException):
    pass

def stop_cut_at(monitor, line):
    left = [line]
    def trace(frame, event, argument):
        if "fastgreen" not in frame.f_code.co_filename:
            return None
        # A handler of a signal never runs between a block's last line and the release of its lock; a trace would.
        if event == "line" and "with " not in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            left[0] -= 1
            if left[0] == 0:
                raise Cut
        return trace
    sys.settrace(trace)
    try:
        monitor.stop()
    except Cut:
        return True
    finally:
        sys.settrace(None)
    return False

line, cut = 0, True
while cut:
    line += 1
    monitor = fg.Monitor("rapl:*", hz=1000, record=f"{sys.argv[1]}/{line}").start()
    monitor.checkpoint(0.5)
    monitor.window("open").begin()
    cut = stop_cut_at(monitor, line)
    result = monitor.stop()
    assert result.summary()["count"].to_pylist() == [1], line
    assert fg.load(f"{sys.argv[1]}/{line}").notes == result.notes, line
print(line)
"""


def test_a_stop_interrupted_at_any_of_its_lines_is_finished_by_the_next(powercap, python, tmp_path):
    powercap(Zone("package-0", 90.0))
    done = python(EVERY_LINE, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 30


DIES = """
import os, signal, sys, time
import fastgreen as fg

monitor = fg.Monitor(record=sys.argv[1], hz=500, report_on_exit={report}).start()
with monitor.window("work"):
    print("ready", flush=True)
    while monitor.energy_j()["rapl:package-0"] < 2:
        time.sleep(0.01)
    {ending}
"""

ENDINGS = {
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)", -signal.SIGINT),
    "an exception": ("raise LookupError('of the program')", 1),
    "sys.exit": ("sys.exit(7)", 7),
    "its last line": ("", 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("report", [True, False])
def test_a_program_that_ends_while_it_measures_keeps_its_result(powercap, python, tmp_path, ending, report):
    powercap(Zone("package-0", 90.0), move=True)
    act, code = ENDINGS[ending]
    done = python(DIES.format(ending=act, report=report), tmp_path / "run")
    assert done.returncode == code, done.stderr
    assert ("energy up to the end of the program" in done.stderr) == report
    if report:
        told = done.stderr[done.stderr.index("fastgreen: energy") :]
        assert "rapl:package-0" in told
        assert "work" in told
        assert "Traceback" not in told
    loaded = fg.load(tmp_path / "run")
    assert loaded.energy_j > 1.5
    assert loaded.summary()["count"].to_pylist() == [1]
    assert not any("cut short" in note for note in loaded.notes)


def test_a_stopped_monitor_reports_at_exit_too_once_and_never_in_a_forked_child(powercap, python):
    powercap(Zone("package-0", 90.0), move=True)
    done = python("""
        import os, sys, time
        import fastgreen as fg

        with fg.Monitor(report_on_exit=True) as monitor, monitor.window("w"):
            time.sleep(0.05)
        monitor.stop()
        with fg.measure(report_on_exit=True):
            time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        os.waitpid(pid, 0)
        print("end", file=sys.stderr, flush=True)
        """)
    assert done.returncode == 0, done.stderr
    before, after = without_fork_warning(done.stderr).split("end\n")
    assert before == ""
    assert after.count("energy up to the end of the program") == 2


def test_ctrl_c_while_the_program_ends_leaves_a_closed_recording_and_no_traceback_of_ours(powercap, tmp_path):
    powercap(Zone("package-0", 90.0))
    code = """
import atexit, os, signal, sys, threading, time
import fastgreen as fg
monitor = fg.Monitor(record=sys.argv[1], hz=500, settle=True, report_on_exit=True).start()
main, ends = threading.get_ident(), threading.Event()
def later():
    ends.wait()
    for _ in range(2):
        time.sleep(0.1)
        signal.pthread_kill(main, signal.SIGINT)
threading.Thread(target=later, daemon=True).start()  # Python 3.12 starts no thread at its end
atexit.register(ends.set)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert fg.load(tmp_path / "run").notes == []


def test_a_signal_handler_may_stop_a_monitor_whatever_the_program_does(powercap, python):
    powercap(Zone("package-0", 90.0))
    done = python("""
        import signal, time
        import fastgreen as fg

        for n in range(300):
            monitor = fg.Monitor("rapl:*").start()
            signal.signal(signal.SIGALRM, lambda *_: monitor.stop())
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + n * 3e-6)
            until = time.monotonic() + 60
            while monitor.running and time.monotonic() < until:
                monitor.window(f"w{time.monotonic_ns()}")  # under the lock of the monitor
            assert time.monotonic() < until
            assert monitor.stop() is monitor.result
        print("ok")
        """)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_measure_has_its_result_although_its_end_was_interrupted(powercap, python):
    powercap(Zone("package-0", 90.0))
    done = python("""
        import signal, time
        import fastgreen as fg

        def strike(*_):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, strike)

        @fg.measure(settle=True)
        def work():
            signal.setitimer(signal.ITIMER_REAL, 0.1)  # within the 0.25 s that the end waits for an update

        block = fg.measure(settle=True)
        cut = 0
        for act in (work, lambda: block.__exit__(None, None, None)):
            if act is not work:
                block.__enter__()
                signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                act()
            except KeyboardInterrupt:
                cut += 1
        print(cut, work.result.known, block.known)
        """)
    assert done.stdout.split() == ["2", "True", "True"], done.stderr


def test_a_start_that_is_interrupted_leaves_a_monitor_that_can_be_stopped(powercap, python, tmp_path):
    powercap(Zone("package-0", 90.0))
    done = python(
        """
        import signal, sys
        import fastgreen as fg

        def strike(*_):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, strike)
        states = set()
        fg.Monitor("rapl:*", record=f"{sys.argv[1]}/first").start().stop()
        for n in range(200):
            monitor = fg.Monitor("rapl:*", record=f"{sys.argv[1]}/{n}")
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-5 * (n + 1))
                monitor.start()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                pass
            try:
                monitor.stop()
                states.add("stopped")
                fg.load(f"{sys.argv[1]}/{n}")
            except RuntimeError as error:
                assert "not started" in str(error), error
                states.add("new")
        print(*sorted(states))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # The interpreter prints an exception that strikes inside a finalizer, because nothing can catch it there.
    ignored = r"^Exception ignored in: .*\n(Traceback .*\n( .*\n)*)?(KeyboardInterrupt.*\n)"
    said = re.sub(ignored, "", done.stderr, flags=re.M)
    assert "fastgreen/" not in said
    assert "stopped" in done.stdout


def test_the_bell_wakes_all_who_wait():
    import threading

    from fastgreen.guards.bell import Bell

    bell, woken = Bell(), []
    threads = [threading.Thread(target=lambda: woken.append(bell.wait(30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    bell.ring()
    bell.ring()
    for thread in threads:
        thread.join()
    assert woken == [True] * 8
    assert time.monotonic() - begun < 25  # nobody waited for the 30 s
