# SPDX-License-Identifier: Apache-2.0
"""Resolving a million windows over a million samples of one channel, against two calls of numpy.interp.

`numpy.interp` gives one interpolated number an edge; the resolver gives an estimate and two bounds. The base is
reported on int64 columns (what a recording holds; NumPy converts inside) and on columns made float64 beforehand.
"""

import statistics
import time

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results import resolving

SAMPLES = WINDOWS = 1_000_000
TRAITS = {"kind": "energy", "modulus": 0, "quantum": 1, "period_ns": 1_000_000, "plausible_per_s": 0}


def recording(rng, samples_per_update=1):
    samples = np.zeros(SAMPLES, _resolver.SAMPLE)
    samples["at_ns"] = np.arange(SAMPLES) * 1_000_000 + rng.integers(20_000, 80_000, SAMPLES)
    samples["raw"] = np.cumsum(rng.integers(1, 1000, SAMPLES) * (rng.random(SAMPLES) < 1 / samples_per_update))
    samples["half_ns"] = 300
    return samples


def edges(pattern, samples, rng):
    if pattern != "random":  # back to back, as in an inference loop
        begin = np.cumsum(rng.integers(990_000, 999_000, WINDOWS))
        return begin, begin + rng.integers(900_000, 980_000, WINDOWS)
    begin = np.sort(rng.integers(samples["at_ns"][0], samples["at_ns"][-1], WINDOWS))
    return begin, begin + 1_000_000


def spent(call):
    """Wall and CPU seconds of one call: a busy machine stretches the latter less, threads hide in the former."""
    begin, cpu_begin = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - begin, time.process_time() - cpu_begin


@pytest.mark.parametrize("pattern", ["loop", "random", "polled"])
def test_resolving_a_million_windows(benchmark, pattern, bar):
    rng = np.random.default_rng(0)
    polls = 4 if pattern == "polled" else 1  # as an NVML counter is read
    samples, traits = recording(rng, polls), {**TRAITS, "period_ns": polls**2 * TRAITS["period_ns"]}
    begin, end = edges(pattern, samples, rng)
    at_ns, raw = samples["at_ns"].copy(), samples["raw"].copy()
    floats = [column.astype(float) for column in (begin, end, at_ns, raw)]

    def ours():
        return resolving.resolve_windows(traits, 1e-3, [samples], begin, end)

    def one_thread():
        return resolving.resolve_windows(traits, 1e-3, [samples], begin, end, threads=1)

    def interp_int64():
        return np.interp(begin, at_ns, raw), np.interp(end, at_ns, raw)

    def interp_float64():
        return np.interp(floats[0], floats[2], floats[3]), np.interp(floats[1], floats[2], floats[3])

    low, estimate, high = ours()
    at_begin, at_end = interp_int64()
    inside = slice(1000, -1000)
    assert np.all(low <= estimate)
    assert np.all(estimate <= high)
    # the interpolation between reads lies within the bounds too, which allow for all that reads leave open
    assert np.all(((at_end - at_begin)[inside] >= low[inside] - 1) & ((at_end - at_begin)[inside] <= high[inside] + 1))

    rounds = [[spent(call) for call in (ours, one_thread, interp_int64, interp_float64)] for _ in range(15)]
    benchmark(ours)
    for name, column, limit in (("float64", 3, "none"), ("int64", 2, ">= 3")):
        ratio = statistics.median(row[column][0] / row[0][0] for row in rounds)
        cpu_ratio = statistics.median(row[column][1] / row[1][1] for row in rounds)
        bar(f"two numpy.interp of {name}, over the bounds, {pattern}", limit, ratio, one_thread_cpu=cpu_ratio)
