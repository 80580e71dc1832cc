# SPDX-License-Identifier: Apache-2.0
"""Machines drawn at random whose counter lies at random, in any size and for any time, read at any rate.

A false value that fits between the true values before and after it leaves no trace: the same samples come from a sound
counter that draws a little more before and a little less after. So a machine shows no such value, unless it is one of
a stretch of equal jumps of which another value cannot be true.
"""

from __future__ import annotations

import numpy as np

from fastgreen.sensors.channel import plausible_w
from tests.oracles import simulation as sim
from tests.oracles.lies import START_UJ, InTurn, Still

RATES = (1, 10, 100, 1000)
KINDS = ("same", "each stretch", "each sample", "zero", "in turn", "still", "sound")
SECONDS = {1: 240, 10: 240, 100: 120, 1000: 40}


def _log_uniform(rng, low, high, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


class _InTurn(InTurn):
    """Each of the two counters for another time whenever it is shown."""

    def __init__(self, seconds, seed, tick_s):
        super().__init__(seconds, seed)
        edges = 4.0 + np.cumsum(np.maximum(self.rng.uniform(0.4, 2.5, 1000), 1.5 * tick_s))
        edges = edges[edges < seconds - 4.0]
        self.stretches = np.round(edges[: len(edges) // 2 * 2] * sim.SECOND).astype(np.int64).reshape(-1, 2)


class _Lies:
    """What a counter shows instead of its value: another offset in the run, in each stretch or at each sample; or 0."""

    def __init__(self, kind, rng, seconds, hz, modulus, start):
        self.kind, self.rng, self.modulus, self.start = kind, rng, modulus, start
        most_s = max(1.0, 2.5 / hz)
        lengths = _log_uniform(rng, 0.5 / hz, most_s, 1000)
        begin = 3.0 + 3 / hz + np.cumsum(rng.uniform(4, 16, 1000) + lengths) - lengths
        keep = begin + lengths < seconds - 3.0 - 3 / hz
        self.stretches = np.round(np.stack([begin, begin + lengths], 1)[keep] * sim.SECOND).astype(np.int64)
        self.size_uj = _log_uniform(rng, 0.2e6, 5_000e6)
        self.sign = rng.choice([-1, 0, 1])  # down, both, up

    def _offsets(self, count):
        signs = self.rng.choice([-1, 1], count) if self.sign == 0 else np.full(count, self.sign)
        sizes = (
            np.full(count, self.size_uj) if self.kind == "same" else self.rng.uniform(0.1, 1.9, count) * self.size_uj
        )
        return (signs * sizes).astype(np.int64)

    def _trace_left(self, false, before, after):
        """Which of the false values cannot lie between the true ones before and after."""
        if not self.modulus:
            return (false < before) | (false > after)
        return (false - before) % self.modulus + (after - false) % self.modulus != (after - before) % self.modulus

    def __call__(self, at_ns, value):
        value = value + self.start
        out = value.copy()
        for begin, end in self.stretches:
            first, last = np.searchsorted(at_ns, [begin, end])
            if first in (0, last) or last == len(value):
                continue
            true = value[first:last]
            if self.kind == "zero":
                out[first:last] = -(-true // self.modulus) * self.modulus if self.modulus else 0
                continue
            false = true + self._offsets(last - first if self.kind == "each sample" else 1)
            seen = self._trace_left(false, value[first - 1], value[last])
            if self.kind != "each sample":
                seen[:] = seen.any()
            out[first:last] = np.where(seen, false, true)
        return out


class Machine:
    """Everything random of one seed: `kind`, `hz`, the `scenario`, its `truth` and what the counter showed.

    `stretches` (begin_ns, end_ns) are those of the lies.
    """

    def __init__(self, seed, kind=None, hz=None):
        rng = np.random.default_rng([seed, 11])
        self.kind = kind or KINDS[seed % len(KINDS)]
        drawn = int(rng.choice(RATES))
        self.hz = hz or drawn
        self.limit_w = float(_log_uniform(rng, 5.0, 700.0))
        modulus = int(rng.choice([0, 65_532_610_987, 262_143_328_850]))
        self.scenario = sim.Scenario(
            f"{self.kind} at {self.hz} Hz, {self.limit_w:.3g} W",
            waveform=str(rng.choice(["steps", "bursts", "rests", "sine"])),
            rest=float(rng.uniform(0.0, 0.3)),
            seconds=SECONDS[self.hz],
            quantum=int(rng.choice([1, 15, 61, 1000])),
            modulus=modulus,
            unit_per_s=self.limit_w * 1e6,
            tick_ns=sim.SECOND // self.hz,
            late_ns=50_000 if self.hz < 1000 else 5_000,
            seed=seed,
        )
        self.truth = sim.Truth(self.scenario)
        start = START_UJ
        if modulus and rng.random() < 0.7:  # it wraps in mid-run
            start = modulus - int(rng.uniform(0.2, 0.8) * self.truth.until(self.scenario.seconds * sim.SECOND))
        start -= start % self.scenario.quantum
        self.wraps = bool(modulus) and start + self.truth.until(self.scenario.seconds * sim.SECOND) >= modulus
        lie = self._lie(rng, modulus, start)
        self.size_uj = getattr(lie, "size_uj", 0.0)
        self.stretches = lie.stretches if lie else np.empty((0, 2), np.int64)
        self.samples, self.traits, self.tally = sim.record(
            self.scenario,
            self.truth,
            lie or (lambda at_ns, value: value + start),
            plausible_w(self.limit_w) * 1e6,
        )

    def _lie(self, rng, modulus, start):
        seconds, seed = self.scenario.seconds, int(rng.integers(1 << 30))
        if self.kind == "sound":
            return None
        if self.kind == "in turn":
            return _InTurn(seconds, seed, 1 / self.hz)
        if self.kind == "still":
            return Still(seconds, seed, loses=bool(rng.random() < 0.5))
        return _Lies(self.kind, rng, seconds, self.hz, modulus, start)

    def true_j(self, begin_ns, end_ns):
        return (self.truth.until(end_ns) - self.truth.until(begin_ns)) * 1e-6
