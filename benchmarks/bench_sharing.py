"""Sharing among overlapping spans: speed against NumPy, the width of the bounds, and the cost of a span."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pytest

import fastgreen as fg
from benchmarks.ratios import interleaved
from fastgreen import _ledger, _resolver, _shares, _window

S, MS = 10**9, 10**6
LOOPS = 20_000


def case(spans, samples, seconds, length_ns):
    """Spans of about one length, sorted by begin, and a counter that grows at each sample."""
    rng = np.random.default_rng(1)
    begin = np.sort(rng.integers(S // 10, seconds * S - 2 * length_ns, spans))
    end = begin + rng.integers(length_ns // 2, length_ns * 3 // 2, spans)
    column = np.zeros(samples, _resolver.SAMPLE)
    tick = seconds * S // samples
    column["at_ns"], column["half_ns"] = np.arange(samples) * tick, 500
    column["raw"] = np.cumsum(rng.integers(100, 200, samples))
    traits = {"kind": "energy", "modulus": 0, "quantum": 1, "period_ns": tick, "plausible_per_s": 0}
    return traits, column, begin, end


def edges_of(begin, end):
    """All edges, sorted: instants, which are begins, and g from each on."""
    at = np.concatenate([begin, end])
    order = np.argsort(at, kind="stable")
    step = np.where(order < len(begin), 1, -1)
    open_spans = np.cumsum(step)
    g = np.divide(1.0, open_spans, where=open_spans > 0, out=np.zeros(len(at)))
    place = np.empty(len(at), np.int64)
    place[order] = np.arange(len(at))
    return at[order], g, place[: len(begin)], place[len(begin) :]


def lines(traits, samples):
    """Of each growth: after which instant it was spent (all but a quantum; that too), until which; and its knots."""
    at, half, period = samples["at_ns"], samples["half_ns"].astype(np.int64), traits["period_ns"]
    reach = np.concatenate([[at[0] - half[0] - period], np.maximum(at[:-1] - half[:-1], at[1:] - half[1:] - period)])
    knot = (np.maximum(at[:-1], at[1:] - period) + at[1:]) // 2
    after, below = reach[:-1], np.concatenate([reach[:1], reach[:-2]])
    return after, below, at[1:] + half[1:], np.diff(samples["raw"]).astype(float), np.append(at[0] - period // 2, knot)


def curve(edges, g, knots, grown):
    energy = np.interp(edges, knots, np.concatenate([[0.0], np.cumsum(grown)]))
    return np.concatenate([[0.0], np.cumsum(g[:-1] * np.diff(energy))])


def rough(traits, samples, begin, end):
    """Bounds that are valid and loose: all growth in the longer stretch, and the highest g of all of it."""
    edges, g, at_begin, at_end = edges_of(begin, end)
    _, after, until, grown, knots = lines(traits, samples)
    virtual = curve(edges, g, knots, grown)
    first = np.clip(np.searchsorted(edges, after, side="right") - 1, 0, len(g) - 1)
    last = np.clip(np.searchsorted(edges, until), first + 1, len(g) - 1)
    most = np.maximum.reduceat(g, np.stack([first, last], 1).ravel())[::2]
    sums = np.concatenate([[0.0], np.cumsum(grown * most)])
    high = sums[np.searchsorted(after, end)] - sums[np.searchsorted(until, begin)]
    return virtual[at_end] - virtual[at_begin], high


def sharp(traits, samples, begin, end):
    """The engine's bounds, with arrays: two lists of stretches, those that hold an edge looked at one offset a time."""
    edges, g, at_begin, at_end = edges_of(begin, end)
    after, below, until, grown, knots = lines(traits, samples)
    virtual = curve(edges, g, knots, grown)
    low, high = np.zeros(len(begin)), np.zeros(len(begin))
    for start, amount in ((after, np.maximum(grown - 1, 0)), (below, np.minimum(grown, 1))):
        first = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, len(g) - 2)
        last = np.clip(np.searchsorted(edges, until), first + 1, len(g) - 1)
        pairs = np.stack([first, last], 1).ravel()
        most, least = np.maximum.reduceat(g, pairs)[::2], np.minimum.reduceat(g, pairs)[::2]
        highs = np.concatenate([[0.0], np.cumsum(amount * most)])
        lows = np.concatenate([[0.0], np.cumsum(amount * least)])
        begun, ended = np.searchsorted(start, begin), np.searchsorted(until, end, side="right")
        whole = ended > begun
        high += np.where(whole, highs[ended] - highs[begun], 0.0)
        low += np.where(whole, lows[ended] - lows[begun], 0.0)
        for offset in range(1, 5):  # stretches that hold the begin lie before the first that begins after it
            k = begun - offset
            holds = (k >= 0) & (until[k] > begin) & (start[k] < begin)
            to = np.minimum(np.where(holds, last[k], at_begin + 1), at_end)
            pair = np.stack([at_begin, np.maximum(to, at_begin + 1)], 1).ravel()
            high += np.where(holds, amount[k] * np.maximum.reduceat(g, pair)[::2], 0.0)
        for offset in range(4):
            k = np.minimum(ended + offset, len(until) - 1)
            holds = (ended + offset < len(until)) & (start[k] < end) & (until[k] > end) & (start[k] >= begin)
            since = np.where(holds, first[k], at_end - 1)
            pair = np.stack([np.minimum(since, at_end - 1), at_end], 1).ravel()
            high += np.where(holds, amount[k] * np.maximum.reduceat(g, pair)[::2], 0.0)
    return virtual[at_end] - virtual[at_begin], low, high


