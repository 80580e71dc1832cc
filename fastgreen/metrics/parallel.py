"""Parallel work over ranges in a few threads; the C kernels release the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fastgreen.guards.system_names import cpu_count

__all__ = ["cpu_count", "for_each_range", "thread_count"]

_WORTH_A_THREAD = 1 << 18  # points, some tenths of a millisecond of work; for less, threads cost more than they gain


def thread_count(threads: int | None) -> int:
    """Check a number of threads; None becomes one per CPU."""
    if threads is None:
        return cpu_count()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a whole number above 0, not {threads!r}")
    return threads


def for_each_range(
    count: int, points: int, work: Callable[[int, int], None], threads: int | None = None, align: int = 1
) -> None:
    """Call work(first, last) for ranges that cover 0..count, each beginning at a multiple of `align`.

    This thread works too, beside `threads` - 1 others. `points` is the amount of work in all; a small amount is done in
    this thread alone. An exception of the first failing range is raised after all started ranges have ended.
    """
    workers = min(thread_count(threads), max(1, points // _WORTH_A_THREAD))
    if workers == 1:
        work(0, count)
        return
    # Several ranges for each thread, so that a delayed thread does not delay all.
    step = -(-count // (workers * 8))
    step = max(1, -(-step // align)) * align
    waiting = deque(range(0, count, step))
    failed: list[tuple[int, BaseException]] = []

    def work_off() -> None:
        while waiting:
            try:
                first = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                work(first, min(first + step, count))
            except BaseException as error:
                waiting.clear()
                failed.append((first, error))

    with ThreadPoolExecutor(workers - 1) as pool:
        for _ in range(workers - 1):
            pool.submit(work_off)
        try:
            work_off()
        finally:
            waiting.clear()  # an interrupt may come between two ranges
    if failed:
        raise min(failed, key=lambda one: one[0])[1]
