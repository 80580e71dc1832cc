"""Windows: what they promise when used well, badly, by many threads, and round asynchronous work."""

from __future__ import annotations

import itertools
import threading
import time
import warnings

import numpy as np
import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from tests.fakes.powercap import Zone
from tests.fakes.wave import Square
from tests.oracles.honest import Honest


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0),)), move=True)


def rows(monitor: fg.Monitor, name: str | None = None) -> list[dict]:
    return monitor.result.windows(name).to_pylist()


def test_every_window_holds_the_true_energy_within_its_bounds(powercap):
    tree = powercap(Zone("package-0", Square(10.0, 200.0, 0.05)), move=True)
    with fg.Monitor(hz=1000) as monitor:
        window = monitor.window("w")
        for n in range(60):
            with window:
                time.sleep(0.0005 * (n % 12))
    truth = Honest(monitor.result, tree)
    table = truth.result.windows().to_pylist()
    assert len(table) == 60
    for row in table:
        end_ns = row["start_ns"] + round(row["duration_s"] * 1e9)
        assert truth.holds(["package-0"], [(row["start_ns"], end_ns)], row["energy_low_j"], row["energy_high_j"])
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]


def test_many_short_windows_together_are_known_better_than_one(tree):
    with fg.Monitor(hz=1000) as monitor:
        window = monitor.window("w")
        for _ in range(300):
            with window:
                time.sleep(0.001)
    summary = monitor.result.summary().to_pylist()[0]
    alone = rows(monitor)
    separate = sum(r["energy_high_j"] - r["energy_low_j"] for r in alone)
    edges = [(r["start_ns"], r["start_ns"] + round(r["duration_s"] * 1e9)) for r in alone]
    # What lies between them is known to the ceiling only: little, where the machine does not wait there.
    between_s = sum(after[0] - before[1] for before, after in itertools.pairwise(edges)) * 1e-9
    between_j = between_s * sum(trace.ceiling_w for trace in monitor.result.traces)
    assert summary["energy_high_j"] - summary["energy_low_j"] < separate / 5 + between_j
    truth = Honest(monitor.result, tree)
    summary = truth.result.summary().to_pylist()[0]
    assert truth.holds(["package-0", "package-0/dram"], edges, summary["energy_low_j"], summary["energy_high_j"])


def test_nested_and_overlapping_windows_each_hold_their_own_time(tree, soon):
    with fg.Monitor(hz=500) as monitor:
        joules = lambda: monitor.energy_j()["rapl:package-0"]  # noqa: E731
        with monitor.window("outer"):
            time.sleep(0.02)
            for _ in range(3):  # the counter moves outside of the inner one
                seen_j = joules()
                soon(lambda seen=seen_j: joules() > seen)
            with monitor.window("inner"):
                time.sleep(0.02)
        first, second = monitor.window("first"), monitor.window("second")
        first.begin()
        time.sleep(0.02)
        second.begin()
        time.sleep(0.02)
        first.end()
        time.sleep(0.02)
        second.end()
    by_name = {row["name"]: row for row in rows(monitor)}
    end = {n: r["start_ns"] + r["duration_s"] * 1e9 for n, r in by_name.items()}
    assert by_name["outer"]["start_ns"] < by_name["inner"]["start_ns"]
    assert end["inner"] < end["outer"]
    assert by_name["first"]["start_ns"] < by_name["second"]["start_ns"] < end["first"] < end["second"]
    assert by_name["inner"]["energy_j"] < by_name["outer"]["energy_j"]


def test_a_window_within_one_of_its_own_name_gets_a_handle_of_its_own(tree):
    def recurse(depth: int) -> None:
        with monitor.window("w"):
            time.sleep(0.002)
            if depth:
                recurse(depth - 1)

    with fg.Monitor() as monitor:
        recurse(4)
        same = monitor.window("again")
        assert monitor.window("again") is same
    table = rows(monitor, "w")
    assert len(table) == 5
    assert sorted(row["index"] for row in table) == [0, 1, 2, 3, 4]
    durations = sorted(row["duration_s"] for row in table)
    assert durations[-1] > durations[0] + 0.006


