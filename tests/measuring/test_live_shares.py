"""The share of a span while the program runs: it comes with the next update, and it is that of the result."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")


@pytest.fixture
def zones(powercap):
    powercap(Zone("package-0", 80.0), Zone("package-1", 40.0), move=True)


def rows(result, name="chat"):
    return {r["id"]: r for r in result.spans(name).to_pylist()}


def test_the_share_of_a_span_comes_soon_and_is_about_that_of_the_result(zones):
    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat", baseline_w=10.0)
        time.sleep(0.4)
        found, waited = {}, []
        for i in range(20):
            with ledger.span(str(i)) as span, ledger.span(f"{i} too", weight=3):
                assert span.energy(timeout=0) is None  # it is open
                time.sleep(0.03)
            before = time.perf_counter()
            found[str(i)] = span.energy()
            waited.append(time.perf_counter() - before)
    table = rows(monitor.result)
    assert max(waited) < 0.9
    for identity, live in found.items():
        final = table[identity]
        assert live.low_j <= live.energy_j <= live.high_j
        assert max(live.low_j, final["energy_low_j"]) <= min(live.high_j, final["energy_high_j"])
        assert live.energy_j == pytest.approx(final["energy_j"], rel=0.2, abs=0.05)
    assert sum(f.energy_j for f in found.values()) > 0


def test_await_lets_other_tasks_go_on(zones):
    async def main():
        async with ledger.span("a") as span:
            await asyncio.sleep(0.05)
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1

        task = asyncio.create_task(beat())
        energy = await span.energy_async()
        task.cancel()
        return energy, beats

    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("chat")
        time.sleep(0.3)
        energy, beats = asyncio.run(main())
    assert energy.energy_j > 0
    assert beats >= 1


def test_a_counter_at_0_w_holds_no_span_back_for_long(powercap):
    powercap(Zone("package-0", 0.0))
    with fg.Monitor("rapl:*", hz=100) as monitor:
        ledger = monitor.ledger("chat")
        waits_s: list[float] = []
        while not waits_s or (waits_s[-1] >= 3 and len(waits_s) < 10):  # a busy machine may be late
            with ledger.span("a") as span:
                time.sleep(0.01)
            before = time.perf_counter()
            assert waits_s or span.energy(timeout=0.1) is None
            known = span.energy(timeout=60)
            assert known.low_j == 0 < known.high_j
            waits_s.append(time.perf_counter() - before)
        assert waits_s[-1] < 3, waits_s


def test_shares_of_many_threads_add_up_live(zones):
    def work(n):
        spans = []
        for i in range(100):
            with ledger.span(n * 1000 + i) as span:
                span.weight = 1.0 + i % 2
            spans.append(span)
        return spans

    with fg.Monitor("rapl:*", hz=500) as monitor:
        ledger = monitor.ledger("chat")
        time.sleep(0.3)
        with ThreadPoolExecutor(8) as pool:
            spans = [span for part in pool.map(work, range(8)) for span in part]
    live = np.array([span.energy(0).energy_j for span in spans])
    result = monitor.result.spans("chat")
    assert len(result) == 800
    assert live.sum() == pytest.approx(sum(result["energy_j"].to_pylist()), rel=0.2, abs=0.05)


def test_ledgers_made_before_the_start_and_weights_at_close(zones):
    monitor = fg.Monitor("rapl:*", hz=500)
    early = monitor.ledger("early")
    with monitor:
        late = monitor.ledger("late", weights="at close")
        time.sleep(0.3)
        with early.span("a") as span, late.span("b") as other:
            time.sleep(0.02)
        assert span.energy().energy_j > 0
        assert other.energy().energy_j > 0
    assert rows(monitor.result, "late")["b"]["energy_j"] > 0


def test_a_forked_child_knows_no_share(zones):
    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("chat")
        with ledger.span("a") as span:
            pass
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            os._exit(0 if span.energy(timeout=0.05) is None or span.energy(0).energy_j >= 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
