# SPDX-License-Identifier: Apache-2.0
"""The slow and obvious twin of csrc/fg_share.h: every span against every change, straight from the definitions.

A span is a list of pieces (begin_ns, end_ns, weight), each of which ends where the next begins; weights are whole
multiples of 2^-20. Energies are in the channel's own unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import linprog

from fastgreen import _resolver
from fastgreen.results.following import Following
from fastgreen.results.result import Result

UNIT = 1 << 20


def evenly(result: Result) -> Result:
    """The result with every growth spread evenly between two updates, as live shares have it."""
    vars(result)["following"] = Following(result.traces, [])
    return result


Pieces = list[tuple[int, int, float]]


def whole(weight: float) -> int:
    """A weight in units of 2^-20; one above 0 is at least one unit."""
    return max(round(weight * UNIT), 1 if weight > 0 else 0)


@dataclass
class Growth:
    """What one change of a counter tells: `amount` was spent within (after_ns, until_ns]."""

    after_ns: int
    until_ns: int
    amount: int
    proven: bool = True  # False: a part of it may have been spent before


@dataclass
class Reading:
    """What the samples of a counter tell, in the words of csrc/fg_resolver.h."""

    growths: list[Growth] = field(default_factory=list)
    unknown: list[tuple[float, float]] = field(default_factory=list)  # only the ceiling bounds the energy here
    levels: list[tuple[int, int, int]] = field(
        default_factory=list
    )  # (high_ns - 1, low_ns, total), of the first segment
    reach_ns: int = 0


def read(samples: np.ndarray, traits: dict[str, Any]) -> Reading:
    """The growths and unknown stretches of a counter."""
    quantum, period = traits["quantum"], traits["period_ns"]
    first = samples[0]
    at, half = int(first["at_ns"]), int(first["half_ns"])
    sure, reach, total = at + half, at - half - period, 0
    out = Reading(unknown=[(-math.inf, sure)])
    out.levels.append((reach, sure, 0))
    known_from, quantum_after, proven = sure, reach, False
    for before, now in pairwise(samples):
        at, half, at_before = int(now["at_ns"]), int(now["half_ns"]), int(before["at_ns"])
        sure = max(sure, at + half)
        grown = int(now["raw"]) - int(before["raw"]) + int(now["wraps"]) * traits["modulus"]
        restart = bool(now["flags"] & _resolver.RESET) or grown < 0
        still = at - half - period
        if grown != 0 or restart:
            after = min(reach, sure - 1)
            still = max(still, at_before - int(before["half_ns"]))
        if restart:
            unknown_from = max(reach, known_from)
            until = max([unknown_from, *(g.until_ns for g in out.growths)])  # stretches never go back
            out.growths.append(Growth(quantum_after, until, quantum, False))
            out.unknown.append((unknown_from, sure))
            known_from, quantum_after, proven = sure, max(quantum_after, reach, still), False
        elif grown != 0:
            below = min(grown, quantum)
            out.growths += [Growth(after, sure, grown - below), Growth(quantum_after, sure, below, proven)]
            total += grown
            if len(out.unknown) == 1:
                out.levels.append((after, sure, total))
            if grown >= quantum:
                quantum_after, proven = after, True
        reach = max(reach, still)
    out.reach_ns = reach
    out.unknown.append((max(reach, known_from), math.inf))
    out.growths.append(Growth(quantum_after, 1 << 62, quantum, False))  # below the next step
    return out


def curve(samples: np.ndarray, traits: dict[str, Any], ceiling: float, at_ns: list[int]) -> np.ndarray:
    """Low, likely and high energy until each instant: the curve that windows are looked up on."""
    order = np.argsort(at_ns, kind="stable")
    answers = _resolver.resolve_instants(traits, ceiling, [samples], np.array(at_ns, np.int64)[order])
    out = np.empty((3, len(at_ns)))
    out[:, order] = answers[:3]
    return out


@dataclass
class Shares:
    """A row per span, and the energy of nobody."""

    low: np.ndarray
    estimate: np.ndarray
    high: np.ndarray
    time_ns: np.ndarray  # the part of the time that is the span's, in ns
    unattributed: float
    drawn: float


class Activity:
    """When which span was open: instants, and the share of each span between two of them."""

    def __init__(self, spans: list[Pieces]) -> None:
        self.at_ns = sorted({t for span in spans for begin, end, _ in span for t in (begin, end)})
        place = {t: i for i, t in enumerate(self.at_ns)}
        weights = [[0] * max(len(self.at_ns) - 1, 0) for _ in spans]
        for row, span in zip(weights, spans, strict=True):
            for begin, end, weight in span:
                for i in range(place[begin], place[end]):
                    row[i] = whole(weight)
        self.total = [sum(column) for column in zip(*weights, strict=True)] if weights else []
        self.share = np.array([[w / t if t else 0.0 for w, t in zip(row, self.total, strict=True)] for row in weights])

    def shares_within(self, after: float, until: float) -> np.ndarray:
        """The shares of every span at each time within (after, until]: a column per stretch, with the ends of time."""
        inside = [i for i, (a, b) in enumerate(pairwise(self.at_ns)) if a < until and b > after and a < b]
        columns = self.share[:, inside]
        if not self.at_ns or after < self.at_ns[0] or until > self.at_ns[-1]:
            columns = np.hstack([columns, np.zeros((len(columns), 1))])
        return columns

    def time_within(self, after: float, until: float) -> np.ndarray:
        """The time of every span within (after, until), in ns."""
        lengths = [max(min(b, until) - max(a, after), 0) for a, b in pairwise(self.at_ns)]
        return self.share @ np.array(lengths, float)


def share_counter(
    samples: np.ndarray, traits: dict[str, Any], ceiling_per_ns: float, spans: list[Pieces], within: tuple[int, int]
) -> Shares:
    """The shares of a counter's energy; what was drawn is that of the stretch `within`, which holds all spans."""
    activity, reading = Activity(spans), read(samples, traits)
    low, high = np.zeros(len(spans)), np.zeros(len(spans))
    for growth in reading.growths:
        if growth.after_ns >= growth.until_ns or not growth.amount:
            continue
        shares = activity.shares_within(growth.after_ns, growth.until_ns)
        low += growth.amount * shares.min(axis=1) if growth.proven else 0.0
        high += growth.amount * shares.max(axis=1)
    for stretch in reading.unknown:
        high += ceiling_per_ns * activity.time_within(*stretch)
    until = curve(samples, traits, ceiling_per_ns, [*activity.at_ns, *within])[1]
    return _shares(activity, list(until[:-2]), low, high, float(until[-1] - until[-2]))