def test_begun_twice_or_ended_unbegun_is_an_error_that_harms_nothing(tree):
    with fg.Monitor() as monitor:
        window = monitor.window("w")
        with pytest.raises(RuntimeError, match="'w' was ended before it was begun"):
            window.end()
        window.begin()
        with pytest.raises(RuntimeError, match="'w' was begun twice"):
            window.begin()
        with pytest.raises(RuntimeError, match="begun twice"), window:
            pass
        assert window.is_open
        window.end()
        with pytest.raises(RuntimeError, match="was ended before it was begun"):
            window.end()
    assert len(rows(monitor)) == 1
    assert len(window) == 1
    assert repr(window) == "<fastgreen window 'w': 1 times>"


def test_a_window_left_open_ends_with_the_measurement_and_the_result_says_so(tree):
    monitor = fg.Monitor().start()
    window = monitor.window("forgotten")
    window.begin()
    time.sleep(0.02)
    with pytest.warns(FastgreenWarning, match="'forgotten' was still open"):
        monitor.stop()
    row = rows(monitor)[0]
    assert row["duration_s"] >= 0.02
    assert any("'forgotten' was still open" in note for note in monitor.result.notes)
    assert "still open" in str(monitor.result)
    window.end()  # too late, and harmless
    assert len(window) == 1


def test_stopping_inside_a_with_block_is_harmless(tree):
    monitor = fg.Monitor().start()
    with pytest.warns(FastgreenWarning, match="still open"), monitor.window("w"):
        monitor.stop()
    assert len(rows(monitor)) == 1


def test_a_window_before_start_or_after_stop_is_a_clear_error(tree):
    monitor = fg.Monitor()
    window = monitor.window("w")
    with pytest.raises(RuntimeError, match="while its monitor was not running"):
        window.begin()
    with monitor, window:
        pass
    for late in (window, monitor.window("new")):
        with pytest.raises(RuntimeError, match="while its monitor was not running"):
            late.begin()
        with pytest.raises(RuntimeError, match="not running"), late:
            pass
    assert len(rows(monitor)) == 1


def test_an_exception_inside_a_window_passes_and_the_window_counts(tree):
    with fg.Monitor() as monitor:
        window = monitor.window("w")
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), window:
                _ = 1 / 0
        assert not window.is_open
    assert len(rows(monitor)) == 3


def test_windows_of_eight_threads_are_all_there_under_one_name(tree):
    count, barrier = 2000, threading.Barrier(8)

    def work(monitor: fg.Monitor) -> None:
        window = monitor.window("shared")
        own = monitor.window(threading.current_thread().name)
        barrier.wait()
        for _ in range(count):
            with window, own:
                pass

    with fg.Monitor(hz=1000) as monitor:
        threads = [threading.Thread(target=work, args=(monitor,), name=f"own-{n}") for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    summary = {row["name"]: row["count"] for row in monitor.result.summary().to_pylist()}
    assert summary == {"shared": 8 * count} | {f"own-{n}": count for n in range(8)}
    index = monitor.result.windows("shared")["index"].to_numpy()
    assert np.array_equal(np.sort(index), np.arange(8 * count))
    table = monitor.result.windows("shared")
    assert np.all(table["duration_s"].to_numpy() >= 0)


def test_a_stop_in_the_middle_of_eight_threads_windows_loses_none_that_ended(tree):
    monitor = fg.Monitor(hz=1000).start()
    done = [0] * 8

    def work(number: int) -> None:
        window = monitor.window(f"t{number}")
        while True:
            try:
                window.begin()
            except RuntimeError:
                return
            window.end()
            done[number] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastgreenWarning)  # a window caught open is ended, and said
        result = monitor.stop()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    counted = {row["name"]: row["count"] for row in result.summary().to_pylist()}
    for number in range(8):
        assert done[number] - counted.get(f"t{number}", 0) in (0, 1)


