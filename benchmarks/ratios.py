"""Ratios that hold on a noisy machine: both sides in turn, many times, and the median of the ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["Ratio", "interleaved"]


class Ratio(float):
    """The median ratio, with the two medians (s) it came from."""

    first_s: float
    second_s: float
    spread: tuple[float, float]


def interleaved(first: Callable[[], object], second: Callable[[], object], rounds: int = 21) -> Ratio:
    """Median of time(first) / time(second) over `rounds` rounds, the two run in turn; quartiles in ``spread``."""
    ratios, firsts, seconds = [], [], []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        first()
        middle = time.perf_counter_ns()
        second()
        end = time.perf_counter_ns()
        firsts.append((middle - start) / 1e9)
        seconds.append((end - middle) / 1e9)
        ratios.append((middle - start) / (end - middle))
    out = Ratio(statistics.median(ratios))
    out.first_s, out.second_s = statistics.median(firsts), statistics.median(seconds)
    quartiles = statistics.quantiles(ratios, n=4)
    out.spread = (quartiles[0], quartiles[2])
    return out
