"""A monitor's life: start, live numbers, stop, faults of the sensors on the way, threads."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from fastgreen.results.trace import Trace
from tests.fakes.powercap import FAULTS, RANGE_61UJ, Zone
from tests.fakes.wave import Ramp, Sine, Square, Steps
from tests.oracles.honest import Honest

_before: set[str] = set()


@pytest.fixture(autouse=True)
def threads_of_others():
    """Drivers that hang in other tests keep their threads."""
    _before.clear()
    _before.update(os.listdir("/proc/self/task"))


def threads_of_ours() -> int:
    names = []
    for task in set(os.listdir("/proc/self/task")) - _before:
        try:
            with open(f"/proc/self/task/{task}/comm", encoding="ascii") as file:
                names.append(file.read().strip())
        except OSError:  # ended meanwhile
            continue
    return sum(name.startswith("fg-") for name in names)


@pytest.mark.parametrize(
    "wave",
    [
        50.0,
        Ramp(10.0, 90.0, 0.5),
        Square(20.0, 120.0, 0.1, 0.3),
        Sine(60.0, 40.0, 0.2),
        Steps(((0.0, 5.0), (0.3, 100.0))),
    ],
    ids=["constant", "ramp", "square", "sine", "steps"],
)
def test_energy_of_a_known_wave_lies_within_its_bounds_across_a_wrap(powercap, wave):
    start_uj = RANGE_61UJ - 20_000_000  # 20 J before the wrap
    tree = powercap(Zone("package-0", wave, start_uj, children=(Zone("dram", 3.0, start_uj),)), move=True)
    with fg.Monitor(hz=500) as monitor:
        time.sleep(0.7)
    truth = Honest(monitor.result, tree)
    result = truth.result
    for row in result.channels.to_pylist():
        zone, tally = row["id"][5:], result.trace(row["id"]).tally
        edges = (tally["first_at_ns"], tally["end_at_ns"])
        assert truth.holds([zone], [edges], row["energy_low_j"], row["energy_high_j"])
        # at the highest power of these waves, what the mover and a reader that was kept waiting may be late by
        stale_j = 120e-9 * (truth.age_ns + truth.delay_ns + tally["read_longest_ns"])
        assert row["energy_j"] == pytest.approx(tree.energy_j(zone, *edges), abs=0.001 + stale_j)
    package = result.samples("rapl:package-0")
    raw = package["raw"].to_pylist()
    assert sum(package["wraps"].to_pylist()) == (raw[0] > raw[-1])  # a busy machine may start after the wrap
    assert result.channels["restarts"].to_pylist() == [0, 0]


def test_energy_across_many_wraps_of_a_short_counter_is_exact_to_a_unit(powercap):
    unseen = []
    for wrap_s in (0.24, 0.5, 1.0, 2.0, 4.0):
        tree = powercap(Zone("package-0", 1000.0, range_uj=round(wrap_s * 1e9)), move=True)
        with pytest.raises(ValueError, match="too low for rapl:package-0"):
            fg.Monitor(hz=0.05)
        with fg.Monitor(hz=1000) as monitor:
            until = time.monotonic() + 12 * wrap_s
            while monitor.energy_j()["rapl:package-0"] < 5100 * wrap_s and time.monotonic() < until:
                time.sleep(0.01)
        truth = Honest(monitor.result, tree)
        tally = monitor.result.traces[0].tally
        unseen.append((tally["step_longest_ns"] + tally["read_longest_ns"] + truth.age_ns) * 1e-9 / wrap_s)
        if unseen[-1] < 0.5:
            break  # else the machine let half a wrap pass unseen, which no reader can tell from a restart
    assert unseen[-1] < 0.5, f"wraps that the busy machine let pass unseen, at slower and slower counters: {unseen}"
    tally = monitor.result.traces[0].tally
    edges = (tally["first_at_ns"], tally["end_at_ns"])
    assert truth.holds(["package-0"], [edges], truth.result.energy_low_j, truth.result.energy_high_j)
    samples = monitor.result.samples()
    wraps = sum(samples["wraps"].to_pylist())
    assert wraps >= 5
    first, last = samples["raw"][0].as_py(), samples["raw"][-1].as_py()
    modulus = monitor.channels[0].traits["modulus"]
    assert monitor.result.energy_j == pytest.approx((last - first + wraps * modulus) * 1e-6, rel=1e-12)


def test_a_counter_that_runs_backwards_restarts_and_adds_nothing(powercap, soon):
    tree = powercap(Zone(counter_start_uj=10_000_000), move=True)  # at rest, and set in one piece
    with fg.Monitor(hz=200) as monitor:
        for value in (10_000_000, 10_400_000, 5_000_000, 5_100_000):
            tree.set_uj("package-0", value)
            before = monitor._groups[0].sampler.live(0)["samples"]
            soon(lambda seen=before: monitor._groups[0].sampler.live(0)["samples"] > seen + 1)
    row = monitor.result.channels.to_pylist()[0]
    assert row["restarts"] == 1
    assert row["energy_j"] == pytest.approx(0.5)
    assert row["energy_high_j"] > 0.5
    assert "1 restart " in str(monitor.result)


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"truncated", "no-newline"}))
def test_a_counter_that_is_spoilt_for_a_while_is_counted_and_leaves_a_gap(powercap, soon, fault):
    tree = powercap(Zone("package-0", counter_start_uj=10**6), Zone("package-1", counter_start_uj=5))
    with fg.Monitor(hz=500) as monitor:
        live = lambda: monitor._groups[0].sampler.live(0)  # noqa: E731
        soon(lambda: live()["samples"] > 3)
        tree.spoil("package-0", fault)
        soon(lambda: live()["read_errors"] >= 5)
        tree.set_uj("package-0", 3 * 10**6)
        seen = live()["samples"]
        soon(lambda: live()["samples"] > seen + 2)
    rows = {row["id"]: row for row in monitor.result.channels.to_pylist()}
    spoilt = rows["rapl:package-0"]
    assert spoilt["read_errors"] >= 5
    assert spoilt["energy_j"] == pytest.approx(2.0)
    assert spoilt["status"] == "ok"
    assert rows["rapl:package-1"]["read_errors"] == 0
    flags = np.array(monitor.result.samples("rapl:package-0")["flags"].to_pylist())
    assert (flags & 1).sum() == 1
    assert f"{spoilt['read_errors']} failed" in str(monitor.result)


def test_a_file_that_vanishes_between_listing_and_start_is_a_clear_error(powercap, soon):
    tree = powercap()
    monitor = fg.Monitor("rapl:*")
    tree.remove_zone("package-0")
    with pytest.raises(fg.errors.ChannelNotFound, match="energy_uj"):
        monitor.start()
    soon(lambda: threads_of_ours() == 0)  # the kernel forgets a joined thread a moment later


def test_a_zone_removed_while_running_harms_nothing(powercap, soon):
    tree = powercap(Zone("package-0", counter_start_uj=10**6), Zone("package-1", counter_start_uj=77))
    with fg.Monitor(hz=500) as monitor:
        soon(lambda: monitor._groups[0].sampler.live(0)["samples"] > 0)
        tree.set_uj("package-0", 2 * 10**6)
        soon(lambda: monitor.energy_j()["rapl:package-0"] == pytest.approx(1.0))
        tree.remove_zone("package-0")
        time.sleep(0.05)
    assert monitor.result.energy_j == pytest.approx(1.0)


@pytest.mark.parametrize(
    "bad", [0, -1, -0.0, float("nan"), float("inf"), 1e9, 1e-12, "100", b"1", True, np.bool_(True), [1], 1j]
)
def test_a_bad_rate_is_a_value_error_that_names_hz(bad):
    with pytest.raises(ValueError, match="hz"):
        fg.Monitor(hz=bad)
    with pytest.raises(ValueError, match="hz"):
        fg.Monitor(hz={"procstat": bad})


def test_a_rate_for_an_unknown_source_is_refused_and_numpy_numbers_are_numbers():
    with pytest.raises(ValueError, match="rappl"):
        fg.Monitor(hz={"rappl": 5})
    for good in (np.float32(50), np.int64(50), 10_000, 1_000_000, 0.5):
        fg.Monitor(hz=good)


@pytest.mark.parametrize(("name", "value"), [("speed", -1), ("speed", "x"), ("speed", float("nan")), ("sync", 5)])
def test_other_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        fg.Monitor(**{name: value})


def test_live_energy_grows_and_equals_the_result_at_the_end(powercap):
    powercap(Zone("package-0", 80.0), move=True)
    for settle in (False, True):
        with fg.Monitor(hz=500, settle=settle) as monitor:
            seen, until = [], time.monotonic() + 60
            while len(seen) < 20 or (seen[-1] == seen[0] and time.monotonic() < until):
                time.sleep(0.01)
                seen.append(monitor.energy_j()["rapl:package-0"])
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]
        assert monitor.energy_j() == {"rapl:package-0": monitor.result.energy_j}
        assert monitor.result.energy_j >= seen[-1]


def test_settling_narrows_the_last_bound_of_a_slow_counter(nvml):
    nvml()
    for settle in (False, True):
        tried = []
        while not tried or (settle and tried[-1][0] > 0.9 * tried[-1][1] and len(tried) < 10):
            with fg.Monitor("nvml:0", settle=settle) as monitor:
                time.sleep(1.25)  # eight updates teach the period
            trace = monitor.result.trace("nvml:0")
            samples = np.concatenate(list(trace.chunks()))
            asked = samples["at_ns"] <= trace.tally["end_at_ns"]
            assert (~asked).any() == settle
            kept = samples[asked]
            still_ns = kept["at_ns"][-1] - kept["at_ns"][kept["raw"] < kept["raw"][-1]][-1]
            # Right after an update there is little to narrow: the ceiling lets a board draw no more since then.
            tried.append(((samples["raw"][-1] - kept["raw"][-1]) * 1e-3, trace.ceiling_w * still_ns * 1e-9))
    update_j, most_j = tried[-1]
    assert 0 < update_j <= 0.9 * most_j, f"the next update and the most drawn since the last one, in J: {tried}"
    cut = Trace(trace.channel, trace.counted, trace.tally, lambda: [kept]).total()
    total = trace.total()
    assert cut.low_j <= total.low_j <= total.energy_j <= total.high_j < cut.high_j
    read_j = trace.ceiling_w * trace.tally["read_longest_ns"] * 1e-9
    assert total.high_j <= total.energy_j + update_j + read_j + 0.002  # no more than the next update shows


def test_a_monitor_measures_once(powercap, soon):
    monitor = fg.Monitor()
    with pytest.raises(RuntimeError, match="not started"):
        monitor.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        _ = monitor.result
    assert monitor.energy_j() == {}
    monitor.start()
    with pytest.raises(RuntimeError, match="running"):
        monitor.start()
    with pytest.raises(RuntimeError, match="after the monitor has stopped"):
        _ = monitor.result
    first = monitor.stop()
    assert monitor.stop() is first is monitor.result
    with pytest.raises(RuntimeError, match="stopped"):
        monitor.start()
    soon(lambda: threads_of_ours() == 0)  # the kernel forgets a joined thread a moment later


def test_a_monitor_of_nothing_works():
    with fg.Monitor([]) as monitor, monitor.window("w"):
        pass
    result = monitor.result
    assert result.energy_j == 0.0
    assert result.summary()["count"].to_pylist() == [1]
    assert not result.known
    assert "unknown" in result.notes[-1]
    assert "energy unknown" in str(result)
    assert "No channel could be read" in str(result)
    assert "0 J" not in str(result)


def test_stop_ends_although_the_drainer_is_at_work(powercap):
    powercap(Zone("package-0", 50.0), move=True)
    for _ in range(4):
        monitor = fg.Monitor(hz=100, settle=True).start()
        time.sleep(0.2499)  # the drainer wakes while we stop
        stopper = threading.Thread(target=monitor.stop, daemon=True)
        stopper.start()
        stopper.join(60)
        assert not stopper.is_alive()
    powercap(Zone("package-0"))  # at rest: settling lasts its whole 250 ms
    monitor = fg.Monitor(hz=100, settle=True).start()
    stopper = threading.Thread(target=monitor.stop, daemon=True)
    stopper.start()
    stopper.join(60)
    assert not stopper.is_alive()


def test_stop_from_another_thread_and_two_stops_at_once_give_one_result(powercap, soon):
    powercap(Zone("package-0", 50.0), move=True)
    monitor = fg.Monitor(hz=1000).start()
    results = []
    stoppers = [threading.Thread(target=lambda: results.append(monitor.stop())) for _ in range(6)]
    time.sleep(0.05)
    for stopper in stoppers:
        stopper.start()
    for stopper in stoppers:
        stopper.join(60)
    assert len(results) == 6
    assert all(r is results[0] for r in results)
    soon(lambda: threads_of_ours() == 0)  # the kernel forgets a joined thread a moment later


def test_two_monitors_at_once_agree_and_do_not_disturb_each_other(powercap):
    tree = powercap(Zone("package-0", 70.0), move=True)
    with fg.Monitor(hz=1000) as outer:
        time.sleep(0.1)
        with fg.Monitor(hz=200) as inner:
            time.sleep(0.3)
        time.sleep(0.05)
    for monitor in (outer, inner):
        truth = Honest(monitor.result, tree)
        edges = (truth.result.traces[0].tally["first_at_ns"], truth.result.traces[0].tally["end_at_ns"])
        assert truth.holds(["package-0"], [edges], truth.result.energy_low_j, truth.result.energy_high_j)
    assert inner.result.duration_s < outer.result.duration_s


def test_a_warning_made_an_exception_neither_loses_the_measurement_nor_the_thread(powercap, soon):
    powercap(Zone("package-0", 50.0), move=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastgreenWarning)
        monitor = fg.Monitor().start()
        monitor.window("left open").begin()
        with pytest.raises(FastgreenWarning, match="left open"):
            monitor.stop()
    soon(lambda: threads_of_ours() == 0)  # the kernel forgets a joined thread a moment later
    assert monitor.result.summary()["count"].to_pylist() == [1]


def test_a_monitor_that_nobody_holds_ends_its_threads(powercap, soon):
    powercap(Zone("package-0", 50.0), move=True)
    monitor = fg.Monitor(hz=1000).start()
    window = monitor.window("w")
    with window:
        pass
    assert threads_of_ours() == 1
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del monitor
        gc.collect()
        soon(lambda: threads_of_ours() == 0)
    assert any("deleted while it was measuring" in str(warning.message) for warning in said)
    soon(lambda: not any(t.name == "fastgreen-drain" for t in threading.enumerate()))
    assert len(window) == 1


def test_a_busy_interpreter_does_not_slow_sampling(powercap):
    """Beside another one that is as busy, so that the cores have as much to do."""
    powercap(Zone("package-0", 50.0), move=True)
    ratios: list[float] = []
    with subprocess.Popen([sys.executable, "-c", "while True: sum(range(100))"]) as other:
        try:
            while len(ratios) < 8 and max(ratios, default=0.0) < 0.9:  # the cores are shared with others, too
                rates = []
                for busy in (False, True):
                    other.send_signal(signal.SIGSTOP if busy else signal.SIGCONT)
                    with fg.Monitor(hz=200) as monitor:
                        until = time.monotonic() + 0.5
                        while time.monotonic() < until:
                            sum(range(100)) if busy else time.sleep(0.5)
                    result = monitor.result
                    row = result.channels.to_pylist()[0]
                    assert row["samples"] + row["missed"] >= 200 * result.duration_s - 3
                    rates.append((row["samples"] - 1) / result.duration_s)
                ratios.append(rates[1] / rates[0])
        finally:
            other.kill()
    assert max(ratios) > 0.8, ratios


def test_interrupt_in_the_block_still_gives_a_result(powercap, soon):
    powercap(Zone("package-0", 50.0), move=True)
    monitor = fg.Monitor(hz=1000)

    def work() -> None:
        with monitor, monitor.window("w"):
            soon(lambda: monitor.energy_j()["rapl:package-0"] > 0)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert monitor.result.energy_j > 0
    assert monitor.result.names == ["w"]


def test_the_estimate_is_marked_wherever_a_number_of_it_appears(proc):
    with fg.Monitor(hz=100, estimate=(10.0, 50.0)) as monitor, monitor.window("w"):
        for _ in range(10):
            time.sleep(0.03)
            proc.advance(user=0.015, idle=0.015)
    result = monitor.result
    assert list(monitor.energy_j()) == ["procstat:cpu"]
    assert 10.0 * result.duration_s <= result.energy_j <= 50.0 * result.duration_s
    assert result.energy_low_j == pytest.approx(10 * result.duration_s)
    assert result.energy_high_j == pytest.approx(50 * result.duration_s)
    assert result.estimated
    assert result.channels["estimated"].to_pylist() == [True]
    assert result.channels["method"].to_pylist() == ["estimate"]
    assert result.summary()["estimated"].to_pylist() == [True]
    assert "estimated" in str(result)
    assert "estimated" in repr(result)
    assert result.to_dict()["estimated"] is True
    for table in (result.windows(), result.windows(per_channel=True)):
        assert table.schema.metadata[b"estimated"] == b"true"


def test_a_long_run_at_a_high_rate_loses_nothing_and_counts_what_it_missed(powercap):
    tree = powercap(Zone("package-0", 40.0, children=(Zone("dram", 4.0),)), move=True)
    with fg.Monitor(hz=10_000) as monitor:
        time.sleep(0.6)
    result = monitor.result
    for row in result.channels.to_pylist():
        assert row["lost"] == 0
        assert row["samples"] == result.samples(row["id"]).num_rows
        # A reading that was kept waiting is stamped in its middle.
        late = 10_000e-9 * result.trace(row["id"]).tally["read_longest_ns"]
        expected = 10_000 * result.duration_s
        assert row["samples"] + row["missed"] == pytest.approx(expected, abs=0.02 * expected + late)
    truth = Honest(result, tree)
    edges = (result.traces[0].tally["first_at_ns"], result.traces[0].tally["end_at_ns"])
    total = truth.result.totals["rapl:package-0"]
    assert truth.holds(["package-0"], [edges], total.low_j, total.high_j)


def test_at_the_highest_rate_samples_follow_each_other_and_every_one_that_is_lost_is_counted(powercap):
    tree = powercap(Zone("package-0", 40.0), move=True)
    with fg.Monitor("rapl:*", hz=1_000_000) as monitor:
        time.sleep(0.3)
        stopping = time.perf_counter()
    assert time.perf_counter() - stopping < 60
    result = monitor.result
    row = result.channels.to_pylist()[0]
    assert result.samples().num_rows == row["samples"] - row["lost"]
    # Between two readings lies no sleep, but where the thread had to give way.
    kept = np.concatenate(list(result.traces[0].chunks()))
    between_ns = np.diff(kept["at_ns"]) - kept["half_ns"][:-1] - kept["half_ns"][1:]
    assert np.percentile(between_ns, 25) < 5e3
    truth = Honest(result, tree)
    edges = (result.traces[0].tally["first_at_ns"], result.traces[0].tally["end_at_ns"])
    total = truth.result.totals["rapl:package-0"]
    assert truth.holds(["package-0"], [edges], total.low_j, total.high_j)