def test_sync_is_called_at_both_edges_and_its_time_falls_on_the_right_side(tree):
    calls = []

    def sync() -> None:
        calls.append(time.monotonic_ns())
        time.sleep(0.01)

    with fg.Monitor(sync=sync) as monitor, monitor.window("w"):
        pass
    assert len(calls) == 2
    row = rows(monitor)[0]
    assert row["start_ns"] >= calls[0] + 9_000_000  # the first wait lies before the window
    assert row["duration_s"] >= 0.009  # the second inside


def test_a_sync_that_fails_raises_and_leaves_the_window_closed_or_open_as_it_was(tree):
    fail = [True]

    def sync() -> None:
        if fail[0]:
            raise OSError("device lost")

    with fg.Monitor(sync=sync) as monitor:
        window = monitor.window("w")
        with pytest.raises(OSError, match="device lost"):
            window.begin()
        assert not window.is_open
        fail[0] = False
        with window:
            pass
    assert len(rows(monitor)) == 1


@pytest.mark.parametrize("name", [5, None, b"w", ["w"]])
def test_a_name_that_is_no_string_is_refused(name):
    with fg.Monitor([]) as monitor, pytest.raises(TypeError, match="name"):
        monitor.window(name)


@pytest.mark.parametrize("name", ["", "ä/ö 日本", "a" * 10_000, "[bold]x[/bold]", "new\nline", "\x00"])
def test_any_string_is_a_name(tree, name, tmp_path):
    with fg.Monitor(record=tmp_path / "run") as monitor, monitor.window(name):
        pass
    assert monitor.result.names == [name]
    assert fg.load(tmp_path / "run").names == [name]
    assert str(monitor.result)


def test_a_name_that_was_never_used_is_a_key_error_that_says_which_were(tree):
    with fg.Monitor() as monitor, monitor.window("used"):
        monitor.window("never begun")
    for name in ("unused", "never begun"):
        with pytest.raises(KeyError, match=rf"no window '{name}' was entered; there are \['used'\]"):
            monitor.result.windows(name)
    assert monitor.result.names == ["used"]


def test_many_windows_take_sixteen_bytes_each_and_are_all_resolved(tree):
    with fg.Monitor(hz=200) as monitor:
        window = monitor.window("w")
        for _ in range(200_000):
            with window:
                pass
    table = monitor.result.windows()
    assert table.num_rows == 200_000
    start = table["start_ns"].to_numpy()
    assert np.all(np.diff(start) >= 0)
    assert np.all(table["energy_low_j"].to_numpy() <= table["energy_high_j"].to_numpy())
    begin, end = window.edges()
    assert begin.nbytes + end.nbytes == 16 * 200_000


def test_measure_as_a_block_and_as_a_decorator(tree):
    with fg.measure(hz=1000) as block:
        with pytest.raises(RuntimeError, match="energy_j exists only after the block"):
            _ = block.energy_j
        time.sleep(0.05)
    assert block.energy_low_j <= block.energy_j <= block.energy_high_j
    assert block.duration_s >= 0.05

    @fg.measure
    def work(seconds: float) -> float:
        """Sleeps."""
        time.sleep(seconds)
        return seconds

    @fg.measure(hz=500)
    def fails() -> None:
        raise ValueError("inside")

    assert work.result is None
    assert (work.__name__, work.__doc__) == ("work", "Sleeps.")
    assert work(0.02) == 0.02
    short = work.result
    work(0.06)
    assert work.result is not short
    assert short.duration_s >= 0.02
    assert work.result.duration_s >= 0.06
    with pytest.raises(ValueError, match="inside"):
        fails()
    assert fails.result.duration_s > 0
    with pytest.raises(TypeError, match="hzz"), fg.measure(hzz=5):
        pass


def test_a_window_that_waited_for_its_sync_while_the_monitor_stopped_has_not_begun():
    monitor = fg.Monitor([], sync=lambda: monitor.stop())
    monitor.start()
    window = monitor.window("late")
    with pytest.raises(RuntimeError, match="'late' was begun while its monitor was not running"):
        window.begin()
    assert not window.is_open
    assert len(window) == 0
