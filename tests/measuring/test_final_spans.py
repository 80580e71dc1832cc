# SPDX-License-Identifier: Apache-2.0
"""Spans whose weight is known late, steps of an engine, and the callback that gets final spans."""

from __future__ import annotations

import threading
import time

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")


@pytest.fixture
def zones(powercap):
    powercap(Zone("package-0", 80.0), move=True)


def energies(result, name="chat"):
    out: dict[str, float] = {}
    for row in result.spans(name).to_pylist():
        out[row["id"]] = out.get(row["id"], 0.0) + row["energy_j"]
    return out


def test_a_callback_gets_each_final_span_while_the_program_runs(zones):
    seen, threads, early = [], set(), 0

    def callback(span):
        seen.append(span)
        threads.add(threading.current_thread().name)

    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat")
        ledger.on_final(callback)
        time.sleep(0.3)
        for i in range(5):
            with ledger.span(i, weight=2) as span:
                span.add(tokens=1)
                span.phase("decode")
                span.add(tokens=4)
                time.sleep(0.01)
        dropped = ledger.open("dropped")
        dropped.add(tokens=7)
        del dropped
        span.energy()
        time.sleep(0.05)
        early = len(seen)
        with ledger.span("last"):
            time.sleep(0.01)
    assert early >= 5
    assert [s.id for s in seen] == [0, 1, 2, 3, 4, "dropped", "last"]
    assert threads == {"fastgreen-spans"}
    first = seen[0]
    assert (first.ledger, first.weight, first.amounts) == ("chat", 2.0, {"tokens": 5.0})
    assert [(name, done) for name, *_, done in first.phases] == [(None, {"tokens": 1.0}), ("decode", {"tokens": 4.0})]
    assert first.phases[0][2] == first.phases[1][1]
    assert seen[5].amounts == {"tokens": 7.0}
    for span in seen:
        assert span.start_ns <= span.end_ns
        assert span.energy.low_j <= span.energy.energy_j <= span.energy.high_j
    live = sum(s.energy.energy_j for s in seen)
    assert live == pytest.approx(sum(energies(monitor.result).values()), rel=0.2, abs=0.05)


def test_a_callback_that_fails_is_counted_and_harms_nobody(zones):
    seen = []

    def fails(span):
        raise KeyError(span.id)

    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat")
        ledger.on_final(fails)
        ledger.on_final(seen.append)
        for i in range(3):
            with ledger.span(i):
                time.sleep(0.005)
        with pytest.raises(TypeError, match="callback must be callable, not 7"):
            ledger.on_final(7)
    assert len(seen) == 3
    assert any("a callback of ledger 'chat' failed for 3 spans, the last time by KeyError: 2" in n
               for n in monitor.result.notes)  # fmt: skip


def test_weights_at_close_are_live_once_all_before_are_known(zones):
    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat", weights="at close")
        time.sleep(0.3)
        one, other, late = ledger.open("one"), ledger.open("other"), ledger.open("late")
        time.sleep(0.1)
        one.weight = 3.0
        one.phase("decode")
        one.weight = 1.0
        time.sleep(0.1)
        one.close()
        other.close()
        assert other.energy(timeout=0.2) is None  # `late` may yet have any weight
        late.close()
        live = {s.id: s.energy().energy_j for s in (one, other, late)}
        assert live["one"] == pytest.approx(live["other"] * (3 / 5 + 1 / 3) / (1 / 5 + 1 / 3), rel=0.15)
    final = energies(monitor.result)
    for name, energy in live.items():
        assert energy == pytest.approx(final[name], rel=0.1, abs=0.02)


def test_a_span_that_is_open_for_too_long_holds_nobody_back(zones):
    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat", weights="at close", patience=0.3)
        time.sleep(0.3)
        forgotten = ledger.open("forgotten", weight=1)
        with ledger.span("a") as span:
            time.sleep(0.05)
        assert span.energy(timeout=60).energy_j > 0
        forgotten.close()
    assert any("1 span of ledger 'chat' lasted longer than its patience, 0.3 s" in n for n in monitor.result.notes)


def test_a_step_is_shared_by_what_each_request_did_in_it(zones):
    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat")
        time.sleep(0.3)
        a, b = ledger.open("a", weight=0), ledger.open("b", weight=0)
        for _ in range(10):
            work = {}
            with ledger.step(work):
                time.sleep(0.02)
                work.update(a=3, b=1)
        with ledger.step({"a": 1, "alone": 1}):
            time.sleep(0.05)
        time.sleep(0.02)
        a.close(tokens=31)
        b.close(tokens=10)
        live = {"a": a.energy().energy_j, "b": b.energy().energy_j}
    result = monitor.result
    final = energies(result)
    assert final["b"] == pytest.approx((final["a"] - final["alone"]) / 3, rel=1e-6)
    assert final["a"] == pytest.approx(live["a"], rel=0.1)
    assert final["b"] == pytest.approx(live["b"], rel=0.1)
    rows = {r["id"]: r for r in result.spans("chat").to_pylist()}
    assert rows["a"]["tokens"] == 31
    assert float(result.spans("chat").schema.metadata[b"unattributed_j"]) > 0


def test_what_a_step_cannot_take_is_refused_and_the_ledger_goes_on(zones):
    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat")
        with pytest.raises(TypeError, match="amounts must be a mapping"):
            ledger.step([1])
        with pytest.raises(ValueError, match='needs a ledger of weights="known"'):
            monitor.ledger("late", weights="at close").step({})
        for work, error, text in (
            ({"a": -1}, ValueError, "weight must be a number from 0"),
            ({1.5: 1}, TypeError, "id must be a text"),
        ):
            with pytest.raises(error, match=text), ledger.step(work):
                pass
        step = ledger.step({"a": 1})
        with step, pytest.raises(RuntimeError, match="begun twice"), step:
            pass
        with pytest.raises(ZeroDivisionError), ledger.step({"b": 1}):
            raise ZeroDivisionError
        with ledger.span("after") as span:
            time.sleep(0.02)
        assert span.energy(3).energy_j >= 0
    with pytest.raises(RuntimeError, match="a step began while its monitor was not running"), ledger.step({}):
        pass
    assert set(energies(monitor.result)) == {"a", "b", "after"}
