"""Time of one call of a metric, compared with NumPy in the same run."""

from __future__ import annotations

import numpy as np
import pytest

import fastgreen as fg
from benchmarks.ratios import interleaved

CALLS = 2000


def repeated(function, *arguments, **options):
    def run() -> None:
        for _ in range(CALLS):
            function(*arguments, **options)

    return run


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    return rng.random(1000) * 10, rng.random(1000)


def test_the_ufunc_costs_at_most_3_times_numpy_add_on_1000_elements(columns, benchmark, bar):
    c, acc = columns
    out = np.empty_like(c)
    fg.ufuncs.apc(c, acc, 0.1, 1.0, out=out)
    assert np.array_equal(out, acc / (1.0 * (c * ((1 - 0.1) * (1 - acc) + 0.1)) + 1))
    ours, base = repeated(fg.ufuncs.apc, c, acc, 0.1, 1.0, out=out), repeated(np.add, c, acc, out=out)
    ratio = interleaved(ours, base, 31)
    benchmark.pedantic(ours, rounds=5)
    bar("ufunc `apc` on 1000 elements", "<= 3 x numpy.add", ratio, ufunc_ns=ratio.first_s / CALLS * 1e9)


def test_what_the_checks_add_to_the_ufunc_on_1000_elements(columns, benchmark, bar):
    c, acc = columns
    assert np.array_equal(fg.apc(c, acc), fg.ufuncs.apc(c, acc, 0.1, 1.0))
    ours = repeated(fg.apc, c, acc)
    ratio = interleaved(ours, repeated(fg.ufuncs.apc, c, acc, 0.1, 1.0), 31)
    benchmark.pedantic(ours, rounds=5)
    bar("checked `apc` on 1000 elements, over the bare ufunc", "none", ratio, checked_ns=ratio.first_s / CALLS * 1e9)


def test_what_the_checks_add_to_the_ufunc_on_10_million_elements(benchmark, bar):
    rng = np.random.default_rng(0)
    c, acc = rng.random(10**7) * 10, rng.random(10**7)
    out = np.ones(10**7)
    assert np.array_equal(fg.apc(c, acc, out=out), acc / (1.0 * (c * ((1 - 0.1) * (1 - acc) + 0.1)) + 1))
    ratio = interleaved(lambda: fg.apc(c, acc, out=out), lambda: fg.ufuncs.apc(c, acc, 0.1, 1.0, out=out), 11)
    benchmark.pedantic(fg.apc, (c, acc), {"out": out}, rounds=3)
    bar("checked `apc` on 10 million elements, over the bare ufunc", "none", ratio)


def time_to_closest_in_numpy(time, accuracy, consumption, target=None, accuracy_delta=0.01, consumption_delta=0.1):
    """The same definition, vectorised over all runs."""
    i = np.clip(np.floor(accuracy / accuracy_delta + 1e-9), 0, np.ceil(1 / accuracy_delta - 1e-9) - 1)
    j = np.maximum(0, np.floor(consumption / consumption_delta + 1e-9))
    acc, c = np.minimum((i + 0.5) * accuracy_delta, 1), (j + 0.5) * consumption_delta
    q = acc / (1.0 * (c * ((1 - 0.1) * (1 - acc) + 0.1)) + 1)
    every = np.arange(len(q))
    if target is None:
        index = np.argmax(q, axis=1)
        return time[every, index], index
    reached = q >= target
    index = np.argmax(reached, axis=1)
    found = reached[every, index]
    return np.where(found, time[every, index], np.inf), np.where(found, index, -1)


@pytest.fixture(scope="module")
def runs():
    """100000 trainings of 200 checkpoints: accuracy saturates with noise, energy grows evenly."""
    rng = np.random.default_rng(0)
    progress = np.arange(1, 201) / 200
    speed, ceiling = rng.uniform(2, 12, (100_000, 1)), rng.uniform(0.5, 0.99, (100_000, 1))
    noise = rng.normal(0, 0.01, (100_000, 200))
    accuracy = np.clip(ceiling * (1 - np.exp(-speed * progress)) + noise, 0, 1)
    hours = np.cumsum(rng.uniform(0.01, 0.02, (100_000, 200)), axis=1)
    return hours, accuracy, hours * rng.uniform(0.5, 2, (100_000, 1))


@pytest.mark.parametrize("target", [None, 0.4])
def test_time_to_closest_is_20_times_as_fast_as_numpy(runs, target, benchmark, bar):
    seen = fg.time_to_closest_apc(*runs, target=target)
    wanted = time_to_closest_in_numpy(*runs, target)
    assert np.array_equal(seen.time, wanted[0])
    assert np.array_equal(seen.index, wanted[1])
    ratio = interleaved(
        lambda: time_to_closest_in_numpy(*runs, target), lambda: fg.time_to_closest_apc(*runs, target=target), 15
    )
    benchmark.pedantic(fg.time_to_closest_apc, runs, {"target": target}, rounds=3)
    what = f"NumPy, over `time_to_closest_apc` of 100000 runs, target {target or 'best'}"
    bar(what, ">= 20", ratio, ours_ms=ratio.second_s * 1e3)
