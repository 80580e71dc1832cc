# SPDX-License-Identifier: Apache-2.0
"""Faults of counters and of those who read them."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from fastgreen.errors import ChannelNotFound
from tests.fakes.hwmon import power_meter
from tests.fakes.powercap import FAULTS, RANGE_61UJ, Zone

from .acts import (
    act,
    as_a_user,
    begin,
    broken,
    busy_threads,
    call,
    counter,
    end,
    environment,
    hwmon,
    measure,
    power_uw,
    powercap,
    program,
    reads,
    spoilt_for_a_while,
    wait,
    zone_removed,
)
from .expects import (
    bounds_hold,
    counted,
    energy,
    exits,
    gap,
    goes_on,
    no_burst,
    no_note,
    note,
    nothing_lost,
    raises,
    says,
    value,
    warns,
    window_energy,
    wraps,
)
from .model import Fault, Proof, Scene, TooLate, soon

NEAR_WRAP = RANGE_61UJ - 1_000_000  # 1 J before; a counter of 61 uJ starts again one unit past its range

EVERYTHING_BREAKS = """
import sys, time, warnings
import fastgreen as fg
warnings.simplefilter("ignore")
with fg.Monitor(hz=500) as monitor:
    with monitor.window("w"):
        time.sleep(0.2)
        print("the user's own work", flush=True)
