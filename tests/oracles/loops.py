# SPDX-License-Identifier: Apache-2.0
"""An inference loop under a counter: windows in step with the load, and the true energy of each.

Power is piecewise constant, so the energy until any instant is exact. Energies are in uJ, times in ns. The samples go
through the product's account; `Loop.result` is a finished run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastgreen import _follow, _resolver
from fastgreen.results.bounded import Windows
from fastgreen.results.result import Result
from fastgreen.results.trace import Trace
from fastgreen.sensors.channel import Channel, traits

MS = 1_000_000
SECOND = 1_000_000_000


@dataclass
class Loop:
    """Iterations of some windows and a rest, the counter, and its sampler.

    `names` maps the name of a window to its length (ms) and power (W), in the order in which an iteration passes them.
    """

    names: dict[str, tuple[float, float]]
    rest_ms: float
    update_ms: float
    tick_ms: float
    rest_w: float = 20.0
    seconds: float = 120.0
    length_jitter: float = 0.05  # standard deviation of a length, as a share of it
    update_jitter: float = 0.2  # updates come between (1 - this) and 1 times `update_ms` apart
    timer: bool = False  # updates are due at even steps, and each is off by itself
    dither: bool = False
    late_ms: float = 0.05  # mean delay of a read past its deadline
    missed: float = 0.0  # share of updates that do not come
    pauses: int = 0  # stretches of a second without reads
    noise: float = 0.0  # standard deviation of the power of one stretch, as a share of it
    drift: float = 0.0  # how much more is drawn at the end than at the begin, as a share
    later: tuple[float, float] = (1.0, 1.0)  # from this share of the run on, windows draw this share of their power
    head: tuple[float, float] = (0.0, 1.0)  # the first ms of each window draw this share of its power
    after: tuple[float, float] = (0.0, 0.0)  # for some ms after a window, this share of its power is drawn still
    bursts_per_s: float = 0.0  # of 3 ms at 500 W, at any time
    slower_from: float = 1.0  # from this share of the run on, updates come `slower` times as far apart
    slower: float = 1.0
    seed: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 20])
        self._draw_load()

    # ---- the load ----

    def _draw_load(self) -> None:
        period_ms = sum(length for length, _ in self.names.values()) + self.rest_ms
        rounds = int(self.seconds * 1000 / period_ms * 1.1) + 10
        mean_ms = np.array([*(length for length, _ in self.names.values()), self.rest_ms])
        lengths = mean_ms * np.maximum(1 + self.length_jitter * self.rng.standard_normal((rounds, len(mean_ms))), 0.05)
        ends = SECOND + np.cumsum(np.round(lengths.sum(axis=1) * MS).astype(np.int64))
        rounds = int(np.searchsorted(ends, (self.seconds - 1) * SECOND))  # a second of rest after the last window
        lengths = lengths[:rounds]
        edges = np.concatenate([[0], np.cumsum(np.round(lengths.ravel() * MS).astype(np.int64))]) + SECOND
        power = np.tile([*(watts for _, watts in self.names.values()), self.rest_w], rounds)
        power = power * np.maximum(1 + self.noise * self.rng.standard_normal(power.size), 0)
        self.windows = {
            name: (edges[:-1].reshape(rounds, -1)[:, i], edges[1:].reshape(rounds, -1)[:, i])
            for i, name in enumerate(self.names)
        }
        late = (edges[:-1] > self.later[0] * self.seconds * SECOND) & (
            np.arange(power.size) % (len(self.names) + 1) < len(self.names)
        )
        self._edges, self._power = edges, np.where(late, self.later[1] * power, power)
        if self.head[0]:
            self._shape(self.head)
        if self.after[0]:
            self._add_after()
        if self.bursts_per_s:
            self._add_bursts()
        middle = (self._edges[:-1] + self._edges[1:]) / 2 / (self.seconds * SECOND)
        self._power = self._power * (1 + self.drift * middle)
        self.end_ns = int(self.seconds * SECOND)
        self._edges = np.concatenate([[0], self._edges, [2 * self.end_ns]])
        self._power = np.concatenate([[self.rest_w], self._power, [self.rest_w * (1 + self.drift)]])
        self._energy = np.concatenate([[0.0], np.cumsum(self._power * np.diff(self._edges) / 1000)])

    def _split(self, at_ns: np.ndarray) -> None:
        edges = np.union1d(self._edges, at_ns[(at_ns > self._edges[0]) & (at_ns < self._edges[-1])])
        self._power = self._power[np.searchsorted(self._edges, edges[:-1], side="right") - 1]
        self._edges = edges

    def _within(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        at = np.searchsorted(begin, self._edges[:-1], side="right") - 1
        return (at >= 0) & (self._edges[:-1] < end[np.maximum(at, 0)])

    def _shape(self, head: tuple[float, float]) -> None:
        for begin, end in self.windows.values():
            until = np.minimum(begin + int(head[0] * MS), end)
            self._split(until)
            self._power = np.where(self._within(begin, until), self._power * head[1], self._power)

    def _add_after(self) -> None:
        for name, (_, end) in self.windows.items():
            until = end + int(self.after[0] * MS)
            self._split(until)
            self._power = self._power + np.where(self._within(end, until), self.after[1] * self.names[name][1], 0.0)

    def _add_bursts(self) -> None:
        count = int(self.bursts_per_s * self.seconds)
        begin = np.sort(self.rng.integers(SECOND, int(self.seconds * SECOND), count))
        self._split(np.concatenate([begin, begin + 3 * MS]))
        inside = self._within(begin, begin + 3 * MS)
        self._power = np.where(inside, 500.0, self._power)

    def until(self, at_ns: np.ndarray) -> np.ndarray:
        """Energy in uJ from 0 until each instant."""
        return np.interp(at_ns, self._edges, self._energy)

    def true_j(self, name: str) -> float:
        """Mean true energy of a window."""
        begin, end = self.windows[name]
        return float(np.mean(self.until(end) - self.until(begin))) / 1e6

    # ---- the counter ----

    def updates_ns(self) -> np.ndarray:
        if self.timer:
            half = self.update_jitter / 2 * self.update_ms * MS
            due = np.arange(-SECOND * self.rng.random(), (self.seconds + 1) * SECOND, self.update_ms * MS - half)
            updates = np.sort((due + self.rng.uniform(-half, half, len(due))).astype(np.int64))
            return updates[self.rng.random(len(updates)) >= self.missed]
        out, at, mean = [], -SECOND * self.rng.random(), self.update_ms * MS * (1 - self.update_jitter / 2)
        count = int((self.seconds + 1) * SECOND / mean * 1.5 / min(1.0, self.slower)) + 100
        shares = 1 - self.update_jitter * self.rng.random(count)
        for share in shares.tolist():
            at += share * self.update_ms * MS * (self.slower if at > self.slower_from * self.seconds * SECOND else 1.0)
            out.append(at)
            if at > self.seconds * SECOND:
                break
        updates = np.array(out).astype(np.int64)
        return updates[self.rng.random(len(updates)) >= self.missed]

    def samples(self) -> np.ndarray:
        tick = self.tick_ms * MS
        count = int(self.seconds * SECOND / tick) - 2
        steps = self.rng.uniform(0.5, 1.5, count) * tick if self.dither else np.full(count, tick)
        deadlines = SECOND // 100 + np.cumsum(steps)
        begin = (deadlines + self.rng.exponential(self.late_ms * MS, count)).astype(np.int64)
        for start in self.rng.integers(2 * SECOND, int(self.seconds * SECOND) - 3 * SECOND, self.pauses):
            begin = begin[(begin < start) | (begin > start + SECOND)]
        begin = np.unique(begin[begin < self.end_ns])
        half = 500
        begin = begin[np.concatenate([[True], np.diff(begin) > 2 * half])]
        updates = self.updates_ns()
        shown = np.floor(self.until(updates)).astype(np.int64)
        out = np.zeros(begin.size, _resolver.SAMPLE)
        out["at_ns"], out["half_ns"] = begin + half, half
        out["raw"] = shown[np.maximum(np.searchsorted(updates, begin + half, side="right") - 1, 0)]
        return out

    # ---- the run ----

    def trace(self, identity: str = "nvml:0") -> Trace:
        facts = traits("energy", "uJ", period_ns=round(self.update_ms * MS))
        samples = self.samples()
        account = _resolver.Account({**facts, "tick_ns": round(self.tick_ms * MS)})
        account.feed(samples)
        tally = account.tally()
        ends = {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"]}
        unknown = dict.fromkeys(("missed", "lost", "read_errors", "why_ended", "last_error"))
        channel = Channel(identity, "nvml", "energy", identity, "uJ", ceiling_w=700.0, traits=facts)
        return Trace(channel, True, {**tally, **ends, **unknown}, lambda: [samples])

    def handles(self) -> list[Windows]:
        return [Windows(name, i, begin, end) for i, (name, (begin, end)) in enumerate(self.windows.items())]

    def result(self) -> Result:
        trace = self.trace()
        metadata = {"realtime_ns": 0, "monotonic_ns": 0}
        return Result([trace], self.handles(), metadata, trace.tally["first_at_ns"], trace.tally["end_at_ns"])


# The table of the estimates that follow the load: window and rest (ms), update (ms), read every (ms).
ROWS = {
    "1/9, 1 ms counter, 10 ms": (1, 9, 1, 10),
    "1/9, 1 ms counter, 1 ms": (1, 9, 1, 1),
    "1/9, 1 ms counter, 0.1 ms": (1, 9, 1, 0.1),
    "5/20, 1 ms counter, 10 ms": (5, 20, 1, 10),
    "20/5, 1 ms counter, 10 ms": (20, 5, 1, 10),
    "5/20, 100 ms counter, 25 ms": (5, 20, 100, 25),
    "30/70, 100 ms counter, 25 ms": (30, 70, 100, 25),
}


def row(name: str, seed: int = 0, **options) -> Loop:
    window, rest, update, tick = ROWS[name]
    return Loop({"infer": (window, 300.0)}, rest, update, tick, seed=seed, **options)


def board(seconds: float = 3.0, **options) -> Loop:
    """Two windows on a board whose counter is read four times an update."""
    return Loop({"a": (30, 300.0), "b": (8, 120.0)}, 70, 100, 25, seconds=seconds, **options)


def changes_of(traits: dict, chunks) -> np.ndarray:
    changes = _follow.Changes(traits)
    for chunk in chunks:
        changes.feed(chunk)
    return changes.answer()
