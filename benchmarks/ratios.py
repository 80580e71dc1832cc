"""Ratios of times on a noisy machine: the median over many rounds, both sides in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["Ratio", "interleaved"]


class Ratio(float):
    """Median ratio, with the medians of both times in s."""

    first_s: float
    second_s: float
    spread: tuple[float, float]


def _spent_s(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e9


def interleaved(
    first: Callable[[], object],
    second: Callable[[], object],
    rounds: int = 21,
    before: Callable[[], object] = lambda: None,
) -> Ratio:
    """Median of time(first) / time(second) over `rounds` rounds, quartiles in ``spread``.

    The two run in turn, in alternating order; `before` runs before each, outside the measured time.
    """
    ratios, firsts, seconds = [], [], []
    for number in range(rounds):
        spent = {}
        for which, call in ((0, first), (1, second))[:: 1 if number % 2 else -1]:
            before()
            spent[which] = _spent_s(call)
        firsts.append(spent[0])
        seconds.append(spent[1])
        ratios.append(spent[0] / spent[1])
    out = Ratio(statistics.median(ratios))
    out.first_s, out.second_s = statistics.median(firsts), statistics.median(seconds)
    quartiles = statistics.quantiles(ratios, n=4)
    out.spread = (quartiles[0], quartiles[2])
    return out
