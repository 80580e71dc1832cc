# SPDX-License-Identifier: Apache-2.0
"""What the door to the resolver promises: columns are checked, and neither chunks nor threads change a bit."""

import numpy as np
import pytest

from fastgreen import _resolver
from fastgreen.results import resolving

TRAITS = {"kind": "energy", "modulus": 1_000_000, "quantum": 3, "period_ns": 1000, "plausible_per_s": 0}


@pytest.fixture(params=["energy", "power"])
def traits(request):
    return {**TRAITS, "kind": request.param}


@pytest.fixture
def samples():
    rng = np.random.default_rng(1)
    samples = np.zeros(5000, _resolver.SAMPLE)
    samples["at_ns"] = np.cumsum(rng.integers(500, 2000, 5000))
    samples["raw"] = np.cumsum(rng.integers(0, 3, 5000) * 30)
    samples["half_ns"] = 50
    return samples


@pytest.fixture
def windows(samples):
    rng = np.random.default_rng(2)
    last_ns = int(samples["at_ns"][-1])
    begin = np.sort(rng.integers(-5000, last_ns + 5000, 3000))
    return begin, begin + rng.integers(0, 20, 3000).cumsum()


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("chunk", [5000, 700, 1])
def test_two_threads_and_chunks_give_the_same_bits(traits, samples, windows, chunk, restarts):
    if restarts:
        samples["flags"][[1000, 2900, 2901, 4800]] = _resolver.RESET
    whole = resolving.resolve_windows(traits, 0.5, [samples], *windows, restarts=restarts, threads=1)
    chunks = (samples[i : i + chunk] for i in range(0, len(samples), chunk))
    threads = 2 if chunk > 1 else 1
    for one, other in zip(
        whole, resolving.resolve_windows(traits, 0.5, chunks, *windows, restarts=restarts, threads=threads), strict=True
    ):
        assert one.tobytes() == other.tobytes()


def test_large_columns_give_the_bits_of_one_thread(samples):
    samples = np.tile(samples, 50)
    samples["at_ns"] = np.arange(len(samples)) * 1000
    samples["raw"] = np.arange(len(samples)) * 7
    begin = np.arange(resolving._PARALLEL) * 1001 - 3000
    one = resolving.resolve_windows(TRAITS, 0.5, [samples], begin, begin + 4321, threads=1)
    many = resolving.resolve_windows(TRAITS, 0.5, [samples], begin, begin + 4321)
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_windows_and_no_samples_may_be_shared_too(samples, count):
    begin = np.arange(count) * 100_000
    for chunks in ([], [samples[:0]], [samples]):
        one = resolving.resolve_windows(TRAITS, 0.5, chunks, begin, begin + 500, threads=1)
        two = resolving.resolve_windows(TRAITS, 0.5, chunks, begin, begin + 500, threads=2)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("begin", "end", "sentence"),
    [
        ([0, 5, 6], [1, 4, 7], r"end_at_ns\[1\] must be at least begin_at_ns\[1\] = 5, not 4"),
        ([0, 5, 3], [9, 9, 9], r"begin_at_ns must be sorted: begin_at_ns\[2\] = 3 comes after 5"),
        ([0, 1, 2], [9, 8, 9], r"end_at_ns must be sorted: end_at_ns\[1\] = 8 comes after 9"),
        ([0, 1], [2], "differ in length"),
    ],
)
def test_windows_out_of_order_are_refused_by_name(samples, begin, end, sentence):
    with pytest.raises(ValueError, match=sentence):
        resolving.resolve_windows(TRAITS, 0.5, [samples], begin, end)


@pytest.mark.parametrize("at", range(1, 10))
@pytest.mark.parametrize("column", ["begin_at_ns", "end_at_ns"])
def test_disorder_is_found_wherever_two_threads_share_the_windows(samples, at, column):
    columns = {"begin_at_ns": np.arange(10) * 100, "end_at_ns": np.arange(10) * 100 + 900}
    columns[column][at] = columns[column][at - 1] - 1
    for chunks in ([samples], [samples[:0]], [samples[:50], samples[50:]]):
        for threads in (1, 2):
            with pytest.raises(ValueError, match=rf"{column} must be sorted: {column}\[{at}\]"):
                resolving.resolve_windows(TRAITS, 0.5, chunks, **columns, threads=threads)
