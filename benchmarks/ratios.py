"""Ratios of times on a noisy machine: the median over many rounds, both sides in turn; and their bars."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable

__all__ = ["Ratio", "check_bar", "interleaved"]

_SIGNS = {">=": operator.ge, ">": operator.gt, "<=": operator.le}


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


def check_bar(benchmark, what: str, ratio: float, bar: str, **more: object) -> None:
    """Print a ratio with its bar (for example ">= 0.9", or "none"), keep both, and fail if the bar is missed."""
    spread = getattr(ratio, "spread", None)
    benchmark.extra_info.update(ratio=float(ratio), bar=bar, quartiles=spread, **more)
    quartiles = f"; quartiles {spread[0]:.3g} {spread[1]:.3g}" if spread else ""
    others = "".join(f", {name} {value:.4g}" for name, value in more.items())
    print(f"\n{what}: {ratio:.3g}, bar {bar}{quartiles}{others}")
    if bar != "none":
        sign, limit = bar.split()
        assert _SIGNS[sign](ratio, float(limit)), f"{what}: {ratio:.3g}, bar {bar}"
