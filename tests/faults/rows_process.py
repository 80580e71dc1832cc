# SPDX-License-Identifier: Apache-2.0
"""Faults of the process that measures and of the machine under it."""

from __future__ import annotations

import ast
import re

import numpy as np

from fastgreen import _resolver
from fastgreen.results import run_folder
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, traits
from tests.fakes.powercap import RANGE_61UJ, Zone
from tests.oracles.interpreter import warnings_in
from tests.oracles.places import ROOT

from .acts import call, gil_held, measure, powercap, process_stopped, program, recorded, wait
from .expects import (
    bounds_hold,
    counted,
    exits,
    no_burst,
    no_note,
    note,
    nothing_lost,
    sampled_meanwhile,
    says,
    value,
)
from .model import Fault, Proof, Scene

STOPPED = """
import sys, time
import fastgreen as fg
with fg.Monitor("rapl:package-0", hz=100, record=sys.argv[1]) as monitor:
    with monitor.window("w"):
        time.sleep(0.2)
        print("ready", flush=True)
        sys.stdin.readline()
        time.sleep(0.2)
"""

IN_THREADS = """
import sys, threading, time
import fastgreen as fg
monitor = fg.Monitor(record=sys.argv[1], hz=500).start()
entered = threading.Semaphore(0)

def work(name):
    window = monitor.window(name)
    with window:
        pass
    entered.release()
    while True:
        with window:
            sum(range(100))

for n in range(4):
    threading.Thread(target=work, args=(f"w{n}",), daemon=True).start()
for n in range(4):
    entered.acquire()
time.sleep(0.3)
"""

OS_FORK = """
import os, sys, time
import fastgreen as fg
with fg.Monitor("rapl:package-0", hz=500, record=sys.argv[1]) as monitor:
    window = monitor.window("w")
    for _ in range(5):
        with window:
            pid = os.fork()
            if pid == 0:
                with window:
                    time.sleep(0.02)
                os._exit(0)
            os.waitpid(pid, 0)
print(len(window))
"""


def only_children_warn(scene) -> bool:
    lines = warnings_in(scene.program.stderr)
    return len(lines) == 5 and all("windows in this forked process measure nothing" in line for line in lines)


def _wall_clocks() -> list[str]:
    """Every place of package and core that asks for the time of day."""
    found = []
    package = ROOT / "fastgreen"
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).with_suffix("")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today", "fromtimestamp"):
                found.append(f"{place}.{node.attr}")
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("time", "time_ns")
                and isinstance(node.value, ast.Name)
                and node.value.id == "time"
            ):
                found.append(f"{place}.{node.attr}")
    for path in [*(ROOT / "csrc").glob("*.[ch]"), *(ROOT / "fastgreen").glob("*.pyx")]:
        found += [
            f"{path.stem}/{name}"
            for name in re.findall(r"\w+\(CLOCK_REALTIME|gettimeofday\(|\btime\(", path.read_text())
        ]
    return found


ENGINE = {"_core", "_resolver", "_window", "measuring", "results", "sensors"}


def _wall_clocks_of_the_engine(scene: Scene) -> bool:
    found = [place for place in _wall_clocks() if place.split("/")[0] in ENGINE or place.startswith("fg_")]
    return found == ["measuring/clock_pairs.time_ns", "results/run_metadata.time_ns"]


def _one_anchor(scene: Scene) -> bool:
    """Every wall-clock stamp is the monotonic one plus one constant, whatever the clock has done meanwhile."""
    meta, table = scene.result.metadata, scene.result.samples()
    time_ns = table["time"].cast("int64").to_numpy()
    return bool((time_ns - table["monotonic_ns"].to_numpy() == meta["realtime_ns"] - meta["monotonic_ns"]).all())


def _stepped_anchor(scene: Scene) -> bool:
    """The same samples under an anchor an hour later: only the column `time` moves."""
    trace, meta = scene.result.traces[0], scene.result.metadata
    chunk = next(iter(trace.chunks()))
    hour_ns = 3_600_000_000_000
    later = {**meta, "realtime_ns": meta["realtime_ns"] + hour_ns}
    one, two = (
        run_folder.sample_batch(trace.channel.id, chunk, m, run_folder.with_metadata(run_folder.SAMPLES, m))
        for m in (meta, later)
    )
    moved = np.asarray(two["time"].cast("int64")) - np.asarray(one["time"].cast("int64"))
    same = all(one[n].equals(two[n]) for n in run_folder.SAMPLES.names if n != "time")
    return bool((moved == hour_ns).all()) and same


