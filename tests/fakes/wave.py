# SPDX-License-Identifier: Apache-2.0
"""Power as a function of time and its exact integral: the Python twin of wave.h, formula by formula.

Time is seconds since an epoch that the fake names; before it the first value holds and periodic waves go on backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MASK64 = (1 << 64) - 1


class Wave:
    """Power over time; `text()` is the form that the C side reads."""

    def power_w(self, t: float) -> float:
        raise NotImplementedError

    def energy_j(self, t: float) -> float:
        raise NotImplementedError

    def text(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Wave):
    watts: float

    def power_w(self, t: float) -> float:
        return self.watts

    def energy_j(self, t: float) -> float:
        return self.watts * t

    def text(self) -> str:
        return f"constant {self.watts!r}"


@dataclass(frozen=True)
class Ramp(Wave):
    """From `start` to `stop` watts within `seconds`, then `stop` for ever."""

    start: float
    stop: float
    seconds: float

    def power_w(self, t: float) -> float:
        if t <= 0:
            return self.start
        return self.stop if t >= self.seconds else self.start + (self.stop - self.start) / self.seconds * t

    def energy_j(self, t: float) -> float:
        if t <= 0:
            return self.start * t
        if t >= self.seconds:
            return (self.start + self.stop) / 2 * self.seconds + self.stop * (t - self.seconds)
        return self.start * t + (self.stop - self.start) / self.seconds * t * t / 2

    def text(self) -> str:
        return f"ramp {self.start!r} {self.stop!r} {self.seconds!r}"


@dataclass(frozen=True)
class Steps(Wave):
    """((time, watts), ...) with rising times: each power holds until the next."""

    steps: tuple[tuple[float, float], ...]

    def power_w(self, t: float) -> float:
        watts = self.steps[0][1]
        for at, step in self.steps:
            if at <= t:
                watts = step
        return watts

    def energy_j(self, t: float) -> float:
        energy = self.steps[0][1] * min(t, self.steps[0][0])
        for i, (at, watts) in enumerate(self.steps):
            if at >= t:
                break
            end = min(self.steps[i + 1][0], t) if i + 1 < len(self.steps) else t
            energy += watts * (end - at)
        return energy

    def text(self) -> str:
        return "steps " + " ".join(f"{at!r}:{watts!r}" for at, watts in self.steps)


@dataclass(frozen=True)
class Square(Wave):
    """`high` for the first `duty` of each `period`, `low` for the rest."""

    low: float
    high: float
    period: float
    duty: float = 0.5

    def power_w(self, t: float) -> float:
        return self.high if t - math.floor(t / self.period) * self.period < self.period * self.duty else self.low

    def energy_j(self, t: float) -> float:
        cycles = float(math.floor(t / self.period))
        rest = t - cycles * self.period
        energy = cycles * self.period * (self.high * self.duty + self.low * (1 - self.duty))
        if rest <= self.period * self.duty:
            return energy + self.high * rest
        return energy + self.high * self.period * self.duty + self.low * (rest - self.period * self.duty)

    def text(self) -> str:
        return f"square {self.low!r} {self.high!r} {self.period!r} {self.duty!r}"


@dataclass(frozen=True)
class Sine(Wave):
    mean: float
    amplitude: float
    period: float

    def power_w(self, t: float) -> float:
        return self.mean + self.amplitude * math.sin(2 * math.pi * t / self.period)

    def energy_j(self, t: float) -> float:
        swing = self.amplitude * self.period / (2 * math.pi) * (1 - math.cos(2 * math.pi * t / self.period))
        return self.mean * t + swing

    def text(self) -> str:
        return f"sine {self.mean!r} {self.amplitude!r} {self.period!r}"


def as_wave(power: Wave | float) -> Wave:
    """A number of watts stands for a constant."""
    return power if isinstance(power, Wave) else Constant(float(power))


@dataclass(frozen=True)
class Updates:
    """When a sensor shows a new value: every `period` s, `phase` s after the epoch, each moved by up to +-`jitter` s.

    A period of 0 makes every moment an update. The jitter is less than half the period and repeats with the seed.
    """

    period: float = 0.0
    phase: float = 0.0
    jitter: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.jitter and self.jitter >= self.period / 2:
            raise ValueError(f"jitter must be less than half the period: {self.jitter}")

    def ns(self) -> tuple[int, int, int]:
        return round(self.period * 1e9), round(self.phase * 1e9), round(self.jitter * 1e9)

    def text(self) -> str:
        return " ".join(str(n) for n in (*self.ns(), self.seed))

    def at_ns(self, epoch_ns: int, k: int) -> int:
        """The moment of update `k` (any integer)."""
        period, phase, jitter = self.ns()
        x = (self.seed * 0x9E3779B97F4A7C15 + k) & MASK64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
        x ^= x >> 31
        shift = x % (2 * jitter + 1) - jitter if jitter else 0
        return epoch_ns + phase + k * period + shift

    def last_ns(self, epoch_ns: int, now_ns: int) -> int:
        """The moment of the last update at or before `now_ns`."""
        period, phase, _ = self.ns()
        if period == 0:
            return now_ns
        k = (now_ns - epoch_ns - phase) // period + 1
        while self.at_ns(epoch_ns, k) > now_ns:
            k -= 1
        return self.at_ns(epoch_ns, k)

    def between_ns(self, epoch_ns: int, begin_ns: int, end_ns: int) -> list[int]:
        """Every update in [begin, end]."""
        period, phase, _ = self.ns()
        k = (begin_ns - epoch_ns - phase) // period - 1
        moments = []
        while (at := self.at_ns(epoch_ns, k)) <= end_ns:
            if at >= begin_ns:
                moments.append(at)
            k += 1
        return moments