@pytest.mark.parametrize(("twin", "limit"), [(sharp, "<= 0.05 x"), (rough, "<= 0.5 x")])
def test_a_million_spans_on_a_million_samples(twin, limit, benchmark, bar):
    traits, samples, begin, end = case(10**6, 10**6, 1000, 40 * MS)
    engine = lambda: _shares.share_columns([(traits, 1.0)], [[samples]], begin, end)  # noqa: E731
    _, found, attributed, _ = engine()
    answer = twin(traits, samples, begin, end)
    inside = slice(1000, -1000)
    assert found[inside, 0, 1] == pytest.approx(answer[0][inside], rel=1e-6, abs=1e-3)
    if twin is sharp:
        assert found[inside, 0, 0] == pytest.approx(answer[1][inside], rel=1e-6, abs=1e-3)
    assert np.all(found[inside, 0, 2] <= answer[-1][inside] * (1 + 1e-9) + 1e-3)
    assert found[:, 0, 1].sum() == pytest.approx(attributed[0], rel=1e-9)
    ratio = interleaved(engine, lambda: twin(traits, samples, begin, end), rounds=3)
    benchmark.pedantic(engine, rounds=1)
    kind = "the same bounds" if twin is sharp else "loose bounds"
    seconds = {"engine_s": ratio.first_s, "numpy_s": ratio.second_s}
    bar(f"bounds of a million spans, {kind} in NumPy", f"{limit} NumPy", ratio, **seconds)


# name, update period, tick, length of a span, mean number open, bar of width / share
WIDTHS = [
    ("40 open of 2 s, 100 ms counter read each 25 ms", 100, 25, 2.0, 40, 0.20),
    ("8 open of 2 s, the same counter", 100, 25, 2.0, 8, 0.23),
    ("0.3 s on a 1 ms counter at 1 kHz", 1, 1, 0.3, 8, 0.030),
    ("0.3 s on a 1 ms counter at 100 Hz", 1, 10, 0.3, 8, 0.16),
]


@pytest.mark.parametrize(("name", "update_ms", "tick_ms", "length_s", "count", "most"), WIDTHS)
def test_median_width_of_the_bounds(name, update_ms, tick_ms, length_s, count, most, benchmark, bar):
    from tests.oracles import simulation as sim

    scenario = sim.Scenario(
        name, seconds=200, update_ns=update_ms * MS, tick_ns=tick_ms * MS, unit_per_s=300e3 if update_ms > 1 else 300e6,
        quantum=1 if update_ms > 1 else 61, seed=3, late_ns=50_000,
    )  # fmt: skip
    samples, traits, _ = sim.record(scenario, sim.Truth(scenario))
    rng = np.random.default_rng(4)
    spans = int(count * 190 / length_s)
    begin = np.sort(rng.integers(S, 190 * S, spans))
    end = begin + rng.integers(int(0.75 * length_s * S), int(1.25 * length_s * S), spans)
    ceiling = scenario.unit_per_s / 1e9
    run = lambda: _shares.share_columns([(traits, ceiling)], [[samples]], begin, end)  # noqa: E731
    shares = run()[1][:, 0]
    width = float(np.median((shares[:, 2] - shares[:, 0]) / shares[:, 1]))
    benchmark.pedantic(run, rounds=1)
    bar(f"median width of the bounds, {name}", f"<= {most:g} x the share", width)