def _shares(activity: Activity, until: list[float], low: np.ndarray, high: np.ndarray, drawn: float) -> Shares:
    grown = np.diff(until) if len(until) > 1 else np.zeros(0)
    found = activity.share @ grown
    attributed = float(sum(g for g, total in zip(grown, activity.total, strict=True) if total))
    return Shares(low, found, high, activity.time_within(-math.inf, math.inf), drawn - attributed, drawn)


def share_power(
    samples: np.ndarray, traits: dict[str, Any], ceiling: float, spans: list[Pieces], within: tuple[int, int]
) -> Shares:
    """The same of a power: its running integrals, weighted."""
    activity = Activity(spans)
    low, middle, high = curve(samples, traits, ceiling, [*activity.at_ns, *within])
    bounds = [activity.share @ np.diff(column[:-2]) for column in (low, high)]
    return _shares(activity, list(middle[:-2]), *bounds, float(middle[-1] - middle[-2]))


def set_apart(shares: Shares, baseline_per_ns: float) -> tuple[Shares, np.ndarray]:
    """Take a baseline off: (what is left, the baseline's part of each span)."""
    floor = baseline_per_ns * shares.time_ns
    apart = np.minimum(shares.estimate, floor)
    low, high = np.maximum(shares.low - floor, 0), np.maximum(shares.high - floor, 0)
    left = Shares(low, shares.estimate - apart, high, shares.time_ns, shares.unattributed, shares.drawn)
    return left, apart


def tightest(samples: np.ndarray, traits: dict[str, Any], spans: list[Pieces]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest share of every span over all histories of energy, by linear programming.

    The spans lie between the first sample and `Reading.reach_ns`, and the counter does not restart.
    """
    activity, reading = Activity(spans), read(samples, traits)
    points = sorted(
        {*activity.at_ns, *(t for after, sure, _ in reading.levels for t in (after, sure)), reading.reach_ns}
    )
    limits = []
    for t in points:
        least = max((c for _, sure, c in reading.levels if sure <= t), default=-1e9)
        over = [c for (_, _, c), (after, _, _) in pairwise(reading.levels) if t <= after]
        over += [reading.levels[-1][2]] if t <= reading.reach_ns else []
        limits.append((least, min(over) + traits["quantum"] if over else 1e9))
    falls = np.zeros((len(points) - 1, len(points)))
    falls[np.arange(len(points) - 1), np.arange(len(points) - 1)] = 1.0
    falls[np.arange(len(points) - 1), np.arange(1, len(points))] = -1.0
    low, high = [], []
    for i in range(len(spans)):
        gain = np.zeros(len(points))
        for j, (a, b) in enumerate(pairwise(points)):
            inside = [k for k, (c, d) in enumerate(pairwise(activity.at_ns)) if c <= a and b <= d]
            f = activity.share[i, inside[0]] if inside else 0.0
            gain[j] -= f
            gain[j + 1] += f
        for sign, out in ((1.0, low), (-1.0, high)):
            answer = linprog(sign * gain, A_ub=falls, b_ub=np.zeros(len(falls)), bounds=limits, method="highs")
            assert answer.status == 0, answer.message
            out.append(float(gain @ answer.x))
    return np.array(low), np.array(high)
