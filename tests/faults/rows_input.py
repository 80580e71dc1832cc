# SPDX-License-Identifier: Apache-2.0
"""Bad input: arguments, windows, folders, commands."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import fastgreen as fg
from fastgreen.errors import ChannelNotFound, TraceError
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT

from .acts import begin, call, end, measure, powercap, reads, wait
from .expects import note, raises, value, warns
from .model import Fault, Proof, Scene

PYTHON = sys.executable
IGNORES = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up'); time.sleep(0.4)"


def rate(hz: Any) -> Fault:
    return Fault(
        f"hz={hz!r}",
        "bad input",
        (call("", lambda s: fg.Monitor(hz=hz)),),
        (raises(ValueError, "hz must be"),),
        "hz of 0, negative, NaN, infinite, 1e9, or no number",
    )


def fastgreen_run(*command: str, interrupt: bool = False) -> Any:
    """`fastgreen run -- COMMAND` as a process of its own; its output goes to files, as a gigabyte fits in no pipe."""

    def run(scene: Scene) -> Any:
        arguments = [PYTHON, "-m", "fastgreen", "run", "--json", "--", *command]
        out, err = scene.folder / "out", scene.folder / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            child = subprocess.Popen(arguments, stdout=stdout, stderr=stderr, cwd=ROOT, start_new_session=True)
            if interrupt:
                while not out.stat().st_size and child.poll() is None:
                    time.sleep(0.01)
                import os
                import signal

                os.killpg(child.pid, signal.SIGINT)
            child.wait(240)
        scene.program = subprocess.CompletedProcess(arguments, child.returncode, "", err.read_text())
        scene.value = out.stat().st_size
        out.unlink()
        return scene.value

    return call("", run)


def left(code: int) -> Any:
    return value(f"exit code {code}", lambda s: s.program.returncode == code)


REPORTED = value("the report comes all the same", lambda s: '"energy_j"' in s.program.stderr)


def _damaged(scene: Scene, name: str, content: bytes | None) -> None:
    """A saved run with one file cut in half, or replaced by something else."""
    with fg.Monitor(hz=100) as monitor:
        time.sleep(0.05)
    run = scene.folder / "saved"
    monitor.result.save(run)
    file = run / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    result = fg.load(run)
    scene.result = result


ROWS = [
    *(rate(hz) for hz in (0, -5, float("nan"), float("inf"), 1e9, "fast", True)),
    Fault(
        "an unknown channel",
        "bad input",
        (powercap(Zone(), move=False), call("", lambda s: fg.Monitor("rapl:pakage-0"))),
        (raises(ChannelNotFound, "Did you mean 'rapl:package-0'"),),
    ),
    Fault(
        "a window left open",
        "bad input",
        (powercap(Zone(watts=10.0)), measure(begin("open"), wait(0.05), channels="rapl:package-0")),
        (
            warns("'open' was still open"),
            note("'open' was still open"),
            value("it ends with the measurement", lambda s: s.result.summary()["count"].to_pylist() == [1]),
        ),
    ),
    Fault(
        "a window ended twice",
        "bad input",
        (powercap(Zone(watts=10.0)), measure(begin("w"), end("w"), call("", lambda s: s.monitor.window("w").end()))),
        (raises(RuntimeError, "'w' was ended before it was begun"),),
    ),
    Fault(
        "a window begun twice",
        "bad input",
        (powercap(Zone(watts=10.0)), measure(call("", lambda s: [w.begin() for w in [s.monitor.window("w")] * 2]))),
        (raises(RuntimeError, "begun twice"),),
    ),
    Fault(
        "a window before start or after stop",
        "bad input",
        (powercap(Zone(watts=10.0)), measure(reads(1)), call("", lambda s: s.monitor.window("late").begin())),
        (raises(RuntimeError, "not running"),),
    ),
    Fault(
        "record= onto a file, a read-only folder, or an existing run",
        "bad input",
        (),
        (
            Proof(
                "refused; the file or run is not changed",
                "tests/measuring/test_process.py::test_recording_onto_a_file_or_an_existing_run_is_refused_and_harms_neither",
            ),
            Proof(
                "PermissionError that names the folder",
                "tests/measuring/test_process.py::test_recording_into_a_folder_that_may_not_be_written_is_a_clear_error",
            ),
        ),
    ),
    Fault(
        "a foreign file in the place of samples.arrow",
        "bad input",
        (call("", lambda s: _damaged(s, "samples.arrow", b"not arrow at all" * 50)),),
        (raises(TraceError, "samples.arrow"),),
    ),
    Fault(
        "a truncated channels.arrow",
        "bad input",
        (call("", lambda s: _damaged(s, "channels.arrow", None)),),
        (raises(TraceError, "channels.arrow"),),
    ),
    Fault(
        "a truncated samples.arrow",
        "bad input",
        (),
        (
            Proof(
                "refused, or the rest is read, and a note reports it",
                "tests/results/test_run_reader.py::test_a_file_cut_at_any_place_is_refused_or_gives_what_is_left_and_says_so",
            ),
        ),
    ),
    Fault(
        "the command is not found",
        "bad input",
        (fastgreen_run("no-such-command-anywhere"),),
        (left(127), value("by its name", lambda s: "no-such-command-anywhere" in s.program.stderr)),
    ),
    Fault(
        "no permission to run the command",
        "bad input",
        (fastgreen_run("/etc/passwd"),),
        (left(126),),
    ),
    Fault(
        "the command is killed",
        "bad input",
        (fastgreen_run(PYTHON, "-c", "import os; os.kill(os.getpid(), 9)"),),
        (left(137), REPORTED),
    ),
    Fault(
        "the command ignores SIGINT",
        "bad input",
        (fastgreen_run(PYTHON, "-uc", IGNORES, interrupt=True),),
        (left(0), REPORTED),
    ),
    Fault(
        "the command prints a gigabyte",
        "bad input",
        (fastgreen_run("sh", "-c", "head -c 1073741824 /dev/zero"),),
        (left(0), value("every byte of it", lambda s: s.value == 1 << 30), REPORTED),
        slow=True,
    ),
]
