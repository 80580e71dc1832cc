# SPDX-License-Identifier: Apache-2.0
"""Eight threads at once on windows, ledgers, handles, checkpoints, results and stop: nothing is lost, nothing crashes.

The interpreter's own lock hides most races. A Python that was built without it (``--disable-gil``) hides none, so these
tests mean most there; `HAMMERED` in the environment repeats them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import sysconfig
import threading
import time
from collections import Counter

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _ledger, _steps, _window
from tests.fakes.powercap import Zone

THREADS = 8
ROUNDS = 400 * int(os.environ.get("HAMMERED", "1"))
WITHOUT_LOCK = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")


def together(work, threads=THREADS, beside=None):
    """Run work(n) in threads that begin at once, and beside() again and again until they are done."""
    start = threading.Barrier(threads + (beside is not None))
    failed, left = [], [0] * threads

    def run(n):
        try:
            start.wait()
            work(n)
        except BaseException as error:
            failed.append(error)
        finally:
            left.pop()

    running = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    if beside is not None:
        start.wait()
        while left and not failed:
            beside()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


@pytest.fixture
def monitor(powercap):
    powercap(Zone("package-0", 80.0), move=True)
    with fg.Monitor("rapl:*", hz=500) as monitor:
        yield monitor


@pytest.mark.skipif(not WITHOUT_LOCK, reason="this Python was built with the interpreter's lock")
def test_the_package_does_not_bring_the_interpreters_lock_back(python):
    done = python(
        """
        import importlib, pkgutil, sys
        import fastgreen as fg
        for name in ("_core", "_kernels", "_ledger", "_resolver", "_shares", "_steps", "_window"):
            importlib.import_module(f"fastgreen.{name}")
        with fg.Monitor() as monitor, monitor.window("work"):
            pass
        monitor.result.summary()
        print(sys._is_gil_enabled())
        """
    )
    assert done.stdout.split() == ["False"], done.stderr


def test_windows_of_one_name_in_eight_threads_are_all_there(monitor):
    def work(n):
        for i in range(ROUNDS):
            with monitor.window("work") as outer:
                outer.add(tokens=1, bytes=2)
                with monitor.window("work") as inner:
                    inner.add(tokens=1)
            if i % 50 == 0:
                outer.energy()
                assert not outer.is_open
                assert len(outer) > 0

    def look():
        assert all(reading >= 0 for reading in monitor.energy_j().values())
        monitor._run.poke()

    together(work, beside=look)
    result = monitor.stop()
    table = result.windows()
    assert table.num_rows == 2 * THREADS * ROUNDS
    assert sum(table["tokens"].to_pylist()) == 2 * THREADS * ROUNDS
    assert sum(value or 0 for value in table["bytes"].to_pylist()) == 2 * THREADS * ROUNDS
    assert np.all(table["duration_s"].to_numpy() >= 0)


def test_totals_of_eight_threads_count_every_window(powercap):
    powercap(Zone("package-0", 80.0), move=True)
    with fg.Monitor("rapl:*", hz=500, keep="totals") as monitor:

        def work(n):
            window = monitor.window(f"w{n % 2}")
            for _ in range(2 * ROUNDS):
                with window:
                    window.add(tokens=3)

        together(work, beside=monitor._run.poke)
    summary = {row["name"]: row for row in monitor.result.summary().to_pylist()}
    assert [summary[name]["count"] for name in ("w0", "w1")] == [THREADS * ROUNDS] * 2
    assert [summary[name]["total_tokens"] for name in ("w0", "w1")] == [3 * THREADS * ROUNDS] * 2


def test_a_window_that_threads_share_by_mistake_counts_each_end_once():
    gate = _window.Gate()
    gate.open()
    window = _window.Window("shared", gate)
    ended, taken = [], []

    def work(n):
        for _ in range(5 * ROUNDS):
            try:
                window.begin()
                window.add(tokens=1)
            except RuntimeError:
                pass
            try:
                window.end()
                ended.append(n)
            except RuntimeError:
                pass

    def take():
        begin, end, *_ = window.take()
        assert np.all(end >= begin)
        taken.append(len(begin))

    together(work, beside=take)
    take()
    assert sum(taken) == len(ended) == len(window)


def test_spans_of_eight_threads_are_all_charged(monitor):
    ledger, handed = monitor.ledger("all"), queue.SimpleQueue()
    seen = []
    ledger.on_final(seen.append)

    def work(n):
        for i in range(ROUNDS):
            with ledger.span((n << 20) + i, weight=1 + n % 3) as span:
                span.add(tokens=1)
                span.phase("late")
                span.add(tokens=1)
                span.weight = 2
                assert span.phase_name == "late"
                assert fg.current_span() is span
            other = ledger.open(f"{n} {i}")
            other.add(tokens=1)
            handed.put(other)
            handed.get().close(tokens=1)  # that of any thread

    together(work, beside=lambda: (monitor._run.poke(), ledger.open_weights()))
    result = monitor.stop()
    table = result.spans("all")
    assert len(table) == 2 * THREADS * ROUNDS
    assert Counter(table["id"].to_pylist()).most_common(1)[0][1] == 1
    assert sum(table["tokens"].to_pylist()) == 4 * THREADS * ROUNDS
    assert len(seen) == len(table)
    shared = sum(table["energy_j"].to_pylist()) + float(table.schema.metadata[b"unattributed_j"])
    assert shared == pytest.approx(sum(result.channels["energy_j"].to_pylist()), rel=1e-9)


def test_changes_of_a_ledger_come_in_the_order_of_time_and_dropped_spans_are_counted():
    gate = _window.Gate()
    gate.open()
    ledger = _steps.SteppedLedger("x", gate)
    ledger.go_live(lambda span, timeout: None)
    changes, closed, ids = [], [], []

    def work(n):
        for i in range(2 * ROUNDS):
            span = ledger.open(f"{n} {i}", weight=0)
            if i % 8 == 0:
                with ledger.step({f"{n} {i}": 2.0, f"{n} {i} alone": 1.0}):
                    pass
            span.weight = 3
            if i % 3:
                span.close()
            del span  # one of three is dropped, while other threads look at the open spans

    def take():
        found, ended = ledger.take_changes()
        changes.extend(found.tolist())
        closed.extend(ended)
        ledger.take_steps()
        ids.extend(ledger.take()[1])
        ledger.take_open(0.0)
        assert all(weight in (0, 3) for weight in ledger.open_weights().values())

    together(work, beside=take)
    take()
    spans = 2 * THREADS * ROUNDS
    steps = THREADS * len(range(0, 2 * ROUNDS, 8))
    dropped = THREADS * len(range(0, 2 * ROUNDS, 3))
    assert ledger.opened == spans + steps
    assert len(ids) == len(set(ids)) == len(closed) == spans + steps
    assert ledger.dropped == dropped
    times = [at_ns for at_ns, *_ in changes]
    assert times == sorted(times)
    assert Counter(kind for *_, kind in changes) == {0: spans, 1: spans, 2: spans, 3: steps, 4: steps}
    assert ledger.open_weights() == {}


def test_a_span_that_threads_close_at_once_is_closed_once():
    gate = _window.Gate()
    gate.open()
    ledger = _ledger.Ledger("x", gate)
    spans = [ledger.open(i) for i in range(ROUNDS)]

    def work(n):
        for span in spans:
            with contextlib.suppress(RuntimeError):
                span.close(tokens=1)

    together(work)
    assert sorted(ledger.take()[1]) == list(range(ROUNDS))


@pytest.mark.statistical
def test_eight_threads_stop_one_monitor_and_get_one_result(powercap):
    powercap(Zone("package-0", 80.0), move=True)
    for _ in range(3):
        monitor = fg.Monitor("rapl:*", hz=500).start()
        ledger, done, said, results = monitor.ledger("all"), [], [], []

        def work(n, monitor=monitor, ledger=ledger, done=done, said=said, results=results):
            window, kept = monitor.window("work"), []
            try:
                for i in range(10**6):
                    window.begin()
                    kept.append(ledger.open(i))
                    if n == 0 and i == 200:
                        break
                    window.end()
            except RuntimeError as error:
                said.append(str(error))
            done.append(len(window))
            results.append(monitor.stop())

        together(work)
        assert all("running" in text for text in said)
        assert len({id(result) for result in results}) == 1
        windows = results[0].windows()
        assert windows.num_rows == sum(len(window) for window in monitor.window_handles.windows) >= sum(done)
        assert len(results[0].spans("all")) == ledger.opened
        ends_ns = windows["start_ns"].to_numpy() + windows["duration_s"].to_numpy() * 1e9
        assert max(ends_ns) <= results[0].end_ns + 1000


def test_checkpoints_ledgers_and_energies_of_eight_threads(monitor):
    made = []

    def work(n):
        for i in range(20):
            monitor.checkpoint(accuracy=0.5, seen=10, loss=n + i)
            made.append(monitor.ledger(f"l{i}"))
            assert monitor.readings()
            with made[-1].span(n) as span:
                pass
            span.energy(timeout=0)

    together(work)
    assert len({id(ledger) for ledger in made}) == 20
    result = monitor.stop()
    table = monitor.training_log.table()
    assert sorted(table["epoch"].to_pylist()) == list(range(1, 20 * THREADS + 1))
    assert sorted(table["seen"].to_pylist()) == list(range(10, 200 * THREADS + 10, 10))
    assert len(result.spans("l7")) == THREADS


def test_a_recording_holds_what_eight_threads_did(powercap, tmp_path):
    powercap(Zone("package-0", 80.0), move=True)
    with fg.Monitor("rapl:*", hz=500, record=tmp_path / "run") as monitor:
        ledger = monitor.ledger("all")

        def work(n):
            for _i in range(ROUNDS):
                with monitor.window("work") as window, ledger.span(n):
                    window.add(tokens=1)

        together(work, beside=lambda: (monitor._run.poke(), time.sleep(0.001)))
    result = fg.load(tmp_path / "run")
    assert result.windows().num_rows == sum(result.windows()["tokens"].to_pylist()) == THREADS * ROUNDS
    assert len(result.spans("all")) == THREADS * ROUNDS


def test_this_python_still_runs_without_its_lock():
    if not WITHOUT_LOCK:
        pytest.skip("this Python was built with the interpreter's lock")
    assert not sys._is_gil_enabled()
