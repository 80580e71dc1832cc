"""Which part of a run a process tree gets: children that come and go, recorders that come and go, idle GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgreen.experiment.attribution import Snapshot, TreeMeter, between, snapshot, tree_share

SPIN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: sum(range(10000))"


def seen(second, cpu, machine=100.0, **more):
    return Snapshot(second * 10**9, cpu, {}, machine, 0, **more)


def test_a_child_that_began_and_ended_between_two_looks_counts_through_its_parent():
    interval = between(seen(0, {1: 5.0}, reaped_s={1: 2.0}), seen(1, {1: 5.5}, 103.0, reaped_s={1: 2.75}))
    assert interval.tree_cpu_s == pytest.approx(0.5 + 0.75)


def test_a_child_that_ended_counts_from_the_look_before_only():
    first = seen(0, {1: 5.0, 2: 10.0}, reaped_s={1: 0.0, 2: 1.0})
    interval = between(first, seen(1, {1: 5.0}, 103.0, reaped_s={1: 11.5}))
    assert interval.tree_cpu_s == pytest.approx(0.5)


def test_a_left_out_child_that_ended_is_not_counted_through_its_parent():
    first = seen(0, {1: 5.0}, reaped_s={1: 0.0}, left_out_s={9: 30.0})
    assert between(first, seen(1, {1: 5.1}, 103.0, reaped_s={1: 30.0})).tree_cpu_s == pytest.approx(0.1)


def test_a_recorders_threads_are_taken_off_and_their_end_adds_nothing():
    first, last = seen(0, {1: 5.0}, recorder_s=2.0), seen(1, {1: 6.0}, 103.0, recorder_s=2.4)
    assert between(first, last).tree_cpu_s == pytest.approx(0.6)
    assert between(last, seen(2, {1: 6.5}, 103.5, recorder_s=0.0)).tree_cpu_s == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2), st.booleans()), max_size=20))
def test_the_looks_add_up_to_the_time_that_the_tree_really_took(steps):
    """Children of one parent work, end and are reaped in any order; nothing is lost and nothing counted twice."""
    alive, reaped, true_s, told_s, machine = {0: 0.0}, 0.0, 0.0, 0.0, 0.0
    last = seen(0, {1: 0.0, 100: 0.0}, 0.0, reaped_s={1: 0.0})
    for number, (child, worked, ends) in enumerate(steps, 1):
        alive[child] = alive.get(child, 0.0) + worked
        true_s, machine = true_s + worked, machine + worked
        if ends:
            reaped += alive.pop(child)
        cpu = {1: 0.0, **{100 * number if c is None else 100 + c: s for c, s in alive.items()}}
        now = seen(number, cpu, machine, reaped_s={1: reaped})
        told_s += between(last, now).tree_cpu_s
        last = now
    assert told_s == pytest.approx(true_s, abs=1e-9)


def test_short_lived_children_of_a_real_tree_are_seen():
    me = psutil.Process()
    first, begun_s = snapshot(me), sum(os.times()[:4])
    for _ in range(5):
        subprocess.run([sys.executable, "-S", "-c", SPIN.format(0.1)], check=True)
    interval, took_s = between(first, snapshot(me)), sum(os.times()[:4]) - begun_s
    assert 0.4 <= interval.tree_cpu_s == pytest.approx(took_s, abs=0.1)
    assert interval.tree_cpu_s <= interval.machine_cpu_s + 0.1


def test_what_a_left_out_process_starts_is_left_out_too():
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SPIN.format(60)!r}])"
    recorder = subprocess.Popen([sys.executable, "-c", parent])
    try:
        deadline = time.monotonic() + 60
        while not psutil.Process(recorder.pid).children() and time.monotonic() < deadline:
            time.sleep(0.02)
        (started,) = psutil.Process(recorder.pid).children()
        look = snapshot(psutil.Process(), leave_out=frozenset({recorder.pid}))
        assert {recorder.pid, started.pid}.isdisjoint(look.cpu_s)
        assert {recorder.pid, started.pid} <= set(look.left_out_s)
        started.kill()
    finally:
        recorder.kill()
        recorder.wait()


def test_the_looking_itself_is_never_work():
    """Clocks of threads tick in hundredths of a second, so of looks this dense a part slips through, never most."""
    before = time.process_time()
    with TreeMeter(period_s=0.005) as tree:
        time.sleep(1.0)
    spent = time.process_time() - before
    assert sum(interval.tree_cpu_s for interval in tree.intervals) <= 0.5 * spent + 0.03
    assert not any(thread.name == "fg-tree" for thread in threading.enumerate())


def test_idle_power_goes_to_processes_in_equal_parts_however_many_the_tree_has():
    cpu = {1: 0.0, 2: 0.0, 3: 0.0}
    first = seen(0, cpu)
    last = seen(1, cpu, gpu_use={0: {1: 0.2, 2: 0.2, 3: 0.2, 99: 0.4}})
    share = tree_share(between(first, last), "gpu", 100.0, idle_w=40.0)
    assert share == pytest.approx(40.0 * 3 / 4 + 60.0 * 0.6)
