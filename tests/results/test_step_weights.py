# SPDX-License-Identifier: Apache-2.0
"""Weights from the steps of an engine: known costs are found again, and the rule is the Shapley value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import nnls

import fastgreen as fg
from fastgreen.results.step_weights import StepWeights, fit_weights
from tests.oracles.long_runs import METADATA, MS, SECOND, START_NS, counter_trace

COSTS = np.array([0.5, 0.002, 0.03, 1e-5])  # J of a step, prompt token, decoding sequence, context token


def engine_run(seed=0, count=400, costs=COSTS, noise=0.0):
    """A run whose power is that of steps with known costs; the table of the steps."""
    rng = np.random.default_rng(seed)
    length_ns = rng.integers(10, 40, count) * MS
    begin_ns = START_NS + 100 * MS + np.cumsum(length_ns) - length_ns
    steps = {
        "begin_ns": begin_ns,
        "end_ns": begin_ns + length_ns,
        "prompt_tokens": rng.integers(0, 500, count) * (rng.random(count) < 0.3),
        "decoding": rng.integers(1, 32, count),
    }
    steps["context_tokens"] = steps["decoding"] * rng.integers(10, 2000, count)
    matrix = np.column_stack([np.ones(count), steps["prompt_tokens"], steps["decoding"], steps["context_tokens"]])
    energy_j = matrix @ costs * (1 + noise * rng.standard_normal(count))
    at_ns = np.arange(START_NS, begin_ns[-1] + length_ns[-1] + 200 * MS, MS)
    step = np.searchsorted(begin_ns, at_ns - MS, "right") - 1
    inside = (step >= 0) & (at_ns <= (begin_ns + length_ns)[step])
    watts = np.where(inside, (energy_j / (length_ns / SECOND))[step], 0.0)
    return fg.Result([counter_trace("package-0", at_ns, watts, 1e4)], [], METADATA, START_NS, int(at_ns[-1])), steps


def test_the_costs_of_an_engine_are_found_again():
    result, steps = engine_run()
    found = fit_weights(result, steps)
    np.testing.assert_allclose(
        [found.step_j, found.prompt_token_j, found.decoding_j, found.context_token_j], COSTS, rtol=0.05
    )
    assert found.steps == 400
    assert found.unexplained < 0.05
    assert found.notes == []


def test_the_fit_is_that_of_scipy():
    result, steps = engine_run(seed=3, noise=0.3, costs=np.array([0.0, 0.002, 0.03, 0.0]))
    found = fit_weights(result, steps)
    energy_j = result.share(steps)["energy_j"].to_numpy()
    matrix = np.column_stack([np.ones(400), steps["prompt_tokens"], steps["decoding"], steps["context_tokens"]])
    root = 1 / np.sqrt((steps["end_ns"] - steps["begin_ns"]) / 1e9)
    wanted, _ = nnls(matrix * root[:, None], energy_j * root)
    np.testing.assert_allclose(
        [found.step_j, found.prompt_token_j, found.decoding_j, found.context_token_j], wanted, rtol=1e-6, atol=1e-9
    )


def test_the_weights_of_a_step_are_its_shapley_value():
    fitted = StepWeights(*COSTS.tolist(), 10, 0.0, "", [])
    rng = np.random.default_rng(1)
    requests = np.column_stack([rng.integers(0, 100, 4), rng.integers(0, 2, 4), rng.integers(0, 1000, 4)])

    def cost(members):
        return COSTS[0] + float(requests[list(members)].sum(0) @ COSTS[1:]) if members else 0.0

    shapley = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for place, i in enumerate(order):
            shapley[i] += (cost(order[: place + 1]) - cost(order[:place])) / math.factorial(4)
    np.testing.assert_allclose(fitted.weights(*requests.T), shapley, rtol=1e-12)


def test_requests_of_many_steps_are_charged_by_what_they_did_and_add_up():
    result, steps = engine_run(count=60)
    fitted = fit_weights(result, steps)
    rows = {key: np.repeat(steps[key], 2) for key in ("begin_ns", "end_ns")}
    rows |= {"id": ["a", "b"] * 60, "prompt_tokens": [100, 0] * 60, "decoding": [0, 1] * 60}
    found = fitted.share(result, rows)
    assert found.schema.metadata[b"rule"].decode() == fitted.rule
    sums = dict(zip(*found.group_by("id").aggregate([("energy_j", "sum")]).to_pydict().values(), strict=True))
    wanted = np.array([fitted.prompt_token_j * 100, fitted.decoding_j]) + fitted.step_j / 2
    assert sums["a"] / sums["b"] == pytest.approx(wanted[0] / wanted[1], rel=5e-6)  # weights have steps of 2^-20
    alone = result.share({k: steps[k] for k in ("begin_ns", "end_ns")})["energy_j"]
    assert sums["a"] + sums["b"] == pytest.approx(sum(alone.to_pylist()), rel=1e-9)


def test_the_rule_is_beside_the_figures():
    result, steps = engine_run(count=50)
    found = fit_weights(result, steps)
    text = str(found)
    assert "Shapley value" in text
    assert found.rule in text
    assert f"{found.prompt_token_j:.4g} J per prompt token" in found.rule


def test_terms_that_change_together_are_noted_and_a_column_may_be_absent():
    result, steps = engine_run(count=50)
    del steps["context_tokens"]
    steps["prompt_tokens"] = 2 * steps["decoding"]
    assert any("change together" in note for note in fit_weights(result, steps).notes)


def test_steps_that_cost_nothing_share_equally():
    assert StepWeights(0.0, 0.0, 0.0, 0.0, 8, 0.0, "", []).weights([1, 2], [0, 0], [0, 0]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {k: v[:5] for k, v in s.items()}, "at least 8 steps"),
        (lambda s: {**s, "prompt_tokens": np.where(np.arange(50) == 3, -1.0, 1.0)}, "prompt_tokens must be numbers"),
        (lambda s: {**s, "decoding": np.where(np.arange(50) == 3, np.nan, 1.0)}, r"not nan \(row 3\)"),
        (lambda s: {**s, "begin_ns": s["begin_ns"] - 5 * MS}, "must not overlap"),
        (lambda s: {**s, "begin_ns": s["end_ns"], "end_ns": s["begin_ns"]}, "must not be before its begin"),
        (lambda s: {k: v for k, v in s.items() if k != "end_ns"}, "one column of the table"),
    ],
)
def test_bad_steps_are_refused(change, words):
    result, steps = engine_run(count=50)
    with pytest.raises(ValueError, match=words):
        fit_weights(result, change(steps))
