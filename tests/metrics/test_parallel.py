"""Work over ranges: every place once, by the thread that asked too, and the first failure told."""

from __future__ import annotations

import sys
import threading

import pytest

from fastgreen.metrics.parallel import for_each_range

MUCH = 1 << 30


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("align", [1, 8])
def test_every_place_is_in_one_range_that_begins_at_a_multiple(threads, count, align):
    done = []
    for_each_range(count, MUCH, lambda first, last: done.append((first, last)), threads, align)
    done.sort()
    assert [place for first, last in done for place in range(first, last)] == list(range(count))
    assert all(first % align == 0 for first, _ in done)


def test_the_calling_thread_works_beside_one_fewer_than_asked_for():
    both = threading.Barrier(3, timeout=60)
    seen = set()

    def work(first: int, last: int) -> None:
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            both.wait()  # passes only while three threads are at work

    for_each_range(300, MUCH, work, threads=3)
    assert len(seen) == 3
    assert threading.get_ident() in seen


def test_little_work_is_done_by_the_calling_thread_in_one_piece():
    done = []
    for_each_range(1000, 1000, lambda first, last: done.append((first, last, threading.get_ident())), threads=8)
    assert done == [(0, 1000, threading.get_ident())]


def test_the_failure_of_the_first_range_is_told_and_no_further_range_is_begun():
    begun = []
    two = threading.Barrier(2, timeout=60)

    def work(first: int, last: int) -> None:
        begun.append(first)
        two.wait()  # both fail, the later one perhaps first
        raise ValueError(f"range of {first}")

    with pytest.raises(ValueError, match="range of 0"):
        for_each_range(1600, MUCH, work, threads=2)
    assert sorted(begun) == [0, 100]


def test_an_interrupt_ends_the_work_of_all_threads(soon):
    begun, ended_by = [], []
    interrupted = threading.Event()

    def works(thread: int) -> bool:
        frame = sys._current_frames().get(thread)
        while frame and frame.f_code.co_name != "work_off":
            frame = frame.f_back
        return frame is not None

    def work(first: int, last: int) -> None:
        begun.append(first)
        if first == 0:
            ended_by.append(threading.get_ident())
            interrupted.set()
            raise KeyboardInterrupt
        interrupted.wait(60)
        soon(lambda: not works(ended_by[0]))  # it has taken notice

    with pytest.raises(KeyboardInterrupt):
        for_each_range(1 << 20, MUCH, work, threads=2)
    assert len(begun) <= 2


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_a_number_of_threads_that_is_none_is_refused(threads):
    with pytest.raises(ValueError, match="threads"):
        for_each_range(10, MUCH, print, threads)
