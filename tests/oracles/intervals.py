# SPDX-License-Identifier: Apache-2.0
"""Loops on a 100 ms counter that is read each 25 ms: how far estimates are off, and what their intervals say of it.

``python -m tests.oracles.intervals RUNS FIRST [NAME ...]`` prints the table of docs/accuracy.md, from seed FIRST on.
Judge a method by seeds that it was not made with.
"""

from __future__ import annotations

import sys

import numpy as np

from fastgreen.results.following import Following, windows_named
from tests.oracles.loops import Loop

SHORT = {"names": {"infer": (5, 300.0)}, "rest_ms": 20, "update_ms": 100, "tick_ms": 25}
LONG = {"names": {"infer": (30, 300.0)}, "rest_ms": 70, "update_ms": 100, "tick_ms": 25}
THREE = {"a": (20, 250.0), "b": (10, 300.0), "c": (5, 200.0)}
# The sum of windows that follow each other at a fixed distance.
TOGETHER = {"names": {"a": (10, 300.0), "b": (5, 200.0)}, "rest_ms": 20, "update_ms": 100, "tick_ms": 25}

SCENARIOS: dict[str, dict] = {
    "5 / 20 ms": SHORT,
    "30 / 70 ms": LONG,
    "power rises by 20 % in the run": {**SHORT, "drift": 0.2},
    "three windows of 20, 10 and 5 ms, rest 30 ms": {**SHORT, "names": THREE, "rest_ms": 30},
    "30 / 70 ms, half power in the first 8 ms": {**LONG, "head": (8, 0.5)},
    "30 / 70 ms, 30 % of the power for 10 ms after": {**LONG, "after": (10, 0.3)},
    "bursts of 500 W at any time": {**SHORT, "bursts_per_s": 4},
    "rest at 0 W": {**SHORT, "rest_w": 0.0},
    "two boards": {**SHORT, "channels": 2},
    "power varies by 20 % from window to window": {**SHORT, "noise": 0.2},
    "20 % of the updates missed": {**SHORT, "missed": 0.2},
    "late reads and pauses": {**SHORT, "late_ms": 3.0, "pauses": 3},
    "updates by a timer": {**SHORT, "timer": True},
    "updates by a timer, 30 / 70 ms": {**LONG, "timer": True},
    "updates by a timer, 20 % missed": {**SHORT, "timer": True, "missed": 0.2},
    "lengths vary by 20 %": {**SHORT, "length_jitter": 0.2},
    "two windows always together, their sum": {**TOGETHER, "sum": True},
}


def errors_of(name: str, seed: int) -> dict[str, tuple[float, float]]:
    """Error of each mean energy, and its interval to each side, as shares of the true energy; NaN without interval."""
    options = dict(SCENARIOS[name])
    channels, together = options.pop("channels", 1), options.pop("sum", False)
    loop = Loop(seed=seed, **options)
    traces = [loop.trace(f"nvml:{i}") for i in range(channels)]
    following = Following(traces, loop.handles())
    found = {}
    for group in [list(loop.windows)] if together else [[window] for window in loop.windows]:
        true = channels * sum(loop.true_j(window) for window in group)
        each = [following.of(t).windows_j(*loop.windows[w]).mean() for t in traces for w in group]
        half_j = following.interval(windows_named(*group)).over(len(loop.windows[group[0]][0])).half_j
        found["+".join(group)] = (sum(each) / true - 1, np.nan if half_j is None else half_j / true)
    return found


def row(name: str, runs: int, first: int = 0) -> dict[str, np.ndarray]:
    """(runs, 2): `errors_of` of many runs, by window."""
    each = [errors_of(name, seed) for seed in range(first, first + runs)]
    return {window: np.array([found[window] for found in each]) for window in each[0]}


def main(runs: int, first: int, names: list[str]) -> None:
    held = []
    for name in names or SCENARIOS:
        for window, found in row(name, runs, first).items():
            error, half = 100 * found.T
            known = ~np.isnan(half)
            held += list(np.abs(error[known]) <= half[known])
            print(
                f"{name} {window}: mean error {error.mean():+.2f} %, s.d. {error.std(ddof=1):.2f} %, interval "
                f"{np.nanmean(half):.1f} % to each side, in {known.mean():.0%} of runs, holds the true mean in "
                f"{np.mean(np.abs(error[known]) <= half[known]):.1%}",
                flush=True,
            )
    print(f"all together: {np.mean(held):.2%} of {len(held)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
