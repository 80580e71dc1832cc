# SPDX-License-Identifier: Apache-2.0
"""Estimates that follow the load: their errors against the truth of simulated loops, and their cost.

``FASTGREEN_SEEDS=20`` repeats the table of docs/accuracy.md; the bars are those of 20 runs of 120 s, wider for fewer.
"""

import os
import time

import numpy as np
import pytest

from fastgreen import _follow
from fastgreen.results import resolving
from fastgreen.results.following import Following
from fastgreen.results.trace import Windows
from tests.oracles import loops

SEEDS = int(os.environ.get("FASTGREEN_SEEDS", "4"))
# Standard deviation of the error in 20 runs, in %.
SPREAD = dict(zip(loops.ROWS, (1.6, 0.6, 0.6, 0.6, 0.6, 2.5, 1.2), strict=True))
# Chi-square over its degrees of freedom, 99.9 %: how much a standard deviation of few runs may be above.
FEW = {2: 10.8, 3: 6.9, 4: 5.4, 5: 4.6, 10: 3.1}
COUNT = 1_000_000
MS = 1_000_000


@pytest.mark.parametrize("name", loops.ROWS)
def test_error_of_the_mean_energy(name, bar):
    errors, even = [], []
    for seed in range(SEEDS):
        loop = loops.row(name, seed)
        result = loop.result()
        true = loop.true_j("infer")
        errors.append(100 * (result.summary()["mean_energy_j"][0].as_py() / true - 1))
        trace = result.traces[0]
        even.append(100 * (np.mean(trace.windows(*loop.windows["infer"]).energy_j) / true - 1))
    mean, spread = float(np.mean(errors)), float(np.std(errors, ddof=1))
    print(f"{name:30s} even {np.mean(even):+6.1f} %, followed {mean:+.2f} % (s.d. {spread:.2f}) in {SEEDS} runs")
    few = next((factor for count, factor in FEW.items() if count >= SEEDS), 1.3)
    assert spread <= SPREAD[name] * np.sqrt(few), errors
    # The mean of few runs may be off by two of its standard errors.
    bar(f"error of the mean energy, {name}", f"<= {max(1.0, 2 * spread / np.sqrt(SEEDS)):.3g} %", abs(mean))


def board_changes(count):
    rng = np.random.default_rng(0)
    updates = np.cumsum(rng.uniform(80, 100, count) * MS).astype(np.int64)
    at_ns = (updates // (25 * MS) + 1) * 25 * MS
    out = np.zeros((count, 4), np.int64)
    out[:, 0], out[:, 1], out[:, 2], out[1:, 3] = at_ns - 25 * MS, at_ns, 7_000_000, 1
    return out


def test_the_posterior_of_a_million_updates_takes_at_most_half_a_second(bar):
    followed = _follow.Followed(board_changes(COUNT))
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        cells, _, links, floored = followed.chain(80 * MS, 100 * MS, 0.02, 1e-3)
        seconds.append(time.perf_counter() - begin)
    assert links == COUNT - 1
    assert floored == 0
    assert np.allclose(cells.sum(axis=1), 1.0, atol=1e-5)
    bar("instants of a million updates", "<= 0.5 s", min(seconds))


def test_following_costs_at_most_twice_the_resolving(bar):
    loop = loops.Loop({"infer": (5, 300.0)}, 5, 1, 10, seconds=1000.0)
    trace, (begin, end) = loop.trace(), loop.windows["infer"]
    windows = Windows("infer", 0, begin, end)
    samples = list(trace.chunks())
    traits = {**trace.channel.traits, "period_ns": trace.learnt["period_ns"]}
    resolve, follow = [], []
    for _ in range(15):
        at = time.perf_counter()
        resolving.resolve_windows(traits, 1.0, samples, begin, end)
        trace.together(windows)
        resolve.append(time.perf_counter() - at)
        at = time.perf_counter()
        followed = Following([trace], [windows]).of(trace)
        energy_j = followed.windows_j(begin, end)
        follow.append(time.perf_counter() - at)
    assert np.mean(energy_j) == pytest.approx(loop.true_j("infer"), rel=0.02)
    bar("estimates that follow the load", "<= 2 x bounds of the same windows", min(follow) / min(resolve))
