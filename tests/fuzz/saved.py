# SPDX-License-Identifier: Apache-2.0
"""A saved run that is always the same: a counter that wraps, one inside it, an estimate and a power, with windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastgreen import _resolver
from fastgreen.results.run_reader import save_run
from fastgreen.results.trace import Trace, Windows
from fastgreen.sensors.channel import Channel, traits

MS = 1_000_000
SECOND = 1_000_000_000
COUNT = 100
METADATA = {"format": 1, "version": "0", "host": "here", "realtime_ns": 10**18, "monotonic_ns": 5 * SECOND}
WRAP_UJ = 20_000_000


def _channels() -> list[Channel]:
    counter = traits("energy", "uJ", modulus=WRAP_UJ, period_ns=MS)
    package = {"wrap_j": WRAP_UJ * 1e-6, "ceiling_w": 125.0, "floor_w": 1.0, "traits": counter}
    estimate = {"estimated": True, "ceiling_w": 14.0, "floor_w": 3.0, "traits": traits("energy", "uJ", period_ns=MS)}
    watts = {"delay_s": 0.01, "averaging_s": 0.02, "coverage": 0.5, "period_s": 0.1}
    return [
        Channel("rapl:package-0", "rapl", "energy", "package-0", "uJ", **package),
        Channel("rapl:package-0/core", "rapl", "energy", "core", "uJ", parent="rapl:package-0", root=False, **package),
        Channel("procstat:cpu", "procstat", "energy", "2 CPUs", "uJ", **estimate),
        Channel("hwmon:x", "hwmon", "power", "x", "uW", **watts, traits=traits("power", "uW", period_ns=100 * MS)),
    ]


def _trace(channel: Channel, raw: np.ndarray, start_ns: int, step_ns: int) -> Trace:
    samples = np.zeros(COUNT, _resolver.SAMPLE)
    samples["at_ns"] = start_ns + np.arange(COUNT) * step_ns
    samples["half_ns"], samples["raw"] = 500, raw
    samples["flags"][30] = _resolver.GAP
    account = _resolver.Account({**channel.traits, "tick_ns": 10 * MS})
    account.feed(samples)
    tally = account.tally()
    ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"], "why_ended": None, "last_error": None}
    counts = {"missed": 0, "lost": 0, "read_errors": 1}
    return Trace(channel, channel.root, {**tally, **ends, **counts}, lambda: [samples[:40], samples[40:]])


def save_a_run(path: Path, start_ns: int = 6 * SECOND, step_ns: int = 10 * MS) -> None:
    """Save it; the counters wrap twice, 49.5 J in 0.99 s."""
    at = np.arange(COUNT)
    counts = (WRAP_UJ - 1_000_000 + at * 500_000) % WRAP_UJ
    values = [counts, counts // 2 * 2, at * 100_000, 10_000_000 + 1_000_000 * (at % 7)]
    begin = np.arange(start_ns, start_ns + SECOND, 100 * MS)
    windows = [Windows("w", 0, begin, begin + 40 * MS), Windows("w", 1, begin + MS, begin + 50 * MS)]
    traces = [_trace(channel, raw, start_ns, step_ns) for channel, raw in zip(_channels(), values, strict=True)]
    save_run(path, traces, windows, METADATA, ["a note"], (start_ns, start_ns + SECOND))
