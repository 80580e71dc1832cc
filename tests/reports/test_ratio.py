"""Ratios of energies on simulated outcomes: the claims hold as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastgreen.reports.ratio import FIRST_PAIRS, Outcomes, paired, repeats_to_reach, student_t, unpaired

WIDTH = 0.003  # of the meter's bounds, relative, on each side


def simulated(seed: int, count: int, mean_j: float, scatter: float, width: float = WIDTH) -> Outcomes:
    """Runs of a program; the meter's error is anywhere within its bounds."""
    draw = np.random.default_rng(seed)
    true_j = mean_j * np.exp(draw.normal(0.0, scatter, count))
    low_j = true_j * (1 - width * draw.uniform(0, 2, count))
    high_j = low_j + 2 * width * true_j
    return Outcomes((low_j + high_j) / 2, low_j, high_j, np.ones(count))


def comparisons(ratio: float, scatter: float, repeats: int = 10, trials: int = 200, width: float = WIDTH):
    return [
        paired(
            simulated(2 * n, repeats, 10.0, scatter, width), simulated(2 * n + 1, repeats, 10.0 * ratio, scatter, width)
        )
        for n in range(trials)
    ]


def holds(ratios, true: float) -> int:
    return sum(r.low <= true <= r.high for r in ratios)


def test_equal_programs_differ_in_at_most_18_of_200_comparisons():
    for width in (0.0, WIDTH):
        found = comparisons(1.0, 0.02, width=width)
        assert sum(r.verdict in ("less", "more") for r in found) <= 18
        assert holds(found, 1.0) >= 182


def test_five_percent_is_found_in_at_least_182_of_200_comparisons():
    found = comparisons(1.05, 0.02)
    assert sum(r.verdict == "more" for r in found) >= 182
    assert holds(found, 1.05) >= 182


def test_a_scatter_that_hides_the_difference_gives_the_number_of_repeats_that_would_do():
    found = [r for r in comparisons(1.05, 0.05) if r.verdict == "no difference"]
    assert len(found) > 50
    assert all("repeats would show a difference of" in r.sentence() for r in found)
    assert holds(comparisons(1.05, 0.05), 1.05) >= 182
    # The advice of a scatter that is known well, followed: the difference shows in about 80 % of comparisons.
    advised = repeats_to_reach(0.05 * math.sqrt(2), math.log(1.05), 0.8416)
    assert advised == pytest.approx(19, abs=2)
    shown = sum(r.verdict == "more" for r in comparisons(1.05, 0.05, repeats=advised, width=0.0))
    assert 140 <= shown <= 180


def test_the_interval_holds_the_ratio_also_when_the_precision_chose_the_number():
    held, reached = 0, 0
    for n in range(200):
        a, b = simulated(2 * n, 400, 10.0, 0.03), simulated(2 * n + 1, 400, 10.5, 0.03)

        def of(count: int, a: Outcomes = a, b: Outcomes = b):
            columns = ("energy_j", "low_j", "high_j", "duration_s")
            parts = [Outcomes(*(getattr(x, c)[:count] for c in columns)) for x in (a, b)]
            return paired(*parts, first=FIRST_PAIRS)

        count = FIRST_PAIRS
        while (ratio := of(count)).scatter + ratio.meter > math.log(1.02) and count < 400:
            count += 1
        held += ratio.low <= 1.05 <= ratio.high
        reached += ratio.scatter + ratio.meter <= math.log(1.02)
    assert held >= 182
    assert reached >= 199


def test_bounds_of_the_meter_are_held_at_their_worst():
    """Every run's energy is at the end of its bounds that moves the ratio most: the scatter alone would miss it."""
    true_a, true_b = np.full(10, 10.0), np.full(10, 10.0)
    a = Outcomes(true_a * 1.02, true_a, true_a * 1.04, np.ones(10))
    b = Outcomes(true_b * 0.98, true_b * 0.96, true_b, np.ones(10))
    ratio = paired(a, b)
    assert ratio.low <= 1.0 <= ratio.high * (1 + 1e-12)
    assert ratio.verdict == "sensors cannot tell"
    assert "times longer would do" in ratio.sentence()


def test_sentences_of_the_verdicts():
    def of(ratio: float, scatter: float = 0.001, width: float = 0.0):
        return comparisons(ratio, scatter, trials=1, width=width)[0].sentence()

    assert of(0.67).startswith("B uses 33 % less (33 to 33) than A")
    assert of(1.051).startswith("B uses 5.1 % more (5.")
    assert of(1.0, 0.02).startswith("no difference that 10 repeats could show: the difference of B to A is between -")
    assert of(1.0, 0.001, 0.2).startswith("these sensors cannot tell A from B: their bounds alone are ±")
    nothing = Outcomes(np.array([0.1, 0.2]), np.zeros(2), np.ones(2), np.ones(2))
    assert "too short" in paired(nothing, nothing).sentence()
    still = Outcomes(np.zeros(2), np.zeros(2), np.zeros(2), np.ones(2))
    assert paired(still, nothing).verdict == "sensors cannot tell"
    one = Outcomes(np.array([10.0]), np.array([9.9]), np.array([10.1]), np.ones(1))
    two = Outcomes(np.array([20.0]), np.array([19.9]), np.array([20.1]), np.ones(1))
    assert paired(one, two).sentence() == (
        "B uses 100 % more (97 to 103) than A; the scatter between runs is not known from one run each"
    )


def test_series_that_were_measured_apart_hold_their_ratio_too():
    held = found = 0
    for n in range(200):
        draw = np.random.default_rng(n)
        a, b = draw.normal(10.0, 0.3, 20), draw.normal(10.4, 0.6, 15)
        ratio = unpaired(*(_bounded(x.mean()) for x in (a, b)), a, b)
        held += ratio.low <= 1.04 <= ratio.high
        same = draw.normal(10.0, 0.6, 15)
        found += unpaired(*(_bounded(x.mean()) for x in (a, same)), a, same).verdict in ("less", "more")
    assert held >= 182
    assert found <= 18


def _bounded(mean: float) -> tuple[float, float, float]:
    return float(mean), float(mean), float(mean)


def test_students_t_is_that_of_scipy():
    scipy_t = pytest.importorskip("scipy.stats").t
    for freedom in (1, 2, 3, 4, 9, 10, 29, 100, 999):
        for confidence in (0.5, 0.95, 0.999):
            assert student_t(freedom, confidence) == pytest.approx(scipy_t.ppf((1 + confidence) / 2, freedom), rel=1e-9)
