"""Runs of any length without a wait: counters with a known power, and windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

import fastgreen as fg
from fastgreen import _resolver
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel, traits

MS, SECOND = 1_000_000, 1_000_000_000
START_NS = 6 * SECOND
METADATA = {"format": 1, "version": "0", "host": "bench", "realtime_ns": 1_760_000_000 * SECOND, "monotonic_ns": 0}


def counter_trace(name: str, at_ns: np.ndarray, watts: np.ndarray, ceiling_w: float, counted: bool = True) -> Trace:
    """The trace of a counter in uJ that is read at these instants; `watts` is the power before each."""
    samples = np.zeros(len(at_ns), _resolver.SAMPLE)
    samples["at_ns"], samples["half_ns"] = at_ns, 2000
    samples["raw"] = np.cumsum(np.append(0, np.diff(at_ns) / 1000 * watts[1:])).astype(np.int64)
    facts = traits("energy", "uJ", period_ns=MS)
    channel = Channel(f"rapl:{name}", "rapl", "energy", name, "uJ", ceiling_w=ceiling_w, traits=facts)
    return Trace.recounted(channel, counted, lambda: [samples.copy()])


def long_run(seconds=30.0, hz=100, windows=300, names=("infer", "load"), spike_w=None, seed=0) -> fg.Result:
    """Two channels whose power swings, and windows of these names; for two readings the first draws `spike_w`."""
    rng = np.random.default_rng(seed)
    count, end_ns = int(seconds * hz) + 1, START_NS + int(seconds * SECOND)
    traces = []
    for name, mean_w in (("package-0", 60.0), ("dram", 6.0)):
        at_ns = START_NS + np.arange(count) * (SECOND // hz)
        watts = mean_w * (1 + 0.3 * np.sin(np.linspace(0, 12, count)) + 0.05 * rng.standard_normal(count))
        if spike_w and not traces:
            watts[count // 3 : count // 3 + 2] = spike_w
        traces.append(counter_trace(name, at_ns, watts, 4 * mean_w))
    made = []
    for handle, name in enumerate(names):
        each = windows // len(names)
        begin_ns = np.sort(rng.integers(START_NS, int(end_ns - seconds * SECOND // 10), each))
        lengths = rng.integers(0, int(seconds * SECOND / max(each, 1)), each)
        made.append(Windows(name, handle, begin_ns, np.minimum(begin_ns + lengths, np.append(begin_ns[1:], end_ns))))
    return fg.Result(traces, made, METADATA, START_NS, end_ns, [])


def with_spans(run: fg.Result, count=200, phases=True, seed=0, seconds=2.0, ids=None) -> fg.Result:
    """The run with the ledger "chat" of overlapping spans that have the phases prefill and decode."""
    from fastgreen.results import ledger_spans

    rng = np.random.default_rng(seed)
    rows = [("chat", -1, '{"channels": null, "baseline_w": null, "weights": "known"}', 0, 0, False, None, 0.0, None)]
    for n in range(count):
        begin = int(rng.integers(run.start_ns, run.end_ns - int(seconds * SECOND) - 1))
        length = int(rng.integers(SECOND // 100, int(seconds * SECOND)))
        cuts = [begin, begin + length // 4, begin + length] if phases else [begin, begin + length]
        name = ids[n % len(ids)] if ids else f"request {n}"
        for i, (a, b) in enumerate(pairwise(cuts)):
            phase = ("prefill", "decode")[i] if phases else None
            rows.append(("chat", n, name, a, b, b == cuts[-1], phase, 1.0, [("tokens", 3.0)]))
    fields = ledger_spans.SPANS
    columns = [
        pa.array(c, pa.string()).dictionary_encode() if pa.types.is_dictionary(f.type) else pa.array(c, f.type)
        for f, c in zip(fields, zip(*rows, strict=True), strict=True)
    ]
    table = pa.Table.from_arrays([c.cast(f.type) for c, f in zip(columns, fields, strict=True)], schema=fields)
    return fg.Result(run.traces, run._windows, METADATA, run.start_ns, run.end_ns, [], lambda: table)
