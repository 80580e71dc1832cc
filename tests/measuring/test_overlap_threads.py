# SPDX-License-Identifier: Apache-2.0
"""Many threads and tasks at once on one ledger and its windows; `make sanitize-python` runs it under sanitizers too."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _ledger, _resolver, _window
from fastgreen.measuring.final_spans import Deliveries
from fastgreen.measuring.live_shares import LiveShares
from fastgreen.sensors.channel import Channel, traits
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")
MS = 10**6


def test_64_threads_and_1000_tasks_lose_nothing(powercap):
    def work(n):
        for i in range(20):
            with ledger.span(n * 1000 + i, weight=1 + n % 3) as span, monitor.window(f"w{n % 4}") as window:
                span.add(tokens=1)
                span.phase("late")
                window.add(tokens=1)
            if i % 10 == 0:
                span.energy(timeout=0)
                window.energy()

    async def request(i):
        async with ledger.span(f"t{i}") as span:
            await asyncio.sleep(0.01)
            span.add(tokens=1)
            assert fg.current_span() is span

    async def serve():
        await asyncio.gather(*(request(i) for i in range(1000)))

    powercap(Zone("package-0", 80.0), move=True)
    seen = []
    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("all")
        ledger.on_final(seen.append)
        with ThreadPoolExecutor(64) as pool:
            jobs = [pool.submit(work, n) for n in range(64)]
            asyncio.run(serve())
        for job in jobs:
            job.result()
    result = monitor.result
    table = result.spans("all")
    assert len(table) == 64 * 20 + 1000
    assert sum(table["tokens"].to_pylist()) == len(table)
    assert {span.id for span in seen} == {n * 1000 + i for n in range(64) for i in range(20)} | {
        f"t{i}" for i in range(1000)
    }
    assert sum(result.windows()["tokens"].to_pylist()) == 64 * 20
    drawn = sum(result.channels["energy_j"].to_pylist())
    shared = sum(table["energy_j"].to_pylist()) + float(table.schema.metadata[b"unattributed_j"])
    assert shared == pytest.approx(drawn, rel=1e-9)


def test_shares_that_were_made_with_a_shorter_update_period_are_counted():
    gate = _window.Gate()
    gate.open()
    ledger = _ledger.Ledger("x", gate)
    channel = Channel(
        "rapl:package-0", "rapl", "energy", "package-0", "uJ", ceiling_w=100.0,
        traits=traits("energy", "uJ", period_ns=MS),
    )  # fmt: skip
    live = LiveShares(ledger, [channel], 60.0, Deliveries("x"))
    ledger.go_live(lambda span, timeout: None)
    with ledger.span("a") as span:
        pass
    begin = time.monotonic_ns() - 500 * MS
    samples = np.zeros(3000, _resolver.SAMPLE)
    samples["at_ns"] = begin + MS * np.arange(3000)
    n = np.arange(3000)
    samples["raw"] = 1000 * np.where(n < 1000, n // 10, 100 + (n - 1000) // 40)
    live.drain({channel.id: bytearray(samples[:1000].tobytes())})
    made = span.settled
    assert made is not None
    assert live.outdated == 0
    live.drain({channel.id: bytearray(samples[1000:].tobytes())})
    assert live.outdated == 1
    assert span.settled is made  # what is final does not change
