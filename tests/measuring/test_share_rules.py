# SPDX-License-Identifier: Apache-2.0
"""The rule stands beside every share: of equal and of given weights, of steps, of a fitted cost; phases at the open."""

from __future__ import annotations

import json
import time

import pytest

import fastgreen as fg
from fastgreen.results.step_weights import StepWeights
from tests.fakes.powercap import Zone

FITTED = StepWeights(1.0, 0.01, 0.5, 0.0, 100, 0.0, "a request pays its own terms and an equal part of 1 J", [])


@pytest.fixture(autouse=True)
def zones(powercap):
    powercap(Zone("package-0", 80.0), move=True)


def rule_of(result, name="l", **options):
    return result.spans(name, **options).schema.metadata[b"rule"].decode()


def used(use, **options):
    with fg.Monitor("rapl:*", hz=200) as monitor:
        use(monitor.ledger("l", **options))
    return monitor.result


def one_span(ledger, **options):
    with ledger.span("a", **options):
        time.sleep(0.02)


def test_equal_weights_given_ones_and_those_at_close_say_so(tmp_path):
    equal = used(one_span)
    assert rule_of(equal).endswith("each weight is 1")
    given = used(lambda ledger: one_span(ledger, weight=3))
    assert rule_of(given).endswith("the weights are those that the program gave")
    assert rule_of(given, by="channel") == rule_of(given)
    at_close = used(one_span, weights="at close")
    assert rule_of(at_close).endswith("each stretch has the weight that it ended with")
    given.save(tmp_path / "run")
    assert rule_of(fg.load(tmp_path / "run")) == rule_of(given)
    rules = json.loads(given.ledgers.schema.metadata[b"rules"])
    assert rules == {"l": rule_of(given)}
    assert f"note: rule of l: {rule_of(given)}" in str(given)


@pytest.mark.parametrize("record", [True, False])
def test_steps_by_a_fitted_cost_share_by_it_and_keep_its_rule(tmp_path, record):
    work = {"a": {"prompt_tokens": 100}, "b": {"decoding": 1}}

    def use(ledger):
        requests = [ledger.open(name, weight=0) for name in "ab"]
        for _ in range(5):
            with ledger.step(FITTED.step(work)):
                time.sleep(0.02)
        for request in requests:
            request.close()

    with fg.Monitor("rapl:*", hz=200, **({"record": tmp_path / "run"} if record else {})) as monitor:
        use(monitor.ledger("l"))
    result = fg.load(tmp_path / "run") if record else monitor.result
    a, b = result.spans("l").to_pylist()
    assert a["energy_j"] / b["energy_j"] == pytest.approx((0.5 + 1.0) / (0.5 + 0.5), rel=1e-6)
    assert FITTED.rule in rule_of(result)
    assert FITTED.rule in str(result)


def test_work_of_a_step_may_be_filled_while_it_runs_and_wrong_work_is_refused():
    work = {}

    def use(ledger):
        with ledger.step(FITTED.step(work)):
            time.sleep(0.02)
            work["a"] = {"decoding": 1, "context_tokens": 30}
        refused = pytest.raises(ValueError, match="work of 'b' must be a mapping with prompt_tokens")
        with refused, ledger.step(FITTED.step({"b": {"tokens": 1}})):
            pass
        refused = pytest.raises(ValueError, match="decoding must be numbers from 0 on")
        with refused, ledger.step(FITTED.step({"b": {"decoding": -1}})):
            pass
        with ledger.step(FITTED.step({})):
            pass

    assert used(use).spans("l")["id"].to_pylist() == ["a"]
    with pytest.raises(TypeError, match="work must be a mapping"):
        FITTED.step([1])
    assert dict(FITTED.step({"a": {"decoding": 2}})) == {"a": 2.0}
    assert len(FITTED.step({"a": {}})) == 1


def test_a_span_may_begin_in_a_phase():
    def use(ledger):
        with ledger.span("a", phase="prefill") as span:
            time.sleep(0.02)
            span.phase("decode")
            time.sleep(0.02)
        one = ledger.open("b", 2.0, "prefill")
        time.sleep(0.02)
        one.close()
        with pytest.raises(TypeError, match="phase must be a text, not 3"):
            ledger.open("c", phase=3)

    result = used(use)
    phases = [(r["id"], r["phase"]) for r in result.spans("l", by="phase").to_pylist()]
    assert phases == [("a", "prefill"), ("a", "decode"), ("b", "prefill")]