def _an_hour_apart(scene: Scene) -> bool:
    modulus, hour_ns, second_ns = RANGE_61UJ + 61, 3600 * 10**9, 10**9
    true_uj = lambda t: 100 * t // 1000  # noqa: E731
    at_ns = np.array([*range(0, second_ns, second_ns // 100), *range(hour_ns, hour_ns + second_ns, second_ns // 100)])
    samples = np.zeros(len(at_ns), _resolver.SAMPLE)
    samples["at_ns"], samples["raw"] = at_ns, true_uj(at_ns) % modulus
    kind = traits("energy", "uJ", modulus=modulus, quantum=61, period_ns=10**6)
    channel = Channel(
        "rapl:package-0", "rapl", "energy", "package-0", "uJ", wrap_j=modulus * 1e-6, ceiling_w=125.0, traits=kind
    )
    account = _resolver.Account(kind)
    account.feed(samples)
    end = {
        "end_at_ns": int(at_ns[-1]),
        "end_total": account.tally()["total"],
        "missed": 0,
        "lost": 0,
        "read_errors": 0,
    }
    trace = Trace(channel, True, account.tally() | end, lambda: iter([samples[:150], samples[150:]]))
    scene.result = Result([trace], [], {}, 0, 0)
    begin = np.array([0, 10**8, 2 * second_ns, 5 * 10**8, hour_ns + 10**8])
    finish = np.array([10**8, hour_ns, hour_ns // 2, hour_ns + 2 * 10**8, hour_ns + 2 * 10**8])
    held = []
    for b, e in zip(begin, finish, strict=True):
        window = trace.windows(np.array([b]), np.array([e]))[0]
        held.append(window.low_j - 1e-6 <= 100e-9 * (e - b) <= window.high_j + 1e-6)
    total = trace.total()
    return all(held) and total.low_j <= 100e-9 * (at_ns[-1] - at_ns[0]) <= total.high_j


ROWS = [
    Fault(
        "the drainer is stalled: the interpreter's lock is held in C",
        "extension modules",
        (powercap(Zone(watts=50.0)), measure(gil_held(2.0), channels="rapl:package-0", hz=500)),
        (sampled_meanwhile(500), nothing_lost(), no_burst(500, "rapl:package-0"), bounds_hold()),
    ),
    Fault(
        "the drainer is stalled until the ring is full",
        "extension modules",
        (),
        (
            Proof(
                "totals are complete, the loss is counted, the bounds hold across the gap",
                "tests/c/test_faults.c::a_full_ring_widens_the_bounds_and_loses_no_joule",
            ),
            Proof(
                "complete while another thread drains in bursts",
                "tests/c/test_faults.c::a_drainer_that_stalls_now_and_then_gets_a_whole_account",
            ),
        ),
    ),
    Fault(
        "SIGSTOP and SIGCONT",
        "job control, debuggers, container freezers",
        (powercap(Zone(watts=50.0)), process_stopped(STOPPED, 1.5)),
        (exits(0), counted("missed", 120), no_burst(100, "rapl:package-0"), bounds_hold(), nothing_lost(), no_note()),
    ),
    Fault(
        "the machine is suspended: the clock jumps",
        "laptops, GEOPM",
        (),
        (
            Proof(
                "deadlines are counted as missed, no burst, the growth of the counter is kept, the bounds hold",
                "tests/c/test_faults.c::a_suspended_machine_misses_deadlines_and_not_the_counter",
            ),
        ),
    ),
    Fault(
        "a pause of an hour, in which the counter wraps unseen",
        "laptops, stopped processes",
        (call("two samples an hour apart at 100 W, of a counter that wraps at 262 kJ", _an_hour_apart),),
        (
            value("the true 360 kJ are within the bounds of the run and of every window", lambda s: s.value),
            note("not read for 3.6e\\+03 s, in which it can have wrapped unseen"),
        ),
    ),
    Fault(
        "wake-ups come late, a read takes several periods",
        "GEOPM: catch-up bursts",
        (),
        (
            Proof(
                "samples stay on the grid, missed deadlines are counted, no burst",
                "tests/c/test_sampler.c::an_overrun_skips_to_the_next_deadline_and_counts_without_a_burst",
            ),
        ),
    ),
    Fault(
        "the wall clock is stepped",
        "GEOPM",
        (powercap(Zone(watts=50.0)), measure(wait(0.1), channels="rapl:package-0", hz=200)),
        (
            value(
                "the engine asks for the time of day at the start, and each minute to compare the clocks",
                _wall_clocks_of_the_engine,
            ),
            value("every wall-clock stamp uses the time of the start", _one_anchor),
            value("a step of the clock changes these stamps and no number", _stepped_anchor),
        ),
    ),
    Fault(
        "killed (SIGKILL, SIGTERM) while recording",
        "out-of-memory killers, batch systems",
        (),
        (
            Proof(
                "at most the last second is lost, and the run reports it",
                "tests/measuring/test_process.py::test_a_killed_process_loses_at_most_the_last_second_and_its_totals_are_made_anew",
            ),
        ),
    ),
    Fault(
        "the disk is full",
        "bad input",
        (),
        (
            Proof(
                "a limit on file size: the run continues in memory, loses nothing, and notes it",
                "tests/measuring/test_process.py::test_a_full_disk_ends_the_recording_and_not_the_measurement",
            ),
            Proof(
                "a small file system: the same",
                "tests/measuring/test_process.py::test_a_small_file_system_that_fills_up_loses_nothing",
            ),
            Proof(
                "full at the start: an error at the start",
                "tests/measuring/test_process.py::test_a_disk_without_any_room_is_said_at_the_start",
            ),
        ),
    ),
    Fault(
        "os.fork inside a window, again and again",
        "data loaders",
        (powercap(Zone(watts=50.0)), program(OS_FORK, "run"), recorded()),
        (
            exits(0),
            value("each child warns that its windows measure nothing", only_children_warn),
            says("^5\n"),
            bounds_hold(),
            nothing_lost(),
            no_note(),
        ),
    ),
    Fault(
        "a worker is forked (os.fork, multiprocessing)",
        "data loaders",
        (),
        (
            Proof(
                "the child's monitor is inactive and reports it, the parent's monitor continues",
                "tests/measuring/test_process.py::test_a_forked_child_is_inert_and_says_so_and_the_parent_goes_on_with_its_recording",
            ),
            Proof(
                "a pool of forked workers ends cleanly",
                "tests/measuring/test_process.py::test_a_fork_server_child_can_end_while_the_parent_measures",
            ),
        ),
    ),
    Fault(
        "the interpreter shuts down while threads are inside windows",
        "programs that end by their main thread",
        (powercap(Zone(watts=50.0)), program(IN_THREADS, "run"), recorded()),
        (
            exits(0),
            value("no traceback", lambda s: "Traceback" not in s.program.stderr),
            value("windows of every thread are kept", lambda s: sorted(s.result.names) == ["w0", "w1", "w2", "w3"]),
            bounds_hold(),
            nothing_lost(),
        ),
    ),
    Fault(
        "the program ends, fails or exits while measuring",
        "programs",
        (),
        (
            Proof(
                "the recording is completed, the exit code is the program's",
                "tests/measuring/test_process.py::test_a_program_that_ends_while_measuring_completes_its_recording",
            ),
        ),
    ),
    Fault(
        "24 hours",
        "float32 sums, counters of 32 bits",
        (),
        (
            Proof(
                "no deadline is missed and no joule is lost, on a simulated clock",
                "tests/c/test_sampler.c::a_day_by_the_driven_clock_misses_nothing",
            ),
            Proof(
                "a day of wraps, drained as it runs: every window is exact to one unit",
                "tests/c/test_faults.c::a_day_of_wraps_is_exact_to_a_unit",
            ),
        ),
    ),
]
