# SPDX-License-Identifier: Apache-2.0
"""Percentiles in constant memory are those of NumPy to 1 %."""

from __future__ import annotations

import numpy as np
import pytest

from fastgreen.results.quantiles import Quantiles


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_known_to_one_percent(seed):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 3, 2001) * 10.0 ** rng.integers(-6, 6)
    one_by_one, at_once = Quantiles(), Quantiles()
    for value in values.tolist():
        one_by_one.add(value)
    at_once.add_all(values)
    for p in (0, 1, 50, 95, 99, 100):
        truth = np.percentile(values, p, method="nearest")
        assert one_by_one.percentiles(p)[0] == pytest.approx(truth, rel=0.0101)
    assert at_once.percentiles(5, 50, 95) == one_by_one.percentiles(5, 50, 95)
    assert len(one_by_one) == len(at_once) == 2001


def test_zeros_and_what_is_no_number():
    found = Quantiles()
    assert found.percentiles(50) == [None]
    for value in (0.0, 0.0, -1e-9, float("nan"), float("inf"), 4.0):
        found.add(value)
    assert len(found) == 4
    assert found.percentiles(50)[0] == 0.0
    assert found.percentiles(100)[0] == pytest.approx(4.0, rel=0.01)
    other = Quantiles()
    other.add_all(np.array([0.0, -1.0, np.nan, np.inf, 4.0]))
    assert len(other) == 3


def test_memory_does_not_grow():
    found = Quantiles()
    found.add_all(10.0 ** np.random.default_rng(0).uniform(-15, 15, 200_000))
    assert len(found._counts) < 3600