print(len(monitor.result.channels))
sys.exit(7)
"""


def _equal_readings(scene: Scene) -> bool:
    """100 W all along, every reading equal: the energy is the power times the time, to rounding."""
    tally = scene.result.traces[0].tally
    seconds = (tally["end_at_ns"] - tally["first_at_ns"]) * 1e-9
    return abs(scene.result.energy_j - 100.0 * seconds) <= 1e-9 * scene.result.energy_j


@act()
def _busy_elsewhere(scene: Scene, threads: int, seconds: float) -> None:
    """The same work in an interpreter of its own: what the machine's cores have to do is equal."""
    work = "while True:\n    sum(range(50))"
    code = f"import threading\nfor _ in range({threads}): threading.Thread(target=exec, args=({work!r},)).start()\n"
    with subprocess.Popen([sys.executable, "-c", code + "print(flush=True)"], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        time.sleep(seconds)
        other.kill()


@act()
def _near_its_wrap(scene: Scene, watts: float) -> None:
    """A tree that wraps half a second from now; later where the machine was too busy to start till then."""
    seconds = 0.5 * scene.lead / 40
    powercap(Zone(watts=watts, counter_start_uj=RANGE_61UJ - round(watts * seconds * 1e6))).run(scene)


@act()
def _over_the_wrap(scene: Scene) -> None:
    first = next(z for z in scene.tree.placed if z.id == "intel-rapl:0")
    to_wrap_j = (first.zone.range_uj - first.started_uj) * 1e-6
    seen_j = lambda: scene.monitor.energy_j()["rapl:package-0"]  # noqa: E731
    if scene.tree.energy_j("package-0", scene.tree.epoch_ns, time.monotonic_ns()) > to_wrap_j:
        raise TooLate
    soon(lambda: seen_j() > to_wrap_j + 10)


def _near_power(scene: Scene, watts: float) -> bool:
    """To a hundredth, and by what mover and reader were late: the counter shows no more than they let it."""
    tally = scene.result.traces[0].tally
    late_s = (sum(scene.tree.punctuality_ns()) + tally["read_longest_ns"]) * 1e-9
    return abs(scene.result.energy_j - watts * scene.result.duration_s) < watts * (
        0.01 * scene.result.duration_s + late_s
    )


@act()
def _many_wraps(scene: Scene, watts: float) -> None:
    """Of counters with a longer and longer range, the first of which the busy machine lets no half wrap pass unseen."""
    for range_j in (30, 120, 480, 1920):
        powercap(Zone(watts=watts, range_uj=range_j * 1_000_000)).run(scene)
        measure(wait(13 * range_j / watts), channels="rapl:package-0", hz=1000).run(scene)
        tally = scene.result.traces[0].tally
        unseen_ns = tally["step_longest_ns"] + tally["read_longest_ns"] + scene.tree.punctuality_ns()[0]
        if unseen_ns * 1e-9 * watts < range_j / 2:
            break


def _busy_ratio(scene: Scene) -> float:
    """Rate kept with our interpreter busy over that with another one so; the best of some pairs: cores are shared."""
    best = 0.0
    for _ in range(6):
        rates = []
        for step in (_busy_elsewhere(2, 0.4), busy_threads(2, 0.4)):
            measure(step, channels="rapl:package-0", hz=1000).run(scene)
            rates.append((scene.row(None)["samples"] - 1) / scene.result.duration_s)
        best = max(best, rates[1] / rates[0])
        if best > 0.9:
            break
    return best


def _many_windows(scene: Scene) -> int:
    """A hundred thousand windows one after the other, then two thousand inside each other."""
    one = scene.monitor.window("in a row")
    for _ in range(100_000):
        with one:
            pass
    nest = [scene.monitor.window("nested") for _ in range(1)]
    nest[0].begin()
    for _ in range(1999):
        nest.append(scene.monitor.window("nested"))
        nest[-1].begin()
    for window in reversed(nest):
        window.end()
    return len(one) + len(nest)


def _exact_axis(scene: Scene) -> bool:
    """Stamps stay 64-bit integers of ns, and the durations are their exact differences."""
    windows = scene.result.windows("in a row")
    starts = windows["start_ns"].to_numpy()
    return str(starts.dtype) == "int64" and (starts[1:] > starts[:-1]).all() and len(set(starts)) == len(starts)


OF_OTHERS = [
    Fault(
        "a window ends just after the counter wrapped",
        "Zeus, pyJoules: -262043 J",
        (
            powercap(Zone(counter_start_uj=NEAR_WRAP)),
            measure(begin("w"), reads(3), counter(499_939), reads(3), end("w"), channels="rapl:package-0", hz=500),
        ),
        (energy(1.5), window_energy("w", 1.5), wraps(1), no_note()),
    ),
    Fault(
        "the counter wraps in mid-run",
        "Carbontracker, pyRAPL, Scaphandre: 0 W, None, or the interval dropped",
        (
            _near_its_wrap(50.0),
            measure(begin("w"), _over_the_wrap(), end("w"), channels="rapl:package-0", hz=500),
        ),
        (
            bounds_hold(),
            wraps(1),
            value("mean power near the true 50 W", lambda s: _near_power(s, 50.0)),
            nothing_lost(),
        ),
    ),
    Fault(
        "psys is listed beside the packages",
        "Zeus: counted as one more CPU",
        (
            powercap(Zone(counter_start_uj=1_000_000), Zone("psys", counter_start_uj=1_000_000)),
            measure(counter(3_000_000), counter(10_000_000, "psys"), channels="rapl:*", hz=500),
        ),
        (
            energy(2.0),
            energy(9.0, "rapl:psys"),
            value("psys is not in the total", lambda s: not s.row("rapl:psys")["counted"]),
        ),
    ),
    Fault(
        "1000 J between two readings",
        "perun: 500 or 1500 J (a counter turned into power, then integrated)",
        (
            # by a channel that may draw so much: what the limit of a CPU forbids is no energy
            powercap(Zone(counter_start_uj=1_000_000, limit_uw=5_000_000_000, max_power_uw=5_000_000_000)),
            measure(begin("w"), reads(3), counter(1_001_000_000), end("w"), channels="rapl:package-0", hz=100),
        ),
        (energy(1000.0), window_energy("w", 1000.0), counted("restarts", 0, 0)),
    ),
    Fault(
        "equal readings one after the other",
        "Zeus, Alumet: dropped, so 500 J lost or doubled",
        (hwmon(power_meter(100_000_000)), measure(wait(0.3), channels="hwmon:*", hz=200)),
        (value("power times time, to 1e-9", _equal_readings), nothing_lost()),
    ),
    Fault(
        "a power that steps after a long rest",
        "Zeus: 1400 J became 2500 J",
        (
            hwmon(power_meter(100_000_000)),
            measure(
                begin("rest"), wait(0.25), end("rest"), power_uw(300_000_000), wait(0.05), channels="hwmon:*", hz=200
            ),
        ),
        (
            value(
                "the bounds of the window of the rest contain 100 W times its time",
                lambda s: _rest_holds(s),
            ),
            nothing_lost(),
        ),
    ),
    Fault(
        "Python is busy in all threads",
        "CodeCarbon, nvitop: asked for 1 kHz, gave at most 70 and 21 Hz",
        (powercap(Zone(watts=50.0)), call("two threads of pure Python at 1 kHz", _busy_ratio)),
        (
            value(
                "the rate stays above 0.8 of the rate beside another interpreter that is as busy",
                lambda s: s.value > 0.8,
            ),
            no_burst(1000, "rapl:package-0"),
        ),
    ),
    Fault(
        "a sensor without read permission",
        "Zeus: None; perun: dropped without a message",
        (
            powercap(Zone(), Zone("package-1"), move=False),
            as_a_user(broken("unreadable", "package-1"), measure(reads(3))),
        ),
        (
            warns("package-1: permission denied.*chmod a\\+r"),
            note("package-1: permission denied"),
            goes_on("rapl:package-0"),
        ),
    ),
    Fault(
        "every sensor fails in the user's program",
        "Carbontracker: ends the user's process",
        (
            powercap(Zone(counter_start_uj=5), move=False),
            broken("not-a-number"),
            environment("FASTGREEN_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1"),
            program(EVERYTHING_BREAKS),
        ),
        (exits(7), says("the user's own work")),
    ),
    Fault(
        "a hundred thousand windows, and two thousand nested windows",
        "pyJoules: RecursionError after 1000; perun: a float32 time axis",
        (powercap(Zone(watts=50.0)), measure(call("", _many_windows), channels="rapl:package-0", hz=500)),
        (
            value("every window is kept", lambda s: s.result.summary()["count"].to_pylist() == [100_000, 2000]),
            value("every start differs, in whole nanoseconds", _exact_axis),
            nothing_lost(),
        ),
    ),
]


def _rest_holds(scene: Scene) -> bool:
    (row,) = scene.result.windows("rest").to_pylist()
    true_j = 100.0 * row["duration_s"]
    return row["energy_low_j"] - 1e-9 <= true_j <= row["energy_high_j"] + 1e-9


def spoilt(fault: str) -> Fault:
    return Fault(
        f"the counter file is {fault} for a while",
        "bad input",
        (
            powercap(Zone(counter_start_uj=1_000_000), move=False),
            measure(reads(3), spoilt_for_a_while(fault, 3_000_000), channels="rapl:package-0", hz=500),
        ),
        (counted("read_errors", 5), energy(2.0), gap()),
        "a counter file is damaged while it is read (" + ", ".join(SPOILT) + ")",
    )


def listed(fault: str) -> Fault:
    wanted = {"missing": "No such file", "directory": "directory", "dangling": "No such file", "loop": "symbolic links"}
    return Fault(
        f"the counter file is {fault} from the start",
        "bad input",
        (
            powercap(Zone(), Zone("package-1"), move=False),
            broken(fault, "package-1"),
            measure(reads(5)),
        ),
        (
            warns("package-1"),
            note(f"package-1: .*{wanted.get(fault, '(does not hold an integer|holds a negative)')}"),
            goes_on("rapl:package-0"),
        ),
        "a counter file cannot be read from the start (" + ", ".join(LISTED) + ")",
    )


SPOILT = sorted(set(FAULTS) - {"truncated", "no-newline"})  # those two are numbers, and a number is believed
LISTED = [*SPOILT, "missing", "directory", "dangling", "loop"]


def without_range(text: str | None) -> Fault:
    return Fault(
        f"max_energy_range_uj is {json.dumps(text)}",
        "CodeCarbon issue 1309",
        (
            powercap(Zone(counter_start_uj=9_000_000, range_text=text)),
            measure(counter(9_500_000), counter(100_000), counter(300_000), channels="rapl:package-0", hz=500),
        ),
        (
            energy(0.7),
            counted("restarts", 1, 1),
            value("the channel's note reports it", lambda s: "range is not known" in s.row(None)["note"]),
        ),
        "a counter's range is 0, missing, negative or not a number, and the counter goes back",
    )


COUNTERS = [
    *(spoilt(fault) for fault in SPOILT),
    *(listed(fault) for fault in LISTED),
    *(without_range(text) for text in ("0", None, "-1", "hello")),
    Fault(
        "the counter runs backwards",
        "bad input",
        (
            powercap(Zone(counter_start_uj=10_000_000)),
            measure(counter(10_400_000), counter(5_000_000), counter(5_100_000), channels="rapl:package-0", hz=500),
        ),
        (energy(0.5), counted("restarts", 1, 1)),
    ),
    Fault(
        "a zone vanishes between listing and start",
        "bad input",
        (powercap(Zone(), move=False), call("", lambda s: _start_without_zone(s))),
        (raises(ChannelNotFound, "energy_uj"),),
    ),
    Fault(
        "a zone vanishes while it is read",
        "bad input",
        (
            powercap(Zone(counter_start_uj=1), Zone("package-1"), move=False),
            measure(zone_removed(), reads(5), hz=500),
        ),
        (goes_on("rapl:package-1"), nothing_lost()),
    ),
    Fault(
        "many wraps within one run",
        "Scaphandre",
        (_many_wraps(1000.0),),
        (bounds_hold(), value("at least ten wraps", lambda s: sum(s.result.samples()["wraps"].to_pylist()) >= 10)),
    ),
    Fault(
        "a full ring",
        "counters of C",
        (),
        (
            Proof(
                "totals do not change, the loss is counted, wraps of lost points count, a gap is marked",
                "tests/c/test_sampler.c::wraps_of_lost_points_are_carried_and_the_gap_is_flagged",
            ),
            Proof(
                "bounds across the gap hold the true energy",
                "tests/c/test_faults.c::a_full_ring_widens_the_bounds_and_loses_no_joule",
            ),
        ),
    ),
    Fault(
        "links that lead back, a thousand zones, names with control characters",
        "bad input",
        (),
        (
            Proof(
                "no zone is hidden, and no zone is shown twice",
                "tests/sensors/test_hostile_trees.py::test_links_that_lead_back_hide_no_zone_and_show_none_twice",
            ),
            Proof(
                "all are listed quickly, mirrors are found",
                "tests/sensors/test_hostile_trees.py::test_a_thousand_zones_are_listed_in_a_moment_and_mirrors_among_them_found",
            ),
            Proof("names are printable", "tests/sensors/test_hostile_trees.py::test_a_name_is_fit_to_be_printed"),
        ),
    ),
    Fault(
        "a counter file has no end",
        "bad input",
        (),
        (
            Proof(
                "reading stops before the memory is full, and the channel gives the reason",
                "tests/sensors/test_hostile_trees.py::test_a_file_without_an_end_is_left_before_it_fills_the_memory",
            ),
        ),
    ),
    Fault(
        "a counter's range is smaller than the difference of two readings",
        "CodeCarbon issue 1309",
        (),
        (
            Proof(
                "the range is not used, the channel's note reports it, and every monitor still starts",
                "tests/sensors/test_hostile_trees.py::test_a_range_that_no_counter_has_is_not_believed_and_stops_no_monitor",
            ),
        ),
    ),
    Fault(
        "in mid-run, zones appear, files are moved away and read permissions are removed",
        "hot-plug, udev",
        (),
        (
            Proof(
                "an open counter is still read, no joule is lost, no note",
                "tests/sensors/test_hostile_trees.py::test_zones_that_come_and_go_and_rights_that_change_disturb_nobody",
            ),
        ),
    ),
]


def _start_without_zone(scene: Scene) -> None:
    import fastgreen as fg

    monitor = fg.Monitor("rapl:*")
    scene.tree.remove_zone("package-0")
    monitor.start()


ROWS = OF_OTHERS + COUNTERS
