# SPDX-License-Identifier: Apache-2.0
"""The total of a ledger where only totals are kept: the truth within the bounds, which are those of a kept run."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.measuring.ledger_sums import LedgerSums
from fastgreen.measuring.still_watch import StillWatch
from fastgreen.measuring.sums_of_windows import RUN, ChannelSums
from fastgreen.results.overlaps import union_of
from fastgreen.results.trace import Bounded, Trace
from fastgreen.sensors.channel import Channel
from tests.fakes.powercap import Zone
from tests.measuring.test_sums_of_windows import MS, SCENARIOS, SECOND, simulated
from tests.oracles.sharing import evenly

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")
STEP = 250 * MS


def streamed(channel, samples, begin, end, weight):
    """The total of spans that come and go, with the samples of their time."""
    sums = LedgerSums(SimpleNamespace(name="l", weights="known", rule=None), [channel], 0, {})
    events = sorted([(t, 0, i) for i, t in enumerate(begin)] + [(t, 1, i) for i, t in enumerate(end)])
    place, before = 0, 0
    for now in range(STEP, int(samples["at_ns"][-1]) + 2 * STEP, STEP):
        taken = samples[(samples["at_ns"] > before) & (samples["at_ns"] <= now)]
        if len(taken):
            sums.take(channel.id, taken)
        while place < len(events) and events[place][0] <= now:
            at, closes, i = events[place]
            if closes:
                sums.closed(i, at)
            else:
                sums.opened(i, at, weight[i])
            place += 1
        sums.cut(now)
        before = now
    return sums


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_union_of_all_spans_is_as_well_known_as_that_of_a_kept_run(scenario):
    made, truth, samples, tally, channel = simulated(scenario)
    rng, count = made.rng, 120
    begin = np.sort(rng.integers(SECOND // 2, 10 * SECOND, count))
    end = begin + rng.integers(1000, SECOND // 2, count)
    weight = np.where(rng.random(count) < 0.2, 0.0, 1.0)
    sums = streamed(channel, samples, begin.tolist(), end.tolist(), weight.tolist())
    paying = union_of(begin[weight > 0], end[weight > 0])
    true_j = float(np.sum(truth.until(paying.end_ns) - truth.until(paying.begin_ns))) * 1e-6
    kept = Trace(channel, True, tally, lambda: [samples]).together(paying)
    wide = Bounded(true_j, 0.0, 1e9)
    found = sums.finish(wide, 0.0)
    slack = 1e-8 * truth.energy[-1] * 1e-6
    assert found.energy.low_j - slack <= true_j <= found.energy.high_j + slack
    assert found.energy.high_j - found.energy.low_j <= 1.5 * (kept.high_j - kept.low_j) + slack
    windows_j = float(np.sum(truth.until(end) - truth.until(begin))) * 1e-6
    assert found.window_factor == pytest.approx(windows_j / true_j, rel=0.05)


def test_a_live_ledger_has_the_rows_and_bounds_of_a_kept_one(powercap):
    """Two monitors measure the same work at the same time."""
    powercap(Zone("package-0", 80.0), move=True)
    options = {"channels": "rapl:*", "hz": 250}
    with fg.Monitor(keep="totals", **options) as totals, fg.Monitor(**options) as kept:
        ledgers = [m.ledger("chat", baseline_w=2.0) for m in (totals, kept)]
        for _ in range(25):
            spans = [ledger.open("a", phase="prefill") for ledger in ledgers]
            others = [ledger.open("b", weight=3) for ledger in ledgers]
            time.sleep(0.005)
            for span in spans:
                span.phase("decode")
                span.add(tokens=4)
            for span in others:
                span.weight = 0.5
            time.sleep(0.01)
            for span in (*spans, *others):
                span.close()
    tables = [evenly(m.result).ledgers for m in (totals, kept)]
    assert tables[0].schema.equals(tables[1].schema, check_metadata=False)
    assert tables[0].schema.metadata[b"rules"] == tables[1].schema.metadata[b"rules"]
    key = lambda row: (row["phase"] or "", row["amount"] or "")  # noqa: E731
    mine, theirs = (sorted(table.to_pylist(), key=key) for table in tables)
    assert [key(r) for r in mine] == [key(r) for r in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert (a["count"], a["total"]) == (b["count"], b["total"])
        assert a["energy_low_j"] <= a["energy_j"] <= a["energy_high_j"]
        assert a["energy_j"] == pytest.approx(b["energy_j"], rel=0.15, abs=0.3)
        if a["phase"] is None:
            assert a["energy_p50_j"] == pytest.approx(b["energy_p50_j"], rel=0.3, abs=0.1)
    assert mine[0]["unattributed_j"] == pytest.approx(theirs[0]["unattributed_j"], rel=0.3, abs=2)
    baseline_j = json.loads(tables[0].schema.metadata[b"baselines_j"])["chat"]
    together_j = mine[0]["energy_j"] + mine[0]["unattributed_j"] + baseline_j
    assert together_j == pytest.approx(totals.result.energy_j, rel=1e-9)
    assert mine[0]["window_factor"] == pytest.approx(theirs[0]["window_factor"], rel=0.1)
    widths = [r["energy_high_j"] - r["energy_low_j"] for r in (mine[0], theirs[0])]
    print("width of the total, J:", widths, "phases:", [r["phase"] for r in mine])
    assert widths[0] <= 2 * widths[1] + 1
    assert "rule of chat: " in str(totals.result)


def counter(modulus=0):
    traits = {"kind": "energy", "modulus": modulus, "quantum": 1, "period_ns": MS, "plausible_per_s": 0}
    return Channel("rapl:package-0", "rapl", "energy", "package-0", "uJ", root=True, ceiling_w=100.0, traits=traits)


def moving(first, last, watts, modulus=0):
    """Samples of each 10 ms of a counter in uJ."""
    samples = np.zeros((last - first) // (10 * MS), _resolver.SAMPLE)
    samples["at_ns"] = first + 10 * MS * np.arange(1, len(samples) + 1)
    grown = samples["at_ns"] * watts * 1e-3
    samples["raw"] = grown.astype(np.int64) % modulus if modulus else grown.astype(np.int64)
    return samples


def test_a_pause_that_hides_wraps_widens_the_sums():
    channel, modulus = counter(40_000_000), 40_000_000
    sums = ChannelSums(channel, True)
    sums.take(moving(0, SECOND, 50.0, modulus))
    sums.cut(0, SECOND, {})
    sums.take(moving(4 * SECOND, 5 * SECOND, 50.0, modulus))
    for begin in range(SECOND, 5 * SECOND, SECOND):  # a window over the pause, in four cuts
        sums.cut(begin, begin + SECOND, {"w": (np.array([begin]), np.array([begin + SECOND]))})
    sums.take(moving(5 * SECOND, 6 * SECOND, 50.0, modulus))
    sums.cut(5 * SECOND, 6 * SECOND, {})
    sums.finish()
    for key, true_j in (("w", 200.0), (RUN, 300.0)):
        found = sums.rows()[key]
        assert found.low_j <= true_j <= found.high_j
        assert found.high_j <= 1.0 + 100 * (4 if key == "w" else 6) + 40
    assert not sums._pauses


@pytest.mark.parametrize(("busy", "known"), [(0.9, False), (0.0, True)])
def test_a_counter_that_stands_still_under_load_is_not_believed(busy, known):
    channel = counter()
    witness = SimpleNamespace(busy_cpus=lambda begin, end: busy)
    watch = StillWatch(channel, witness)
    sums = ChannelSums(channel, True, watch)
    before = 0
    for now in range(STEP, 8 * SECOND + STEP, STEP):
        moves = now <= 2 * SECOND or now > 6 * SECOND
        samples = moving(before, now, 50.0)
        if not moves:
            samples["raw"] = 100_000_000
        elif now > 6 * SECOND:
            samples["raw"] -= 200_000_000
        sums.take(samples.copy())
        watch.take(samples, sums.tally())
        sums.cut(before, now, {"w": (np.array([before]), np.array([now]))})
        before = now
    sums.finish()
    found = sums.rows()["w"]
    assert found.low_j <= 200 + 1
    assert (found.high_j > 400) is not known
    assert (watch.stretches == []) is known
    if not known:
        ((begin, end),) = watch.stretches
        assert (begin, end) == pytest.approx((2 * SECOND, 6 * SECOND), abs=20 * MS)
        assert watch.why == "0.90 CPUs were busy"


@pytest.mark.parametrize("idle", [False, True])
def test_the_estimate_replaces_a_counter_that_never_moves_under_load(powercap, proc, idle):
    powercap(Zone("package-0", 80.0))
    done = threading.Event()

    def work():
        while not done.wait(0.05):
            proc.advance(**({"idle": 0.05} if idle else {"user": 0.05}))

    thread = threading.Thread(target=work)
    thread.start()
    with fg.Monitor(keep="totals") as monitor, monitor.window("w"):
        time.sleep(1.6)
    done.set()
    thread.join()
    result = monitor.result
    (row,) = result.summary().to_pylist()
    counted = [r["id"] for r in result.channels.to_pylist() if r["counted"]]
    if idle:
        assert counted == ["rapl:package-0"]
        assert result.energy_j == 0
        return
    assert counted == ["procstat:cpu"]
    assert 0.8 * 7 * 1.5 < result.energy_j < 1.3 * 7 * 1.6
    assert row["energy_j"] == pytest.approx(result.energy_j, rel=0.3)
    assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
    assert result.estimated
    assert any("replaces rapl:package-0" in note for note in result.notes)
    assert any("CPUs were busy" in note for note in result.notes)