@pytest.fixture
def books():
    gate = _window.Gate()
    gate.open()
    return _ledger.Ledger("bench", gate), _window.Window("bench", gate)


def window_loop(window):
    def run():
        for _ in repeat(None, LOOPS):
            with window:
                pass

    return run


def open_close(ledger):
    def run():
        for _ in repeat(None, LOOPS):
            ledger.open("id").close()

    return run


def with_span(ledger):
    def run():
        for _ in repeat(None, LOOPS):
            with ledger.span("id"):
                pass

    return run


def add_tokens(ledger):
    span = ledger.open("adds")

    def run():
        for _ in repeat(None, LOOPS):
            span.add(tokens=1)

    return run


@pytest.mark.parametrize(
    ("style", "what", "most"),
    [
        (open_close, "`ledger.open(id).close()`", 2),
        (with_span, "`with ledger.span(id):`", 3.5),
        (add_tokens, "`span.add(tokens=1)`", 1),
    ],
)
def test_cost_of_a_span_in_windows(books, style, what, most, benchmark, bar):
    ledger, window = books
    act = style(ledger)
    act()
    assert ledger.opened == (1 if style is add_tokens else LOOPS)
    assert fg.current_span() is None
    ratio = interleaved(act, window_loop(window), rounds=101, before=ledger.take)
    benchmark.pedantic(act, rounds=3)
    bar(what, f"<= {most} x a window", ratio, span_ns=ratio.first_s / LOOPS * 1e9)


def test_the_share_of_a_span_is_known_soon_after_its_end(tmp_path, benchmark, bar):
    """At 100 Hz on a counter that moves each ms: at most T + 2 ticks + 10 ms, p99."""
    import time

    from tests.fakes.powercap import PowercapTree, Zone

    tree = PowercapTree(tmp_path, (Zone("package-0", 80.0),)).start()
    try:
        with fg.Monitor("rapl:*", hz=100, powercap_root=tree.root) as monitor:
            ledger = monitor.ledger("bench")
            time.sleep(0.5)
            waited = []
            for i in range(300):
                with ledger.span(i) as span:
                    time.sleep(0.002)
                begin = time.perf_counter()
                assert span.energy(5).energy_j >= 0
                waited.append(1e3 * (time.perf_counter() - begin))
            period_ms = monitor._run.groups[0].sampler.tally(0)["period_ns"] / 1e6 if monitor._run else 0.0
    finally:
        tree.stop()
    benchmark.pedantic(lambda: None, rounds=1)
    p99 = float(np.percentile(waited, 99))
    bar("99th percentile of `span.energy()`", f"<= {period_ms + 30:.1f} ms", p99, p50=float(np.median(waited)))


@pytest.mark.parametrize(("channels", "most"), [(1, 4), (2, 5)])
def test_the_energy_of_a_window_at_once(channels, most, tmp_path, benchmark, bar):
    """At 100 Hz, of a window of 0.1 s, without waiting."""
    import time
    import timeit

    from tests.fakes.powercap import PowercapTree, Zone

    children = (Zone("dram", 6.0),) if channels == 2 else ()
    tree = PowercapTree(tmp_path, (Zone("package-0", 80.0, children=children),)).start()
    try:
        with fg.Monitor("rapl:*", hz=100, powercap_root=tree.root) as monitor:
            window = monitor.window("bench")
            with window:
                time.sleep(0.1)
            assert window.energy(wait=True).energy_j > 0
            each_us = 1e6 * min(timeit.repeat(window.energy, number=1000, repeat=20)) / 1000
            benchmark.pedantic(window.energy, rounds=3)
    finally:
        tree.stop()
    assert sum(monitor.result.channels["counted"].to_pylist()) == channels
    bar(f"`window.energy()`, channels: {channels}", f"<= {most} us", each_us)
