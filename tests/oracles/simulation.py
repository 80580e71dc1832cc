# SPDX-License-Identifier: Apache-2.0
"""A simulated sensor and sampler whose true energy is known at every instant.

Energies are in counter units, times in ns. Power is piecewise constant, so the cumulative energy is exact at all times.
"""

from dataclasses import dataclass, field

import numpy as np

from fastgreen import _resolver

SECOND = 1_000_000_000


@dataclass
class Scenario:
    """What is simulated: a waveform, a counter and a sampler."""

    name: str
    waveform: str = "steps"
    rest: float = 0.0  # "rests": the power between the bursts, as a share of the highest
    seconds: int = 240
    update_ns: int = 1_000_000
    update_jitter: float = 0.3
    quantum: int = 1
    modulus: int = 0
    unit_per_s: float = 50e6
    tick_ns: int = 10_000_000
    late_ns: int = 50_000
    half_ns: int = 500
    slow_reads: float = 0.0
    missed: float = 0.0
    gaps: int = 0
    assume_ns: int | None = None
    seed: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)


def power(scenario):
    """Edges (n + 1) in ns and the power between them, units per second."""
    rng, end_ns = scenario.rng, scenario.seconds * SECOND
    if scenario.waveform == "steps":
        lengths = rng.lognormal(np.log(50e6), 1.5, 20_000)
        level = rng.uniform(0.05, 1.0, lengths.size)
    elif scenario.waveform == "bursts":  # shorter than the update period, far apart
        lengths = np.empty(60_000)
        lengths[0::2] = rng.exponential(5 * scenario.update_ns, 30_000)
        lengths[1::2] = rng.uniform(0.05, 0.6, 30_000) * scenario.update_ns
        level = np.tile([0.05, 1.0], 30_000)
    elif scenario.waveform == "rests":  # seconds of little or nothing, then work
        lengths = rng.exponential(1.0, 4_000) * np.tile([2e9, 0.3e9], 2_000)
        level = np.tile([scenario.rest, 1.0], 2_000)
    else:
        assert scenario.waveform == "sine", scenario.waveform
        lengths = np.full(100_000, end_ns / 99_000)
        level = 0.5 + 0.45 * np.sin(np.arange(100_000) * 0.013)
    edges = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1).astype(np.int64))])
    keep = max(2, np.searchsorted(edges, end_ns) + 1)
    if edges[-1] < end_ns:
        edges = np.append(edges, end_ns + SECOND)
        level = np.append(level, 0.3)
        keep = edges.size
    return edges[:keep], level[: keep - 1] * scenario.unit_per_s


class Truth:
    """The energy until any instant."""

    def __init__(self, scenario):
        self.edges, level = power(scenario)
        self.energy = np.concatenate([[0.0], np.cumsum(level * np.diff(self.edges) / SECOND)])

    def until(self, at_ns):
        return np.interp(at_ns, self.edges, self.energy)


def stamps(scenario):
    """When each read began and ended, and which follow a gap; reads never overlap."""
    rng = scenario.rng
    ticks = np.arange(SECOND // 2, scenario.seconds * SECOND - SECOND // 2, scenario.tick_ns)
    keep = rng.random(ticks.size) >= scenario.missed
    gap = np.zeros(ticks.size, bool)
    for start in rng.integers(0, ticks.size - 100, scenario.gaps):
        keep[start : start + rng.integers(1, 90)] = False
        gap[start] = True
    # the sample after failed reads carries the flag
    after = np.maximum.accumulate(np.where(gap, np.arange(ticks.size), -1))[keep]
    ticks = ticks[keep]
    flagged = np.diff(after, prepend=after[0]) > 0
    begin = ticks + rng.exponential(scenario.late_ns, ticks.size).astype(np.int64)
    half = rng.integers(scenario.half_ns // 2, scenario.half_ns + 1, ticks.size)
    slow = rng.random(ticks.size) < scenario.slow_reads
    half[slow] = rng.integers(scenario.tick_ns // 10, scenario.tick_ns, np.count_nonzero(slow))
    end = begin + 2 * half
    blocked = np.maximum.accumulate(np.concatenate([[0], end[:-1]]))
    begin = np.maximum(begin, blocked)
    ok = begin + 2 * half <= np.concatenate([begin[1:], [np.iinfo(np.int64).max]])
    return begin[ok], half[ok], flagged[ok]


def record(scenario, truth, lie=None, plausible_per_s=None):
    """Samples as the sampler takes them, their wraps settled by the account, and the account's tally.

    `lie` makes of instants and the counter's values then, before they wrap, the values that it shows instead.
    """
    rng = scenario.rng
    count = int(scenario.seconds * SECOND / scenario.update_ns / (1 - scenario.update_jitter)) + 2
    intervals = scenario.update_ns * (1 - scenario.update_jitter * rng.random(count))
    updates = np.cumsum(intervals.astype(np.int64))
    shown = np.floor(truth.until(updates) / scenario.quantum).astype(np.int64) * scenario.quantum
    begin, half, flagged = stamps(scenario)
    samples = np.zeros(begin.size, _resolver.SAMPLE)
    samples["at_ns"] = begin + half
    samples["half_ns"] = half
    taken_ns = begin + (rng.random(begin.size) * 2 * half).astype(np.int64)
    value = shown[np.maximum(np.searchsorted(updates, taken_ns, side="right") - 1, 0)]
    value = value if lie is None else lie(taken_ns, value)
    samples["raw"] = value % scenario.modulus if scenario.modulus else value
    samples["flags"] = np.where(flagged, _resolver.GAP, 0)
    traits = {
        "kind": "energy",
        "modulus": scenario.modulus,
        "quantum": scenario.quantum,
        "period_ns": scenario.assume_ns or scenario.update_ns,
        "tick_ns": scenario.tick_ns,
        "plausible_per_s": int(plausible_per_s or scenario.unit_per_s * 20),
    }
    account = _resolver.Account(traits)
    account.feed(samples)
    report = account.tally()
    report |= {"end_at_ns": report["last_at_ns"], "end_total": report["total"]}
    return samples, traits | {"period_ns": report["period_ns"]}, report


def windows(scenario, samples, count, lengths=40):
    """Random windows of 100 us to 100 s as pairs of sorted columns, one pair a length, within the samples."""
    first, last = samples["at_ns"][0], samples["at_ns"][-1]
    for length in np.logspace(5, 11, lengths).astype(np.int64):
        begin = np.sort(scenario.rng.integers(first, last - length, count // lengths))
        yield begin, begin + length
